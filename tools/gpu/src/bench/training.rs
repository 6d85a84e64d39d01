//! Whole training steps of the trainer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use adamllm::model::{Flops, VlmBatch};
use adamllm::nn::LoraConfig;
use adamllm::prelude::*;
use adamllm::train::{
    ExampleBatches, ExampleOrder, FitOptions, FitReport, GradientCheckpointing, Schedule, StepMetrics, TrainError,
};
use serde_json::{Value, json};

use super::Bench;
use crate::Answer;

/// Steps of all weights, or of an adapter beside every linear layer of the decoder. Where a pass does not fit into the device's
/// memory, passes become half as large.
pub(super) fn steps(bench: &Bench, dtype: DType, lora: bool) -> Answer<Value> {
    let n = bench.arguments.examples;
    let mut micro_batch = bench.arguments.micro_batch.unwrap_or(n).clamp(1, n);
    let mut tried = Vec::new();
    let report = loop {
        match fit(bench, dtype, lora, micro_batch) {
            Ok(report) => break report,
            Err(error) if micro_batch > 1 && error.is::<TrainError>() => {
                let text: String = error.to_string().chars().take(300).collect();
                eprintln!("    passes of {micro_batch} examples: {text}");
                tried.push(json!({"micro_batch": micro_batch, "error": text}));
                micro_batch /= 2;
                bench.device.memory_cleanup();
            }
            Err(error) => return Err(error),
        }
    };
    let seconds: Vec<f64> = report.metrics.iter().map(|step| step.step_s).collect();
    let losses: Vec<f64> = report.metrics.iter().map(|step| step.loss).collect();
    // The first step compiles and chooses kernels.
    let mut rest = seconds.get(1..).unwrap_or_default().to_vec();
    rest.sort_by(f64::total_cmp);
    let step_s = rest.get(rest.len() / 2).copied();
    let config = bench.folder.config();
    let flops = (0..n).map(|i| config.flops(&bench.work.size_of(i))).fold(Flops::default(), std::ops::Add::add);
    // Beside an adapter no weight has a gradient, and the encoder no backward pass.
    let flops = if lora { flops.decoder * 2.0 / 3.0 + flops.encoder / 3.0 } else { flops.total() };
    let tokens = bench.work.n_tokens(n);
    Ok(json!({
        "micro_batch": micro_batch, "did_not_fit": tried, "checkpointing": !bench.arguments.no_checkpointing,
        "steps_s": seconds, "step_s": step_s, "losses": losses, "tokens": tokens,
        "tokens_per_s": step_s.map(|s| tokens as f64 / s),
        "model_flops": flops, "model_flops_per_s": step_s.map(|s| flops / s),
    }))
}

fn fit(bench: &Bench, dtype: DType, lora: bool, micro_batch: usize) -> Answer<FitReport> {
    let n = bench.arguments.examples;
    let source = ExampleBatches::new(n, |examples: &[usize]| Ok::<VlmBatch, String>(bench.work.batch(examples)));
    let config = TrainConfig {
        epochs: bench.arguments.steps as f64,
        batch_size: n,
        micro_batch_size: micro_batch,
        order: ExampleOrder::Sequential,
        learning_rate: 1e-4,
        schedule: Schedule { warmup: 0.0, ..Schedule::default() },
        save_every: None,
        gradient_checkpointing: match bench.arguments.no_checkpointing {
            true => GradientCheckpointing::Off,
            false => GradientCheckpointing::Blocks,
        },
        ..TrainConfig::default()
    };
    let device = bench.device.clone().autodiff();
    let mut model = bench.folder.load(dtype, &device)?;
    if lora {
        model = model.with_lora(&LoraConfig::new(16, 32.0))?;
    }
    let (started, stop) = (Instant::now(), AtomicBool::new(false));
    let mut on_step = |step: &StepMetrics| {
        eprintln!("    step {}: {:.3} s, loss {:.4}", step.step, step.step_s, step.loss);
        if started.elapsed() >= bench.part_limit() {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let options = FitOptions { stop: Some(&stop), on_step: Some(&mut on_step), ..FitOptions::default() };
    let (_, report) = Trainer::new(config)?.fit(model, &source, options, &mut ())?;
    Ok(report)
}
