//! Makes a synthesizer of a vision-language model (paper, section 3.1). We will:
//!
//! 1. join VisionFLAN's and ALLaVA's files to seed conversations, one for each image, split by task,
//! 2. encode them, with the loss on everything after the caption, the user's questions included,
//! 3. tune the model on them, evaluated on the held-out ones,
//! 4. write it as a Hugging Face folder that `synthesize` takes.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use adamllm::core::LostRecords;
use adamllm::recipes::tune_synthesizer::TuneEvent;
use adamllm::recipes::{Dtype, RunOptions, TuneSynthesizerSettings, tune_synthesizer};
use adamllm::synth::Variant;
use adamllm::synth::seed::SeedSummary;
use adamllm_examples::cli::{self, Bar, JobResult, MaxLost, Output};
use adamllm_examples::{devices, folders};
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
    #[command(flatten)]
    output: Output,
    /// Ends after the first step of the job: seed conversations, no model
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
    /// A checkpoint, and an evaluation on the held-out conversations, after every so many steps
    #[arg(long, default_value_t = 500)]
    save_every: usize,
    /// Seeds every random choice
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// flex (the CPU), or another backend that is compiled in
    #[arg(long, default_value = "flex")]
    device: String,
    /// The dtype of the weights on the device: f32, bf16 or f16
    #[arg(long, value_parser = cli::setting::<Dtype>, default_value = "f32")]
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
    let (settings, output, started) = (arguments.settings(), &arguments.output, Instant::now());
    let base = (!arguments.seeds_only).then(|| folders::model_folder(&arguments.model)).transpose()?;
    output.prepare("tune_synthesizer.json")?;
    let (seeds, result) = match base {
        None => {
            let seeds = settings.write_seeds(&output.out, &mut Bar::default())?;
            arguments.tell(TuneEvent::Seeds(&seeds));
            (seeds.clone(), json!({"seeds": seeds, "seconds": started.elapsed().as_secs_f64()}))
        }
        Some(base) => {
            let device = devices::device(&arguments.device)?;
            let run = RunOptions { resume: output.resume, stop: Some(&cli::STOP), ..RunOptions::new(&output.out) };
            cli::stop_on_signal()?;
            let mut on_event = |event: TuneEvent| arguments.tell(event);
            let report = tune_synthesizer(&settings, &base, &device, &run, &mut on_event, &mut Bar::default())?;
            (report.seeds.clone(), json!(report))
        }
    };
    cli::tell_json(&output.file("tune_synthesizer.json"), &result, arguments.json)?;
    arguments.check_losses(&seeds)
}

impl Arguments {
    fn settings(&self) -> TuneSynthesizerSettings {
        TuneSynthesizerSettings {
            visionflan: self.visionflan.clone(),
            allava_captions: self.allava_captions.clone(),
            allava_instructions: self.allava_instructions.clone(),
            images: self.images.clone(),
            variant: self.variant,
            dev_share: self.dev_share,
            blank_share: self.blank_share,
            epochs: self.epochs,
            max_steps: self.max_steps,
            batch_size: self.batch_size,
            micro_batch_size: self.micro_batch_size,
            learning_rate: self.learning_rate,
            vision_learning_rate: self.vision_learning_rate,
            max_tokens: self.max_tokens,
            save_every: self.save_every,
            seed: self.seed,
            dtype: self.dtype,
        }
    }

    fn tell(&self, event: TuneEvent) {
        match event {
            _ if self.json => {}
            TuneEvent::Seeds(_) => println!("1. {event}"),
            TuneEvent::Encoded { .. } => println!("2. {event}"),
            TuneEvent::Ended(report) => {
                let (model, page) = (report.model.display(), self.output.file("index.html"));
                println!("3. {event}\n4. the synthesizer: {model}\nthe page of the whole run:\n{}", page.display());
            }
            _ => println!("   {event}"),
        }
    }

    /// Records of the seed files, and conversations that could not be encoded.
    fn check_losses(&self, seeds: &SeedSummary) -> JobResult {
        let n_conversations = seeds.train + seeds.dev;
        let ledgers = [("seeds/ledger.jsonl", seeds.records_in), ("encode-ledger.jsonl", n_conversations)];
        for (name, n_records) in ledgers.into_iter().take(if self.seeds_only { 1 } else { 2 }) {
            let ledger = self.output.file(name);
            let losses = LostRecords::from_ledger(n_records, &ledger)?;
            cli::check_losses(&losses, n_conversations, self.losses.max_lost, &ledger.display().to_string())?;
        }
        Ok(())
    }
}
