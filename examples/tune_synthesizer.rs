//! Makes a synthesizer of a vision-language model (paper, section 3.1). We will:
//!
//! 1. join VisionFLAN's and ALLaVA's files to seed conversations, one for each image, split by task,
//! 2. encode them, with the loss on everything behind the caption, the user's questions included,
//! 3. tune the model on them, examined on the held-out ones,
//! 4. write it as a Hugging Face folder that `synthesize` takes.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use adamllm::core::{Ledger, LostRecords, Reason, Stage, jsonl};
use adamllm::model::{Padding, VisionLanguageModel, VlmBatch};
use adamllm::prelude::*;
use adamllm::synth::Variant;
use adamllm::synth::seed::{BlankImages, SEED_SUPERVISION, SeedConfig, SeedIndex, SeedSources, SeedSummary};
use adamllm::train::{ExampleBatches, FitOptions, FitOutcome, FitReport, ParameterGroup, Schedule, Validation};
use adamllm_examples::cli::{self, Bar, Dtype, JobResult, MaxLost};
use clap::Parser;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Makes a synthesizer of a vision-language model.
#[derive(Parser, Debug)]
struct Arguments {
    /// VisionFLAN's metadata.json: instructions with precise responses
    #[arg(long)]
    visionflan: PathBuf,
    /// ALLaVA-Caption-VFLAN-4V.json
    #[arg(long)]
    allava_captions: PathBuf,
    /// ALLaVA-Instruct-VFLAN-4V.json: instructions with informative responses
    #[arg(long)]
    allava_instructions: PathBuf,
    /// VisionFLAN's folder of images
    #[arg(long)]
    images: PathBuf,
    /// The model's folder
    #[arg(long)]
    model: String,
    /// Everything is written here
    #[arg(long)]
    out: PathBuf,
    /// Goes on with the run in --out instead of starting anew
    #[arg(long)]
    resume: bool,
    /// Replaces the run in --out
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// Ends behind the first step of the job: seed conversations, no model
    #[arg(long)]
    seeds_only: bool,
    /// full, or the ablation no_blank_images
    #[arg(long, default_value = "full")]
    variant: Variant,
    /// The share of each task's images that is held out
    #[arg(long, default_value_t = 0.1)]
    dev_share: f64,
    /// The share of images that are replaced by a blank one
    #[arg(long, default_value_t = 0.1)]
    blank_share: f64,
    /// Passes over the data
    #[arg(long, default_value_t = 2.0)]
    epochs: f64,
    /// Ends after so many steps
    #[arg(long)]
    max_steps: Option<usize>,
    /// Conversations in an optimizer step
    #[arg(long, default_value_t = 128)]
    batch_size: usize,
    /// Conversations in one forward pass, at most
    #[arg(long, default_value_t = 4)]
    micro_batch_size: usize,
    /// The peak learning rate
    #[arg(long, default_value_t = 2e-5)]
    learning_rate: f64,
    /// The vision encoder's own
    #[arg(long, default_value_t = 2e-6)]
    vision_learning_rate: f64,
    /// Longer conversations are left out
    #[arg(long, default_value_t = 6144)]
    max_tokens: usize,
    /// A checkpoint, and an examination on the held-out conversations, after every so many steps
    #[arg(long, default_value_t = 500)]
    save_every: usize,
    /// Seeds every random choice
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// flex (the CPU), or another backend that is compiled in
    #[arg(long, default_value = "flex")]
    device: String,
    /// The dtype of the weights on the device
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
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
    let begun = Instant::now();
    if !matches!(arguments.variant, Variant::Full | Variant::NoBlankImages) {
        return Err(format!("--variant: expected full or no_blank_images, got {}", arguments.variant.as_str()).into());
    }
    cli::prepare(&arguments.out, "tune_synthesizer.json", arguments.resume, arguments.overwrite)?;
    let seeds = seeds(&arguments)?;
    let mut result = json!({"seeds": seeds});
    say(
        &arguments,
        &format!(
            "1. seeds: {} rows in, {} used, {} in the ledger; {} conversations to train on, {} held out, {} with a blank image",
            seeds.records_in, seeds.records_used, seeds.ledger_entries, seeds.train, seeds.dev, seeds.blank
        ),
    );
    if !arguments.seeds_only {
        let tuning = Tuning::new(&arguments)?;
        let (train, dev) = tuning.read()?;
        say(&arguments, &format!("2. {} of them fit into the context, {} held out", train.len(), dev.len()));
        let report = tuning.fit(&train, &dev)?;
        let losses: Vec<f64> = report.metrics.iter().map(|m| m.loss).collect();
        let examined = report.validation.last().map(|row| row.loss);
        result["encoded"] = json!(train.len() + dev.len());
        result["encode_ledger_rows"] = json!(seeds.train + seeds.dev - (train.len() + dev.len()) as u64);
        result["steps"] = json!(report.steps);
        result["loss_first"] = json!(losses.first());
        result["loss_last"] = json!(losses.last());
        result["loss_held_out"] = json!(examined);
        result["model"] = json!(arguments.out.join("model"));
        say(
            &arguments,
            &format!(
                "3. {} steps, loss {:.3?} -> {:.3?}, held out {examined:.3?}",
                report.steps,
                losses.first(),
                losses.last()
            ),
        );
        say(&arguments, &format!("4. the synthesizer: {}", arguments.out.join("model").display()));
    }
    result["seconds"] = json!(begun.elapsed().as_secs_f64());
    adamllm::core::write_atomically(arguments.out.join("tune_synthesizer.json"), format!("{result:#}\n"))?;
    if arguments.json {
        println!("{result}");
    }
    let places = [("seeds/ledger.jsonl", seeds.records_in), ("encode-ledger.jsonl", seeds.train + seeds.dev)];
    for (name, n_records) in places.into_iter().take(if arguments.seeds_only { 1 } else { 2 }) {
        let ledger = arguments.out.join(name);
        let losses = LostRecords::from_ledger(n_records, &ledger)?;
        cli::check_losses(&losses, seeds.train + seeds.dev, arguments.losses.max_lost, &ledger.display().to_string())?;
    }
    Ok(())
}

