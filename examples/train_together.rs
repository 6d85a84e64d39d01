//! Trains one model on several devices at once, or in several processes of an MPI job. We will:
//!
//! 1. encode image-caption pairs, in every process the same rows,
//! 2. load the model once for each member,
//! 3. let the members split every step's forward passes and add their gradients up,
//! 4. write the model, which all of them now hold.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use adamllm::core::Supervision;
use adamllm::model::{Encoded, Padding, VisionLanguageModel, VlmBatch};
use adamllm::prelude::*;
use adamllm::train::{
    Collective, ExampleBatches, FitOptions, FitOutcome, FitReport, Schedule, Transport, on_each_device,
};
use adamllm_examples::cli::{self, Bar, Dtype, JobResult};
use adamllm_examples::replicas;
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
    /// Members in this process, each with a device of its own (on the CPU they share its cores)
    #[arg(long, default_value_t = 1)]
    devices: usize,
    /// How they add their gradients up: through the host's memory, or from device to device (CUDA)
    #[arg(long, value_enum, default_value = "host")]
    exchange: ExchangeName,
    /// The dtype of the weights on the device
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// Rows in an optimizer step, those of all members together
    #[arg(long, default_value_t = 16)]
    batch_size: usize,
    /// Rows in one forward pass, at most
    #[arg(long, default_value_t = 4)]
    micro_batch_size: usize,
    /// Passes over the rows
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
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ExchangeName {
    Host,
    Device,
}

impl From<ExchangeName> for Transport {
    fn from(name: ExchangeName) -> Self {
        match name {
            ExchangeName::Host => Self::HostMemory,
            ExchangeName::Device => Self::DeviceToDevice,
        }
    }
}

fn main() -> ExitCode {
    replicas::main(run)
}

fn run(arguments: Arguments, processes: &dyn Collective) -> JobResult {
    let begun = Instant::now();
    if arguments.devices == 0 || (arguments.devices > 1 && processes.size() > 1) {
        let got = format!("--devices {} in each of {} processes", arguments.devices, processes.size());
        return Err(format!("expected several devices in one process, or one in each process; got {got}").into());
    }
    let folder = cli::model_folder(&arguments.model)?;
    let job = Job { rows: rows(&arguments, &folder)?, folder, arguments };
    let (model, report) = match job.arguments.devices {
        1 => job.fit(&cli::device(&job.arguments.device)?, processes)?,
        n => job.fit_on_devices(n)?,
    };
    if report.outcome == FitOutcome::Stopped {
        return Err(format!("stopped behind step {} with a checkpoint; --resume goes on", report.steps).into());
    }
    if processes.rank() > 0 {
        return Ok(());
    }
    let to = job.arguments.out.join("model");
    job.folder.save(&model, &to)?;
    let loss = |step: Option<&adamllm::train::StepMetrics>| step.map(|step| step.loss);
    let members = processes.size() * job.arguments.devices;
    let (first, last) = (loss(report.metrics.first()), loss(report.metrics.last()));
    if job.arguments.json {
        println!(
            "{}",
            json!({"members": members, "rows": job.rows.len(), "steps": report.steps, "loss_first": first, "loss_last": last,
                "model": to, "seconds": begun.elapsed().as_secs_f64()})
        );
    } else {
        let shown = |loss: Option<f64>| loss.map_or_else(|| "none".into(), |loss| format!("{loss:.4}"));
        let (first, last) = (shown(first), shown(last));
        println!("{members} members, {} steps, loss {first} -> {last}: {}", report.steps, to.display());
    }
    Ok(())
}

/// The captions as conversations, encoded.
fn rows(arguments: &Arguments, folder: &ModelFolder) -> Result<Vec<Encoded>, Box<dyn std::error::Error>> {
    let pairs: Vec<ImageCaption> =
        cli::pairs(&arguments.captions)?.collect::<Result<_, _>>().map_err(|lost| lost.detail)?;
    let (processor, images) = (Processor::read(folder)?, FolderImages::new(&arguments.images));
    let conversations = SingleStage { seed: arguments.seed, ..SingleStage::default() }.compose(&pairs, &[])?;
    let encode = |row: &Conversation| Ok(processor.encode(row, Supervision::Replies, &images)?);
    conversations.iter().map(encode).collect()
}

struct Job {
    arguments: Arguments,
    folder: ModelFolder,
    rows: Vec<Encoded>,
}

type Fitted = Result<(VisionLanguageModel, FitReport), Box<dyn std::error::Error>>;

impl Job {
    /// What one member does: it loads the model on its device, and trains it with the others.
    fn fit(&self, device: &Device, replicas: &dyn Collective) -> Fitted {
        let Arguments { batch_size, micro_batch_size, epochs, max_steps, learning_rate, save_every, seed, .. } =
            self.arguments;
        let config = TrainConfig {
            schedule: Schedule { warmup: 0.1, ..Schedule::default() },
            save_every: Some(save_every),
            ..TrainConfig {
                batch_size,
                micro_batch_size,
                epochs,
                max_steps,
                learning_rate,
                seed,
                ..TrainConfig::default()
            }
        };
        let processor = Processor::read(&self.folder)?;
        let batches = ExampleBatches::new(self.rows.len(), |wanted: &[usize]| {
            let rows: Vec<&Encoded> = wanted.iter().map(|&row| &self.rows[row]).collect();
            Ok::<_, String>(VlmBatch::collate(&rows, Padding::Right, &processor))
        });
        let model: VisionLanguageModel = self.folder.load(self.arguments.dtype.into(), &device.clone().autodiff())?;
        let run = FitOptions {
            folder: Some(self.arguments.out.join("training")),
            resume: self.arguments.resume,
            stop: Some(stop()?),
            collective: Some(replicas),
            ..FitOptions::default()
        };
        let progress: &mut dyn Progress = if replicas.rank() == 0 { &mut Bar::default() } else { &mut () };
        Ok(Trainer::new(config)?.fit(model, &batches, run, progress)?)
    }

    /// A thread for each device of this process; the first one's model is as good as any.
    fn fit_on_devices(&self, n: usize) -> Fitted {
        let devices = replicas::devices(&self.arguments.device, n)?;
        let fitted = on_each_device(&devices, self.arguments.exchange.into(), |device, replicas| {
            self.fit(device, replicas).map_err(|error| error.to_string())
        })?;
        Ok(fitted.into_iter().next().expect("a device"))
    }
}

/// Set by Ctrl-C and by a terminating signal; handled once, whichever member asks first.
fn stop() -> Result<&'static AtomicBool, String> {
    static STOP: OnceLock<Result<&'static AtomicBool, String>> = OnceLock::new();
    STOP.get_or_init(|| cli::interrupted().map_err(|error| error.to_string())).clone()
}
