//! Several processes make the same steps as one: threads of this process, each with a model of its own.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use adamllm_nn::{Batch, BlockExecutor, Linear, LinearConfig, Objective, ParameterInfo, ParameterSource, snapshots};
use adamllm_train::{
    Checkpoint, Collective, ExampleBatches, FitOptions, FitOutcome, FitReport, LossNormalization, StepMetrics,
    TrainConfig, TrainError, Trainer, Transport, Validation, ValidationMetrics, on_each_device,
};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

const EXAMPLES: usize = 24;

/// Two layers, and one that only examples of the group `bent` pass: not every micro-batch has a gradient for it.
#[derive(Module, Debug)]
struct Regression {
    first: Linear,
    bent: Linear,
    second: Linear,
}

#[derive(Clone, Debug)]
struct Points {
    x: Vec<f32>,
    y: Vec<f32>,
    bent: bool,
    groups: Vec<String>,
    target_groups: Vec<u16>,
}

impl Batch for Points {
    fn n_targets(&self) -> usize {
        self.y.len()
    }
    fn n_tokens(&self) -> usize {
        self.y.len() * 2
    }
    fn groups(&self) -> &[String] {
        &self.groups
    }
    fn target_groups(&self) -> &[u16] {
        &self.target_groups
    }
}

impl Regression {
    fn column(&self, values: &[f32]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len(), 1]), &self.first.weight.val().device())
    }
}

impl Objective for Regression {
    type Batch = Points;

    fn target_hidden_states<'a>(&'a self, batch: &Points, _blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        let hidden = self.first.forward(self.column(&batch.x)).tanh();
        if batch.bent { self.bent.forward(hidden).tanh() } else { hidden }
    }

    fn uses(&self, parameter: &str, batch: &Points) -> bool {
        batch.bent || !parameter.starts_with("bent.")
    }

    fn token_losses(&self, hidden: Tensor<2>, batch: &Points, range: Range<usize>) -> Tensor<1> {
        (self.second.forward(hidden) - self.column(&batch.y[range])).square().flatten(0, 1)
    }
}

/// Weights from a number: random ones would differ from process to process.
struct Written(f32);

impl ParameterSource for Written {
    type Error = String;

    fn take(&mut self, parameter: &ParameterInfo) -> Result<Option<TensorData>, String> {
        let n: usize = parameter.shape.iter().product();
        let phase = parameter.name.len() as f32 + self.0;
        let values: Vec<f32> = (0..n).map(|i| ((i as f32 + phase) * 1.7).sin()).collect();
        Ok(Some(TensorData::new(values, parameter.shape.clone())))
    }
}

fn model(device: &Device, seed: f32) -> Regression {
    let linear = |d_input, d_output| LinearConfig::new(d_input, d_output).with_bias(true).init(device);
    let model = Regression { first: linear(1, 8), bent: linear(8, 8), second: linear(8, 1) };
    adamllm_nn::load(model, &mut Written(seed)).expect("fits")
}

/// Example 5 alone is bent.
fn batch(examples: &[usize]) -> Result<Points, String> {
    let x: Vec<f32> = examples.iter().map(|&example| (example as f32 * 0.37).sin()).collect();
    let y = x.iter().map(|x| x * x - 0.5 * x).collect();
    let groups: Vec<String> =
        if examples.contains(&5) { vec!["even".into(), "odd".into()] } else { vec!["odd".into(), "even".into()] };
    let even = groups.iter().position(|name| name == "even").expect("is there") as u16;
    let target_groups = examples.iter().map(|example| if example % 2 == 0 { even } else { 1 - even }).collect();
    Ok(Points { x, y, bent: examples.contains(&5), groups, target_groups })
}

fn config() -> TrainConfig {
    TrainConfig {
        epochs: 3.0,
        batch_size: 8,
        micro_batch_size: 3,
        learning_rate: 0.02,
        save_every: Some(4),
        keep_last: 2,
        ..TrainConfig::default()
    }
}

type Outcome = Result<(Regression, FitReport), TrainError>;

