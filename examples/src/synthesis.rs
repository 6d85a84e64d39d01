//! What a synthesis tells at its end.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::collections::BTreeMap;
use std::path::Path;

use adamllm::recipes::synthesize::{CaptionReport, SynthesisReport};
use adamllm::synth::RunSummary;
use serde_json::json;

use crate::cli::{self, JobResult};

/// The counts of a run into `file`, and to the terminal: as one JSON object or as the story. `defaults` are what models follow of their folders'
/// generation settings, by role.
///
/// # Errors
/// The file.
pub fn tell_synthesis(
    file: &Path,
    SynthesisReport { summary, spent, .. }: &SynthesisReport,
    captioned: Option<&CaptionReport>,
    defaults: &BTreeMap<&str, String>,
    json: bool,
) -> JobResult {
    let RunSummary { records_in, triplets, consistent, inconsistent, open, records_out, ledger_entries, .. } = summary;
    let mut result = json!(summary);
    result["generation_defaults"] = json!(defaults);
    result["spent"] = json!(spent);
    if let Some(captioned) = captioned {
        result["captions"] = json!(captioned);
    }
    cli::tell_json(file, &result, json)?;
    if json {
        return Ok(());
    }

    if let Some(CaptionReport { counts, .. }) = captioned {
        println!("{} images, {} captions", counts.images, counts.captions);
    }
    println!(
        "{records_in} records in, {triplets} triplets: {consistent} consistent, {inconsistent} inconsistent, {open} open"
    );
    println!("{records_out} records out, {ledger_entries} in the ledger:");
    for (reason, n) in &summary.ledger {
        println!("   {n:8}  {reason}");
    }
    println!("written:");
    for file in &summary.files {
        println!("   {}", file.display());
    }
    if let Some(page) = summary.files.iter().find(|file| file.ends_with("index.html")) {
        println!("the page of the whole run:\n{}", page.display());
    }
    Ok(())
}
