//! How long training steps and answers take, and how much of the device's memory and speed they use.

mod generation;
mod matrices;
mod memory;
mod training;
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use adamllm::prelude::*;
use serde_json::{Value, json};

use crate::Answer;
use crate::cases::said;
use crate::device::{Dtype, device};
use crate::report::Report;
use work::Work;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// flex (the CPU), or another backend that is compiled in
    #[arg(long, default_value = "flex")]
    device: String,
    /// A model folder; `tools/peers/make_model.py` writes one with random weights of the sizes of Qwen2-VL-2B
    #[arg(long)]
    model: PathBuf,
    /// The dtypes of weights and activations; may be given several times
    #[arg(long, value_enum, default_value = "bf16")]
    dtype: Vec<Dtype>,
    /// Examples in a training step
    #[arg(long, default_value_t = 8)]
    examples: usize,
    /// Examples in a forward pass, at most; halved where they do not fit into memory
    #[arg(long)]
    micro_batch: Option<usize>,
    /// Tokens of an example or a prompt, those of its image included
    #[arg(long, default_value_t = 1024)]
    tokens: usize,
    /// The side of an image, in pixels
    #[arg(long, default_value_t = 448)]
    side: u32,
    /// Training steps, the first of which is not counted
    #[arg(long, default_value_t = 4)]
    steps: usize,
    /// Keeps all activations instead of computing those inside blocks again
    #[arg(long)]
    no_checkpointing: bool,
    /// Tokens of an answer
    #[arg(long, default_value_t = 32)]
    new_tokens: usize,
    /// Rows of the square matrices whose product the device's speed is taken from
    #[arg(long, default_value_t = 8192)]
    matrix: usize,
    /// Only the parts whose names hold this; may be given several times
    #[arg(long)]
    only: Vec<String>,
    /// Seconds after which a part makes no further step
    #[arg(long, default_value_t = 90)]
    part_limit: u64,
    /// Seconds after which no part begins
    #[arg(long)]
    time_limit: Option<u64>,
    /// Writes what was measured there
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes the token ids there, for `bench_transformers.py`
    #[arg(long)]
    write_batch: Option<PathBuf>,
}

/// What every part needs.
struct Bench<'a> {
    arguments: &'a Arguments,
    device: Device,
    folder: ModelFolder,
    work: Work,
}

impl Bench<'_> {
    fn part_limit(&self) -> Duration {
        Duration::from_secs(self.arguments.part_limit)
    }
}

/// One part in one dtype: what it measured.
type Part = fn(&Bench, DType) -> Answer<Value>;

/// In the order of what they tell for the time that they take.
const PARTS: [(&str, Part); 5] = [
    ("product of matrices", matrices::rate),
    ("answers, batch 1", |bench, dtype| generation::answers(bench, dtype, 1)),
    ("answers, batch 8", |bench, dtype| generation::answers(bench, dtype, 8)),
    ("training, LoRA", |bench, dtype| training::steps(bench, dtype, true)),
    ("training, full", |bench, dtype| training::steps(bench, dtype, false)),
];

/// Measures; whether every part came to its end.
///
/// # Errors
/// The model folder, a device that is not compiled in, the report's file.
pub(crate) fn run(arguments: &Arguments) -> Answer<bool> {
    let run_started = Instant::now();
    let folder = ModelFolder::open(&arguments.model)?;
    let work = Work::new(&folder, arguments.examples.max(8), arguments.tokens, arguments.side)?;
    if let Some(file) = &arguments.write_batch {
        adamllm::core::write_atomically(file, format!("{}\n", work.as_json()))?;
    }
    let mut report = Report::new(arguments.json.as_deref().map(Path::new));
    report.set("device", json!(arguments.device))?;
    report.set("batch", json!({"examples": arguments.examples, "tokens": work.n_tokens(1), "side": arguments.side}))?;
    let bench = Bench { arguments, device: device(&arguments.device)?, folder, work };
    let (mut lines, mut whole) = (Vec::new(), true);
    for dtype in arguments.dtype.iter().map(|&dtype| DType::from(dtype)) {
        let mut rate = None;
        for (name, part) in PARTS {
            let name = format!("{name}, {dtype:?}");
            if !arguments.only.is_empty() && !arguments.only.iter().any(|only| name.contains(only.as_str())) {
                continue;
            }
            if arguments.time_limit.is_some_and(|limit| run_started.elapsed() >= Duration::from_secs(limit)) {
                println!("{name}: no time left");
                whole = false;
                continue;
            }
            eprintln!("... {name}");
            let mut line = bench.part(part, dtype);
            // How much of what the device can do goes into the model.
            rate = line["flops_per_s"].as_f64().filter(|_| name.starts_with("product")).or(rate);
            if let (Some(done), Some(rate)) = (line["model_flops_per_s"].as_f64(), rate) {
                line["utilisation"] = json!(done / rate);
            }
            whole &= line["error"].is_null();
            println!("{name}: {line}");
            line["name"] = json!(name);
            lines.push(line);
            report.set("parts", json!(lines))?;
        }
    }
    println!("{:.1} s in all", run_started.elapsed().as_secs_f64());
    Ok(whole)
}

impl Bench<'_> {
    /// One part by itself: what it measured, its seconds and the most memory of the device meanwhile, or why it failed.
    fn part(&self, part: Part, dtype: DType) -> Value {
        self.device.memory_cleanup();
        let (memory, started) = (memory::Watch::start(), Instant::now());
        let mut line = match catch_unwind(AssertUnwindSafe(|| part(self, dtype))) {
            Ok(Ok(line)) => line,
            Ok(Err(error)) => json!({"error": error.to_string()}),
            Err(panic) => json!({"error": said(panic.as_ref())}),
        };
        line["part_s"] = json!(started.elapsed().as_secs_f64());
        line["peak_device_mib"] = json!(memory.peak_mib());
        line
    }
}
