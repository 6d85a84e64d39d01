//! Image-caption pairs, or images alone, to filtered instruction tasks: part 1 of the paper, over models in this process or behind servers.
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
use adamllm::recipes::synthesize::{SynthesisOptions, caption, synthesize};
use adamllm::synth::{JudgeMode, Variant};
use adamllm_examples::batches::Batches;
use adamllm_examples::cli::{self, Answer, Bar, JobResult, MaxLost, Output};
use adamllm_examples::models::{self, ModelArguments};
use adamllm_examples::spending::Spending;
use adamllm_examples::synthesis::tell_synthesis;
use clap::Parser;

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
    #[arg(long, required_unless_present = "captioner")]
    captions: Option<PathBuf>,
    /// Instead of captions: a model that writes one for each image first. A model folder, or URLs of servers
    #[arg(long, conflicts_with_all = ["captions", "shard", "merge"])]
    captioner: Option<String>,
    /// What the captioner is asked; ours otherwise
    #[arg(long, requires = "captioner")]
    caption_prompt: Option<PathBuf>,
    /// The longest caption in tokens; a longer one is dropped
    #[arg(long, default_value_t = 512, requires = "captioner")]
    caption_tokens: usize,
    /// Where the images are
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
    #[arg(long, alias = "report-rows", default_value_t = 240)]
    report_records: usize,
    #[command(flatten)]
    spending: Spending,
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
    let named = [&arguments.captioner, &arguments.synthesizer, &arguments.judge].into_iter().flatten();
    named.clone().try_for_each(|name| Batches::check(name))?;
    let options = arguments.options();
    let costs = named.clone().any(|name| models::is_url(name)) && options.merge.is_empty();
    arguments.spending.tell(&settings, &options, (costs, arguments.json))?;
    if arguments.spending.estimate {
        return Ok(());
    }
    arguments.output.prepare("synthesize.json")?;
    cli::stop_on_signal()?;

    let (mut defaults, batches) = (BTreeMap::new(), Batches::default());
    let mut open = |asked: bool, role, name: &Option<String>| {
        let name = name.as_ref().filter(|_| asked);
        name.map(|name| arguments.open(role, name, &settings, (&mut defaults, &batches))).transpose()
    };
    let captioner = open(true, "captioner", &arguments.captioner)?;
    let captioned = captioner.map(|model| caption(&settings, &options, &model, &mut Bar::default())).transpose()?;
    if captioned.as_ref().is_some_and(|captioned| captioned.counts.captions == 0) {
        batches.finish()?; // every caption is still waited for
    }
    let asked = if arguments.merge.is_empty() { settings.asks() } else { (false, false) };
    let synthesizer = open(asked.0, "synthesizer", &arguments.synthesizer)?;
    let judge = open(asked.1, "judge", &arguments.judge)?;
    let report = synthesize(&settings, &options, synthesizer.as_ref(), judge.as_ref(), &mut Bar::default())?;

    for benchmark in &report.uncompared {
        let (file, losses) = (benchmark.file.display(), &benchmark.losses);
        eprintln!("--benchmark {file}: not compared with the training data: {losses}");
    }
    if !arguments.json {
        arguments.spending.tell_spent(report.spent);
    }
    let file = arguments.output.file("synthesize.json");
    tell_synthesis(&file, &report, captioned.as_ref(), &defaults, arguments.json)?;
    batches.finish()?;
    if arguments.shard.is_some() && report.n_left == 0 && report.losses.n_lost() == 0 {
        return Ok(()); // a part of a small run may be empty
    }
    let ledger = arguments.output.file("ledger.jsonl").display().to_string();
    cli::check_losses(&report.losses, report.n_left, arguments.losses.max_lost, &ledger)
}

impl Arguments {
    fn settings(&self) -> SynthesisSettings {
        SynthesisSettings {
            captions: self.captions.clone().unwrap_or_default(),
            images: self.images.clone(),
            images_only: self.captioner.is_some(),
            caption_prompt: self.caption_prompt.clone(),
            caption_tokens: self.caption_tokens,
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
            report_records: self.report_records,
        }
    }

    fn options(&self) -> SynthesisOptions {
        SynthesisOptions {
            out: self.output.out.clone(),
            resume: self.output.resume,
            shard: self.shard,
            merge: self.merge.clone(),
            budget: self.spending.budget(),
        }
    }

    /// A model, with what it follows of its folder's generation settings.
    fn open(
        &self,
        role: &'static str,
        name: &str,
        settings: &SynthesisSettings,
        (defaults, batches): (&mut BTreeMap<&'static str, String>, &Batches),
    ) -> Answer<BoxedModel> {
        let folder = self.output.file("batch").join(role);
        let opened = batches.open(name, &folder, &self.models, settings.open_images()?)?;
        defaults.extend(opened.generation_defaults.map(|taken| (role, taken)));
        Ok(opened.model)
    }
}
