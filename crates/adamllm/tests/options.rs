//! Ways to train that differ from the plain one: other optimizers and dtypes, historical loss_normalization, frozen parts, and runs
//! that are stopped after every single pass.
#![cfg(all(feature = "train", feature = "model", feature = "data", feature = "flex"))]

mod families;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use adamllm::model::VlmBatch;
use adamllm::nn::{Batch, Objective, Parameters, snapshots};
use adamllm::prelude::*;
use adamllm::train::{
    BatchSource, ExampleBatches, FitOptions, FitOutcome, FitReport, GradientCheckpointing, GradientDtype,
    LossNormalization, MomentDtype, OptimizerKind, ParameterGroup, Schedule,
};
use families::Family;

fn config() -> TrainConfig {
    TrainConfig {
        epochs: 10.0,
        batch_size: 3,
        micro_batch_size: 1,
        learning_rate: 1e-3,
        schedule: Schedule { warmup: 0.1, ..Schedule::default() },
        ..TrainConfig::default()
    }
}

fn source(family: &Family) -> impl BatchSource<Batch = VlmBatch> {
    ExampleBatches::new(6.min(family.examples.len()), |examples: &[usize]| Ok::<_, String>(family.batch(examples)))
}

fn fit(config: &TrainConfig, dtype: DType, run: FitOptions) -> (Vec<Vec<f32>>, FitReport) {
    let family = Family::read("qwen2_vl", dtype);
    let trainer = Trainer::new(config.clone()).expect("valid");
    let (model, report) = trainer.fit(family.model.clone(), &source(&family), run, &mut ()).expect("fits");
    (snapshots(&model).iter().map(|weight| weight.read().iter::<f32>().collect()).collect(), report)
}

fn losses(report: &FitReport) -> Vec<f64> {
    report.metrics.iter().map(|step| step.loss).collect()
}

fn in_folder<'a>(folder: &Path, resume: bool) -> FitOptions<'a> {
    FitOptions { folder: Some(folder.into()), resume, ..FitOptions::default() }
}

/// Stopped after every pass, of which a step has three, and resumed by a new trainer with a new model each time.
#[test]
fn a_run_stopped_after_every_pass_changes_no_bit() {
    let config = TrainConfig { epochs: 2.0, keep_last: 2, ..config() };
    let (expected, whole) = fit(&config, DType::F32, FitOptions::default());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stop = AtomicBool::new(true);
    let (mut losses_of_parts, mut n_parts) = (Vec::new(), 0);
    let weights = loop {
        let run = FitOptions { stop: Some(&stop), ..in_folder(folder.path(), n_parts > 0) };
        let (weights, report) = fit(&config, DType::F32, run);
        losses_of_parts.extend(losses(&report));
        n_parts += 1;
        if report.outcome == FitOutcome::Finished {
            break weights;
        }
        assert_eq!(report.outcome, FitOutcome::Stopped);
        assert!(n_parts < 100, "no progress");
    };
    let n_examples = source(&Family::read("qwen2_vl", DType::F32)).n_examples();
    assert!(n_parts == 2 * n_examples && n_parts > whole.steps, "{n_parts} parts of {} steps", whole.steps);
    assert_eq!(losses_of_parts, losses(&whole));
    assert_eq!(weights, expected);
}

/// Stops at several steps of a run whose optimizer keeps `config`'s kind of memory.
fn resumes_to_the_bit(config: &TrainConfig, dtype: DType) -> FitReport {
    let (expected, whole) = fit(config, dtype, FitOptions::default());
    for k in [1, 7, 13] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let stop = AtomicBool::new(false);
        let mut on_step = |step: &adamllm::train::StepMetrics| {
            stop.store(step.step == k, std::sync::atomic::Ordering::Relaxed);
        };
        let run = FitOptions { stop: Some(&stop), on_step: Some(&mut on_step), ..in_folder(folder.path(), false) };
        let (_, first) = fit(config, dtype, run);
        assert_eq!((first.outcome, first.steps), (FitOutcome::Stopped, k));
        let (weights, rest) = fit(config, dtype, in_folder(folder.path(), true));
        assert_eq!(first.steps + rest.metrics.len(), whole.steps);
        assert_eq!(weights, expected, "stopped after step {k}");
    }
    whole
}

#[test]
fn muon_learns_and_resumes() {
    let plain = losses(&fit(&config(), DType::F32, FitOptions::default()).1);
    let muon = TrainConfig { optimizer: OptimizerKind::Muon, ..config() };
    let report = losses(&resumes_to_the_bit(&muon, DType::F32));
    assert!(report[report.len() - 1] < 0.8 * report[0], "{report:?}");
    assert_ne!(report, plain);
}

