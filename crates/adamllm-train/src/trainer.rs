use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use adamllm_core::{CoreError, Progress};
use adamllm_nn::{Batch, Objective, with_dropout};
use burn::module::Module;
use burn::tensor::{Device, TensorData};

use crate::backward::differentiate;
use crate::checkpoint::Restored;
use crate::collective::{all_equal, all_ok, check_same_run, start_together};
use crate::metrics::peak_bytes;
use crate::optimizer::{Accumulated, NamedOptimizer, Shards, by_name, freeze};
use crate::step_batches::feed;
use crate::train_loop::{RunContext, StepLog, TrainLoop};
use crate::trainable::{Unreached, check_trainable};
use crate::validation::ValidationLog;
use crate::{
    BatchOrder, BatchSource, Checkpoint, Collective, FitError, NonFinite, SingleProcess, StepMetrics, TrainConfig,
    TrainError, Validation, ValidationMetrics,
};

/// Fits a model to batches.
#[derive(Clone, Debug)]
pub struct Trainer {
    config: TrainConfig,
}

/// Where a run writes, how it is stopped from outside, and who hears its steps.
#[derive(Default)]
pub struct FitOptions<'a> {
    /// Checkpoints and `metrics.jsonl` go here; `None` writes nothing.
    pub folder: Option<PathBuf>,
    /// Goes on from the newest checkpoint, where there is one.
    pub resume: bool,
    /// Set from outside (a signal handler): the run writes a checkpoint after the current forward and backward pass, also in the
    /// middle of a step, and ends.
    pub stop: Option<&'a AtomicBool>,
    /// Called after every step.
    pub on_step: Option<&'a mut dyn FnMut(&StepMetrics)>,
    /// The other processes of a data parallel run.
    pub collective: Option<&'a dyn Collective>,
}

impl std::fmt::Debug for FitOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FitOptions").field("folder", &self.folder).field("resume", &self.resume).finish_non_exhaustive()
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FitOutcome {
    /// All steps are done.
    Finished,
    /// Stopped from outside; resume to go on.
    Stopped,
    /// The held-out loss has not become better for as many evaluations as [`Validation::patience`] allows.
    EarlyStopped,
}

/// What a run did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FitReport {
    /// How it ended.
    pub outcome: FitOutcome,
    /// Steps done, those before a resume included.
    pub steps: usize,
    /// Each step of this process.
    pub metrics: Vec<StepMetrics>,
    /// Every evaluation on held-out examples, those before a resume included.
    pub validation: Vec<ValidationMetrics>,
}

