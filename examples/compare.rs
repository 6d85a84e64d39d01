//! Compares two runs of `evaluate`, question by question. We will: pair their tasks, print the differences with their intervals,
//! and end with exit code 3 where the second run is worse by more than chance.
//!
//! No model and no tensor library is needed: `--no-default-features` compiles none.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use adamllm::core::write_atomically;
use adamllm::eval::{BenchmarkDescription, BootstrapConfig, comparison_table};
use adamllm::recipes::compare::{RunComparison, write_comparison};
use adamllm::recipes::{Kept, write_json};
use adamllm_examples::benchmarks::Choice;
use adamllm_examples::cli::{self, Answer};
use clap::Parser;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Some group of questions is answered worse, by more than chance.
const REGRESSION: u8 = 3;

/// Compares two runs question by question; exit code 3 where the second is worse by more than chance.
#[derive(Parser, Debug)]
struct Arguments {
    /// What `evaluate --out` wrote, or one task's folder in it
    first: PathBuf,
    /// The run that may have become better or worse
    second: PathBuf,
    /// Share of the bootstrap samples inside an interval
    #[arg(long, default_value_t = 0.95)]
    confidence: f64,
    /// Bootstrap samples
    #[arg(long, default_value_t = 1000)]
    resamples: usize,
    /// Writes a page with both runs; needs the questions: --domain, --task or --benchmark, and --data
    #[arg(long)]
    html: Option<PathBuf>,
    /// Writes the paper's tables with both runs below its own into this folder
    #[arg(long)]
    tables: Option<PathBuf>,
    /// Writes everything into this folder: index.html, the paper's tables, compare.json, and comparison.html where the questions are named
    #[arg(long)]
    out: Option<PathBuf>,
    /// Descriptions of general benchmarks among the tasks: the page says what of them was kept, and what forgotten
    #[arg(long)]
    retain: Vec<PathBuf>,
    #[command(flatten)]
    choice: Choice,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    cli::main_with_code(run)
}

fn run(arguments: Arguments) -> Answer<ExitCode> {
    if !(0.5..1.0).contains(&arguments.confidence) {
        return Err(format!("--confidence: expected 0.5 to below 1, got {}", arguments.confidence).into());
    }
    let resampling = BootstrapConfig {
        n_resamples: arguments.resamples,
        confidence: arguments.confidence,
        ..BootstrapConfig::default()
    };
    let compared = RunComparison::of(&arguments.first, &arguments.second, &resampling)?;
    compared.only_first.iter().for_each(|task| eprintln!("note: only the first run has {task}"));
    compared.only_second.iter().for_each(|task| eprintln!("note: only the second run has {task}"));
    for task in compared.tasks.iter().filter(|task| !task.same_data()) {
        let (a, b) = (task.first.folder.display(), task.second.folder.display());
        eprintln!("note: {a} and {b} were asked from different data");
    }
    if let Some(folder) = &arguments.tables {
        compared.write_tables(folder)?;
    }
    if let Some(file) = &arguments.html {
        write_atomically(file, compared.page(&arguments.choice.open()?.opened)?)?;
    }
    let kept = arguments.kept(&compared)?;
    let page = arguments.out.as_ref().map(|out| arguments.write(&compared, &kept, out)).transpose()?;
    match arguments.json {
        true => println!("{}", as_json(&compared, &kept)),
        false => tell(&compared, &kept),
    }
    if let Some(page) = page.filter(|_| !arguments.json) {
        println!("the page of the comparison:\n{}", page.display());
    }
    Ok(if compared.regressions().is_empty() { ExitCode::SUCCESS } else { ExitCode::from(REGRESSION) })
}

impl Arguments {
    /// Everything into a folder; gives the path of the page.
    fn write(&self, compared: &RunComparison, kept: &[Kept], out: &Path) -> Answer<PathBuf> {
        let opened = if self.choice.settings().is_empty() { Vec::new() } else { self.choice.open()?.opened };
        std::fs::create_dir_all(out)?;
        write_json(out.join("compare.json"), &as_json(compared, kept))?;
        Ok(write_comparison(compared, [&self.first, &self.second], &opened, kept, out)?)
    }

    fn kept(&self, compared: &RunComparison) -> Answer<Vec<Kept>> {
        let named: Vec<_> = self.retain.iter().map(BenchmarkDescription::read).collect::<Result<_, _>>()?;
        Ok(compared.kept(named.iter().map(|description| description.name.as_str()))?)
    }
}

fn as_json(compared: &RunComparison, kept: &[Kept]) -> serde_json::Value {
    let [first, second] = &compared.names;
    let tasks = compared.tasks.iter().map(|task| (task.name().to_owned(), json!(task.comparison)));
    let regressions = compared.regressions();
    let summaries: Vec<_> = regressions.iter().map(|(task, group)| json!({"task": task, "answers": group})).collect();
    let kept =
        kept.iter().map(|kept| json!({"task": kept.benchmark, "strict": kept.strict(), "worse": kept.is_worse()}));
    json!({
        "kept": kept.collect::<Vec<_>>(),
        "first": first, "second": second, "tasks": tasks.collect::<serde_json::Map<_, _>>(),
        "regressions": summaries, "regression": !regressions.is_empty(),
    })
}

fn tell(compared: &RunComparison, kept: &[Kept]) {
    let [first, second] = &compared.names;
    for task in &compared.tasks {
        println!("{}\n\n{}", task.name(), comparison_table(first, second, &task.comparison));
        let (n_first, n_second) = (task.comparison.only_first, task.comparison.only_second);
        if n_first + n_second > 0 {
            let (a, b) = (task.first.folder.display(), task.second.folder.display());
            println!("{n_first} questions only in {a}, {n_second} only in {b}\n");
        }
    }
    kept.iter().for_each(|kept| println!("{}", kept.sentence(first, second)));
    match &compared.regressions()[..] {
        [] => println!("no significant regression (strict scoring)"),
        several => {
            let list: Vec<_> = several.iter().map(|(task, group)| format!("{task} ({group})")).collect();
            println!("significant regression (strict scoring): {}", list.join(", "));
        }
    }
}
