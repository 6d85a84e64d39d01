//! Asks a model the questions of benchmarks, and scores its answers both ways. We will: open the benchmarks in whatever form they lie,
//! ask task by task (a killed run goes on where it was), write each task's scores before the next one begins, spoil
//! images or words where asked to, and lay everything out as a page and as the paper's tables.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use adamllm::core::{LostRecords, Reason, Shard, Stage, write_atomically};
use adamllm::data::CurrentImages;
use adamllm::eval::{
    Benchmark, BootstrapConfig, Comparison, CorruptedBenchmark, CorruptedImages, Corruption, HtmlOptions, HtmlRun,
    HtmlSection, PredictOptions, Prediction, Report, Scored, TableRun, compare, comparison_table, evaluate,
    evaluate_answers, files, html_report, paper_table, read_predictions, report_table, tables_beside,
};
use adamllm::prelude::*;
use adamllm_examples::benchmarks::{Choice, Opened};
use adamllm_examples::cli::{self, Bar, JobResult, MaxLost};
use adamllm_examples::models::{AnyModel, ModelArguments};
use clap::Parser;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Asks a model the questions of benchmarks, and scores its answers both ways.
#[derive(Parser, Debug)]
struct Arguments {
    /// A model folder, or the URLs of servers: `http://host:port[/v1]`, `#name` behind it where they serve several models
    #[arg(long, required_unless_present = "predictions")]
    model: Option<String>,
    /// Answers that are there already, instead of a model: files of `id` and `answer`, or a folder with a file for each task
    #[arg(long, num_args = 1.., conflicts_with_all = ["model", "corrupt"])]
    predictions: Vec<PathBuf>,
    #[command(flatten)]
    choice: Choice,
    /// Everything is written here; a run that was killed goes on from here
    #[arg(long, default_value = "runs/evaluate")]
    out: PathBuf,
    /// The run's name in tables; the model's last path element otherwise
    #[arg(long)]
    name: Option<String>,
    /// Asks again with images or words spoilt: blank, blur, noise, wrong-image, shuffled-words
    #[arg(long, num_args = 1.., value_parser = |name: &str| Corruption::parse(name))]
    corrupt: Vec<Corruption>,
    /// Seeds what is spoilt
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Prompts that the model sees at once; answers do not depend on it
    #[arg(long, default_value_t = 8)]
    batch_size: usize,
    /// At most this many questions of each task
    #[arg(long)]
    limit: Option<usize>,
    /// A part of the questions, `i/n` from 0; join parts with --predictions
    #[arg(long, default_value = "0/1")]
    shard: Shard,
    /// The longest answer, instead of the task's own limit
    #[arg(long)]
    max_new_tokens: Option<usize>,
    /// The column of the paper's table 4 that the run belongs to, by its name
    #[arg(long)]
    pipeline: Option<String>,
    #[command(flatten)]
    models: ModelArguments,
    #[command(flatten)]
    losses: MaxLost,
    /// Leaves the page out
    #[arg(long)]
    no_html: bool,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(arguments: Arguments) -> JobResult {
    if let Some(column) = &arguments.pipeline {
        let columns: Vec<_> = paper_table("T4")?.columns.iter().map(|column| column.name.as_str()).collect();
        if !columns.contains(&column.as_str()) {
            return Err(format!("--pipeline {column:?}: expected one of {}", columns.join("; ")).into());
        }
    }
    let (opened, missing) = arguments.choice.open()?;
    for name in &missing {
        eprintln!("left out: there is no data for {name}");
    }
    std::fs::create_dir_all(&arguments.out).map_err(|error| format!("{}: {error}", arguments.out.display()))?;
    let mut suite = Suite::new(&arguments, &opened, missing);
    match &arguments.model {
        Some(model) => {
            // Before a model is read: answers to questions without their images would mean nothing.
            opened.iter().try_for_each(|opened| opened.benchmark.check())?;
            let images = CurrentImages::new(opened[0].images.0.clone());
            let model = AnyModel::open(model, &arguments.models, Arc::new(images.clone()))?;
            suite.generation_defaults = model.generation_defaults();
            suite.ask_all(&model, &images)?;
        }
        None => suite.take_all()?,
    }
    suite.finish()?;
    suite.check_losses()
}

/// All tasks of one run.
struct Suite<'a> {
    arguments: &'a Arguments,
    opened: &'a [Opened],
    missing: Vec<String>,
    name: String,
    done: Vec<Done>,
    /// What of its folder's generation settings the model follows.
    generation_defaults: Option<String>,
    begun: Instant,
}