/// The same run of `size` processes; what each of them has in the end.
fn together(size: usize, work: impl Fn(&Device, &dyn Collective) -> Outcome + Sync) -> Vec<(Regression, FitReport)> {
    let devices = vec![Device::flex().autodiff(); size];
    let processes = on_each_device(&devices, Transport::HostMemory, work).expect("fits");
    let bits = |model: &Regression| snapshots(model).iter().map(|s| s.read().as_bytes().to_vec()).collect::<Vec<_>>();
    for (model, report) in &processes {
        assert_eq!(bits(model), bits(&processes[0].0), "processes hold the same bits");
        assert_eq!((report.outcome, report.steps), (processes[0].1.outcome, processes[0].1.steps));
        assert_eq!(report.validation, processes[0].1.validation);
    }
    processes
}

fn fit(size: usize, config: &TrainConfig) -> (Regression, FitReport) {
    fit_in(size, config, None, false)
}

fn fit_in(size: usize, config: &TrainConfig, folder: Option<&Path>, resume: bool) -> (Regression, FitReport) {
    let fitted = together(size, |device, collective| {
        let run = FitOptions {
            folder: folder.map(Path::to_path_buf),
            resume,
            collective: Some(collective),
            ..FitOptions::default()
        };
        Ok(Trainer::new(config.clone())?.fit(
            model(device, 0.0),
            &ExampleBatches::new(EXAMPLES, batch),
            run,
            &mut (),
        )?)
    });
    fitted.into_iter().next().expect("a process")
}

/// A run of `size` ranks in a folder; those of which `stops` says so are asked to stop after a step.
fn stopped_after(
    step: usize,
    size: usize,
    config: &TrainConfig,
    folder: &Path,
    stops: impl Fn(usize) -> bool + Sync,
) -> Vec<(Regression, FitReport)> {
    together(size, |device, collective| {
        let stop = AtomicBool::new(false);
        let own = stops(collective.rank());
        let mut on_step = |m: &StepMetrics| stop.store(own && m.step == step, Ordering::Relaxed);
        let run = FitOptions {
            folder: Some(folder.into()),
            stop: Some(&stop),
            on_step: Some(&mut on_step),
            collective: Some(collective),
            ..FitOptions::default()
        };
        let source = ExampleBatches::new(EXAMPLES, batch);
        Ok(Trainer::new(config.clone())?.fit(model(device, 0.0), &source, run, &mut ())?)
    })
}

