//! Image-caption pairs to filtered instruction tasks: part 1 of the paper alone, over models in this process or behind servers.
//! We will:
//!
//! 1. let a synthesizer propose a task for each pair, and a judge keep the consistent ones,
//! 2. write tasks, verdicts and the ledger of every record that dropped out,
//! 3. mix them with their captions into training conversations, for us and for LLaMA-Factory,
//! 4. write `index.html` and `report.html`, to look through all of it.
//!
//! A run that was killed goes on with `--resume`. `--shard i/n` does a part; `--merge` puts the parts together.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use adamllm::core::{BoxedModel, Shard};
use adamllm::recipes::SynthesisSettings;
use adamllm::recipes::synthesize::{SynthesisOptions, synthesize};
use adamllm::synth::{JudgeMode, RunSummary, Variant};
use adamllm_examples::cli::{self, Answer, Bar, JobResult, MaxLost, Output};
use adamllm_examples::models::{self, ModelArguments, OpenedModel};
use clap::Parser;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Image-caption pairs to filtered instruction tasks.
#[derive(Parser, Debug)]
struct Arguments {
    /// A model folder, or URLs of servers (with commas between them, `#name` after them)
    #[arg(long)]
    synthesizer: Option<String>,
    /// A model folder, or URLs of servers; text only is enough
    #[arg(long)]
    judge: Option<String>,
    /// The pairs: ShareGPT JSON or JSON Lines
    #[arg(long)]
    captions: PathBuf,
    /// Where the pairs' images are
    #[arg(long)]
    images: PathBuf,
    #[command(flatten)]
    output: Output,
    /// Only the records of part i of n (from 0 to n - 1), chosen by id
    #[arg(long, value_name = "I/N", conflicts_with = "merge")]
    shard: Option<Shard>,
    /// Puts the folders of all parts together, in the order 0 to n - 1, instead of asking models
    #[arg(long, value_name = "DIR", num_args = 1..)]
    merge: Vec<PathBuf>,
    /// full, two_stage, caption_only, synthetic_only, precise_only, informative_only, no_filter, no_blank_images or rule_based
    #[arg(long, default_value = "full")]
    variant: Variant,
    /// How the judge is read: it writes two tokens (the paper's way), or its answers are scored
    #[arg(long, value_parser = ["generated", "scored"], default_value = "generated")]
    judge_mode: String,
    /// A scored judge's least probability of yes; `audit` suggests one. Another one needs --resume and no model again
    #[arg(long, default_value_t = 0.5)]
    threshold: f64,
    /// The judge's few-shot prompt with {Q}, {informative_A} and {precise_A}; ours otherwise
    #[arg(long)]
    judge_prompt: Option<PathBuf>,
    /// Records given to a model, and synced to disk, at once
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    /// Seeds every random choice
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Drops tasks that repeat an earlier one (same words about the same image)
    #[arg(long)]
    hygiene: bool,
    /// With --hygiene: the similarity from which on two texts are nearly the same
    #[arg(long, default_value_t = 0.8)]
    near_threshold: f64,
    /// Drops tasks and captions about images of these benchmarks (TOML descriptions); implies --hygiene
    #[arg(long, value_name = "TOML", num_args = 1..)]
    benchmark: Vec<PathBuf>,
    /// Records that the report shows with their images
    #[arg(long, default_value_t = 240)]
    report_rows: usize,
    #[command(flatten)]
    models: ModelArguments,
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
    let settings = arguments.settings();
    settings.open_images()?;
    [&arguments.synthesizer, &arguments.judge].into_iter().flatten().try_for_each(|name| models::check(name))?;
    arguments.output.prepare("synthesize.json")?;

    let mut defaults = BTreeMap::new();
    let asked = if arguments.merge.is_empty() { settings.asks() } else { (false, false) };
    let synthesizer = arguments.open(asked.0, "synthesizer", &arguments.synthesizer, &settings, &mut defaults)?;
    let judge = arguments.open(asked.1, "judge", &arguments.judge, &settings, &mut defaults)?;
    let options = SynthesisOptions {
        out: arguments.output.out.clone(),
        resume: arguments.output.resume,
        shard: arguments.shard,
        merge: arguments.merge.clone(),
    };
    let report = synthesize(&settings, &options, synthesizer.as_ref(), judge.as_ref(), &mut Bar::default())?;

    for benchmark in &report.uncompared {
        let (file, losses) = (benchmark.file.display(), &benchmark.losses);
        eprintln!("--benchmark {file}: not compared with the training data: {losses}");
    }
    tell(&arguments, &report.summary, &defaults)?;
    if arguments.shard.is_some() && report.n_left == 0 && report.losses.n_lost() == 0 {
        return Ok(()); // a part of a small run may be empty
    }
    let ledger = arguments.output.file("ledger.jsonl").display().to_string();
    cli::check_losses(&report.losses, report.n_left, arguments.losses.max_lost, &ledger)
}

impl Arguments {
    fn settings(&self) -> SynthesisSettings {
        SynthesisSettings {
            captions: self.captions.clone(),
            images: self.images.clone(),
            variant: self.variant,
            judge_mode: match self.judge_mode.as_str() {
                "scored" => JudgeMode::Scored { threshold: self.threshold },
                _ => JudgeMode::Generated,
            },
            judge_prompt: self.judge_prompt.clone(),
            batch_size: self.batch_size,
            seed: self.seed,
            hygiene: self.hygiene,
            near_threshold: self.near_threshold,
            benchmarks: self.benchmark.clone(),
            report_records: self.report_rows,
        }
    }

    /// A model that is asked, with what it follows of its folder's generation settings.
    fn open(
        &self,
        asked: bool,
        role: &'static str,
        name: &Option<String>,
        settings: &SynthesisSettings,
        defaults: &mut BTreeMap<&'static str, String>,
    ) -> Answer<Option<BoxedModel>> {
        let Some(name) = name.as_ref().filter(|_| asked) else { return Ok(None) };
        let OpenedModel { model, generation_defaults } = models::open(name, &self.models, settings.open_images()?)?;
        defaults.extend(generation_defaults.map(|taken| (role, taken)));
        Ok(Some(model))
    }
}

fn tell(arguments: &Arguments, summary: &RunSummary, defaults: &BTreeMap<&str, String>) -> JobResult {
    let RunSummary { records_in, triplets, consistent, inconsistent, open, records_out, ledger_entries, .. } = summary;
    let mut result = json!(summary);
    result["generation_defaults"] = json!(defaults);
    cli::tell_json(&arguments.output.file("synthesize.json"), &result, arguments.json)?;
    if arguments.json {
        return Ok(());
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
