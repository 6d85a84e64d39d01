use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use adamllm_core::jsonl::Appender;
use adamllm_core::{CoreError, Progress};
use adamllm_nn::{Batch, Objective};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, TensorData};

use crate::backward::differentiate;
use crate::metrics::{MetricsFile, peak_bytes};
use crate::micro_batches::micro_batches;
use crate::optimizer::{Accumulated, NamedOptimizer, by_name, freeze, global_norm};
use crate::spikes::Spikes;
use crate::validation::{Examinations, examine};
use crate::{
    BatchOrder, BatchSource, Checkpoint, NonFinite, Normalisation, StepMetrics, TrainConfig, TrainError, Validation,
    ValidationMetrics,
};

/// Fits a model to batches.
#[derive(Clone, Debug)]
pub struct Trainer {
    config: TrainConfig,
}

/// Where a run writes, and what steers it from outside.
#[derive(Default)]
pub struct Run<'a> {
    /// Checkpoints and `metrics.jsonl` go here; `None` writes nothing.
    pub folder: Option<PathBuf>,
    /// Goes on from the newest checkpoint, where there is one.
    pub resume: bool,
    /// Set from outside (a signal handler): the run writes a checkpoint behind the current step and ends.
    pub stop: Option<&'a AtomicBool>,
    /// Hears every step.
    pub on_step: Option<&'a mut dyn FnMut(&StepMetrics)>,
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("folder", &self.folder).field("resume", &self.resume).finish_non_exhaustive()
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FitOutcome {
    /// All steps are done.
    Finished,
    /// Stopped from outside; resume to go on.
    Stopped,
    /// The held-out loss has not become better for as many examinations as [`Validation::patience`] allows.
    NoLongerBetter,
}

/// What a run did.
#[derive(Clone, Debug)]
pub struct FitReport {
    /// How it ended.
    pub outcome: FitOutcome,
    /// Steps done, those before a resume included.
    pub steps: usize,
    /// Each step of this process.
    pub metrics: Vec<StepMetrics>,
    /// Every examination on held-out rows, those before a resume included.
    pub validation: Vec<ValidationMetrics>,
}

/// What one forward and backward pass took, without a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rehearsal {
    /// The batch's loss per target token, in nats.
    pub loss: f64,
    /// Seconds.
    pub seconds: f64,
    /// The most memory that the process has held so far, in bytes, where the system tells.
    pub peak_bytes: Option<u64>,
}

impl Trainer {
    /// A trainer.
    ///
    /// # Errors
    /// [`TrainError::Config`] names the first setting at fault.
    pub fn new(config: TrainConfig) -> Result<Self, TrainError> {
        config.validate()?;
        Ok(Self { config })
    }

    /// The settings.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Trains `model`, which must live on a device with autodiff, and gives it back as it is behind the last step.
    ///
    /// # Errors
    /// [`TrainError`]; what was saved before stays whole.
    pub fn fit<M, S>(
        &self,
        model: M,
        source: &S,
        run: Run,
        progress: &mut dyn Progress,
    ) -> Result<(M, FitReport), TrainError>
    where
        M: Objective + 'static,
        S: BatchSource<Batch = M::Batch>,
    {
        self.fit_validated(model, source, None::<Validation<S>>, run, progress)
    }

