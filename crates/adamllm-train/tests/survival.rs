//! Runs that are killed, run out of disk or are stopped: whatever happens, going on gives the undisturbed run to the bit.
//! The runs are processes of their own: this test file, started again with one test and its orders in variables.
#![cfg(unix)]

use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use adamllm_core::random::named_stream;
use adamllm_nn::{Batch, BlockExecutor, Dropout, Linear, LinearConfig, Lora, LoraConfig, Objective};
use adamllm_train::{
    Checkpoint, ExampleBatches, ExampleSize, FitOptions, RunPlan, SourceShare, StepMetrics, TrainConfig, Trainer,
    Validation, ValidationMetrics, WeightedSources,
};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;

/// Wide, so that writing a checkpoint (8 MB) takes as long as a step.
const WIDTH: usize = 820;
const EXAMPLES: usize = 24;

#[derive(Module, Debug)]
struct Wide {
    layer: Linear,
}

#[derive(Clone, Debug)]
struct Points(Vec<usize>);

impl Batch for Points {
    fn n_targets(&self) -> usize {
        self.0.len()
    }
    fn n_tokens(&self) -> usize {
        self.0.len()
    }
}

impl Wide {
    fn new() -> Self {
        let device = Device::flex().autodiff();
        let mut layer = LinearConfig::new(WIDTH, WIDTH).init(&device);
        layer.weight = Param::from_tensor(matrix(WIDTH, 0.5, &device));
        // Its dropout must be the same after a resume, too.
        let factor = |axes: [usize; 2]| matrix(WIDTH, 0.3, &device).slice([0..axes[0], 0..axes[1]]).detach();
        layer.lora = Some(Lora {
            a: Param::from_tensor(factor([2, WIDTH])),
            b: Param::from_tensor(factor([WIDTH, 2])),
            dropout: Dropout::of("layer", 0.3),
            ..Lora::init(WIDTH, WIDTH, &LoraConfig::new(2, 40.0), &device)
        });
        Self { layer }
    }

    fn values(&self, examples: &[usize], phase: f32) -> Tensor<2> {
        let device = self.layer.weight.val().device();
        let value = |example: usize, i: usize| ((example * 31 + i) as f32 * phase).sin();
        let values =
            examples.iter().flat_map(|&example| (0..WIDTH).map(move |i| value(example, i))).collect::<Vec<f32>>();
        Tensor::from_data(TensorData::new(values, [examples.len(), WIDTH]), &device)
    }
}

fn matrix(side: usize, phase: f32, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = (0..side * side).map(|i| (i as f32 * phase).sin() * 0.02).collect();
    Tensor::from_data(TensorData::new(values, [side, side]), device)
}

impl Objective for Wide {
    type Batch = Points;

    fn target_hidden_states<'a>(&'a self, batch: &Points, blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        let x = self.values(&batch.0, 0.37).unsqueeze::<3>();
        blocks.block(vec![x], true, Box::new(|x, _| self.layer.forward(x[0].clone()).tanh())).squeeze_dim(0)
    }

    fn token_losses(&self, hidden: Tensor<2>, batch: &Points, range: Range<usize>) -> Tensor<1> {
        (hidden - self.values(&batch.0[range], 0.11)).square().mean_dim(1).flatten(0, 1)
    }
}

fn config() -> TrainConfig {
    TrainConfig {
        epochs: 3.0,
        batch_size: 4,
        micro_batch_size: 2,
        learning_rate: 1e-3,
        save_every: Some(2),
        keep_last: 2,
        ..TrainConfig::default()
    }
}

fn batch(examples: &[usize]) -> Result<Points, String> {
    Ok(Points(examples.to_vec()))
}

