//! The train_loop loop on a regression problem: resume to the bit, the same gradient for every split, and the policies.

use std::cell::Cell;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use adamllm_core::testing::CancelledAfter;
use adamllm_nn::{Batch, BlockExecutor, Linear, LinearConfig, Objective, run_block, snapshots};
use adamllm_train::{
    Checkpoint, ExampleBatches, ExampleSize, FitOptions, FitOutcome, MicroBatchBudget, NonFinite, ParameterGroup,
    StepMetrics, TrainConfig, TrainError, Trainer, Validation, ValidationMetrics,
};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

#[derive(Module, Debug)]
struct Regression {
    first: Linear,
    second: Linear,
}

#[derive(Clone, Debug)]
struct Points {
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Batch for Points {
    fn n_targets(&self) -> usize {
        self.y.len()
    }
    fn n_tokens(&self) -> usize {
        self.y.len()
    }
}

impl Objective for Regression {
    type Batch = Points;

    fn target_hidden_states<'a>(&'a self, batch: &Points, blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        let x = self.column(&batch.x).unsqueeze::<3>();
        let hidden = run_block(blocks, &self.first, vec![x], |first, x| first.forward(x[0].clone()).tanh());
        hidden.squeeze_dim(0)
    }

    fn token_losses(&self, hidden: Tensor<2>, batch: &Points, range: Range<usize>) -> Tensor<1> {
        (self.second.forward(hidden) - self.column(&batch.y[range])).square().flatten(0, 1)
    }
}

impl Regression {
    fn column(&self, values: &[f32]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len(), 1]), &self.first.weight.val().device())
    }
}

/// Random weights would differ from run to run; these are written down.
fn model() -> Regression {
    let device = Device::flex().autodiff();
    let model = Regression {
        first: LinearConfig::new(1, 8).with_bias(true).init(&device),
        second: LinearConfig::new(8, 1).with_bias(true).init(&device),
    };
    struct Fill(usize);
    impl burn::module::ModuleMapper for Fill {
        fn map_float<const D: usize>(
            &mut self,
            param: burn::module::Param<Tensor<D>>,
        ) -> burn::module::Param<Tensor<D>> {
            param.map(|tensor| {
                let n = tensor.shape().num_elements();
                let values: Vec<f32> = (0..n).map(|i| ((self.0 + i) as f32 * 1.7).sin()).collect();
                self.0 += n;
                let data = TensorData::new(values, tensor.shape());
                Tensor::from_data(data, &tensor.device()).require_grad()
            })
        }
    }
    model.map(&mut Fill(0))
}

fn point(example: usize) -> (f32, f32) {
    let x = (example as f32 * 0.37).sin();
    (x, x * x - 0.5 * x)
}

fn batch(examples: &[usize]) -> Result<Points, String> {
    let (x, y) = examples.iter().map(|&example| point(example)).unzip();
    Ok(Points { x, y })
}

fn config() -> TrainConfig {
    TrainConfig {
        epochs: 3.0,
        batch_size: 6,
        micro_batch_size: 3,
        learning_rate: 0.02,
        save_every: Some(4),
        keep_last: 2,
        ..TrainConfig::default()
    }
}

const EXAMPLES: usize = 20;

fn fit(config: TrainConfig, run: FitOptions) -> Result<(Regression, Vec<StepMetrics>), TrainError> {
    let source = ExampleBatches::new(EXAMPLES, batch);
    let (model, report) = Trainer::new(config)?.fit(model(), &source, run, &mut ())?;
    Ok((model, report.metrics))
}

fn weights(model: &Regression) -> Vec<Vec<u8>> {
    snapshots(model).iter().map(|s| s.read().as_bytes().to_vec()).collect()
}

fn in_folder(folder: &Path, resume: bool) -> FitOptions<'static> {
    FitOptions { folder: Some(folder.to_path_buf()), resume, ..FitOptions::default() }
}

#[test]
fn it_learns() {
    let config = TrainConfig { epochs: 60.0, ..config() };
    let (_, metrics) = fit(config, FitOptions::default()).expect("fits");
    let (first, last) = (metrics[0].loss, metrics[metrics.len() - 1].loss);
    assert!(last < 0.1 * first, "{first} -> {last}");
}

#[test]
fn a_cancelled_run_leaves_a_checkpoint() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trainer = Trainer::new(config()).expect("valid");
    let source = ExampleBatches::new(EXAMPLES, batch);
    let fitted = trainer.fit(model(), &source, in_folder(folder.path(), false), &mut CancelledAfter(3));
    let (_, report) = fitted.expect("fits");
    assert_eq!((report.outcome, report.steps), (FitOutcome::Stopped, 3));
    let (_, rest) = fit(config(), in_folder(folder.path(), true)).expect("resumes");
    assert_eq!(rest[0].step, 4);
}