    /// As [`Trainer::fit`], examined on held-out rows on the way: `validation.jsonl` grows, the checkpoint of the best
    /// examination is kept in `best/`, and the run may end early.
    ///
    /// # Errors
    /// As [`Trainer::fit`].
    pub fn fit_validated<M, S, V>(
        &self,
        model: M,
        source: &S,
        validation: Option<Validation<V>>,
        run: Run,
        progress: &mut dyn Progress,
    ) -> Result<(M, FitReport), TrainError>
    where
        M: Objective + 'static,
        S: BatchSource<Batch = M::Batch>,
        V: BatchSource<Batch = M::Batch>,
    {
        let n_rows = source.n_rows();
        let total = self.config.n_steps(source.rows_per_epoch());
        let device = model.devices().first().cloned().unwrap_or_default();
        let model = freeze(model, &self.config);
        let (model, optimizer, start) = self.begin(model, &run, n_rows, &device)?;
        let order = BatchOrder::of(source, &self.config)?;
        let metrics_file = run.folder.as_deref().map(|folder| MetricsFile::open(folder, start)).transpose()?;
        let examinations = Examinations::open(run.folder.as_deref().filter(|_| validation.is_some()), start)?;

        progress.begin("fit", total as u64);
        progress.advance(start as u64);
        let fitted = std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(2);
            let steps = start..total;
            let feeding = order.clone();
            scope.spawn(move || feed(source, &feeding, steps, &self.config, &sender));
            let spikes = Spikes::default();
            let fitting = Fitting {
                config: &self.config,
                model: Some(model),
                optimizer,
                order,
                total,
                n_rows,
                metrics_file,
                source,
                spikes,
            };
            fitting.run(start, &receiver, validation, examinations, run, progress)
        });
        progress.end();
        fitted
    }

    /// Runs one batch forward and backward and forgets the gradients: whether the worst batch fits into memory is known
    /// before the first step.
    pub fn rehearse<M: Objective>(&self, model: &M, batch: &M::Batch) -> Rehearsal {
        let begun = Instant::now();
        let share = 1.0 / batch.n_targets().max(1) as f64;
        let losses = differentiate(model, batch, share, &self.config, &mut Accumulated::default());
        let loss = losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() * share;
        Rehearsal { loss, seconds: begun.elapsed().as_secs_f64(), peak_bytes: peak_bytes() }
    }

    /// The loss per target token of some batches together, and the gradient of each trained parameter by name: what a step
    /// would begin with, before clipping.
    ///
    /// # Panics
    /// If no batch has a target.
    pub fn gradients<M: Objective>(&self, model: &M, batches: &[M::Batch]) -> (f64, BTreeMap<String, TensorData>) {
        let n_targets: usize = batches.iter().map(Batch::n_targets).sum();
        assert!(n_targets > 0, "batches without targets have no loss");
        let share = 1.0 / n_targets as f64;
        let (mut accumulated, mut loss) = (Accumulated::default(), 0.0);
        for batch in batches.iter().filter(|batch| batch.n_targets() > 0) {
            let losses = differentiate(model, batch, share, &self.config, &mut accumulated);
            loss += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() * share;
        }
        (loss, by_name(model, accumulated.take()))
    }

    /// The state that a run begins with: fresh, or the newest checkpoint's.
    fn begin<M: Module>(
        &self,
        model: M,
        run: &Run,
        n_rows: usize,
        device: &Device,
    ) -> Result<(M, NamedOptimizer, usize), TrainError> {
        let Some(folder) = &run.folder else { return Ok((model, NamedOptimizer::default(), 0)) };
        std::fs::create_dir_all(folder).map_err(CoreError::io("create", folder))?;
        let newest = Checkpoint::list(folder)?.pop();
        let started = newest.is_some() || folder.join("metrics.jsonl").exists();
        if started && !run.resume {
            return Err(TrainError::RunExists { folder: folder.clone() });
        }
        match newest {
            None => Ok((model, NamedOptimizer::default(), 0)),
            Some(checkpoint) => {
                let inner = device.clone().without_autodiff();
                let (model, optimizer) = checkpoint.restore(model, n_rows, &self.config, &inner)?;
                tracing::info!(step = checkpoint.step(), "resumed");
                Ok((model, optimizer, checkpoint.step()))
            }
        }
    }
}

/// A row that was left out of a step.
#[derive(serde::Serialize)]
struct Quarantined {
    step: usize,
    row: usize,
}

/// The micro-batches of one optimizer step.
struct Window<B> {
    rows: Vec<usize>,
    batches: Vec<B>,
}

/// Makes windows ahead of the training steps, and ends when nobody listens any more.
fn feed<S: BatchSource>(
    source: &S,
    order: &BatchOrder,
    steps: std::ops::Range<usize>,
    config: &TrainConfig,
    sender: &SyncSender<Result<Window<S::Batch>, TrainError>>,
) {
    let mut shuffled = None;
    for step in steps {
        let rows = order.rows_of(source, step, &mut shuffled).to_vec();
        let batches = micro_batches(&rows, source, config).iter().map(|rows| source.batch(rows)).collect();
        let window = Result::map(batches, |batches| Window { rows, batches });
        let failed = window.is_err();
        if sender.send(window).is_err() || failed {
            return;
        }
    }
}

struct Fitting<'a, M, S> {
    config: &'a TrainConfig,
    /// Empty only while it is updated.
    model: Option<M>,
    optimizer: NamedOptimizer,
    order: BatchOrder,
    total: usize,
    n_rows: usize,
    metrics_file: Option<MetricsFile>,
    source: &'a S,
    spikes: Spikes,
}