fn say(arguments: &Arguments, text: &str) {
    if !arguments.json {
        println!("{text}");
    }
}

/// The three files, streamed, to `seeds/train.jsonl`, `seeds/dev.jsonl` and `seeds/ledger.jsonl`.
fn seeds(arguments: &Arguments) -> Result<SeedSummary, Box<dyn std::error::Error>> {
    let index = SeedIndex::build(SeedSources {
        precise: arguments.visionflan.clone(),
        captions: arguments.allava_captions.clone(),
        informative: arguments.allava_instructions.clone(),
    })?;
    let blank_share = arguments.variant.blank_share(arguments.blank_share);
    let config =
        SeedConfig { seed: arguments.seed, dev_share: arguments.dev_share, blank_share, ..SeedConfig::default() };
    Ok(index.write(&arguments.out.join("seeds"), &config, &mut Bar::default())?)
}

/// The model and what it reads.
struct Tuning<'a> {
    arguments: &'a Arguments,
    folder: ModelFolder,
    processor: Processor,
    images: BlankImages<FolderImages>,
}

impl<'a> Tuning<'a> {
    fn new(arguments: &'a Arguments) -> Result<Self, Box<dyn std::error::Error>> {
        let folder = cli::model_folder(&arguments.model)?;
        let processor = Processor::read(&folder)?;
        let images = BlankImages::new(FolderImages::new(&arguments.images), SeedConfig::default().blank_image);
        Ok(Self { arguments, folder, processor, images })
    }

