//! Scores answers that are in a file already. We will: find the task, score every answer both ways, and print the sums.
//!
//! No model and no tensor library is needed: `--no-default-features` compiles none.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::PathBuf;
use std::process::ExitCode;

use adamllm::core::{LostRecords, Reason, Stage, jsonl};
use adamllm::eval::{BenchmarkDescription, ScoreSummary, score_file, tasks};
use adamllm_examples::cli::{self, JobResult, MaxLost};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Scores answers that are in a file already: as the paper does it, and as the score should mean.
#[derive(Parser, Debug)]
struct Arguments {
    /// One of the paper's tasks, such as SLAKE, PMC-VQA or Food101
    #[arg(long, required_unless_present = "benchmark")]
    task: Option<String>,
    /// The description (TOML or JSON) of a benchmark of your own, instead of a task
    #[arg(long, conflicts_with = "task")]
    benchmark: Option<PathBuf>,
    /// JSON Lines or a JSON array: the task's columns, and the model's answer in `pred`
    #[arg(long)]
    predictions: PathBuf,
    /// Writes every answer's scores to this file, as JSON Lines
    #[arg(long, alias = "rows")]
    examples: Option<PathBuf>,
    #[command(flatten)]
    losses: MaxLost,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(arguments: Arguments) -> JobResult {
    let task = match (&arguments.task, &arguments.benchmark) {
        (Some(name), _) => tasks::named(name)?.clone(),
        (None, Some(file)) => BenchmarkDescription::read(file)?,
        (None, None) => return Err("name a --task or a --benchmark".into()),
    };
    let scored = score_file(&task, &arguments.predictions)?;
    scored.rejected.iter().take(10).for_each(|error| eprintln!("left out: {error}"));
    if scored.rejected.len() > 10 {
        eprintln!("left out: {} more records", scored.rejected.len() - 10);
    }
    if let Some(file) = &arguments.examples {
        jsonl::write(file, &scored.examples)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&scored.summary)?);
    } else {
        print_summary(&scored.summary);
    }
    let mut losses = LostRecords::of((scored.summary.n + scored.rejected.len()) as u64);
    if let Some(first) = scored.rejected.first() {
        losses.add_all(Stage::Read, Reason::InvalidField, scored.rejected.len() as u64, first.to_string());
    }
    cli::check_losses(&losses, scored.summary.n as u64, arguments.losses.max_lost, "")
}

fn print_summary(summary: &ScoreSummary) {
    println!("{}: {} answers", summary.task, summary.n);
    println!("{:24}{:>8}{:>8}", "", "paper", "strict");
    for (name, strict) in &summary.strict {
        let paper = summary.paper.get(name).map_or("–".to_owned(), |score| format!("{score:.2}"));
        println!("{name:24}{paper:>8}{strict:>8.2}");
    }
    let ScoreSummary { unparsed, random, rejected, .. } = summary;
    println!("{unparsed} unparsed (wrong in strict), {random} drawn at random (in paper), {rejected} left out");
}
