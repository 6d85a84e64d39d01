//! The main job: image-caption pairs in, a better domain model out. We will:
//!
//! 1. let a synthesizer propose a task for each pair, let a judge keep the consistent ones, and combine them,
//! 2. mix captions and tasks into one conversation per image,
//! 3. post-train the base model on them in a single stage,
//! 4. ask base and post-trained model the same held-out questions, and print both scores side by side.
//!
//! Everything is written below `--out`, stage by stage; with `--resume` a run that was killed goes on where it was.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use adamllm::core::{LedgerEntry, LostRecords, Reason, Stage, Supervision, jsonl};
use adamllm::eval::{BootstrapConfig, Comparison, DescribedBenchmark, PredictOptions, Scored, compare};
use adamllm::eval::{comparison_table, predict, report_table, score_all};
use adamllm::model::{Encoded, Padding, VisionLanguageModel, VlmBatch};
use adamllm::prelude::*;
use adamllm::synth::{FilterConfig, RunSummary, SynthesisRun};
use adamllm::train::{ExampleBatches, FitOptions, FitOutcome, FitReport, Schedule};
use adamllm_examples::cli::{self, Bar, JobResult, MaxLost};
use adamllm_examples::models::{AnyModel, ModelArguments};
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
    /// A benchmark's description (TOML) to examine with; the mini domain's where no captions are given
    #[arg(long)]
    benchmark: Option<PathBuf>,
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
    /// Rows in an optimizer step; 16 for the mini base, 128 (the paper's) for a model of your own
    #[arg(long)]
    batch_size: Option<usize>,
    /// Rows in one forward pass; 16 for the mini base, 1 for a model of your own
    #[arg(long)]
    micro_batch_size: Option<usize>,
    /// The peak learning rate; 1e-3 for the mini base, 1e-5 (the paper's for Qwen2-VL-2B) for a model of your own
    #[arg(long)]
    learning_rate: Option<f64>,
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
    let begun = Instant::now();
    let job = Job::new(arguments)?;
    let summary = job.synthesize()?;
    let rows = job.compose()?;
    let fitted = job.post_train(&rows)?;
    let examined = job.examine()?;
    job.tell(&summary, &rows, &fitted, examined.as_ref(), begun)?;
    job.check_losses(&summary, &rows)
}

/// Where everything is, decided once.
struct Job {
    arguments: Arguments,
    images: Arc<FolderImages>,
    captions: PathBuf,
    benchmark: Option<PathBuf>,
    base: ModelFolder,
    synthesizer: String,
    judge: String,
    filter: FilterConfig,
    device: Device,
}

/// The training rows, and those that could not be encoded.
struct Rows {
    encoded: Vec<Encoded>,
    lost: Vec<LedgerEntry>,
}

/// Both models' scores.
struct Examined {
    base: Scored,
    tuned: Scored,
    comparison: Comparison,
}

impl Job {
    fn new(arguments: Arguments) -> Result<Self, Box<dyn std::error::Error>> {
        let mini = cli::mini_folder();
        let domain = mini.join(&arguments.domain);
        let mini_model = |name: &str| mini.join("models").join(name).to_string_lossy().into_owned();
        let named = |given: &Option<String>, name: &str| given.clone().unwrap_or_else(|| mini_model(name));
        let (synthesizer, judge) = (named(&arguments.synthesizer, "synthesizer"), named(&arguments.judge, "judge"));
        AnyModel::check(&synthesizer)?;
        AnyModel::check(&judge)?;
        let base = cli::model_folder(&named(&arguments.model, "base"))?;
        let own = arguments.captions.is_some();
        let benchmark = arguments.benchmark.clone().or_else(|| (!own).then(|| domain.join("benchmark.toml")));
        let prompt = match (&arguments.judge_prompt, &arguments.judge) {
            (Some(file), _) => Some(file.clone()),
            (None, None) => Some(mini.join("judge_prompt.txt")),
            (None, Some(_)) => None,
        };
        let filter = match prompt {
            Some(file) => FilterConfig {
                prompt: std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?,
                ..FilterConfig::scored(0.5)
            },
            None => FilterConfig::scored(0.5),
        };
        cli::prepare(&arguments.out, "quickstart.json", arguments.resume, arguments.overwrite)?;
        Ok(Self {
            images: Arc::new(FolderImages::new(arguments.images.clone().unwrap_or(domain.clone()))),
            captions: arguments.captions.clone().unwrap_or(domain.join("captions.json")),
            benchmark,
            base,
            synthesizer,
            judge,
            filter,
            device: cli::device(&arguments.models.device)?,
            arguments,
        })
    }

