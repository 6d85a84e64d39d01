//! Whole training steps of the trainer on one batch: how long they take and how much memory they hold.
//!
//!     cargo bench --bench training_step -- FOLDER [--examples 4] [--tokens 256] [--side 224] [--steps 6] [--checkpointing]
//!         [--lora RANK] [--frozen stored|int8|nf4] [--moments f32|bf16|int8] [--gradients f32|bf16]
//!
//! Prints one JSON object; `tools/peers/training.py` sets it beside torch's.
#![allow(missing_docs, clippy::print_stdout)]

use std::path::PathBuf;

use adamllm::core::{MemoryImages, Supervision};
use adamllm::model::{FrozenLayers, Padding, VlmBatch};
use adamllm::nn::{FrozenForm, LoraConfig};
use adamllm::prelude::*;
use adamllm::train::{ExampleBatches, FitOptions, GradientCheckpointing, GradientDtype, MomentDtype, Schedule};
use image::{Rgb, RgbImage};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 3.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

struct Arguments {
    folder: PathBuf,
    examples: usize,
    tokens: usize,
    side: u32,
    steps: usize,
    checkpointing: bool,
    /// The rank of adapters beside the decoder's layers, which are trained alone.
    lora: Option<usize>,
    frozen: Option<FrozenForm>,
    moments: MomentDtype,
    gradients: GradientDtype,
}

/// A setting's value by the name that settings files have for it.
fn named<T: serde::de::DeserializeOwned>(given: &mut impl Iterator<Item = String>) -> T {
    let name = given.next().expect("a name");
    serde_json::from_value(name.into()).unwrap_or_else(|error| panic!("{error}"))
}

fn number(given: &mut impl Iterator<Item = String>) -> usize {
    given.next().and_then(|n| n.parse().ok()).expect("a number")
}

fn arguments() -> Arguments {
    let mut arguments = Arguments {
        folder: PathBuf::new(),
        examples: 4,
        tokens: 256,
        side: 224,
        steps: 6,
        checkpointing: false,
        lora: None,
        frozen: None,
        moments: MomentDtype::F32,
        gradients: GradientDtype::F32,
    };
    let mut given = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--examples" => arguments.examples = number(&mut given),
            "--tokens" => arguments.tokens = number(&mut given),
            "--side" => arguments.side = number(&mut given) as u32,
            "--checkpointing" => arguments.checkpointing = true,
            "--lora" => arguments.lora = Some(number(&mut given)),
            "--frozen" => arguments.frozen = Some(named(&mut given)),
            "--moments" => arguments.moments = named(&mut given),
            "--gradients" => arguments.gradients = named(&mut given),
            "--steps" => arguments.steps = number(&mut given),
            folder => arguments.folder = folder.into(),
        }
    }
    arguments
}

/// An image of noise that repeats in every process.
fn noise(side: u32, seed: u32) -> RgbImage {
    let value = |x: u32, y: u32, c: u32| (((x * 31 + y * 17 + c * 7 + seed * 13) * 2_654_435_761) >> 24) as u8;
    RgbImage::from_fn(side, side, |x, y| Rgb([value(x, y, 0), value(x, y, 1), value(x, y, 2)]))
}

fn main() {
    // As the examples do: pages stay with the process from step to step.
    // SAFETY: an option of the allocator, set before any thread is started.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    let arguments = arguments();
    let folder = ModelFolder::open(&arguments.folder).expect("a model folder");
    let processor = Processor::read(&folder).expect("reads");
    let mut images = MemoryImages::new();
    let mut encoded = Vec::new();
    for example in 0..arguments.examples {
        let name = format!("{example}.png");
        images.insert(name.as_str(), noise(arguments.side, example as u32));
        let conversation = |n: usize| {
            let reply: String = (0..n).map(|i| char::from(b'a' + ((i * 7 + example) % 26) as u8)).collect();
            let messages = vec![Message::user("<image>\nDescribe it."), Message::assistant(reply)];
            Conversation::new(messages, vec![name.as_str().into()])
        };
        let encode = |n: usize| processor.encode(&conversation(n), Supervision::Replies, &images).expect("encodes");
        // One letter is one token in the models of `make_model.py`.
        let bare = encode(1).tokens.len();
        encoded.push(encode(arguments.tokens.saturating_sub(bare) + 1));
    }
    let examples: Vec<_> = encoded.iter().collect();
    let source = ExampleBatches::new(arguments.steps, |_: &[usize]| {
        Ok::<_, String>(VlmBatch::collate(&examples, Padding::Right, &processor))
    });
    let config = TrainConfig {
        batch_size: 1,
        micro_batch_size: 1,
        learning_rate: 1e-4,
        schedule: Schedule { warmup: 0.0, ..Schedule::default() },
        save_every: None,
        moments: arguments.moments,
        gradients: arguments.gradients,
        gradient_checkpointing: if arguments.checkpointing {
            GradientCheckpointing::Blocks
        } else {
            GradientCheckpointing::Off
        },
        ..TrainConfig::default()
    };
    let device = Device::flex().autodiff();
    let lora = arguments.lora.map(|rank| LoraConfig::new(rank, 2.0 * rank as f64));
    let model = match arguments.frozen {
        None => folder.load(DType::F32, &device),
        Some(form) => folder.load_frozen(DType::F32, &device, &FrozenLayers { form, adapter: lora.as_ref() }, &mut ()),
    };
    let model = model.expect("loads");
    let model = match &lora {
        None => model,
        Some(lora) => model.with_lora(lora).expect("fits"),
    };
    let trainer = Trainer::new(config).expect("valid");
    let (_, report) = trainer.fit(model, &source, FitOptions::default(), &mut ()).expect("fits");
    let seconds: Vec<f64> = report.metrics.iter().map(|m| m.step_s).collect();
    let losses: Vec<f64> = report.metrics.iter().map(|m| m.loss).collect();
    let tokens: usize = examples.iter().map(|example| example.tokens.len()).sum();
    let peak = report.metrics.last().and_then(|m| m.peak_bytes);
    let ids: Vec<&Vec<u32>> = examples.iter().map(|example| &example.tokens).collect();
    let label = |(&token, &target): (&u32, &bool)| if target { i64::from(token) } else { -100 };
    let labels: Vec<Vec<i64>> =
        examples.iter().map(|example| example.tokens.iter().zip(&example.targets).map(label).collect()).collect();
    let result = serde_json::json!({
        "step_s": seconds, "losses": losses, "tokens": tokens, "peak": peak, "ids": ids, "labels": labels,
    });
    println!("{result}");
}
