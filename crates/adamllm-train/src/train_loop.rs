//! The loop over optimizer steps.
//!
//! | module | its part |
//! |---|---|
//! | [`context`] | what stays the same through a run; whether it was asked to stop |
//! | [`passes`] | the forward and backward passes of a step |
//! | [`sums`] | what the ranks add up: sizes, losses, gradients |
//! | [`quarantine`] | the examples that make a step not finite |
//! | [`step_log`] | files, log and progress |

mod context;
mod passes;
mod quarantine;
mod step_log;
mod sums;

use std::sync::mpsc::Receiver;
use std::time::Instant;

use adamllm_core::Progress;
use adamllm_nn::Objective;
use burn::optim::GradientsParams;

pub(crate) use self::context::RunContext;
pub(crate) use self::passes::{PartialStep, StepProgress};
pub(crate) use self::step_log::StepLog;
use crate::checkpoint::RunState;
use crate::collective::all_ok;
use crate::metrics::peak_bytes;
use crate::optimizer::NamedOptimizer;
use crate::step_batches::{MicroBatch, StepBatches};
use crate::trainable::Unreached;
use crate::validation::{ValidationLog, validation_loss};
use crate::{
    BatchSource, Checkpoint, FitOutcome, FitReport, NonFinite, StepMetrics, TrainConfig, TrainError, Validation,
};

/// What the steps of a run change.
pub(crate) struct TrainLoop<'a, M, S> {
    pub(crate) context: RunContext<'a, S>,
    /// `None` only while it is updated. The caller's, who keeps it where a step fails.
    pub(crate) model: &'a mut Option<M>,
    pub(crate) optimizer: NamedOptimizer,
    /// What a resumed run has done of its first step.
    pub(crate) partial: Option<PartialStep>,
    pub(crate) unreached: Unreached,
}

/// How a step ended.
enum Stepped {
    Made(Box<StepMetrics>),
    /// Stopped in the middle; what was done is saved.
    Interrupted,
}

impl<M: Objective + 'static, S: BatchSource<Batch = M::Batch>> TrainLoop<'_, M, S> {
    pub(crate) fn run<V: BatchSource<Batch = M::Batch>>(
        mut self,
        start: usize,
        step_batches: &Receiver<Result<StepBatches<M::Batch>, TrainError>>,
        mut validation: Option<(Validation<V>, ValidationLog)>,
        mut log: StepLog,
        mut on_step: Option<&mut dyn FnMut(&StepMetrics)>,
        progress: &mut dyn Progress,
    ) -> Result<FitReport, TrainError> {
        let mut report =
            FitReport { outcome: FitOutcome::Finished, steps: start, metrics: Vec::new(), validation: Vec::new() };
        for (step, batches) in (start..self.context.total).zip(step_batches) {
            // Any rank may fail to read or to write. All must know, or the others would wait for it in the next sum.
            let batches = all_ok(self.context.collective, batches)?;
            let Stepped::Made(metrics) = self.step(step, batches)? else {
                report.outcome = FitOutcome::Stopped;
                break;
            };
            report.steps = step + 1;

            all_ok(self.context.collective, log.push(&metrics, progress))?;
            if let Some(on_step) = &mut on_step {
                on_step(&metrics);
            }

            report.metrics.push(*metrics);
            report.outcome = self.after(report.steps, validation.as_mut(), progress.is_cancelled())?;
            if report.outcome != FitOutcome::Finished {
                break;
            }
        }

        self.unreached.warn();
        report.validation = validation.map(|(_, log)| log.into_entries()).unwrap_or_default();
        Ok(report)
    }

    /// What is due after step `steps`: checkpoints, an evaluation, the end. `Finished` goes on while there are steps.
    fn after<V: BatchSource<Batch = M::Batch>>(
        &self,
        steps: usize,
        validation: Option<&mut (Validation<V>, ValidationLog)>,
        cancelled: bool,
    ) -> Result<FitOutcome, TrainError> {
        let stopped = self.context.any_stopped(cancelled)?;
        let last = steps == self.context.total;
        let mut outcome = if stopped && !last { FitOutcome::Stopped } else { FitOutcome::Finished };

        // Before the checkpoint: a run that is killed in between evaluates again, and none is left out.
        if let Some((validation, log)) = validation
            && (last || steps.is_multiple_of(validation.every.max(1)))
        {
            let pushed = log.push(steps, validation_loss(self.model(), validation, self.context.collective)?);
            let found = all_ok(self.context.collective, pushed)?;
            tracing::info!(step = found.step, loss = found.loss, best = found.best, "evaluated");
            if found.best {
                self.save("best", steps, 1, None)?;
            }
            if validation.patience.is_some_and(|patience| log.since_best() >= patience) && !last {
                outcome = FitOutcome::EarlyStopped;
            }
        }

        let TrainConfig { save_every, keep_last, .. } = *self.context.config;
        let due = save_every.is_some_and(|every| steps.is_multiple_of(every));
        if due || last || outcome != FitOutcome::Finished {
            self.save("", steps, keep_last, None)?;
        }
        Ok(outcome)
    }

