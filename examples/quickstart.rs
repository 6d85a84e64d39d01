//! The main job: image-caption pairs in, a better domain model out. We will:
//!
//! 1. let a synthesizer propose a task for each pair, let a judge keep the consistent ones, and combine them,
//! 2. mix captions and tasks into one conversation per image,
//! 3. post-train the base model on them in a single stage,
//! 4. ask base and post-trained model the same held-out questions, and print both scores side by side.
//!
//! Everything is written below `--out`, stage by stage; with `--resume` a run that was killed goes on where it was.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::PathBuf;
use std::process::ExitCode;

use adamllm::eval::{comparison_table, report_table};
use adamllm::nn::{LoraConfig, LoraTargets};
use adamllm::recipes::adapt::{AblationSettings, AdaptEvent, AdaptReport, AdaptSettings, Adaptation};
use adamllm::recipes::{Dtype, RunOptions};
use adamllm_examples::cli::{self, Bar, JobResult, MaxLost};
use adamllm_examples::models::{self, ModelArguments};
use adamllm_examples::{devices, folders};
use clap::Parser;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Image-caption pairs in, a better domain model out.
#[derive(Parser, Debug)]
struct Arguments {
    /// The mini domain to run on, where no captions of your own are given
    #[arg(long, value_parser = ["slides", "plates"], default_value = "slides")]
    domain: String,
    /// Your own pairs: ShareGPT JSON or JSON Lines
    #[arg(long, requires = "images")]
    captions: Option<PathBuf>,
    /// The folder that the pairs' images are in
    #[arg(long, requires = "captions")]
    images: Option<PathBuf>,
    /// A benchmark's description (TOML) to evaluate with; the mini domain's where no captions are given
    #[arg(long)]
    benchmark: Option<PathBuf>,
    /// Descriptions of general benchmarks: what of them is forgotten? The mini world's where no captions are given
    #[arg(long)]
    retain: Vec<PathBuf>,
    /// The base model's folder; the mini one otherwise
    #[arg(long)]
    model: Option<String>,
    /// The synthesizer's folder, or URLs of servers; the mini one otherwise
    #[arg(long)]
    synthesizer: Option<String>,
    /// The judge's folder, or URLs of servers; the mini one otherwise
    #[arg(long)]
    judge: Option<String>,
    /// The judge's few-shot prompt with {Q}, {informative_A} and {precise_A}; the mini judge has its own
    #[arg(long)]
    judge_prompt: Option<PathBuf>,
    /// Passes over the data; 24 for the mini domains, 1 (the paper's) for pairs of your own
    #[arg(long)]
    epochs: Option<f64>,
    /// Conversations in an optimizer step; 16 for the mini base, 128 (the paper's) for a model of your own
    #[arg(long)]
    batch_size: Option<usize>,
    /// Conversations in one forward pass; 16 for the mini base, 1 for a model of your own
    #[arg(long)]
    micro_batch_size: Option<usize>,
    /// The peak learning rate; 1e-3 for the mini base, 1e-5 (the paper's for Qwen2-VL-2B) for a model of your own
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Trains the method without one of its parts too (the paper's tables 4 and 5), with three seeds each
    #[arg(long)]
    ablations: bool,
    /// Seeds every random choice
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Everything is written here
    #[arg(long, default_value = "runs/quickstart")]
    out: PathBuf,
    /// Goes on with the run in --out instead of starting anew
    #[arg(long)]
    resume: bool,
    /// Replaces the run in --out
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    #[command(flatten)]
    models: ModelArguments,
    #[command(flatten)]
    losses: MaxLost,
    /// Prints one JSON object instead of the story
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(arguments: Arguments) -> JobResult {
    let (settings, [base, synthesizer, judge]) = (arguments.settings(), arguments.models());
    [&synthesizer, &judge].into_iter().try_for_each(|name| models::check(name))?;
    let base = arguments.models.pixels.of(folders::model_folder(&base)?);
    cli::prepare(&arguments.out, "quickstart.json", arguments.resume, arguments.overwrite)?;
    let device = devices::device(&arguments.models.device)?;
    let run = RunOptions { resume: arguments.resume, stop: Some(&cli::STOP), ..RunOptions::new(&arguments.out) };
    let job = Adaptation::new(&settings, &base, &device, &run)?;

    let synthesis = arguments.out.join("synthesis");
    arguments.say(&format!("1. synthesis: {} -> {}", settings.captions.display(), synthesis.display()));
    let open = |name: &str| models::open(name, &arguments.models, job.images()).map(|opened| opened.model);
    let models = (open(&synthesizer)?, open(&judge)?);
    cli::stop_on_signal()?;
    let report = job.run(models, &mut |event| arguments.tell(event), &mut Bar::default())?;

    cli::tell_json(&arguments.out.join("quickstart.json"), &json!(report), arguments.json)?;
    if !arguments.json {
        tell_report(&arguments, &report);
    }
    if arguments.ablations {
        let table = job.ablate(&AblationSettings::default(), &mut Bar::default())?.table();
        job.write_pages(&report)?;
        arguments.say(&format!("\nablations (paper, tables 4 and 5), strict scores, in ablations.json:\n{table}"));
    }
    let ledgers = job.ledgers().map(|ledger| ledger.display().to_string()).join(", ");
    cli::check_losses(&report.losses, report.encoded as u64, arguments.losses.max_lost, &ledgers)
}

impl Arguments {
    /// Base, synthesizer and judge: the mini world's where none are named.
    fn models(&self) -> [String; 3] {
        let mini = |name: &str| cli::mini_folder().join("models").join(name).to_string_lossy().into_owned();
        let named = |given: &Option<String>, name: &str| given.clone().unwrap_or_else(|| mini(name));
        [named(&self.model, "base"), named(&self.synthesizer, "synthesizer"), named(&self.judge, "judge")]
    }

    fn settings(&self) -> AdaptSettings {
        let (mini, paper) = (cli::mini_folder(), AdaptSettings::default());
        let (domain, own_pairs, own_model) = (mini.join(&self.domain), self.captions.is_some(), self.model.is_some());
        let batch_size = self.batch_size.unwrap_or(if own_model { paper.batch_size } else { 16 });
        let micro_batch_size = if own_model { paper.micro_batch_size } else { batch_size };
        let general = vec![mini.join("general/benchmark.toml")];
        let mini_prompt = || self.judge.is_none().then(|| mini.join("judge_prompt.txt"));
        AdaptSettings {
            captions: self.captions.clone().unwrap_or_else(|| domain.join("captions.json")),
            images: self.images.clone().unwrap_or_else(|| domain.clone()),
            benchmark: self.benchmark.clone().or_else(|| (!own_pairs).then(|| domain.join("benchmark.toml"))),
            retain: if self.retain.is_empty() && !own_pairs { general } else { self.retain.clone() },
            judge_prompt: self.judge_prompt.clone().or_else(mini_prompt),
            epochs: self.epochs.unwrap_or(if own_pairs { paper.epochs } else { 24.0 }),
            batch_size,
            micro_batch_size: self.micro_batch_size.unwrap_or(micro_batch_size),
            learning_rate: self.learning_rate.unwrap_or(if own_model { paper.learning_rate } else { 1e-3 }),
            warmup: if own_model { paper.warmup } else { 0.05 },
            seed: self.seed,
            dtype: Dtype::F32,
            adapter: self
                .models
                .quantize
                .map(|_| LoraConfig { targets: LoraTargets::AllLinear, ..LoraConfig::new(16, 32.0) }),
            frozen: self.models.quantize,
            ..paper
        }
    }

    fn say(&self, text: &str) {
        if !self.json {
            println!("{text}");
        }
    }

    fn tell(&self, event: AdaptEvent) {
        let number = event.part().map_or("  ".to_owned(), |part| format!("{part}."));
        self.say(&format!("{number} {event}"));
    }
}

fn tell_report(arguments: &Arguments, report: &AdaptReport) {
    if let (Some(base), Some(post_trained), Some(comparison)) = (&report.base, &report.post_trained, &report.comparison)
    {
        println!("\n{}", report_table(&[("base", base), ("post-trained", post_trained)]));
        println!("{}", comparison_table("base", "post-trained", comparison));
    }
    report.kept.iter().for_each(|kept| println!("{}", kept.sentence("the base", "the post-trained model")));
    println!("\nwhat the post-trained model says:");
    for sample in &report.samples {
        println!("   {}\n      before: {}\n      after:  {}", sample.image, sample.before, sample.after);
    }
    println!("\nwritten below {}:", arguments.out.display());
    for (name, what) in [
        ("synthesis/", "triplets, verdicts, tasks and the ledger of every record that dropped out"),
        ("conversations.jsonl", "what was trained on"),
        ("training/", "metrics.jsonl, its charts and the last checkpoint"),
        ("model/", "the post-trained model, a Hugging Face folder like the base"),
        ("evaluation/", "predictions and reports of both models"),
        ("quickstart.json", "all the numbers above"),
    ] {
        println!("   {name:22}{what}");
    }
    println!("{:.0} s in all; the page of the whole run:\n{}", report.seconds, report.page.display());
}