fn largest_difference(a: &Regression, b: &Regression) -> f32 {
    let values = |model: &Regression| {
        snapshots(model).iter().flat_map(|s| s.read().iter::<f32>().collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let (a, b) = (values(a), values(b));
    assert_eq!(a.len(), b.len());
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The metrics that do not depend on the clock.
fn assert_same_course(one: &[StepMetrics], several: &[StepMetrics]) {
    assert_eq!(one.len(), several.len());
    for (a, b) in one.iter().zip(several) {
        assert_eq!((a.step, a.tokens, a.targets), (b.step, b.tokens, b.targets));
        assert!((a.loss - b.loss).abs() < 1e-5 * a.loss, "step {}: {} and {}", a.step, a.loss, b.loss);
        assert!((a.grad_norm - b.grad_norm).abs() < 1e-4 * a.grad_norm, "step {}", a.step);
        assert_eq!(a.losses.keys().collect::<Vec<_>>(), b.losses.keys().collect::<Vec<_>>());
        for (of_one, of_several) in a.losses.values().zip(b.losses.values()) {
            assert_eq!(of_one.targets, of_several.targets);
            assert!((of_one.loss - of_several.loss).abs() < 1e-5 * of_one.loss.max(1e-3));
        }
    }
}

/// Nine steps of 8 examples in micro-batches of 3, 3 and 2: two processes have five and three examples, three processes
/// unequal ones, and of four processes one has none. Bounds: weights of about 1, f32 sums in another order.
#[test]
fn several_ranks_make_the_steps_of_one() {
    for loss_normalization in [LossNormalization::Step, LossNormalization::MicroBatch] {
        let config = TrainConfig { loss_normalization, ..config() };
        let (alone, report) = fit(1, &config);
        assert!(largest_difference(&alone, &model(&Device::flex().autodiff(), 0.0)) > 0.05, "it has learned");
        assert_eq!(report.metrics.len(), 9);
        assert!(report.metrics.iter().all(|m| m.losses.len() == 2));
        for size in [2, 3, 4] {
            let (several, of_several) = fit(size, &config);
            let difference = largest_difference(&alone, &several);
            assert!(difference < 1e-5, "{size} processes, {loss_normalization:?}: {difference}");
            assert_same_course(&report.metrics, &of_several.metrics);
        }
    }
}

/// What is drawn at random differs from process to process; rank 0's counts.
#[test]
fn ranks_begin_with_the_weights_of_the_first() {
    let (alone, _) = fit(1, &config());
    let processes = together(3, |device, collective| {
        let run = FitOptions { collective: Some(collective), ..FitOptions::default() };
        let own = model(device, collective.rank() as f32);
        Ok(Trainer::new(config())?.fit(own, &ExampleBatches::new(EXAMPLES, batch), run, &mut ())?)
    });
    assert!(largest_difference(&alone, &processes[2].0) < 1e-5);
}

/// One process is asked to stop; all end after the same step, and go on to the same bits as if nothing had been.
#[test]
fn a_stop_of_one_rank_stops_all_and_resumes() {
    let (whole, _) = fit(2, &config());
    for stopped_one in [0, 1] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let processes = stopped_after(5, 2, &config(), folder.path(), |rank| rank == stopped_one);
        assert_eq!((processes[0].1.outcome, processes[0].1.steps), (FitOutcome::Stopped, 5));
        let written = Checkpoint::list(folder.path()).expect("lists");
        assert_eq!(written.iter().map(Checkpoint::step).collect::<Vec<_>>(), [4, 5]);
        let (resumed, report) = fit_in(2, &config(), Some(folder.path()), true);
        assert_eq!(report.metrics[0].step, 6);
        assert_eq!(largest_difference(&resumed, &whole), 0.0);
        let logged: Vec<StepMetrics> =
            adamllm_core::jsonl::read_all(folder.path().join("metrics.jsonl")).expect("reads");
        assert_eq!(logged.iter().map(|m| m.step).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
    }
}

/// The names of the tensors in a file of a checkpoint.
fn names_in(file: &Path) -> BTreeSet<String> {
    let bytes = std::fs::read(file).expect("reads");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    tensors.names().into_iter().map(str::to_owned).collect()
}

/// Optimizer states divided among ranks: the bits of ranks that each hold all, each state in one rank's file alone, and a run that
/// other numbers of ranks, divided or not, go on from.
#[test]
fn ranks_divide_the_optimizer_and_change_nothing() {
    let divided = TrainConfig { shard_optimizer: true, ..config() };
    for size in [2, 3, 4] {
        let (whole, report) = fit(size, &config());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (several, of_several) = fit_in(size, &divided, Some(folder.path()), false);
        assert_eq!(largest_difference(&whole, &several), 0.0, "{size} ranks");
        assert_same_course(&report.metrics, &of_several.metrics);

        let checkpoint = Checkpoint::list(folder.path()).expect("lists").pop().expect("a checkpoint");
        let file = |rank: usize| match rank {
            0 => checkpoint.path().join("optimizer.safetensors"),
            _ => checkpoint.path().join(format!("optimizer-{rank:03}.safetensors")),
        };
        let parts: Vec<_> = (0..size).map(|rank| names_in(&file(rank))).collect();
        assert!(parts.iter().all(|part| !part.is_empty()) && !file(size).exists());
        // Six parameters with two moments each.
        assert_eq!(parts.iter().map(BTreeSet::len).sum::<usize>(), 12);
        assert_eq!(parts.iter().flatten().collect::<BTreeSet<_>>().len(), 12);
    }

    // Stopped after its fourth step, and gone on by others.
    let (whole, _) = fit(2, &config());
    for (size, config) in [(2, &divided), (3, &divided), (1, &divided), (2, &config())] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        stopped_after(4, 3, &divided, folder.path(), |_| true);
        let (resumed, report) = fit_in(size, config, Some(folder.path()), true);
        assert_eq!((report.metrics[0].step, report.steps), (5, 9));
        // Sums over another number of ranks have another order.
        let difference = largest_difference(&resumed, &whole);
        assert!(difference < 1e-5, "{size} ranks: {difference}");
        let last = Checkpoint::list(folder.path()).expect("lists").pop().expect("a checkpoint");
        assert_eq!(last.path().join("optimizer-001.safetensors").exists(), config.shard_optimizer && size > 1);
    }
}

/// A rank that does not see the run's folder could not write its part.
#[test]
fn ranks_that_divide_the_optimizer_all_need_the_folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let faults = refused(|device, collective| {
        let run = FitOptions {
            folder: (collective.rank() == 0).then(|| folder.path().into()),
            collective: Some(collective),
            ..FitOptions::default()
        };
        let trainer = Trainer::new(TrainConfig { shard_optimizer: true, ..config() })?;
        Ok(trainer.fit(model(device, 0.0), &ExampleBatches::new(EXAMPLES, batch), run, &mut ())?)
    });
    assert!(faults.iter().all(|fault| fault.contains("folder")), "{faults:?}");
}

/// A process that was alone may stop in the middle of a step; several begin that step anew.
#[test]
fn several_ranks_go_on_from_a_step_that_one_had_started() {
    let (whole, _) = fit(1, &config());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stop = AtomicBool::new(true);
    let run = FitOptions { folder: Some(folder.path().into()), stop: Some(&stop), ..FitOptions::default() };
    let device = Device::flex().autodiff();
    let trainer = Trainer::new(config()).expect("valid");
    let (_, report) =
        trainer.fit(model(&device, 0.0), &ExampleBatches::new(EXAMPLES, batch), run, &mut ()).expect("stops");
    assert_eq!((report.outcome, report.steps), (FitOutcome::Stopped, 0));
    let started = Checkpoint::list(folder.path()).expect("lists").pop().expect("one");
    assert!(started.path().ends_with("step-000000+0001"), "{}", started.path().display());
    let (resumed, _) = fit_in(3, &config(), Some(folder.path()), true);
    assert!(largest_difference(&resumed, &whole) < 1e-5);
}

/// Held-out points of another curve get worse: every process ends after the same evaluation, also when those before a stop
/// stand in rank 0's file only.
#[test]
fn ranks_end_early_together_also_after_a_resume() {
    let held_out = ExampleBatches::new(8, |examples: &[usize]| {
        let mut points = batch(examples)?;
        points.y.iter_mut().for_each(|y| *y *= -3.0);
        Ok::<_, String>(points)
    });
    let settings = TrainConfig { epochs: 40.0, save_every: None, ..config() };
    let run_of = |size, folder: &Path, resume, stop_after: Option<usize>| {
        let processes = together(size, |device, collective| {
            let stop = AtomicBool::new(false);
            let mut on_step = |m: &StepMetrics| stop.store(Some(m.step) == stop_after, Ordering::Relaxed);
            let run = FitOptions {
                folder: Some(folder.into()),
                resume,
                stop: Some(&stop),
                on_step: Some(&mut on_step),
                collective: Some(collective),
            };
            let validation = Some(Validation { source: &held_out, every: 2, batch_size: 3, patience: Some(4) });
            let source = ExampleBatches::new(EXAMPLES, batch);
            Ok(Trainer::new(settings.clone())?.fit_validated(model(device, 0.0), &source, validation, run, &mut ())?)
        });
        processes.into_iter().next().expect("a process").1
    };
    let folders = [(); 3].map(|()| tempfile::tempdir().expect("a temporary folder"));
    let [alone, two, stopped] = folders.each_ref().map(|folder| folder.path());
    let of_one = run_of(1, alone, false, None);
    let of_two = run_of(2, two, false, None);
    assert_eq!((of_two.outcome, of_two.steps), (FitOutcome::EarlyStopped, of_one.steps));
    for (a, b) in of_one.validation.iter().zip(&of_two.validation) {
        assert!((a.loss - b.loss).abs() < 1e-5 * a.loss && a.best == b.best, "{a:?} {b:?}");
    }
    let last_best = of_two.validation.iter().rfind(|example| example.best).expect("the first is").step;
    let kept = Checkpoint::list(&two.join("best")).expect("lists");
    assert_eq!(kept.iter().map(Checkpoint::step).collect::<Vec<_>>(), [last_best]);

    assert_eq!(run_of(2, stopped, false, Some(last_best + 3)).outcome, FitOutcome::Stopped);
    let resumed = run_of(2, stopped, true, None);
    assert_eq!((resumed.outcome, resumed.steps), (of_two.outcome, of_two.steps));
    assert_eq!(resumed.validation, of_two.validation);
    let written: Vec<ValidationMetrics> =
        adamllm_core::jsonl::read_all(stopped.join("validation.jsonl")).expect("reads");
    assert_eq!(written, of_two.validation);
}

/// What each of two processes says, of a run that cannot succeed.
fn refused(work: impl Fn(&Device, &dyn Collective) -> Outcome + Sync) -> [String; 2] {
    let devices = vec![Device::flex().autodiff(); 2];
    let outcomes = on_each_device(&devices, Transport::HostMemory, |device, collective| {
        Ok::<_, TrainError>(work(device, collective).expect_err("cannot succeed").to_string())
    });
    outcomes.expect("both end").try_into().expect("two processes")
}

#[test]
fn an_example_that_fails_ends_all_processes_and_says_why() {
    let outcomes = refused(|device, collective| {
        let rank = collective.rank();
        let source = ExampleBatches::new(EXAMPLES, |examples: &[usize]| {
            if rank == 1 && examples.len() == 3 { Err("a broken image".to_owned()) } else { batch(examples) }
        });
        let run = FitOptions { collective: Some(collective), ..FitOptions::default() };
        Ok(Trainer::new(config())?.fit(model(device, 0.0), &source, run, &mut ())?)
    });
    assert!(
        outcomes[1].starts_with("batch of examples [") && outcomes[1].ends_with("]: a broken image"),
        "{}",
        outcomes[1]
    );
    assert_eq!(outcomes[0], format!("rank 1 of 2: {}", outcomes[1]));
}

/// Only rank 0 writes; what it cannot write ends the others, too.
#[test]
fn a_checkpoint_that_cannot_be_written_ends_all_ranks() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("step-000004.partial"), "a file in the way").expect("writes");
    let outcomes = refused(|device, collective| {
        let run =
            FitOptions { folder: Some(folder.path().into()), collective: Some(collective), ..FitOptions::default() };
        Ok(Trainer::new(config())?.fit(model(device, 0.0), &ExampleBatches::new(EXAMPLES, batch), run, &mut ())?)
    });
    assert!(outcomes[0].contains("step-000004.partial"), "{}", outcomes[0]);
    assert_eq!(outcomes[1], format!("rank 0 of 2: {}", outcomes[0]));
}