/// Moments in bf16 hold half the memory; the losses stay within 2 % of those with moments in f32.
#[test]
fn moments_in_bf16_stay_close() {
    let plain = losses(&fit(&config(), DType::F32, FitOptions::default()).1);
    let halved = losses(&resumes_to_the_bit(&TrainConfig { moments: MomentDtype::Bf16, ..config() }, DType::F32));
    assert_ne!(halved, plain);
    for (step, (a, b)) in halved.iter().zip(&plain).enumerate() {
        assert!((a - b).abs() < 0.02 * b, "step {step}: {a}, in f32 {b}");
    }
}

/// Moments in 8 bits hold a quarter of the memory; the losses stay within 3 % of those with moments in f32. Muon's momentum as well.
#[test]
fn moments_in_8_bits_stay_close() {
    for optimizer in [OptimizerKind::AdamW, OptimizerKind::Muon] {
        let config = TrainConfig { optimizer, ..config() };
        let narrow = TrainConfig { moments: MomentDtype::Int8, ..config.clone() };
        for dtype in [DType::F32, DType::BF16] {
            // The model's own dtype on both sides: what bf16 does to it is another question.
            let plain = losses(&fit(&config, dtype, FitOptions::default()).1);
            let quartered = losses(&resumes_to_the_bit(&narrow, dtype));
            assert_ne!(quartered, plain);
            for (step, (a, b)) in quartered.iter().zip(&plain).enumerate() {
                assert!(
                    (a - b).abs() < 0.03 * b,
                    "{optimizer:?} in {dtype:?}, step {step}: {a}, with moments in f32 {b}"
                );
            }
        }
    }
}

/// Gradients kept in bf16 until the update, with and without checkpointed blocks, also where a step was stopped in its middle.
#[test]
fn gradients_in_bf16_stay_close() {
    let plain = losses(&fit(&config(), DType::F32, FitOptions::default()).1);
    for gradient_checkpointing in [GradientCheckpointing::Off, GradientCheckpointing::Blocks] {
        let config = TrainConfig { gradients: GradientDtype::Bf16, gradient_checkpointing, ..config() };
        let halved = losses(&resumes_to_the_bit(&config, DType::F32));
        assert_ne!(halved, plain);
        for (step, (a, b)) in halved.iter().zip(&plain).enumerate() {
            assert!((a - b).abs() < 0.02 * b, "{gradient_checkpointing:?}, step {step}: {a}, in f32 {b}");
        }
    }
}

/// Weights and passes in bf16 over master weights in f32: the losses stay within 3 % of f32's.
#[test]
fn bf16_with_master_weights_stays_close() {
    let plain = losses(&fit(&config(), DType::F32, FitOptions::default()).1);
    let halved = losses(&resumes_to_the_bit(&config(), DType::BF16));
    for (step, (a, b)) in halved.iter().zip(&plain).enumerate() {
        assert!((a - b).abs() < 0.03 * b, "step {step}: {a}, in f32 {b}");
    }
}

/// Updates far below a bf16 weight's last digit add up in the master weights.
#[test]
fn small_updates_are_not_lost_in_bf16() {
    let slow = TrainConfig { learning_rate: 1e-5, weight_decay: 0.0, epochs: 60.0, ..config() };
    let plain = losses(&fit(&slow, DType::F32, FitOptions::default()).1);
    let halved = losses(&fit(&slow, DType::BF16, FitOptions::default()).1);
    let fallen = |losses: &[f64]| {
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        mean(&losses[..4]) - mean(&losses[losses.len() - 4..])
    };
    let (plain, halved) = (fallen(&plain), fallen(&halved));
    assert!(plain > 0.0 && (halved - plain).abs() < 0.35 * plain, "fell by {halved}, in f32 by {plain}");
}