/// What one forward and backward pass took, without a step.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct DryRun {
    /// The batch's loss per target token, in nats.
    pub loss: f64,
    /// Seconds.
    pub seconds: f64,
    /// The most memory that the process has held so far, in bytes, where the system reports it.
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

    /// Trains `model`, which must live on a device with autodiff, and gives it back as it is after the last step.
    ///
    /// A run that would train nothing is refused before its first step: a device without autodiff, every parameter frozen, a
    /// group that matches no parameter or of which another one takes all. A trained parameter that a step's batches use
    /// ([`Objective::uses`]) and that gets no gradient ends the run in that step, which is the first one for most.
    ///
    /// ```
    /// # use std::ops::Range;
    /// # use adamllm_nn::{Batch, BlockExecutor, Linear, LinearConfig, Objective};
    /// # use burn::module::Module;
    /// # use burn::tensor::Tensor;
    /// use adamllm_train::{ExampleBatches, FitOptions, TrainConfig, Trainer};
    /// use burn::tensor::Device;
    ///
    /// # #[derive(Module, Debug)]
    /// # struct Line {
    /// #     layer: Linear,
    /// # }
    /// # struct Points(Vec<f32>);
    /// # impl Points {
    /// #     fn column(values: Vec<f32>, device: &Device) -> Tensor<2> {
    /// #         Tensor::<1>::from_floats(&values[..], device).unsqueeze_dim(1)
    /// #     }
    /// # }
    /// # impl Batch for Points {
    /// #     fn n_targets(&self) -> usize {
    /// #         self.0.len()
    /// #     }
    /// #     fn n_tokens(&self) -> usize {
    /// #         self.0.len()
    /// #     }
    /// # }
    /// # impl Objective for Line {
    /// #     type Batch = Points;
    /// #     fn target_hidden_states<'a>(&'a self, batch: &Points, _: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
    /// #         self.layer.forward(Points::column(batch.0.clone(), &self.layer.weight.val().device()))
    /// #     }
    /// #     fn token_losses(&self, hidden: Tensor<2>, batch: &Points, range: Range<usize>) -> Tensor<1> {
    /// #         let y = batch.0[range].iter().map(|x| 2.0 * x).collect();
    /// #         (hidden.clone() - Points::column(y, &hidden.device())).square().flatten(0, 1)
    /// #     }
    /// # }
    /// // `Line` is an `Objective` that learns `y = 2 x` from `Points`.
    /// let model = Line { layer: LinearConfig::new(1, 1).init(&Device::flex().autodiff()) };
    /// let source = ExampleBatches::new(64, |examples: &[usize]| {
    ///     Ok::<_, String>(Points(examples.iter().map(|&example| example as f32 / 64.0).collect()))
    /// });
    /// let config = TrainConfig { epochs: 40.0, batch_size: 16, micro_batch_size: 16, learning_rate: 0.05, ..TrainConfig::default() };
    /// let (_, report) = Trainer::new(config)?.fit(model, &source, FitOptions::default(), &mut ())?;
    /// assert_eq!(report.steps, 160);
    /// assert!(report.metrics[159].loss < 0.1 * report.metrics[0].loss);
    /// # Ok::<(), adamllm_train::TrainError>(())
    /// ```
    ///
    /// # Errors
    /// [`FitError`]: a [`TrainError`], and the model as the last whole step left it; what was saved before stays whole.
    pub fn fit<M, S>(
        &self,
        model: M,
        source: &S,
        run: FitOptions,
        progress: &mut dyn Progress,
    ) -> Result<(M, FitReport), FitError<M>>
    where
        M: Objective + 'static,
        S: BatchSource<Batch = M::Batch>,
    {
        self.fit_validated(model, source, None::<Validation<S>>, run, progress)
    }

    /// As [`Trainer::fit`], evaluated on held-out examples on the way: `validation.jsonl` grows, the checkpoint of the best
    /// evaluation is kept in `best/`, and the run may end early.
    ///
    /// # Errors
    /// As [`Trainer::fit`].
    pub fn fit_validated<M, S, V>(
        &self,
        model: M,
        source: &S,
        validation: Option<Validation<V>>,
        run: FitOptions,
        progress: &mut dyn Progress,
    ) -> Result<(M, FitReport), FitError<M>>
    where
        M: Objective + 'static,
        S: BatchSource<Batch = M::Batch>,
        V: BatchSource<Batch = M::Batch>,
    {
        let mut kept = Some(model);
        match self.fit_kept(&mut kept, source, validation, run, progress) {
            Ok(report) => Ok((kept.expect("a run gives its model back"), report)),
            Err(error) => Err(FitError { error, model: kept.map(Box::new) }),
        }
    }

    /// As [`Trainer::fit_validated`]. `kept` holds the model but while it is loaded or updated.
    fn fit_kept<M, S, V>(
        &self,
        kept: &mut Option<M>,
        source: &S,
        validation: Option<Validation<V>>,
        run: FitOptions,
        progress: &mut dyn Progress,
    ) -> Result<FitReport, TrainError>
    where
        M: Objective + 'static,
        S: BatchSource<Batch = M::Batch>,
        V: BatchSource<Batch = M::Batch>,
    {
        let (n_examples, total) = (source.n_examples(), self.config.n_steps(source.examples_per_epoch()));
        let collective = run.collective.unwrap_or(&SingleProcess);
        let given = kept.take().expect("the caller's model");
        let model = &*kept.insert(freeze(given, &self.config));
        self.check(model, n_examples, validation.as_ref(), collective)?;

        // Every process looks at the folder before one of them changes it.
        let device = model.devices().first().cloned().unwrap_or_default();
        let shards = Shards::new(model, &self.config, collective);
        if shards.are_several() {
            all_equal(collective, "whether there is a folder", &run.folder.is_some().to_string())?;
        }
        let restored = self.begin(kept, &run, n_examples, shards, &device);
        let Restored { optimizer, step: start, partial } = start_together(kept, restored, collective)?;
        // Only rank 0 writes.
        let folder = run.folder.as_deref().filter(|_| collective.rank() == 0);
        let log = StepLog::open(folder, start, [self.config.log_every, total], collective)?;
        let validation = match validation {
            None => None,
            Some(validation) => {
                let opened = ValidationLog::open(folder, start);
                Some((validation, all_ok(collective, opened)?.shared(collective)?))
            }
        };

        let order = BatchOrder::of(source, &self.config)?;
        progress.begin("fit", total as u64);
        progress.advance(start as u64);
        let fitted = std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(2);
            let (steps, feeding) = (start..total, order.clone());
            scope.spawn(move || feed(source, &feeding, steps, &self.config, collective, &sender));
            let (config, stop, folder) = (&self.config, run.stop, run.folder);
            let context = RunContext { config, source, n_examples, order, total, folder, collective, stop };
            let unreached = Unreached::default();
            let train_loop = TrainLoop { context, model: kept, optimizer, partial, unreached };
            train_loop.run(start, &receiver, validation, log, run.on_step, progress)
        });
        progress.end();
        fitted
    }

    /// What is refused before anything is read or written.
    fn check<M: Module, V: BatchSource>(
        &self,
        model: &M,
        n_examples: usize,
        validation: Option<&Validation<V>>,
        collective: &dyn Collective,
    ) -> Result<(), TrainError> {
        all_ok(collective, check_trainable(model, &self.config))?;
        if collective.size() > 1 && self.config.non_finite == NonFinite::Quarantine {
            let expected = "stop or skip_step where there are several processes".into();
            return Err(TrainError::Config { field: "non_finite", expected, got: "quarantine".into() });
        }
        check_same_run(model, &self.config, n_examples, validation, collective)
    }

    /// Runs one batch forward and backward and drops the gradients: whether the worst batch fits into memory is known
    /// before the first step.
    ///
    /// # Errors
    /// Those that [`Trainer::fit`] finds before its first step: a device without autodiff, nothing to train, a group
    /// without effect.
    pub fn dry_run<M: Objective>(&self, model: &M, batch: &M::Batch) -> Result<DryRun, TrainError> {
        check_trainable(model, &self.config)?;
        let started = Instant::now();
        // Its parameters are the model's own: none is copied.
        let model = freeze(model.clone(), &self.config);
        let batches = std::slice::from_ref(batch);
        let (loss, _) = with_dropout(self.config.seed, || self.differentiated(&model, batches));
        Ok(DryRun { loss, seconds: started.elapsed().as_secs_f64(), peak_bytes: peak_bytes() })
    }

    /// The loss per target token of some batches together, and the gradient of each trained parameter by name: what a step
    /// would start with, before clipping.
    ///
    /// # Panics
    /// If no batch has a target.
    pub fn gradients<M: Objective>(&self, model: &M, batches: &[M::Batch]) -> (f64, BTreeMap<String, TensorData>) {
        assert!(batches.iter().any(|batch| batch.n_targets() > 0), "batches without targets have no loss");
        let (loss, gradients) = self.differentiated(model, batches);
        (loss, by_name(model, gradients.take()))
    }

    fn differentiated<M: Objective>(&self, model: &M, batches: &[M::Batch]) -> (f64, Accumulated) {
        let share = 1.0 / batches.iter().map(Batch::n_targets).sum::<usize>().max(1) as f64;
        let (mut gradients, mut loss) = (Accumulated::default(), 0.0);
        for batch in batches.iter().filter(|batch| batch.n_targets() > 0) {
            let losses = differentiate(model, batch, share, &self.config, &mut gradients);
            loss += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() * share;
        }
        (loss, gradients)
    }

    /// The state that a run begins with: fresh, or the newest checkpoint's.
    fn begin<M: Module>(
        &self,
        model: &mut Option<M>,
        run: &FitOptions,
        n_examples: usize,
        shards: Shards,
        device: &Device,
    ) -> Result<Restored, TrainError> {
        let fresh = |shards| {
            let optimizer = NamedOptimizer { shards, ..NamedOptimizer::default() };
            Ok(Restored { optimizer, ..Restored::default() })
        };
        let Some(folder) = &run.folder else { return fresh(shards) };
        std::fs::create_dir_all(folder).map_err(CoreError::io("create", folder))?;

        // A run that ended before its first checkpoint has metrics all the same. Neither is written over unless the
        // caller resumes.
        let newest = Checkpoint::list(folder)?.pop();
        let started = newest.is_some() || folder.join("metrics.jsonl").exists();
        if started && !run.resume {
            return Err(TrainError::RunExists { folder: folder.clone() });
        }

        match newest {
            None => fresh(shards),
            Some(checkpoint) => {
                // Moments and gradients are no part of a graph.
                let inner = device.clone().without_autodiff();
                let restored = checkpoint.restore(model, n_examples, &self.config, shards, &inner)?;
                tracing::info!(step = checkpoint.step(), "resumed");
                Ok(restored)
            }
        }
    }
}