#[test]
fn stopping_and_resuming_changes_no_bit() {
    let (whole, _) = fit(config(), FitOptions::default()).expect("fits");
    for stop_after in [1, 4, 7, 11] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let stop = AtomicBool::new(false);
        let steps = Cell::new(0);
        let mut on_step = |_: &StepMetrics| {
            steps.set(steps.get() + 1);
            stop.store(steps.get() == stop_after, Ordering::Relaxed);
        };
        let run = FitOptions { stop: Some(&stop), on_step: Some(&mut on_step), ..in_folder(folder.path(), false) };
        let source = ExampleBatches::new(EXAMPLES, batch);
        let trainer = Trainer::new(config()).expect("valid");
        let (_, report) = trainer.fit(model(), &source, run, &mut ()).expect("fits");
        assert_eq!((report.outcome, report.steps), (FitOutcome::Stopped, stop_after));

        let (resumed, rest) = fit(config(), in_folder(folder.path(), true)).expect("resumes");
        assert_eq!(rest[0].step, stop_after + 1);
        assert_eq!(weights(&resumed), weights(&whole), "stopped after step {stop_after}");
        let logged: Vec<StepMetrics> =
            adamllm_core::jsonl::read_all(folder.path().join("metrics.jsonl")).expect("reads");
        let steps: Vec<usize> = logged.iter().map(|m| m.step).collect();
        assert_eq!(steps, (1..=12).collect::<Vec<_>>());
    }
}

/// A run that was killed while it wrote a checkpoint leaves a partial folder; the one before counts.
#[test]
fn a_half_written_checkpoint_is_passed_over() {
    let (whole, _) = fit(config(), FitOptions::default()).expect("fits");
    let folder = tempfile::tempdir().expect("a temporary folder");
    fit(config(), in_folder(folder.path(), false)).expect("fits");
    let newest = Checkpoint::list(folder.path()).expect("lists").pop().expect("one at the end");
    let partial = newest.path().with_extension("partial");
    std::fs::rename(newest.path(), &partial).expect("renames");
    std::fs::remove_file(partial.join("state.json")).expect("removes");

    let (resumed, rest) = fit(config(), in_folder(folder.path(), true)).expect("resumes");
    assert_eq!(rest[0].step, 9);
    assert_eq!(weights(&resumed), weights(&whole));
}

#[test]
fn every_split_of_a_step_has_the_same_gradient() {
    let one = |micro_batch_size| {
        let config = TrainConfig { micro_batch_size, epochs: 1.0, ..config() };
        fit(config, FitOptions::default()).expect("fits").1.iter().map(|m| (m.loss, m.grad_norm)).collect::<Vec<_>>()
    };
    let whole = one(6);
    for micro_batch_size in [1, 2, 4, 5] {
        for ((loss, norm), (l, n)) in whole.iter().zip(one(micro_batch_size)) {
            assert!((loss - l).abs() < 1e-5 * loss && (norm - n).abs() < 1e-5 * norm, "split by {micro_batch_size}");
        }
    }
}

#[test]
fn frozen_groups_stay() {
    let group = ParameterGroup { prefix: "first.".into(), learning_rate: None, weight_decay: None, frozen: true };
    let config = TrainConfig { groups: vec![group], ..config() };
    let (trained, _) = fit(config, FitOptions::default()).expect("fits");
    let (before, after) = (weights(&model()), weights(&trained));
    assert_eq!(before[..2], after[..2]);
    assert_ne!(before[2..], after[2..]);
}

#[test]
fn a_loss_that_is_not_finite_names_its_examples() {
    let broken = |examples: &[usize]| {
        let mut points = batch(examples)?;
        if examples.contains(&5) {
            points.y[0] = f32::NAN;
        }
        Ok::<_, String>(points)
    };
    let source = ExampleBatches::new(EXAMPLES, broken);
    let fit = |non_finite| {
        let trainer = Trainer::new(TrainConfig { non_finite, epochs: 1.0, ..config() }).expect("valid");
        trainer.fit(model(), &source, FitOptions::default(), &mut ())
    };
    let failed = fit(NonFinite::Stop).expect_err("one example has no loss");
    let TrainError::NonFinite { step, examples, .. } = failed.error else {
        panic!("expected the examples, got {failed}")
    };
    assert!(examples.contains(&5));
    // The model is given back as the steps before left it.
    let until = TrainConfig { max_steps: Some(step - 1), epochs: 1.0, ..config() };
    let kept = failed.model.expect("the model");
    match step {
        1 => assert_eq!(weights(&kept), weights(&model())),
        _ => assert_eq!(weights(&kept), weights(&self::fit(until, FitOptions::default()).expect("fits").0)),
    }
    let (skipping, report) = fit(NonFinite::SkipStep).expect("goes on");
    assert_eq!(report.metrics.iter().filter(|m| m.skipped).count(), 1);
    let finite = |s: &adamllm_nn::Snapshot| s.read().iter::<f32>().all(f32::is_finite);
    assert!(snapshots(&skipping).iter().all(finite));
}