/// A source of two parts, one read twice in an epoch and one half: the mixture must survive too.
fn fit(folder: &Path) -> Result<(), adamllm_train::TrainError> {
    let shares =
        vec![SourceShare { n_examples: 8, weight: 2.0 }, SourceShare { n_examples: EXAMPLES - 8, weight: 0.5 }];
    let source = ExampleBatches::new(EXAMPLES, batch);
    let source = source.with_mixture(WeightedSources::new(shares)?);
    let run = FitOptions { folder: Some(folder.to_path_buf()), resume: true, ..FitOptions::default() };
    let held_out = ExampleBatches::new(8, |examples: &[usize]| {
        batch(&examples.iter().map(|example| example + 100).collect::<Vec<_>>())
    });
    let validation = Validation { source: &held_out, every: 2, batch_size: 4, patience: None };
    Trainer::new(config())?.fit_validated(Wide::new(), &source, Some(validation), run, &mut ())?;
    Ok(())
}

/// Not a test of its own: what the processes below run. Without orders it does nothing.
#[test]
fn as_a_process() {
    if let Some(folder) = std::env::var_os("SURVIVAL_RUN")
        && let Err(error) = fit(Path::new(&folder))
    {
        panic!("fault: {error}");
    }
}

/// This file again, with `limit` as the largest file in KiB that it may write.
fn process(folder: &Path, limit: Option<usize>) -> Command {
    let own = std::env::current_exe().expect("a test has a path");
    let limit = limit.map_or(String::new(), |kib| format!("trap '' XFSZ; ulimit -f {kib};"));
    let mut command = Command::new("bash");
    command.arg("-c").arg(format!("{limit} exec \"$0\" --exact as_a_process --nocapture --test-threads 1")).arg(own);
    command.env("SURVIVAL_RUN", folder).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// What must be equal: every number of every step but its time and memory, every evaluation, and the last checkpoint's
/// tensors.
type Essence = (Vec<StepMetrics>, Vec<ValidationMetrics>, Vec<Vec<u8>>);

fn essence(folder: &Path) -> Essence {
    let mut steps: Vec<StepMetrics> = adamllm_core::jsonl::read_all(folder.join("metrics.jsonl")).expect("metrics");
    steps.iter_mut().for_each(|step| (step.step_s, step.peak_bytes) = (0.0, None));
    let last = Checkpoint::list(folder).expect("lists").pop().expect("a checkpoint at the end");
    let read = |name: &str| std::fs::read(last.path().join(name)).expect("reads");
    let evaluated = adamllm_core::jsonl::read_all(folder.join("validation.jsonl")).expect("evaluations");
    (steps, evaluated, ["weights.safetensors", "optimizer.safetensors"].map(read).to_vec())
}

fn undisturbed(folder: &Path) -> Essence {
    fit(folder).expect("fits");
    let essence = essence(folder);
    assert_eq!(essence.0.iter().map(|step| step.step).collect::<Vec<_>>(), (1..=18).collect::<Vec<_>>());
    assert_eq!(essence.1.len(), 9);
    essence
}

/// A checkpoint that is being written, or was when its process died: identified by the folder's inode and time.
fn partial(folder: &Path) -> Option<(PathBuf, u64, i64, i64)> {
    let entries = std::fs::read_dir(folder).ok()?;
    let path = entries.flatten().map(|e| e.path()).find(|path| path.extension().is_some_and(|e| e == "partial"))?;
    let metadata = path.metadata().ok()?;
    Some((path, metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

/// Killed at a random moment, or as soon as a checkpoint is being written. Whether the process ended before.
fn run_and_kill(folder: &Path, in_checkpoint: bool, random: &mut impl rand::Rng) -> bool {
    let mut child = process(folder, None).spawn().expect("starts");
    let moment = Duration::from_millis(random.random_range(40..900));
    let started = Instant::now();
    let before = partial(folder);
    loop {
        if let Some(status) = child.try_wait().expect("waits") {
            assert!(status.success(), "a resumed run failed");
            return true;
        }
        let due =
            if in_checkpoint { partial(folder).is_some_and(|p| Some(p) != before) } else { started.elapsed() > moment };
        if due || started.elapsed() > Duration::from_secs(60) {
            // Somewhere within the files of the checkpoint.
            std::thread::sleep(Duration::from_micros(random.random_range(0..2000)) * u32::from(in_checkpoint));
            child.kill().expect("kill -9");
            child.wait().expect("dies");
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The plan counts what the trainer then asks for, example by example.
#[test]
fn a_mixture_is_read_as_planned() {
    let shares =
        vec![SourceShare { n_examples: 8, weight: 2.0 }, SourceShare { n_examples: EXAMPLES - 8, weight: 0.5 }];
    let read = std::sync::Mutex::new(vec![0; EXAMPLES]);
    let source = ExampleBatches::new(EXAMPLES, |examples: &[usize]| {
        examples.iter().for_each(|&example| read.lock().expect("not poisoned")[example] += 1);
        batch(examples)
    });
    let sizes = (0..EXAMPLES)
        .map(|example| ExampleSize { tokens: 1 + example % 3, targets: 1, ..ExampleSize::default() })
        .collect();
    let source = source.with_sizes(sizes).with_mixture(WeightedSources::new(shares).expect("weights"));
    let plan = RunPlan::new(&source, &config()).expect("a plan");
    let trainer = Trainer::new(config()).expect("valid");
    let (_, report) = trainer.fit(Wide::new(), &source, FitOptions::default(), &mut ()).expect("fits");
    assert_eq!(*read.lock().expect("not poisoned"), plan.times_read);
    assert_eq!((report.steps, report.metrics.iter().map(|m| m.targets).sum()), (plan.steps, plan.read.targets));
}

#[test]
fn killed_at_any_moment_it_goes_on_to_the_same_bits() {
    let whole = tempfile::tempdir().expect("a temporary folder");
    let expected = undisturbed(whole.path());
    let mut random = named_stream(17, "kill", "moments");
    let mut half_written = 0;
    // One run is enough, unless every kill missed the writing of a checkpoint.
    for _ in 0..4 {
        let killed = tempfile::tempdir().expect("a temporary folder");
        half_written += run_killed_often(killed.path(), &mut random);
        assert!(essence(killed.path()) == expected, "a killed run ended elsewhere");
        if half_written > 0 {
            return;
        }
    }
    panic!("no kill hit the writing of a checkpoint");
}

/// A run that is killed up to 16 times and then left alone. Gives how many kills left a half-written checkpoint.
fn run_killed_often(folder: &Path, random: &mut impl rand::Rng) -> usize {
    let mut half_written = 0;
    for round in 0..16 {
        if run_and_kill(folder, round % 2 == 0, random) {
            return half_written;
        }
        half_written += usize::from(partial(folder).is_some());
        for checkpoint in Checkpoint::list(folder).unwrap_or_default() {
            assert!(checkpoint.path().join("state.json").exists(), "a checkpoint of that name is whole");
        }
    }
    fit(folder).expect("goes on");
    half_written
}

#[test]
fn a_full_disk_leaves_the_checkpoint_before_and_says_so() {
    let [whole, full] = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    let expected = undisturbed(whole.path());
    // Far enough for a first checkpoint; then the disk takes no large file any more.
    let mut child = process(full.path(), None).spawn().expect("starts");
    while Checkpoint::list(full.path()).unwrap_or_default().is_empty() {
        assert!(child.try_wait().expect("waits").is_none(), "it ended without a checkpoint");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("kill -9");
    child.wait().expect("dies");
    let before = Checkpoint::list(full.path()).expect("lists").pop().expect("one checkpoint");
    let weights = std::fs::read(before.path().join("weights.safetensors")).expect("reads");
    let output = process(full.path(), Some(1024)).output().expect("runs");
    assert!(!output.status.success(), "nothing can be written");
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|line| line.contains("fault: ")).unwrap_or_else(|| panic!("no clear line in {said}"));
    assert!(line.contains("fault: write ") && line.contains("weights.safetensors"), "{line}");
    assert_eq!(Checkpoint::list(full.path()).expect("lists").pop(), Some(before.clone()));
    assert!(std::fs::read(before.path().join("weights.safetensors")).expect("reads") == weights);
    fit(full.path()).expect("goes on when there is room again");
    assert!(essence(full.path()) == expected, "the run ended elsewhere");
}
