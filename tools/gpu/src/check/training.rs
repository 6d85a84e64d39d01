//! Whole training runs of a few steps.

use std::sync::atomic::{AtomicBool, Ordering};

use adamllm::model::{VisionLanguageModel, VlmBatch};
use adamllm::nn::snapshots;
use adamllm::prelude::*;
use adamllm::train::{ExampleBatches, ExampleOrder, FitOptions, FitOutcome, FitReport, Schedule, StepMetrics};

use super::Checked;
use crate::Answer;
use crate::cases::Found;
use crate::compare::{Named, relative_number, worst};
use crate::fixtures::Fixture;

/// The gradient of these is zero by mathematics (softmax does not see a bias of the keys); AdamW makes full steps of what
/// rounding leaves there, in any direction.
const WITHOUT_GRADIENT: [&str; 2] = [".key.bias", "k_proj.bias"];

/// `n` AdamW steps, one batch each, in their order and again from the first.
pub(super) fn steps(
    model: VisionLanguageModel,
    batches: &[VlmBatch],
    n: usize,
    options: FitOptions,
) -> Answer<(VisionLanguageModel, FitReport)> {
    let config = TrainConfig {
        epochs: 1.0,
        batch_size: 1,
        micro_batch_size: 1,
        order: ExampleOrder::Sequential,
        learning_rate: 1e-3,
        schedule: Schedule { warmup: 0.0, ..Schedule::default() },
        ..TrainConfig::default()
    };
    let batch = |examples: &[usize]| Ok::<_, String>(batches[examples[0] % batches.len()].clone());
    let source = ExampleBatches::new(n, batch);
    Ok(Trainer::new(config)?.fit(model, &source, options, &mut ())?)
}

/// Each recorded conversation as a batch of its own.
fn batches(fixture: &Fixture) -> Answer<Vec<VlmBatch>> {
    Ok(fixture.examples()?.iter().map(|example| fixture.padded(&[example])).collect())
}

fn weights(model: &VisionLanguageModel) -> Named {
    snapshots(model).iter().map(|w| (w.info.name.clone(), w.read().iter::<f32>().collect())).collect()
}

/// Losses, gradient norms and final weights of five steps against the CPU's.
pub(super) fn five_steps(checked: &Checked, family: &str) -> Answer<Found> {
    let fixture = checked.fixture(family)?;
    let batches = batches(&fixture)?;
    let (model, got) = steps(checked.trained(&fixture)?, &batches, 5, FitOptions::default())?;
    let (reference, expected) = steps(checked.reference(&fixture)?, &batches, 5, FitOptions::default())?;
    let pairs = || got.metrics.iter().zip(&expected.metrics);
    let losses = worst(pairs().map(|(a, b)| relative_number(a.loss, b.loss)));
    let norms = worst(pairs().map(|(a, b)| relative_number(a.grad_norm, b.grad_norm)));
    if got.metrics.len() != 5 || expected.metrics.len() != 5 {
        return Err(format!("{} and {} steps of 5", got.metrics.len(), expected.metrics.len()).into());
    }
    // The master weights are in f32; what is compared is the weights of the passes.
    let (got, expected) = (weights(&model), weights(&reference));
    let has_gradient = |name: &&String| !WITHOUT_GRADIENT.iter().any(|part| name.ends_with(part));
    let of = |name: &String| -> f64 {
        let squares = |pairs: &mut dyn Iterator<Item = f64>| pairs.map(|v| v * v).sum::<f64>().sqrt();
        let pairs = got[name].iter().zip(&expected[name]).map(|(&a, &b)| f64::from(a) - f64::from(b));
        squares(&mut { pairs }) / squares(&mut expected[name].iter().map(|&b| f64::from(b))).max(f64::MIN_POSITIVE)
    };
    let apart = worst(expected.keys().filter(has_gradient).map(of));
    // A step moves a weight by its rate, whatever its gradient's size: norms and weights follow the losses from afar.
    let error = worst([losses, norms / 10.0, apart / 10.0]);
    Ok(Found::new(
        error,
        checked.limits.training,
        format!("losses {losses:.1e}, norms {norms:.1e}, weights {apart:.1e}"),
    ))
}

/// A run of four steps that is stopped after the second, saved, and resumed by a new trainer, against one that is not: the same
/// bits.
pub(super) fn resumed(checked: &Checked, family: &str) -> Answer<Found> {
    let fixture = checked.fixture(family)?;
    let batches = batches(&fixture)?;
    let run = |options: FitOptions| steps(checked.trained(&fixture)?, &batches, 4, options);
    let whole = weights(&run(FitOptions::default())?.0);
    let folder = tempfile::tempdir()?;
    let stop = AtomicBool::new(false);
    let mut on_step = |step: &StepMetrics| stop.store(step.step == 2, Ordering::Relaxed);
    let in_folder = |resume| FitOptions { folder: Some(folder.path().into()), resume, ..FitOptions::default() };
    let (_, first) = run(FitOptions { stop: Some(&stop), on_step: Some(&mut on_step), ..in_folder(false) })?;
    if (first.outcome, first.steps) != (FitOutcome::Stopped, 2) {
        return Err(format!("expected a stop after step 2, got {:?} after {}", first.outcome, first.steps).into());
    }
    let (model, rest) = run(in_folder(true))?;
    if rest.metrics.len() != 2 {
        return Err(format!("{} steps after the resume, expected 2", rest.metrics.len()).into());
    }
    let different = n_different(&weights(&model), &whole);
    let mut note = format!("{different} of {} weights differ", whole.len());
    if different > 0 {
        // Whether it is the checkpoint or the device.
        let again = n_different(&weights(&run(FitOptions::default())?.0), &whole);
        note = format!("{note}; {again} where the whole run is made again");
    }
    Ok(Found::new(different as f64, 0.0, note))
}

fn n_different(got: &Named, expected: &Named) -> usize {
    let same = |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
    expected.iter().filter(|(name, values)| !got.get(*name).is_some_and(|got| same(got, values))).count()
}