/// The step goes on with the examples that are sound, as if the others had never stood in it.
#[test]
fn a_faulty_example_is_quarantined_and_the_rest_of_its_step_counts() {
    let point_of = |examples: &[usize], broken: bool| {
        let mut points = batch(examples)?;
        if let Some(index) = examples.iter().position(|&example| example == 5) {
            if broken {
                points.y[index] = f32::NAN;
            } else {
                points.x.remove(index);
                points.y.remove(index);
            }
        }
        Ok::<_, String>(points)
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = TrainConfig { non_finite: NonFinite::Quarantine, epochs: 1.0, micro_batch_size: 2, ..config() };
    let fit = |broken, run| {
        let source = ExampleBatches::new(EXAMPLES, move |examples: &[usize]| point_of(examples, broken));
        Trainer::new(settings.clone()).expect("valid").fit(model(), &source, run, &mut ()).expect("fits")
    };
    let (with_fault, report) = fit(true, in_folder(folder.path(), false));
    let (without, _) = fit(false, FitOptions::default());
    for (a, b) in snapshots(&with_fault).iter().zip(snapshots(&without)) {
        let differences =
            a.read().iter::<f32>().zip(b.read().iter::<f32>()).map(|(a, b)| (a - b).abs()).collect::<Vec<_>>();
        assert!(differences.iter().all(|d| *d < 1e-6), "{}: {differences:?}", a.info.name);
    }
    let step = report.metrics.iter().find(|m| m.targets == 5).expect("one step has an example less").step;
    let written = std::fs::read_to_string(folder.path().join("quarantine.jsonl")).expect("written");
    assert_eq!(written.trim(), format!("{{\"step\":{step},\"example\":5}}"));
}

#[test]
fn a_budget_changes_the_passes_and_not_the_gradient() {
    let sizes = (0..EXAMPLES)
        .map(|example| ExampleSize { tokens: 10 + example * 3, ..ExampleSize::default() })
        .collect::<Vec<_>>();
    let passes = std::sync::Mutex::new(Vec::new());
    let fit = |budget| {
        let make = |examples: &[usize]| {
            passes.lock().expect("not poisoned").push(examples.to_vec());
            batch(examples)
        };
        let source = ExampleBatches::new(EXAMPLES, make).with_sizes(sizes.clone());
        let settings = TrainConfig { micro_batch_budget: budget, micro_batch_size: 6, epochs: 1.0, ..config() };
        let trainer = Trainer::new(settings).expect("valid");
        let (_, report) = trainer.fit(model(), &source, FitOptions::default(), &mut ()).expect("fits");
        report.metrics.iter().map(|m| (m.loss, m.grad_norm)).collect::<Vec<_>>()
    };
    let whole = fit(None);
    passes.lock().expect("not poisoned").clear();
    let split = fit(Some(MicroBatchBudget { tokens: Some(100), patches: None }));
    for examples in passes.lock().expect("not poisoned").iter() {
        let longest = examples.iter().map(|example| sizes[*example].tokens).max().expect("no empty pass");
        assert!(examples.len() * longest <= 100, "{examples:?}");
    }
    for ((loss, norm), (l, n)) in whole.iter().zip(split) {
        assert!((loss - l).abs() < 1e-5 * loss && (norm - n).abs() < 1e-5 * norm);
    }
}

/// Held-out points of another curve: what is learned makes them worse, so the first evaluation stays the best.
#[test]
fn a_run_ends_when_the_held_out_loss_gets_no_better() {
    let held_out = ExampleBatches::new(8, |examples: &[usize]| {
        let mut points = batch(examples)?;
        points.y.iter_mut().for_each(|y| *y *= -3.0);
        Ok::<_, String>(points)
    });
    let source = ExampleBatches::new(EXAMPLES, batch);
    let settings = TrainConfig { epochs: 40.0, save_every: None, ..config() };
    let trainer = Trainer::new(settings).expect("valid");
    let validation = || Some(Validation { source: &held_out, every: 2, batch_size: 3, patience: Some(4) });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = in_folder(folder.path(), false);
    let (_, report) = trainer.fit_validated(model(), &source, validation(), run, &mut ()).expect("fits");
    assert_eq!(report.outcome, FitOutcome::EarlyStopped);
    let last_best = report.validation.iter().rfind(|example| example.best).expect("the first is").step;
    assert_eq!(report.steps, last_best + 8);
    let kept: Vec<_> = Checkpoint::list(&folder.path().join("best")).expect("lists");
    assert_eq!(kept.iter().map(Checkpoint::step).collect::<Vec<_>>(), [last_best]);
    let written: Vec<ValidationMetrics> =
        adamllm_core::jsonl::read_all(folder.path().join("validation.jsonl")).expect("reads");
    assert_eq!(written, report.validation);

    // What was evaluated before a stop counts after it.
    let stopped = tempfile::tempdir().expect("a temporary folder");
    let stop = AtomicBool::new(false);
    let mut on_step = |m: &StepMetrics| stop.store(m.step == last_best + 3, Ordering::Relaxed);
    let run = FitOptions { stop: Some(&stop), on_step: Some(&mut on_step), ..in_folder(stopped.path(), false) };
    trainer.fit_validated(model(), &source, validation(), run, &mut ()).expect("stops");
    let (_, resumed) = trainer
        .fit_validated(model(), &source, validation(), in_folder(stopped.path(), true), &mut ())
        .expect("resumes");
    assert_eq!((resumed.outcome, resumed.steps), (report.outcome, report.steps));
    assert_eq!(resumed.validation, report.validation);
}

#[test]
fn a_dry_run_measures_what_a_batch_takes_and_changes_nothing() {
    let (model, examples) = (model(), [0, 1, 2]);
    let before = weights(&model);
    let trainer = Trainer::new(config()).expect("valid");
    let dry_run = trainer.dry_run(&model, &batch(&examples).expect("a batch")).expect("trains something");
    let (_, metrics) = {
        let source = ExampleBatches::new(3, batch);
        let one = TrainConfig { epochs: 1.0, ..config() };
        let (m, report) = Trainer::new(one)
            .expect("valid")
            .fit(self::model(), &source, FitOptions::default(), &mut ())
            .expect("fits");
        (m, report.metrics)
    };
    assert!((dry_run.loss - metrics[0].loss).abs() < 1e-6, "{dry_run:?}");
    assert_eq!(weights(&model), before);
}

#[test]
fn a_used_folder_and_another_configuration_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fit(config(), in_folder(folder.path(), false)).expect("fits");
    let again = fit(config(), in_folder(folder.path(), false));
    assert!(matches!(again, Err(TrainError::RunExists { .. })));
    let other = TrainConfig { learning_rate: 0.5, ..config() };
    let error = fit(other, in_folder(folder.path(), true)).expect_err("another configuration").to_string();
    assert!(error.contains("another configuration"), "{error}");
}