#[test]
fn historical_normalisation_is_the_mean_of_means() {
    let family = Family::read("qwen2_vl", DType::F32);
    let step = |loss_normalization| {
        let config = TrainConfig { max_steps: Some(1), loss_normalization, ..config() };
        let mut report = fit(&config, DType::F32, FitOptions::default()).1;
        report.metrics.remove(0)
    };
    // The examples of the first step, found by their loss.
    let trainer = Trainer::new(config()).expect("valid");
    let order = adamllm::train::BatchOrder::of(&source(&family), &config()).expect("an order");
    let examples = order.examples(0, &mut None).to_vec();
    let alone: Vec<_> =
        examples.iter().map(|&example| trainer.gradients(&family.model, &[family.batch(&[example])])).collect();
    let mean = alone.iter().map(|(loss, _)| loss).sum::<f64>() / alone.len() as f64;
    let mut squares = 0.0;
    for name in alone[0].1.keys() {
        let gradients: Vec<Vec<f32>> =
            alone.iter().map(|(_, all)| all.get(name).map_or(vec![], |g| g.iter().collect())).collect();
        let n = gradients.iter().map(Vec::len).max().expect("gradients");
        let sum =
            |i: usize| gradients.iter().map(|gradient| gradient.get(i).copied().map_or(0.0, f64::from)).sum::<f64>();
        squares += (0..n).map(|i| (sum(i) / alone.len() as f64).powi(2)).sum::<f64>();
    }
    let historical = step(LossNormalization::MicroBatch);
    assert!((historical.loss - mean).abs() < 1e-5, "{} {mean}", historical.loss);
    assert!(
        (historical.grad_norm - squares.sqrt()).abs() < 1e-3 * squares.sqrt(),
        "{} {}",
        historical.grad_norm,
        squares.sqrt()
    );
    assert!((step(LossNormalization::Step).loss - mean).abs() > 1e-4, "examples of different lengths");
}

/// A frozen encoder whose merger is trained, and the other way round, with activation checkpointing and without.
#[test]
fn frozen_parts_are_the_same_with_activation_checkpointing() {
    let group = |prefix: &str, frozen| ParameterGroup {
        prefix: prefix.into(),
        learning_rate: None,
        weight_decay: None,
        frozen,
    };
    let partly = [vec![group("vision.", true), group("vision.merger.", false)], vec![group("language.", true)]];
    for groups in partly {
        let plain = TrainConfig { groups, epochs: 2.0, ..config() };
        let checkpointed = TrainConfig { gradient_checkpointing: GradientCheckpointing::Blocks, ..plain.clone() };
        let (expected, _) = fit(&plain, DType::F32, FitOptions::default());
        let (weights, _) = fit(&checkpointed, DType::F32, FitOptions::default());
        let pairs = weights.iter().flatten().zip(expected.iter().flatten());
        let apart = pairs.fold(0.0f32, |max, (a, b)| max.max((a - b).abs()));
        assert!(apart < 2e-4, "{:?}: {apart}", plain.groups);
    }
}

/// Tokens of another model's tokenizer, which the embedding does not have: stands for every way in which a backend fails.
#[test]
fn a_pass_in_which_the_backend_fails_is_named() {
    let mut family = Family::read("qwen2_vl", DType::F32);
    family.examples[2].tokens[0] = 9_999_999;
    let trainer = Trainer::new(config()).expect("valid");
    let error = trainer
        .fit(family.model.clone(), &source(&family), FitOptions::default(), &mut ())
        .expect_err("a backend error");
    let adamllm::train::TrainError::Backend { examples, tokens, .. } = &error.error else { panic!("{error}") };
    assert_eq!((&examples[..], *tokens), (&[2][..], family.examples[2].tokens.len()));
    assert!(error.to_string().contains("micro_batch_size"), "{error}");
}

/// Loaded onto a device without autodiff, every step would leave the weights as they are.
#[test]
fn a_model_without_autodiff_is_refused() {
    let folder = ModelFolder::open(families::folder("qwen2_vl")).expect("opens");
    let model = folder.load(DType::F32, &Device::flex()).expect("loads");
    let family = Family::read("qwen2_vl", DType::F32);
    let trainer = Trainer::new(config()).expect("valid");
    let error = trainer.fit(model, &source(&family), FitOptions::default(), &mut ()).expect_err("trains nothing");
    assert!(matches!(error.error, adamllm::train::TrainError::NoAutodiff), "{error}");
}

/// In every family each trained parameter that a batch uses gets a gradient, with images and without; those that a batch does not
/// use get none.
#[test]
fn a_family_knows_which_parameters_a_batch_uses() {
    for name in ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava_next", "mllama", "smolvlm"] {
        let family = Family::read(name, DType::F32);
        let trainer = Trainer::new(config()).expect("valid");
        let mut kinds = std::collections::BTreeSet::new();
        for example in 0..family.examples.len() {
            let batch = family.batch(&[example]);
            kinds.insert(batch.n_images() > 0);
            let (_, gradients) = trainer.gradients(&family.model, std::slice::from_ref(&batch));
            for parameter in Parameters::of(&family.model).names() {
                let (used, got) = (family.model.uses(parameter, &batch), gradients.contains_key(parameter));
                assert_eq!(used, got, "{name}, example {example}: {parameter}");
            }
        }
        assert_eq!(kinds.len(), 2, "{name}: examples with images and without");
    }
}
