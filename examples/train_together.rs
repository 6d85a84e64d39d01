//! Trains one model on several devices at once, or in several processes of an MPI job. We will:
//!
//! 1. encode image-caption pairs, in every process the same,
//! 2. load the model once for each rank,
//! 3. let the ranks split every step's forward passes and sum their gradients,
//! 4. write the model, which all of them now hold.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::PathBuf;
use std::process::ExitCode;

use adamllm::core::Ledger;
use adamllm::prelude::*;
use adamllm::recipes::post_train::{DataSettings, ModelSettings, PostTraining};
use adamllm::recipes::{Dtype, PostTrainReport, PostTrainSettings, RunOptions, SourceSettings};
use adamllm::train::{Collective, Schedule, Transport, on_each_device};
use adamllm_examples::cli::{self, Answer, Bar, JobResult, MaxLost};
use adamllm_examples::{devices, folders, ranks};
use clap::Parser;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Trains one model on several devices at once.
#[derive(Parser, Debug)]
struct Arguments {
    /// The model's folder
    #[arg(long)]
    model: String,
    /// Image-caption pairs: ShareGPT JSON or JSON Lines
    #[arg(long)]
    captions: PathBuf,
    /// The folder that the pairs' images are in
    #[arg(long)]
    images: PathBuf,
    /// Everything is written here; processes on several machines need a shared file system
    #[arg(long)]
    out: PathBuf,
    /// Goes on with the run in --out
    #[arg(long)]
    resume: bool,
    /// flex (the CPU), or another backend that is compiled in
    #[arg(long, default_value = "flex")]
    device: String,
    /// Ranks in this process, each with a device of its own (on the CPU they share its cores)
    #[arg(long, default_value_t = 1)]
    devices: usize,
    /// How their gradients are summed: through the host's memory, or from device to device (CUDA)
    #[arg(long, value_parser = ["host", "device"], default_value = "host")]
    exchange: String,
    /// The dtype of the weights on the device: f32, bf16 or f16
    #[arg(long, value_parser = cli::setting::<Dtype>, default_value = "f32")]
    dtype: Dtype,
    /// Conversations in an optimizer step, those of all ranks together
    #[arg(long, default_value_t = 16)]
    batch_size: usize,
    /// Conversations in one forward pass, at most
    #[arg(long, default_value_t = 4)]
    micro_batch_size: usize,
    /// Passes over the data
    #[arg(long, default_value_t = 1.0)]
    epochs: f64,
    /// Ends after so many steps
    #[arg(long)]
    max_steps: Option<usize>,
    /// The peak learning rate
    #[arg(long, default_value_t = 1e-5)]
    learning_rate: f64,
    /// A checkpoint after every so many steps
    #[arg(long, default_value_t = 500)]
    save_every: usize,
    /// Seeds every random choice
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    losses: MaxLost,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    ranks::main(run)
}

fn run(arguments: Arguments, processes: &dyn Collective) -> JobResult {
    if arguments.devices == 0 || (arguments.devices > 1 && processes.size() > 1) {
        let got = format!("--devices {} in each of {} processes", arguments.devices, processes.size());
        return Err(format!("expected several devices in one process, or one in each process; got {got}").into());
    }
    let (base, settings) = (folders::model_folder(&arguments.model)?, arguments.settings());
    let processor = Processor::read(&base)?;
    let job = PostTraining::read(&settings, &base, &processor, Ledger::new(), &mut ())?;
    cli::stop_on_signal()?;
    let fit = |device: &Device, collective: &dyn Collective| -> Result<PostTrainReport, String> {
        let progress: &mut dyn Progress = if collective.rank() == 0 { &mut Bar::default() } else { &mut () };
        let (out, resume) = (arguments.out.clone(), arguments.resume);
        let run = RunOptions { out, resume, stop: Some(&cli::STOP), collective: Some(collective) };
        job.run(device, &run, &mut |_| {}, progress).map_err(|error| error.to_string())
    };
    let report = match arguments.devices {
        1 => fit(&devices::device(&arguments.device)?, processes)?,
        n => {
            let transport =
                if arguments.exchange == "device" { Transport::DeviceToDevice } else { Transport::HostMemory };
            let reports = on_each_device(&devices::devices(&arguments.device, n)?, transport, fit)?;
            reports.into_iter().next().ok_or("no device")?
        }
    };
    if processes.rank() == 0 {
        arguments.tell(processes.size() * arguments.devices, &report)?;
    }
    cli::check_losses(job.losses(), job.counts().records_out, arguments.losses.max_lost, "")
}

impl Arguments {
    fn settings(&self) -> PostTrainSettings {
        let Self { batch_size, micro_batch_size, epochs, max_steps, learning_rate, seed, .. } = *self;
        let mut source = SourceSettings {
            captions: Some(self.captions.clone()),
            images: vec![self.images.clone()],
            ..SourceSettings::default()
        };
        source.compose.seed = seed;
        let train =
            TrainConfig { batch_size, micro_batch_size, epochs, max_steps, learning_rate, ..TrainConfig::default() };
        PostTrainSettings {
            model: ModelSettings { dtype: self.dtype, ..ModelSettings::default() },
            data: DataSettings { sources: vec![source], ..DataSettings::default() },
            train: TrainConfig {
                schedule: Schedule { warmup: 0.1, ..Schedule::default() },
                save_every: Some(self.save_every),
                seed,
                ..train
            },
            ..PostTrainSettings::default()
        }
    }

    fn tell(&self, ranks: usize, report: &PostTrainReport) -> Answer<()> {
        let PostTrainReport { steps, loss_first, loss_last, model, seconds, .. } = report;
        let model = model.as_ref().ok_or("rank 0 writes the model")?;
        if self.json {
            let examples = report.plan.counts.records_out;
            println!(
                "{}",
                json!({"ranks": ranks, "examples": examples, "steps": steps, "loss_first": loss_first, "loss_last": loss_last,
                    "model": model, "seconds": seconds})
            );
        } else {
            let shown = |loss: &Option<f64>| loss.map_or_else(|| "none".into(), |loss| format!("{loss:.4}"));
            let (first, last) = (shown(loss_first), shown(loss_last));
            println!("{ranks} ranks, {steps} steps, loss {first} -> {last}: {}", model.display());
        }
        Ok(())
    }
}