#[test]
fn the_model_is_given_back_where_a_run_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fit(config(), in_folder(folder.path(), false)).expect("fits");
    let source = ExampleBatches::new(EXAMPLES, batch);
    let trainer = Trainer::new(config()).expect("valid");
    let failed = trainer.fit(model(), &source, in_folder(folder.path(), false), &mut ()).expect_err("a run is there");
    assert_eq!(weights(&failed.model.expect("the model")), weights(&model()));

    // The weights of a checkpoint are read last. Where they are damaged, what was read of them is no model.
    let newest = Checkpoint::list(folder.path()).expect("lists").pop().expect("a checkpoint");
    for (file, is_kept) in [("weights.safetensors", false), ("optimizer.safetensors", true)] {
        std::fs::write(newest.path().join(file), b"torn").expect("writes");
        let run = in_folder(folder.path(), true);
        let failed = trainer.fit(model(), &source, run, &mut ()).expect_err("damaged");
        assert!(matches!(failed.error, TrainError::Checkpoint { .. }), "{file}: {failed}");
        let kept = failed.model.map(|kept| weights(&kept) == weights(&model()));
        assert_eq!(kept, is_kept.then_some(true), "{file}");
    }
}

#[test]
fn checkpoints_are_pruned_to_the_newest() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fit(config(), in_folder(folder.path(), false)).expect("fits");
    let steps: Vec<usize> = Checkpoint::list(folder.path()).expect("lists").iter().map(Checkpoint::step).collect();
    assert_eq!(steps, [8, 12]);
}

#[test]
fn settings_are_checked() {
    let error = Trainer::new(TrainConfig { batch_size: 0, ..config() }).expect_err("no examples").to_string();
    assert!(error.contains("batch_size"), "{error}");
}