    fn out(&self, name: &str) -> PathBuf {
        self.arguments.out.join(name)
    }

    fn say(&self, text: &str) {
        if !self.arguments.json {
            println!("{text}");
        }
    }

    fn load(&self, folder: &ModelFolder) -> Result<LocalModel, Box<dyn std::error::Error>> {
        Ok(LocalModel::load(folder, DType::F32, &self.device, self.images.clone())?)
    }

    /// Part 1 of the paper: pairs to tasks.
    fn synthesize(&self) -> Result<RunSummary, Box<dyn std::error::Error>> {
        self.say(&format!("1. synthesis: {} -> {}", self.captions.display(), self.out("synthesis").display()));
        let pairs = cli::pairs(&self.captions)?;
        let open = |name: &str| AnyModel::open(name, &self.arguments.models, self.images.clone());
        let (synthesizer, judge) = (open(&self.synthesizer)?, open(&self.judge)?);
        let run = SynthesisRun::new(self.out("synthesis"), &*self.images).resuming(self.arguments.resume);
        let filter = ConsistencyFilter::with_config(&judge, self.filter.clone())?;
        let summary = run.run(pairs, &Synthesizer::new(&synthesizer), &filter, &mut Bar::default())?;
        self.say(&format!(
            "   {} pairs in, {} triplets: {} consistent, {} inconsistent, {} open, {} unclear; {} tasks out, {} rows in the ledger",
            summary.records_in,
            summary.triplets,
            summary.consistent,
            summary.inconsistent,
            summary.open,
            summary.unclear,
            summary.records_out,
            summary.ledger_entries
        ));
        Ok(summary)
    }

    /// Part 2, first half: one conversation per image, and its tokens.
    fn compose(&self) -> Result<Rows, Box<dyn std::error::Error>> {
        let pairs: Vec<ImageCaption> =
            cli::pairs(&self.captions)?.flatten().filter(|pair| pair.validate().is_ok()).collect();
        let tasks: Vec<InstructionTask> = jsonl::read_all(self.out("synthesis").join("tasks.jsonl"))?;
        let stage = SingleStage { seed: self.arguments.seed, ..SingleStage::default() };
        let conversations = stage.compose(&pairs, &tasks)?;
        jsonl::write(self.out("conversations.jsonl"), &conversations)?;

        let processor = Processor::read(&self.base)?;
        let mut rows = Rows { encoded: Vec::new(), lost: Vec::new() };
        for conversation in &conversations {
            match processor.encode(conversation, Supervision::Replies, &*self.images) {
                Ok(encoded) => rows.encoded.push(encoded),
                Err(error) => rows.lost.push(LedgerEntry {
                    id: conversation.id.clone(),
                    stage: Stage::Encode,
                    reason: Reason::from(&error),
                    detail: error.to_string(),
                }),
            }
        }
        jsonl::write(self.out("encode-ledger.jsonl"), &rows.lost)?;
        let (n, lost) = (rows.encoded.len(), rows.lost.len());
        self.say(&format!("2. composed {} conversations; {n} encoded, {lost} in the ledger", conversations.len()));
        if rows.encoded.is_empty() {
            let mut losses = LostRecords::of(conversations.len() as u64);
            rows.lost.iter().for_each(|row| losses.add(row));
            return Err(format!("no record is left to train on; {losses}; see encode-ledger.jsonl").into());
        }
        Ok(rows)
    }