/// One task's answers, intact or spoilt.
struct Done {
    /// Which of the opened benchmarks.
    of: usize,
    corruption: Option<Corruption>,
    scored: Scored,
    predictions: Vec<Prediction>,
    /// Against the intact task.
    comparison: Option<Comparison>,
}

impl<'a> Suite<'a> {
    fn new(arguments: &'a Arguments, opened: &'a [Opened], missing: Vec<String>) -> Self {
        let path = arguments.model.as_deref().map(Path::new).or(arguments.predictions.first().map(PathBuf::as_path));
        let last = path.and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
        let name = arguments.name.clone().or(last).unwrap_or_else(|| "run".into());
        Self { arguments, opened, missing, name, done: Vec::new(), generation_defaults: None, begun: Instant::now() }
    }

    /// Any model: whatever answers prompts, and looks at images through `images`.
    fn ask_all<G: Generate>(&mut self, model: &G, images: &CurrentImages) -> JobResult {
        for (of, Opened { benchmark, images: intact }) in self.opened.iter().enumerate() {
            images.set(intact.0.clone());
            self.ask(model, of, benchmark, None)?;
            for &corruption in &self.arguments.corrupt {
                let seed = self.arguments.seed;
                images.set(Arc::new(CorruptedImages::new(intact.0.clone(), corruption, seed)));
                self.ask(model, of, &CorruptedBenchmark::new(benchmark, corruption, seed), Some(corruption))?;
            }
        }
        Ok(())
    }

    fn ask<G: Generate>(
        &mut self,
        model: &G,
        of: usize,
        benchmark: &dyn Benchmark,
        corruption: Option<Corruption>,
    ) -> JobResult {
        let decoding = benchmark.decoding();
        let max_new_tokens = self.arguments.max_new_tokens.unwrap_or(decoding.max_new_tokens);
        let options = PredictOptions {
            batch_size: self.arguments.batch_size,
            shard: self.arguments.shard,
            limit: self.arguments.limit,
            decoding: Some(Decoding { max_new_tokens, ..decoding }),
            software: cli::software(),
            ..PredictOptions::default()
        };
        let folder = self.folder(benchmark);
        let scored = evaluate(model, benchmark, &folder, &options, &mut Bar::default())?;
        self.note(of, corruption, scored, &folder)
    }

    /// Answers that are there already.
    fn take_all(&mut self) -> JobResult {
        for (of, Opened { benchmark, .. }) in self.opened.iter().enumerate() {
            let answers = self.answers_to(benchmark.name())?;
            let folder = self.folder(benchmark);
            let scored = evaluate_answers(&self.name, benchmark, &answers, &folder)?;
            for lost in scored.rejected.iter().take(10) {
                eprintln!("left out: {}: {}", lost.id, lost.detail);
            }
            self.note(of, None, scored, &folder)?;
        }
        Ok(())
    }

    /// The files that hold answers to a task: those that were named, or the task's in a folder.
    fn answers_to(&self, task: &str) -> Result<Vec<PathBuf>, String> {
        let given = &self.arguments.predictions;
        if given.iter().all(|path| path.is_file()) && self.opened.len() == 1 {
            return Ok(given.clone());
        }
        let inside = |folder: &PathBuf| {
            let alone = ["jsonl", "json"].map(|ending| folder.join(format!("{task}.{ending}")));
            let mut places = [folder.join(task).join(files::PREDICTIONS)].into_iter().chain(alone);
            places.find(|place| place.is_file())
        };
        let found: Vec<_> = given.iter().filter_map(inside).collect();
        match found.is_empty() {
            false => Ok(found),
            true => Err(format!(
                "no answers to {task}: expected {task}/predictions.jsonl, {task}.jsonl or {task}.json in --predictions"
            )),
        }
    }

    fn folder(&self, benchmark: &dyn Benchmark) -> PathBuf {
        let safe = |c: char| if c.is_alphanumeric() || "-_.() ".contains(c) { c } else { '_' };
        self.arguments.out.join(benchmark.name().chars().map(safe).collect::<String>())
    }

    /// Keeps a task's scores, and writes all scores so far.
    fn note(&mut self, of: usize, corruption: Option<Corruption>, scored: Scored, folder: &Path) -> JobResult {
        let (predictions, _) = read_predictions(folder.join(files::PREDICTIONS))?;
        let intact = self.done.iter().find(|done| done.of == of && done.corruption.is_none());
        let comparison =
            intact.map(|intact| compare(&intact.scored.outcomes, &scored.outcomes, &BootstrapConfig::default()));
        if !self.arguments.json {
            println!("{}", report_table(&[(&self.name, &scored.report)]));
            if let (Some(comparison), Some(corruption)) = (&comparison, corruption) {
                println!("{}", comparison_table("intact", corruption.name(), comparison));
            }
        }
        self.done.push(Done { of, corruption, scored, predictions, comparison });
        write_atomically(self.arguments.out.join("evaluate.json"), format!("{:#}\n", self.told()))?;
        Ok(())
    }