    /// The conversations that can be encoded; the others stand in `encode-ledger.jsonl`. Only texts are held in memory:
    /// images are read again for each batch.
    fn read(&self) -> Result<(Vec<Conversation>, Vec<Conversation>), Box<dyn std::error::Error>> {
        let mut ledger = Ledger::create(self.arguments.out.join("encode-ledger.jsonl"))?;
        let mut part = |name: &str| -> Result<Vec<Conversation>, Box<dyn std::error::Error>> {
            let mut whole = Vec::new();
            for row in jsonl::read::<Conversation>(self.arguments.out.join("seeds").join(name))? {
                let row = row?;
                match self.processor.encode(&row, SEED_SUPERVISION, &self.images) {
                    Ok(encoded) if encoded.tokens.len() > self.limit() => {
                        let detail = format!("{} tokens, expected at most {}", encoded.tokens.len(), self.limit());
                        ledger.drop_record(&row.id, Stage::Encode, Reason::TooLong, detail)?;
                    }
                    Ok(_) => whole.push(row),
                    Err(error) => ledger.drop_record(&row.id, Stage::Encode, Reason::from(&error), error)?,
                }
            }
            Ok(whole)
        };
        let parts = (part("train.jsonl")?, part("dev.jsonl")?);
        if parts.0.is_empty() {
            let losses = ledger.lost_records(parts.0.len() as u64 + ledger.total());
            return Err(format!("no conversation is left to train on; {losses}; see seeds/ledger.jsonl too").into());
        }
        Ok(parts)
    }

    fn limit(&self) -> usize {
        self.arguments.max_tokens.min(self.processor.config().max_context)
    }

    fn config(&self) -> TrainConfig {
        let vision = ParameterGroup {
            prefix: "vision.".into(),
            learning_rate: Some(self.arguments.vision_learning_rate),
            weight_decay: None,
            frozen: false,
        };
        TrainConfig {
            seed: self.arguments.seed,
            epochs: self.arguments.epochs,
            max_steps: self.arguments.max_steps,
            batch_size: self.arguments.batch_size,
            micro_batch_size: self.arguments.micro_batch_size,
            learning_rate: self.arguments.learning_rate,
            schedule: Schedule { warmup: 0.03, ..Schedule::default() },
            weight_decay: 0.0,
            groups: vec![vision],
            save_every: Some(self.arguments.save_every),
            ..TrainConfig::default()
        }
    }

    fn fit(&self, train: &[Conversation], dev: &[Conversation]) -> Result<FitReport, Box<dyn std::error::Error>> {
        let batch = |rows: &[Conversation], wanted: &[usize]| -> Result<VlmBatch, String> {
            let encode = |&row: &usize| self.processor.encode(&rows[row], SEED_SUPERVISION, &self.images);
            let encoded = wanted.iter().map(encode).collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
            Ok(VlmBatch::collate(&encoded.iter().collect::<Vec<_>>(), Padding::Right, &self.processor))
        };
        let batches = ExampleBatches::new(train.len(), |wanted: &[usize]| batch(train, wanted));
        let held_out = ExampleBatches::new(dev.len(), |wanted: &[usize]| batch(dev, wanted));
        let (every, batch_size) = (self.arguments.save_every, self.arguments.micro_batch_size);
        let validation =
            (!dev.is_empty()).then_some(Validation { source: &held_out, every, batch_size, patience: None });
        let device = cli::device(&self.arguments.device)?.autodiff();
        let model: VisionLanguageModel = self.folder.load(self.arguments.dtype.into(), &device)?;
        let folder: PathBuf = self.arguments.out.join("training");
        let run = FitOptions {
            folder: Some(folder),
            resume: self.arguments.resume,
            stop: Some(cli::interrupted()?),
            ..FitOptions::default()
        };
        let trainer = Trainer::new(self.config())?;
        let (model, report) = trainer.fit_validated(model, &batches, validation, run, &mut Bar::default())?;
        if report.outcome == FitOutcome::Stopped {
            return Err(format!("stopped behind step {}; --resume goes on", report.steps).into());
        }
        let to: &Path = &self.arguments.out.join("model");
        self.folder.save(&model, to)?;
        Ok(report)
    }
}