    /// Part 2, second half: the single stage.
    fn post_train(&self, rows: &Rows) -> Result<FitReport, Box<dyn std::error::Error>> {
        let arguments = &self.arguments;
        let own_model = arguments.model.is_some();
        let batch_size = arguments.batch_size.unwrap_or(if own_model { 128 } else { 16 });
        let config = TrainConfig {
            seed: arguments.seed,
            epochs: arguments.epochs.unwrap_or(if arguments.captions.is_some() { 1.0 } else { 24.0 }),
            batch_size,
            micro_batch_size: arguments.micro_batch_size.unwrap_or(if own_model { 1 } else { batch_size }),
            learning_rate: arguments.learning_rate.unwrap_or(if own_model { 1e-5 } else { 1e-3 }),
            schedule: Schedule { warmup: if own_model { 0.1 } else { 0.05 }, ..Schedule::default() },
            save_every: Some(100),
            ..TrainConfig::default()
        };
        let steps = config.n_steps(rows.encoded.len());
        self.say(&format!("3. post-training: {steps} steps of {} conversations", config.batch_size));
        let processor = Processor::read(&self.base)?;
        let batches = ExampleBatches::new(rows.encoded.len(), |wanted: &[usize]| {
            let chosen: Vec<&Encoded> = wanted.iter().map(|&row| &rows.encoded[row]).collect();
            Ok::<_, String>(VlmBatch::collate(&chosen, Padding::Right, &processor))
        });
        let model: VisionLanguageModel = self.base.load(DType::F32, &self.device.clone().autodiff())?;
        let stop = cli::interrupted()?;
        let run = FitOptions {
            folder: Some(self.out("training")),
            resume: self.arguments.resume,
            stop: Some(stop),
            ..FitOptions::default()
        };
        let (model, report) = Trainer::new(config)?.fit(model, &batches, run, &mut Bar::default())?;
        if report.outcome == FitOutcome::Stopped {
            return Err(format!("stopped behind step {}; --resume goes on", report.steps).into());
        }
        self.base.save(&model, &self.out("model"))?;
        if let [first, .., last] = &report.metrics[..] {
            self.say(&format!("   loss {:.3} -> {:.3} in {} steps", first.loss, last.loss, report.steps));
        }
        Ok(report)
    }

    /// Part 3: the same questions for both models.
    fn examine(&self) -> Result<Option<Examined>, Box<dyn std::error::Error>> {
        let Some(path) = &self.benchmark else { return Ok(None) };
        self.say(&format!("4. examination: {}", path.display()));
        let base = self.examine_one(&self.base, path, "base")?;
        let tuned = self.examine_one(&ModelFolder::open(self.out("model"))?, path, "post-trained")?;
        let comparison = compare(&base.outcomes, &tuned.outcomes, &BootstrapConfig::default());
        Ok(Some(Examined { base, tuned, comparison }))
    }

    fn examine_one(
        &self,
        folder: &ModelFolder,
        description: &Path,
        name: &str,
    ) -> Result<Scored, Box<dyn std::error::Error>> {
        let benchmark = DescribedBenchmark::open(description)?;
        let images = Arc::new(FolderImages::new(benchmark.description().images_path()));
        let benchmark = benchmark.with_images(images.clone());
        let model = LocalModel::load(folder, DType::F32, &self.device, images)?;
        let place = self.out("evaluation").join(name);
        std::fs::create_dir_all(&place)?;
        let options = PredictOptions {
            batch_size: 32,
            journal: Some(place.join("journal.jsonl")),
            predictions: Some(place.join("predictions.jsonl")),
            ..PredictOptions::default()
        };
        let mut ledger = adamllm::core::Ledger::create(place.join("ledger.jsonl"))?;
        let predictions = predict(&model, &benchmark, &options, &mut ledger, &mut Bar::default())?;
        let scored = score_all(&benchmark, &predictions)?;
        let report = serde_json::to_vec_pretty(&scored.report)?;
        adamllm::core::write_atomically(place.join("report.json"), report)?;
        Ok(scored)
    }

