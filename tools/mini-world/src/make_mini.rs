//! Makes `datasets/mini` from scratch: draws the mini world, writes its files, and trains the three tiny models on it.
//! We will: write images, captions, seeds and benchmarks; build the tokenizers; train the base model on the general
//! domain, tune the synthesizer from it, and train the judge. Everything is a function of the seed.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use adamllm::core::{MemoryImages, Supervision};
use adamllm::model::{Encoded, Padding, VisionLanguageModel, VlmBatch};
use adamllm::prelude::*;
use adamllm::synth::{FilterConfig, Judged};
use adamllm::train::{ExampleBatches, FitOptions, Schedule, StepMetrics};
use adamllm_examples::cli::{self, Bar, JobResult};
use adamllm_mini_world::{
    ChatModelSize, DatasetSize, JudgeRow, JudgeSize, Labelled, Supervised, TrainingRow, base_training, chat_tokenizer,
    judge_tokenizer, judge_training, synthesizer_training, write_chat_model_files, write_dataset, write_judge_files,
};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Makes the mini data set and its tiny models from scratch.
#[derive(Parser, Debug)]
struct Arguments {
    /// The folder to write
    #[arg(long)]
    out: PathBuf,
    /// Seeds the drawings, the texts, the weights and the training
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Multiplies the number of training steps: less than 1 for a quick look, whose models know little
    #[arg(long, default_value_t = 1.0)]
    effort: f64,
    /// Makes only these parts: data, base, synthesizer, judge
    #[arg(long, num_args = 1.., value_parser = ["data", "base", "synthesizer", "judge"])]
    only: Vec<String>,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(arguments: Arguments) -> JobResult {
    let Arguments { out, seed, effort, only, .. } = &arguments;
    let wanted = |part: &str| only.is_empty() || only.iter().any(|name| name == part);
    let begun = Instant::now();
    let done = |part: &str| eprintln!("{part}: done {:.0} s after the start", begun.elapsed().as_secs_f64());
    if wanted("data") && out.join("general").exists() {
        return Err(format!("{} holds a data set already; choose another --out", out.display()).into());
    }
    if wanted("data") {
        write_dataset(out, *seed, &DatasetSize::default())?;
        done("data");
    }
    let [base, synthesizer, judge] = ["base", "synthesizer", "judge"].map(|name| out.join("models").join(name));
    if wanted("base") {
        let skeleton = out.join("models/skeleton");
        write_chat_model_files(&skeleton, &chat_tokenizer(*seed)?, &ChatModelSize::default())?;
        let recipe = Recipe { rounds: &[1800], batch_size: 16, learning_rate: 2e-3, effort: *effort };
        train_chat(&skeleton, None, &base, base_training(*seed), &recipe, *seed)?;
        std::fs::remove_dir_all(&skeleton)?;
        done("base");
    }
    if wanted("synthesizer") {
        let recipe = Recipe { rounds: &[1500], batch_size: 16, learning_rate: 1e-3, effort: *effort };
        train_chat(&base, Some(&base), &synthesizer, synthesizer_training(*seed), &recipe, *seed)?;
        done("synthesizer");
    }
    if wanted("judge") {
        let skeleton = out.join("models/skeleton");
        write_judge_files(&skeleton, &judge_tokenizer(*seed)?, &JudgeSize::default())?;
        let recipe = Recipe { rounds: &[400, 1200, 800], batch_size: 64, learning_rate: 2e-3, effort: *effort };
        train_judge(&skeleton, &judge, &recipe, *seed)?;
        std::fs::remove_dir_all(&skeleton)?;
        let (agreed, n) = examine_judge(out, &judge)?;
        eprintln!("judge: agrees with {agreed} of {n} labelled examples");
        done("judge");
    }
    Ok(())
}

struct Recipe {
    /// Steps of each round. A round has a schedule of its own: the rate rises again, which helps a small model out of
    /// the habits of the round before.
    rounds: &'static [usize],
    /// Conversations in an optimizer step.
    batch_size: usize,
    learning_rate: f64,
    effort: f64,
}

impl Recipe {
    fn n_steps(&self, round: usize) -> usize {
        ((round as f64 * self.effort).round() as usize).max(1)
    }

    fn config(&self, seed: u64) -> TrainConfig {
        TrainConfig {
            seed,
            batch_size: self.batch_size,
            micro_batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            schedule: Schedule { warmup: 0.05, ..Schedule::default() },
            weight_decay: 0.01,
            betas: [0.9, 0.98],
            save_every: None,
            ..TrainConfig::default()
        }
    }

