//! A benchmark that no description can express. We will: implement `Benchmark` for descriptions of images, whose score is the share of
//! the image's known facts that the description mentions, and examine two models with it.
//!
//! A description file (TOML) is enough where every record is a question and its answer; see `datasets/mini/slides/benchmark.toml` and
//! `evaluate --benchmark`. Here several records make one example, and the score is our own.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use adamllm::core::{RecordId, jsonl};
use adamllm::eval::{
    AnswerScore, Benchmark, BootstrapConfig, EvalError, Example, Expected, Outcome, PredictOptions, Scored, compare,
    comparison_table, evaluate, metrics, report_table,
};
use adamllm::prelude::*;
use adamllm_examples::cli::{self, Bar, JobResult};
use adamllm_examples::{devices, folders};
use clap::Parser;
use serde_json::{Map, Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Examines two models with a benchmark that is code: how many of an image's facts does a description mention?
#[derive(Parser, Debug)]
struct Arguments {
    /// The first model folder; the mini base model otherwise
    #[arg(long)]
    model: Option<String>,
    /// The second model folder; the mini synthesizer otherwise
    #[arg(long)]
    against: Option<String>,
    /// Everything is written here
    #[arg(long, default_value = "runs/own_benchmark")]
    out: PathBuf,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

/// Images, and the facts that are known about each.
struct Facts {
    entries: Vec<(ImageRef, Vec<String>)>,
    images: Arc<FolderImages>,
}

impl Facts {
    /// The open questions of a benchmark's records, gathered by image: their answers are the facts.
    fn read(folder: PathBuf) -> Result<Self, EvalError> {
        let rows: Vec<Map<String, Value>> = jsonl::read_all(folder.join("benchmark.jsonl"))?;
        let mut facts: BTreeMap<ImageRef, Vec<String>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row["answer_type"] == "OPEN") {
            if let (Some(image), Some(label)) = (row["image"].as_str(), row["label"].as_str()) {
                facts.entry(image.into()).or_default().push(label.to_owned());
            }
        }
        Ok(Self { entries: facts.into_iter().collect(), images: Arc::new(FolderImages::new(folder)) })
    }
}

impl Benchmark for Facts {
    fn name(&self) -> &str {
        "facts-in-descriptions"
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn example(&self, index: usize) -> Result<Example, EvalError> {
        let (image, facts) = &self.entries[index];
        let id = RecordId::of("facts", [image.as_str()]);
        Ok(Example::new(id, vec![image.clone()], "Describe the image.", Expected::Text(facts.clone())))
    }

    fn decoding(&self) -> Decoding {
        Decoding::greedy(64)
    }

    fn images(&self) -> Option<&dyn ImageStore> {
        Some(&*self.images)
    }

    /// The share of the facts whose words all stand in the answer. The paper has no such score.
    fn score(&self, example: &Example, answer: &str) -> Outcome {
        let Expected::Text(facts) = &example.expected else { unreachable!("all examples are made above") };
        let said = metrics::answer_words(answer);
        let said: Vec<&str> = said.split(' ').collect();
        let mentioned = |fact: &&String| metrics::answer_words(fact).split(' ').all(|word| said.contains(&word));
        let n = facts.iter().filter(mentioned).count();
        let strict = 100.0 * n as f64 / facts.len() as f64;
        example.outcome(AnswerScore { paper: None, strict, unparsed: said == [""], ..AnswerScore::default() })
    }
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(arguments: Arguments) -> JobResult {
    let mini = cli::mini_folder();
    let facts = Facts::read(mini.join("slides"))?;
    let model = |given: &Option<String>, name: &str| {
        given.clone().unwrap_or_else(|| mini.join("models").join(name).to_string_lossy().into_owned())
    };
    let first = examine(&model(&arguments.model, "base"), &facts, &arguments.out.join("first"))?;
    let second = examine(&model(&arguments.against, "synthesizer"), &facts, &arguments.out.join("second"))?;
    let comparison = compare(&first.outcomes, &second.outcomes, &BootstrapConfig::default());
    if arguments.json {
        println!("{}", json!({ "first": first.report, "second": second.report, "comparison": comparison }));
    } else {
        println!("{}", report_table(&[("first", &first.report), ("second", &second.report)]));
        println!("{}", comparison_table("first", "second", &comparison));
    }
    Ok(())
}

fn examine(model: &str, facts: &Facts, out: &std::path::Path) -> Result<Scored, Box<dyn std::error::Error>> {
    let folder = folders::model_folder(model)?;
    let model = LocalModel::load(&folder, DType::F32, &devices::device("flex")?, facts.images.clone())?;
    let options = PredictOptions { batch_size: 16, software: cli::software(), ..PredictOptions::default() };
    Ok(evaluate(&model, facts, out, &options, &mut Bar::default())?)
}