    fn tell(
        &self,
        summary: &RunSummary,
        rows: &Rows,
        fitted: &FitReport,
        examined: Option<&Examined>,
        begun: Instant,
    ) -> JobResult {
        let samples = self.samples(3)?;
        let losses: Vec<f64> = fitted.metrics.iter().map(|m| m.loss).collect();
        let result = json!({
            "synthesis": summary,
            "encoded": rows.encoded.len(),
            "encode_ledger_rows": rows.lost.len(),
            "steps": fitted.steps,
            "loss_first": losses.first(),
            "loss_last": losses.last(),
            "base": examined.map(|e| &e.base.report),
            "post_trained": examined.map(|e| &e.tuned.report),
            "comparison": examined.map(|e| &e.comparison),
            "samples": samples,
            "model": self.out("model"),
            "seconds": begun.elapsed().as_secs_f64(),
        });
        adamllm::core::write_atomically(self.out("quickstart.json"), format!("{result:#}\n"))?;
        if self.arguments.json {
            println!("{result}");
            return Ok(());
        }
        if let Some(Examined { base, tuned, comparison }) = examined {
            println!("\n{}", report_table(&[("base", &base.report), ("post-trained", &tuned.report)]));
            println!("{}", comparison_table("base", "post-trained", comparison));
        }
        println!("what the post-trained model says:");
        for sample in &samples {
            println!("   {}", sample["image"].as_str().unwrap_or_default());
            println!("      before: {}", sample["before"].as_str().unwrap_or_default());
            println!("      after:  {}", sample["after"].as_str().unwrap_or_default());
        }
        println!("\nwritten below {}:", self.arguments.out.display());
        for (name, what) in [
            ("synthesis/", "triplets, verdicts, tasks and the ledger of every row that dropped out"),
            ("conversations.jsonl", "the training rows"),
            ("training/", "metrics.jsonl and the last checkpoint"),
            ("model/", "the post-trained model, a Hugging Face folder like the base"),
            ("evaluation/", "predictions and reports of both models"),
            ("quickstart.json", "all the numbers above"),
        ] {
            println!("   {name:22}{what}");
        }
        println!("{:.0} s in all", begun.elapsed().as_secs_f64());
        Ok(())
    }

    /// Pairs that could not be read, asked about or encoded.
    fn check_losses(&self, summary: &RunSummary, rows: &Rows) -> JobResult {
        let ledgers = [self.out("synthesis").join("ledger.jsonl"), self.out("encode-ledger.jsonl")];
        let mut losses = LostRecords::from_ledger(summary.records_in, &ledgers[0])?;
        rows.lost.iter().for_each(|row| losses.add(row));
        let told = ledgers.map(|path| path.display().to_string()).join(", ");
        cli::check_losses(&losses, rows.encoded.len() as u64, self.arguments.losses.max_lost, &told)
    }

    /// What both models say about the first images.
    fn samples(&self, n: usize) -> Result<Vec<serde_json::Value>, Box<dyn std::error::Error>> {
        let pairs: Vec<ImageCaption> = cli::pairs(&self.captions)?.flatten().take(n).collect();
        let prompts: Vec<Prompt> = pairs.iter().map(|pair| Prompt::ask(&pair.image, "Describe the image.")).collect();
        let say = |folder: &ModelFolder| -> Result<Vec<String>, Box<dyn std::error::Error>> {
            let answers = self.load(folder)?.generate(&prompts, &Decoding::greedy(48));
            Ok(answers.into_iter().map(|a| a.map_or_else(|e| format!("(error: {e})"), |a| a.text)).collect())
        };
        let (before, after) = (say(&self.base)?, say(&ModelFolder::open(self.out("model"))?)?);
        let sample = |((pair, before), after): ((&ImageCaption, String), String)| json!({ "image": pair.image, "caption": pair.caption, "before": before, "after": after });
        Ok(pairs.iter().zip(before).zip(after).map(sample).collect())
    }
}
