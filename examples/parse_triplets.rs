//! Shows what is read out of a synthesizer's raw text, for people who debug a synthesizer of their own. We will: read the
//! predictions record by record, and print for each the turns and the triplet that the synthesis would find in it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use adamllm::core::{CoreError, jsonl};
use adamllm::synth::{find_triplet, parse_turns};
use adamllm_examples::cli::{self, JobResult};
use adamllm_examples::models::TemplateName;
use clap::Parser;
use serde::Deserialize;
use serde_json::json;

/// Shows what is read out of a synthesizer's raw text: one JSON object `{turns, triplet}` for each record.
#[derive(Parser, Debug)]
struct Arguments {
    /// JSON Lines (or one JSON array) of records with a `pred`, such as a run's quarantine.jsonl
    #[arg(long)]
    predictions: PathBuf,
    /// The template that the text was written in
    #[arg(long, value_enum, default_value = "llama3")]
    template: TemplateName,
    /// Does nothing: the output is JSON anyway
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Prediction {
    pred: String,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(arguments: Arguments) -> JobResult {
    let markers = arguments.template.markers();
    let mut out = std::io::stdout().lock();
    let mut lost = 0;
    let mut show = |row: Result<Prediction, CoreError>| -> JobResult {
        let line = match row {
            Ok(Prediction { pred }) => {
                let turns = parse_turns(&pred, &markers);
                json!({"turns": turns, "triplet": find_triplet(&turns)})
            }
            Err(error) => {
                lost += 1;
                json!({"turns": [], "triplet": null, "error": error.to_string()})
            }
        };
        Ok(writeln!(out, "{line}")?)
    };
    match whole_array(&arguments.predictions)? {
        Some(rows) => rows.into_iter().map(Ok).try_for_each(&mut show)?,
        None => jsonl::read::<Prediction>(&arguments.predictions)?.try_for_each(&mut show)?,
    }
    if lost > 0 {
        return Err(format!("{lost} records of {} have no `pred`", arguments.predictions.display()).into());
    }
    Ok(())
}

/// A file that is one JSON array, not JSON Lines.
fn whole_array(path: &std::path::Path) -> Result<Option<Vec<Prediction>>, Box<dyn std::error::Error>> {
    use std::io::{BufRead, BufReader};
    let file = std::fs::File::open(path).map_err(CoreError::io("open", path))?;
    let mut reader = BufReader::new(file);
    let start = reader.fill_buf().map_err(CoreError::io("read", path))?;
    if start.trim_ascii_start().first() != Some(&b'[') {
        return Ok(None);
    }
    let rows = serde_json::from_reader(reader);
    Ok(Some(rows.map_err(|source| CoreError::Json { path: path.into(), number: 1, source })?))
}