impl<M: Objective + 'static, S: BatchSource<Batch = M::Batch>> Fitting<'_, M, S> {
    fn run<V: BatchSource<Batch = M::Batch>>(
        mut self,
        start: usize,
        windows: &Receiver<Result<Window<M::Batch>, TrainError>>,
        validation: Option<Validation<V>>,
        mut examinations: Examinations,
        mut run: Run,
        progress: &mut dyn Progress,
    ) -> Result<(M, FitReport), TrainError> {
        let mut report =
            FitReport { outcome: FitOutcome::Finished, steps: start, metrics: Vec::new(), validation: Vec::new() };
        for (step, window) in (start..self.total).zip(windows) {
            let metrics = self.step(step, window?, run.folder.as_deref())?;
            if let Some(mean) = self.spikes.hear(metrics.loss).filter(|_| !metrics.skipped) {
                tracing::warn!(
                    step = metrics.step,
                    loss = metrics.loss,
                    mean,
                    "the loss stands out from the last ones"
                );
            }
            report.steps = step + 1;
            let logged = report.steps.is_multiple_of(self.config.log_every) || report.steps == self.total;
            if let Some(file) = self.metrics_file.as_mut().filter(|_| logged) {
                file.push(&metrics)?;
            }
            if let Some(on_step) = &mut run.on_step {
                on_step(&metrics);
            }
            progress.note(&format!("loss {:.4}, {:.0} tok/s", metrics.loss, metrics.tokens as f64 / metrics.step_s));
            progress.advance(1);
            report.metrics.push(metrics);

            let stopped = run.stop.is_some_and(|stop| stop.load(Ordering::Relaxed));
            let last = report.steps == self.total;
            let due = self.config.save_every.is_some_and(|every| report.steps.is_multiple_of(every));
            if let Some(folder) = run.folder.as_deref().filter(|_| due || last || stopped) {
                self.save(folder, report.steps, self.config.keep_last)?;
            }
            let due = |v: &&Validation<V>| last || report.steps.is_multiple_of(v.every.max(1));
            if let Some(validation) = validation.as_ref().filter(due) {
                let found = examinations.push(report.steps, examine(self.model(), validation)?)?;
                tracing::info!(step = found.step, loss = found.loss, best = found.best, "examined");
                if let Some(folder) = run.folder.as_deref().filter(|_| found.best) {
                    self.save(&folder.join("best"), report.steps, 1)?;
                }
                if validation.patience.is_some_and(|patience| examinations.since_best() >= patience) && !last {
                    report.outcome = FitOutcome::NoLongerBetter;
                    if let Some(folder) = &run.folder {
                        self.save(folder, report.steps, self.config.keep_last)?;
                    }
                    break;
                }
            }
            if stopped && !last {
                report.outcome = FitOutcome::Stopped;
                break;
            }
        }
        report.validation = examinations.into_rows();
        Ok((self.model.expect("a model between steps"), report))
    }

    fn save(&self, folder: &Path, step: usize, keep: usize) -> Result<(), TrainError> {
        Checkpoint::write(folder, step, self.n_rows, self.model(), &self.optimizer, self.config)?;
        Checkpoint::prune(folder, keep)
    }

    fn step(
        &mut self,
        step: usize,
        window: Window<M::Batch>,
        folder: Option<&Path>,
    ) -> Result<StepMetrics, TrainError> {
        let begun = Instant::now();
        let n_targets: usize = window.batches.iter().map(Batch::n_targets).sum();
        if n_targets == 0 {
            return Err(TrainError::NoTargets { step: step + 1, rows: window.rows });
        }
        let factor = self.config.schedule.factor(step, self.total);
        let mut metrics = StepMetrics {
            step: step + 1,
            epoch: self.order.epoch(step),
            loss: 0.0,
            lr: self.config.learning_rate * factor,
            grad_norm: 0.0,
            tokens: window.batches.iter().map(Batch::n_tokens).sum(),
            targets: n_targets,
            images: window.batches.iter().map(Batch::n_images).sum(),
            losses: BTreeMap::new(),
            step_s: 0.0,
            peak_bytes: None,
            skipped: false,
        };
        let mut gradients = self.gradients(&window.batches, &mut metrics);
        metrics.grad_norm = global_norm(self.model(), &gradients);
        let finite = |m: &StepMetrics| m.loss.is_finite() && m.grad_norm.is_finite();
        if !finite(&metrics)
            && self.config.non_finite == NonFinite::Quarantine
            && let Some(rest) = self.without_faulty_rows(&window.rows, &metrics, folder)?
        {
            metrics.targets = rest.iter().map(Batch::n_targets).sum();
            metrics.tokens = rest.iter().map(Batch::n_tokens).sum();
            metrics.images = rest.iter().map(Batch::n_images).sum();
            gradients = self.gradients(&rest, &mut metrics);
            metrics.grad_norm = global_norm(self.model(), &gradients);
        }
        if finite(&metrics) {
            let scale = match self.config.max_gradient_norm {
                // torch's clip_grad_norm_ adds 1e-6 and never scales up.
                Some(max) => (max / (metrics.grad_norm + 1e-6)).min(1.0),
                None => 1.0,
            };
            // Taken out, so that no second handle keeps the update from being made in place.
            let model = self.model.take().expect("a model between steps");
            self.model = Some(self.optimizer.step(model, gradients, self.config, factor, scale));
        } else {
            self.not_finite(&mut metrics, window.rows)?;
        }
        metrics.step_s = begun.elapsed().as_secs_f64();
        metrics.peak_bytes = peak_bytes();
        tracing::debug!(step = metrics.step, loss = metrics.loss, lr = metrics.lr, "step");
        Ok(metrics)
    }