#[test]
fn ranks_with_other_settings_or_examples_are_refused() {
    let with = |config_of: &(dyn Fn(usize) -> TrainConfig + Sync), examples_of: &(dyn Fn(usize) -> usize + Sync)| {
        refused(|device, collective| {
            let run = FitOptions { collective: Some(collective), ..FitOptions::default() };
            let source = ExampleBatches::new(examples_of(collective.rank()), batch);
            Ok(Trainer::new(config_of(collective.rank()))?.fit(model(device, 0.0), &source, run, &mut ())?)
        })
    };
    let settings = with(&|rank| TrainConfig { seed: rank as u64, ..config() }, &|_| EXAMPLES);
    assert!(settings.iter().all(|message| message.starts_with("rank 1 of 2: settings: expected")), "{settings:?}");
    let examples = with(&|_| config(), &|rank| EXAMPLES - rank);
    assert_eq!(examples, ["rank 1 of 2: training examples: expected 24 as rank 0, got 23"; 2]);
}

/// A folder that is not the same for all (no shared file system) is found out.
#[test]
fn ranks_that_find_other_checkpoints_are_refused() {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    fit_in(1, &TrainConfig { max_steps: Some(4), ..config() }, Some(folders[0].path()), false);
    let outcomes = refused(|device, collective| {
        let folder = Some(folders[collective.rank()].path().to_path_buf());
        let run = FitOptions { folder, resume: true, collective: Some(collective), ..FitOptions::default() };
        let config = TrainConfig { max_steps: Some(4), ..config() };
        Ok(Trainer::new(config)?.fit(model(device, 0.0), &ExampleBatches::new(EXAMPLES, batch), run, &mut ())?)
    });
    let expected =
        "rank 1 of 2: checkpoint to go on from: expected step 4 and 0 passes as rank 0, got step 0 and 0 passes";
    assert_eq!(outcomes, [expected; 2]);
}

/// A thread that fails outside of the loop does not leave the others waiting, and it is its own error that is returned.
#[test]
fn the_first_failure_is_reported() {
    let devices = vec![Device::flex().autodiff(); 3];
    let failed = on_each_device(&devices, Transport::HostMemory, |device, collective| {
        if collective.rank() == 2 {
            return Err("no such model".to_owned());
        }
        let run = FitOptions { collective: Some(collective), ..FitOptions::default() };
        let trainer = Trainer::new(config()).map_err(|e| e.to_string())?;
        let fitted = trainer.fit(model(device, 0.0), &ExampleBatches::new(EXAMPLES, batch), run, &mut ());
        fitted.map(drop).map_err(|e| e.to_string())
    });
    assert_eq!(failed.expect_err("one has no model"), "no such model");
}