    /// A checkpoint, which rank 0 writes, with the others' parts of the optimizer's state; no rank goes on before it is whole.
    fn save(&self, below: &str, step: usize, keep: usize, partial: Option<PartialStep>) -> Result<(), TrainError> {
        let RunContext { collective, config, n_examples, ref folder, .. } = self.context;
        let (model, optimizer) = (self.model(), &self.optimizer);
        // Joined with an empty path, a folder's would end in a separator.
        let folder = folder.as_ref().map(|folder| if below.is_empty() { folder.clone() } else { folder.join(below) });
        let state = RunState { step, n_examples, model, optimizer, config, partial };
        Checkpoint::write(folder.as_deref(), state, keep, collective)
    }

    fn step(&mut self, step: usize, batches: StepBatches<M::Batch>) -> Result<Stepped, TrainError> {
        let started = Instant::now();
        let config = self.context.config;
        let mut metrics = self.context.counted(step, &batches.batches)?;
        if metrics.targets == 0 {
            return Err(TrainError::NoTargets { step: step + 1, examples: batches.examples });
        }
        let factor = config.schedule.factor(step, self.context.total);
        metrics.lr = config.learning_rate * factor;

        let partial = self.partial.take().unwrap_or_default();
        let passed = self.context.forward_backward(self.model(), step, &batches.batches, metrics.targets, partial);
        let (partial, whole) = all_ok(self.context.collective, passed)?;
        if !whole {
            self.save("", step, config.keep_last, Some(partial))?;
            return Ok(Stepped::Interrupted);
        }

        let mut gradients = self.context.joined(self.model(), partial, &mut metrics)?;
        self.check_gradients(step, &batches.batches, &gradients)?;
        if !metrics.is_finite()
            && config.non_finite == NonFinite::Quarantine
            && let Some(rest) = self.context.without_faulty_examples(self.model(), &batches.examples, &metrics)?
        {
            metrics = StepMetrics { lr: metrics.lr, ..self.context.counted(step, &rest)? };
            let fresh = PartialStep::default();
            let (partial, _) = self.context.forward_backward(self.model(), step, &rest, metrics.targets, fresh)?;
            gradients = self.context.joined(self.model(), partial, &mut metrics)?;
        }

        if metrics.is_finite() {
            self.update(gradients, metrics.grad_norm, factor)?;
        } else {
            self.not_finite(&mut metrics, batches.examples)?;
        }

        metrics.step_s = started.elapsed().as_secs_f64();
        metrics.peak_bytes = peak_bytes();
        tracing::debug!(step = metrics.step, loss = metrics.loss, lr = metrics.lr, "step");
        Ok(Stepped::Made(Box::new(metrics)))
    }

    /// Clips the gradients to the settings' global norm, and moves the parameters: all of them, or this rank's.
    fn update(&mut self, gradients: GradientsParams, norm: f64, factor: f64) -> Result<(), TrainError> {
        let scale = match self.context.config.max_gradient_norm {
            // torch's clip_grad_norm_ adds 1e-6 and never scales up.
            Some(max) => (max / (norm + 1e-6)).min(1.0),
            None => 1.0,
        };
        // Taken out, so that no second handle keeps the update from being made in place.
        let model = self.model.take().expect("a model between steps");
        let model = self.optimizer.step(model, gradients, self.context.config, factor, scale);
        *self.model = Some(self.optimizer.shards.exchange(model, self.context.collective)?);
        Ok(())
    }

    /// What should be trained must have a gradient where the step's batches use it.
    fn check_gradients(
        &mut self,
        step: usize,
        passes: &[MicroBatch<M::Batch>],
        gradients: &GradientsParams,
    ) -> Result<(), TrainError> {
        let model = self.model.as_ref().expect("a model between steps");
        let batches = passes.iter().map(|pass| &pass.batch);
        let RunContext { config, collective, .. } = self.context;
        self.unreached.check(step + 1, model, gradients, batches, config, collective)
    }

    fn model(&self) -> &M {
        self.model.as_ref().expect("a model between steps")
    }

    fn not_finite(&self, metrics: &mut StepMetrics, examples: Vec<usize>) -> Result<(), TrainError> {
        let StepMetrics { step, loss, grad_norm: gradient_norm, .. } = *metrics;
        match self.context.config.non_finite {
            NonFinite::Stop | NonFinite::Quarantine => {
                Err(TrainError::NonFinite { step, loss, gradient_norm, examples })
            }
            NonFinite::SkipStep => {
                tracing::warn!(step, loss, gradient_norm, ?examples, "step skipped: not finite");
                metrics.skipped = true;
                // JSON has no NaN.
                (metrics.loss, metrics.grad_norm) = (0.0, 0.0);
                metrics.losses.clear();
                Ok(())
            }
        }
    }
}