    /// Trains on rows in the order in which they are drawn.
    fn fit(
        &self,
        model: VisionLanguageModel,
        processor: &Processor,
        rows: impl Iterator<Item = Result<Encoded, Box<dyn std::error::Error>>> + Send,
        seed: u64,
    ) -> Result<VisionLanguageModel, Box<dyn std::error::Error>> {
        let rows = Mutex::new(rows);
        let draw = |wanted: &[usize]| {
            let mut rows = rows.lock().map_err(|e| e.to_string())?;
            let drawn = rows.by_ref().take(wanted.len()).collect::<Result<Vec<_>, _>>();
            let drawn = drawn.map_err(|e| e.to_string())?;
            Ok::<_, String>(VlmBatch::collate(&drawn.iter().collect::<Vec<_>>(), Padding::Right, processor))
        };
        let mut on_step = |m: &StepMetrics| {
            if m.step.is_multiple_of(100) {
                eprintln!("step {}: loss {:.4}, {:.0} ms", m.step, m.loss, m.step_s * 1e3);
            }
        };
        let trainer = Trainer::new(self.config(seed))?;
        let mut model = model;
        for &round in self.rounds {
            let source = ExampleBatches::new(self.n_steps(round) * self.batch_size, &draw);
            let run = FitOptions { on_step: Some(&mut on_step), ..FitOptions::default() };
            model = trainer.fit(model, &source, run, &mut Bar::default())?.0;
        }
        Ok(model)
    }
}

fn train_chat(
    files: &Path,
    weights: Option<&Path>,
    to: &Path,
    rows: impl Iterator<Item = TrainingRow> + Send,
    recipe: &Recipe,
    seed: u64,
) -> JobResult {
    let folder = ModelFolder::open(files)?;
    let processor = Processor::read(&folder)?;
    let device = Device::flex().autodiff();
    let model = match weights {
        Some(path) => ModelFolder::open(path)?.load(DType::F32, &device)?,
        None => {
            device.seed(seed);
            VisionLanguageModel::init(folder.config(), &device)
        }
    };
    let encode = |row: TrainingRow| -> Result<Encoded, Box<dyn std::error::Error>> {
        let mut images = MemoryImages::new();
        if let (Some(image), Some(picture)) = (row.conversation.images.first(), row.picture) {
            images.insert(image.as_str(), picture);
        }
        let supervision = match row.supervised {
            Supervised::Assistant => Supervision::Replies,
            Supervised::AfterFirstExchange => Supervision::AfterFirstExchange,
        };
        Ok(processor.encode(&row.conversation, supervision, &images)?)
    };
    let model = recipe.fit(model, &processor, rows.map(encode), seed)?;
    Ok(folder.save_new(&model, DType::BF16, to)?)
}

fn train_judge(files: &Path, to: &Path, recipe: &Recipe, seed: u64) -> JobResult {
    let folder = ModelFolder::open(files)?;
    let processor = Processor::read(&folder)?;
    let device = Device::flex().autodiff();
    device.seed(seed);
    let model = VisionLanguageModel::init(folder.config(), &device);
    let encode = |row: JudgeRow, all: bool| -> Result<Encoded, Box<dyn std::error::Error>> {
        let spans = [(&*row.instruction, false), (&*row.triplet, all), (row.verdict.continuation(), true)];
        Ok(processor.encode_spans(&spans)?)
    };
    // In the first round the triplets count too, not the verdicts alone: to foretell the short answer from the long one
    // is to compare them.
    let n_first = recipe.n_steps(recipe.rounds[0]) * recipe.batch_size;
    let rows = judge_training(seed).enumerate().map(|(n, row)| encode(row, n < n_first));
    let model = recipe.fit(model, &processor, rows, seed)?;
    Ok(folder.save_new(&model, DType::BF16, to)?)
}

/// How many of the labelled examples the judge reads as they are labelled, and how many there are.
fn examine_judge(mini: &Path, judge: &Path) -> Result<(usize, usize), Box<dyn std::error::Error>> {
    let labelled: Vec<Labelled> = adamllm::core::jsonl::read_all(mini.join("labelled.jsonl"))?;
    let model =
        LocalModel::load(&ModelFolder::open(judge)?, DType::F32, &Device::flex(), Arc::new(MemoryImages::new()))?;
    let config =
        FilterConfig { prompt: std::fs::read_to_string(mini.join("judge_prompt.txt"))?, ..FilterConfig::scored(0.5) };
    let filter = ConsistencyFilter::with_config(&model, config)?;
    let pair = ImageCaption::new("none.png", "none");
    let triplet = |row: &Labelled| {
        TaskTriplet::new(pair.id.clone(), pair.image.clone(), &row.instruction, &row.informative, &row.precise)
    };
    let triplets: Vec<_> = labelled.iter().map(triplet).collect();
    let judged = filter.judge(&triplets).into_iter().collect::<Result<Vec<_>, _>>()?;
    for (row, judged) in labelled.iter().zip(&judged) {
        tracing::info!(?row, verdict = ?judged.verdict, p_yes = judged.p_yes);
    }
    let agrees = |(row, judged): (&Labelled, &Judged)| row.verdict.as_judged() == judged.verdict;
    Ok((labelled.iter().zip(&judged).filter(|pair| agrees(*pair)).count(), labelled.len()))
}
