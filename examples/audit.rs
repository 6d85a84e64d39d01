//! How far can the judge of a synthesis run be trusted, and which threshold should it have? We will: draw a sample,
//! stratified by verdict, for people to label without seeing the verdicts; and read their labels back into precision with its
//! interval, a sweep over thresholds, and a suggestion.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::PathBuf;
use std::process::ExitCode;

use adamllm::core::jsonl;
use adamllm::recipes::caption_records;
use adamllm::synth::{AuditReport, AuditSample, Judged, ReportConfig, Sweep, write_report};
use adamllm_examples::cli::{self, JobResult};
use clap::Parser;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Draws a sample of a run's verdicts for people to label, or reads their labels back.
#[derive(Parser, Debug)]
struct Arguments {
    /// The folder of a finished run
    #[arg(long)]
    run: PathBuf,
    /// Draws at most so many triplets of each verdict into audit/audit.csv, whose column `label` people fill in
    #[arg(long, value_name = "N", required_unless_present = "read")]
    draw: Option<usize>,
    /// Reads the filled-in table back
    #[arg(long, conflicts_with = "draw")]
    read: bool,
    /// Seeds the sample
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Also suggests the lowest threshold that keeps at least this precision with 97.5 % confidence
    #[arg(long, default_value_t = 0.9)]
    precision: f64,
    /// With --images: the run's pairs, to write its report again with the yield curve
    #[arg(long, requires = "images")]
    captions: Option<PathBuf>,
    /// Where the pairs' images are
    #[arg(long)]
    images: Option<PathBuf>,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(arguments: Arguments) -> JobResult {
    match arguments.draw {
        Some(per_verdict) => draw(&arguments, per_verdict),
        None => read(&arguments),
    }
}

fn judged(arguments: &Arguments) -> Result<impl Iterator<Item = Judged> + use<>, Box<dyn std::error::Error>> {
    let path = arguments.run.join("judged.jsonl");
    // Read once for its errors; memory holds one record.
    jsonl::read::<Judged>(&path)?.try_for_each(|record| record.map(drop))?;
    Ok(jsonl::read::<Judged>(&path)?.flatten())
}

fn draw(arguments: &Arguments, per_verdict: usize) -> JobResult {
    let sample = AuditSample::draw(judged(arguments)?, per_verdict, arguments.seed);
    let folder = arguments.run.join("audit");
    if folder.join("audit.csv").exists() {
        return Err(format!("{} holds a sample already: read it, or move it away", folder.display()).into());
    }
    let files = sample.write(&folder)?;
    if arguments.json {
        println!("{}", json!({"examples": sample.examples().len(), "files": files}));
    } else {
        println!("{} triplets to label in {}", sample.examples().len(), files[0].display());
        println!("write yes, no or open into the column `label` (do both answers come to the same?), then: --read");
    }
    Ok(())
}

fn read(arguments: &Arguments) -> JobResult {
    let report = AuditReport::read(&arguments.run.join("audit"))?;
    let sweep = Sweep::over(judged(arguments)?, &report.labels);
    let for_precision = sweep.for_precision(arguments.precision);
    let path = arguments.run.join("audit/sweep.json");
    adamllm::core::write_atomically(&path, serde_json::to_vec_pretty(&sweep)?)?;
    if let (Some(captions), Some(images)) = (&arguments.captions, &arguments.images) {
        let images = adamllm::data::images_at(images)?;
        let config =
            ReportConfig { title: format!("Synthesis from {}", captions.display()), ..ReportConfig::default() };
        write_report(&arguments.run, caption_records(captions)?.flatten(), &*images, Some(&sweep), &config)?;
    }
    if arguments.json {
        let suggested = json!({"agreement": sweep.suggested, "precision": for_precision});
        println!("{}", json!({"audit": report, "suggested_threshold": suggested, "sweep": path}));
        return Ok(());
    }
    let p = &report.precision;
    println!("{} labels, {} without one", report.n_labelled, report.n_unlabelled);
    println!(
        "kept triplets that are consistent: {:.1} % (95 %: {:.1} to {:.1})",
        100.0 * p.value,
        100.0 * p.low,
        100.0 * p.high
    );
    if let Some(before) = report.consistent_before {
        println!("without the filter: {:.1} %", 100.0 * before);
    }
    for (verdict, labels) in &report.confusion {
        let counts: Vec<_> = labels.iter().map(|(label, n)| format!("{n} {}", label.as_str())).collect();
        println!("   called {:13} people say {}", verdict.as_str(), counts.join(", "));
    }
    match (sweep.n_scored, sweep.suggested) {
        (0, _) => {
            println!("no threshold to suggest: the judge wrote its answers (--judge-mode scored gives probabilities)")
        }
        (_, Some(threshold)) => println!("the threshold that agrees best with them: {threshold:.2}"),
        (_, None) => println!("no threshold to suggest: nothing is labelled"),
    }
    if let Some(threshold) = for_precision {
        println!("the lowest for a precision of {:.0} %: {threshold:.2}", 100.0 * arguments.precision);
    }
    println!("yield and agreement for every threshold: {}", path.display());
    Ok(())
}