    /// Gradients of the window's loss, and the loss itself, into `metrics`. Each micro-batch's sum is divided by the targets of
    /// the whole window (or its own, as the configuration says).
    /// One after the other: burn's graphs of two threads that share parameters consume each other's steps.
    fn gradients(&self, batches: &[M::Batch], metrics: &mut StepMetrics) -> GradientsParams {
        let mut accumulated = Accumulated::default();
        let batches: Vec<_> = batches.iter().filter(|batch| batch.n_targets() > 0).collect();
        (metrics.loss, metrics.losses) = (0.0, BTreeMap::new());
        for batch in &batches {
            let share = match self.config.normalisation {
                Normalisation::Window => 1.0 / metrics.targets.max(1) as f64,
                Normalisation::MicroBatch => 1.0 / (batch.n_targets() * batches.len()) as f64,
            };
            let losses = differentiate(self.model(), *batch, share, self.config, &mut accumulated);
            metrics.loss += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() * share;
            for (loss, &group) in losses.iter().zip(batch.target_groups()) {
                let sum = metrics.losses.entry(batch.groups()[usize::from(group)].clone()).or_default();
                sum.loss += f64::from(*loss);
                sum.targets += 1;
            }
        }
        metrics.losses.values_mut().for_each(|group| group.loss /= group.targets as f64);
        accumulated.take()
    }

    fn model(&self) -> &M {
        self.model.as_ref().expect("a model between steps")
    }

    /// The step's batches again without the rows that are not finite by themselves, which are written to
    /// `quarantine.jsonl`. `None` where no row is, or where nothing is left.
    fn without_faulty_rows(
        &self,
        rows: &[usize],
        metrics: &StepMetrics,
        folder: Option<&Path>,
    ) -> Result<Option<Vec<M::Batch>>, TrainError> {
        let (mut kept, mut faulty) = (Vec::new(), Vec::new());
        for &row in rows {
            let batch = [self.source.batch(&[row])?];
            let mut own = StepMetrics { targets: batch[0].n_targets(), ..metrics.clone() };
            let gradients = self.gradients(&batch, &mut own);
            let gradient_norm = global_norm(self.model(), &gradients);
            if own.loss.is_finite() && gradient_norm.is_finite() {
                kept.extend((own.targets > 0).then_some(row));
            } else {
                faulty.push(row);
            }
        }
        if faulty.is_empty() || kept.is_empty() {
            return Ok(None);
        }
        tracing::warn!(step = metrics.step, rows = ?faulty, "rows quarantined: not finite");
        if let Some(folder) = folder {
            let quarantined: Vec<_> = faulty.iter().map(|row| Quarantined { step: metrics.step, row: *row }).collect();
            Appender::open(folder.join("quarantine.jsonl"))?.append(&quarantined)?;
        }
        let batches = micro_batches(&kept, self.source, self.config);
        batches.iter().map(|rows| self.source.batch(rows)).collect::<Result<_, _>>().map(Some)
    }

    fn not_finite(&self, metrics: &mut StepMetrics, rows: Vec<usize>) -> Result<(), TrainError> {
        let StepMetrics { step, loss, grad_norm: gradient_norm, .. } = *metrics;
        match self.config.non_finite {
            NonFinite::Stop | NonFinite::Quarantine => Err(TrainError::NonFinite { step, loss, gradient_norm, rows }),
            NonFinite::SkipStep => {
                tracing::warn!(step, loss, gradient_norm, ?rows, "step skipped: not finite");
                metrics.skipped = true;
                // JSON has no NaN.
                (metrics.loss, metrics.grad_norm) = (0.0, 0.0);
                Ok(())
            }
        }
    }
}