    fn intact(&self) -> impl Iterator<Item = &Done> {
        self.done.iter().filter(|done| done.corruption.is_none())
    }

    fn told(&self) -> Value {
        let reports = self.intact().map(|done| (done.scored.report.benchmark.clone(), json!(done.scored.report)));
        let spoilt = self.done.iter().filter_map(|done| {
            let (corruption, comparison) = (done.corruption?, done.comparison.as_ref()?);
            let told = json!({
                "corruption": corruption, "seed": self.arguments.seed, "report": done.scored.report, "comparison": comparison,
            });
            Some((done.scored.report.benchmark.clone(), told))
        });
        json!({
            "name": self.name,
            "out": self.arguments.out,
            "tasks": reports.collect::<serde_json::Map<_, _>>(),
            "corrupted": spoilt.collect::<serde_json::Map<_, _>>(),
            "missing": self.missing,
            "generation_defaults": self.generation_defaults,
            "seconds": self.begun.elapsed().as_secs_f64(),
        })
    }

    fn finish(&self) -> JobResult {
        let out = &self.arguments.out;
        let mut written = vec!["evaluate.json".to_owned()];
        let reports: Vec<Report> = self.intact().map(|done| done.scored.report.clone()).collect();
        let run = TableRun { name: &self.name, reports: &reports, column: self.arguments.pipeline.as_deref() };
        written.extend(cli::write_tables(out, &tables_beside(&[run]))?);
        if !self.arguments.no_html {
            write_atomically(out.join("report.html"), self.page()?)?;
            written.push("report.html".into());
        }
        if self.arguments.json {
            println!("{}", self.told());
        } else {
            println!("written to {}: a folder for each task, {}", out.display(), written.join(", "));
        }
        Ok(())
    }

    /// Questions that no answer was found or read for, over all tasks.
    fn check_losses(&self) -> JobResult {
        let (mut left, mut ledgers) = (0, Vec::new());
        let mut losses = LostRecords::default();
        for done in self.intact() {
            let folder = self.folder(&self.opened[done.of].benchmark);
            let ledger = folder.join(files::LEDGER);
            let n_answered = done.scored.outcomes.len() as u64;
            let mut own = LostRecords::of(n_answered);
            if self.arguments.model.is_some() {
                own = LostRecords::from_ledger(n_answered, &ledger)?;
                ledgers.push(ledger.display().to_string());
            }
            if let Some(first) = done.scored.rejected.first() {
                let (n, detail) = (done.scored.rejected.len() as u64, format!("{}: {}", first.id, first.detail));
                own.add_all(Stage::Predict, Reason::InvalidField, n, detail);
            }
            left += n_answered;
            losses.join(own);
        }
        if left == 0 && losses.n_lost() == 0 {
            // A part of a small benchmark may be empty.
            return match self.arguments.shard == Shard::WHOLE {
                true => Err("no question was answered: the benchmarks hold none, or no answer belongs to one".into()),
                false => Ok(()),
            };
        }
        cli::check_losses(&losses, left, self.arguments.losses.max_lost, &ledgers.join(", "))
    }

    /// Spoilt runs stand beside the intact one, so that the page can filter for what they change.
    fn page(&self) -> Result<String, Box<dyn std::error::Error>> {
        let name = |done: &Done| done.corruption.map_or(self.name.clone(), |c| format!("{}, {}", self.name, c.name()));
        let names: Vec<String> = self.done.iter().map(name).collect();
        let exhibit = |(of, opened): (usize, &'a Opened)| {
            let runs = self.done.iter().zip(&names).filter(|(done, _)| done.of == of);
            HtmlSection {
                benchmark: &opened.benchmark,
                runs: runs
                    .map(|(done, name)| HtmlRun {
                        name,
                        report: &done.scored.report,
                        outcomes: &done.scored.outcomes,
                        predictions: &done.predictions,
                    })
                    .collect(),
            }
        };
        let exhibits: Vec<HtmlSection<'_>> = self.opened.iter().enumerate().map(exhibit).collect();
        Ok(html_report(&self.name, &exhibits, &HtmlOptions::default())?)
    }
}
