//! The loop over optimizer steps.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use adamllm_core::Progress;
use adamllm_core::jsonl::Appender;
use adamllm_core::random::named_stream;
use adamllm_nn::{Batch, Objective, with_dropout};
use burn::optim::GradientsParams;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::backward::differentiate;
use crate::checkpoint::RunState;
use crate::collective::all_ok;
use crate::metrics::{MetricsFile, peak_bytes};
use crate::micro_batches::micro_batches;
use crate::optimizer::{Accumulated, NamedOptimizer, all_reduce_gradients, global_norm};
use crate::spikes::Spikes;
use crate::step_batches::{MicroBatch, StepBatches};
use crate::trainable::Unreached;
use crate::validation::{ValidationLog, validation_loss};
use crate::{
    BatchOrder, BatchSource, Checkpoint, Collective, FitOutcome, FitReport, GroupLoss, LossNormalization, NonFinite,
    StepMetrics, TrainConfig, TrainError, Validation,
};

/// An example that was left out of a step.
#[derive(Serialize)]
struct Quarantined {
    step: usize,
    example: usize,
}

/// Progress within a step that is not finished.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepProgress {
    /// Forward and backward passes.
    pub(crate) passes: usize,
    loss: f64,
    losses: BTreeMap<String, GroupLoss>,
}

/// A step that is not finished: its progress, and its gradients so far.
#[derive(Default)]
pub(crate) struct PartialStep {
    pub(crate) done: StepProgress,
    pub(crate) gradients: Accumulated,
}

pub(crate) struct TrainLoop<'a, M, S> {
    pub(crate) config: &'a TrainConfig,
    /// `None` only while it is updated.
    pub(crate) model: Option<M>,
    pub(crate) optimizer: NamedOptimizer,
    pub(crate) order: BatchOrder,
    pub(crate) total: usize,
    pub(crate) n_examples: usize,
    /// Where this process writes; `None` writes nothing.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) metrics_file: Option<MetricsFile>,
    pub(crate) source: &'a S,
    pub(crate) collective: &'a dyn Collective,
    pub(crate) stop: Option<&'a AtomicBool>,
    /// What a resumed run has done of its first step.
    pub(crate) partial: Option<PartialStep>,
    pub(crate) spikes: Spikes,
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
        validation: Option<Validation<V>>,
        mut validation_log: ValidationLog,
        mut on_step: Option<&mut dyn FnMut(&StepMetrics)>,
        progress: &mut dyn Progress,
    ) -> Result<(M, FitReport), TrainError> {
        let mut report =
            FitReport { outcome: FitOutcome::Finished, steps: start, metrics: Vec::new(), validation: Vec::new() };
        for (step, batches) in (start..self.total).zip(step_batches) {
            // Any rank may fail to read or to write. All must know, or the others would wait for it in the next sum.
            let batches = all_ok(self.collective, batches)?;
            let Stepped::Made(metrics) = self.step(step, batches)? else {
                report.outcome = FitOutcome::Stopped;
                break;
            };
            report.steps = step + 1;

            let noted = self.note(&metrics, progress);
            all_ok(self.collective, noted)?;
            if let Some(on_step) = &mut on_step {
                on_step(&metrics);
            }

            report.metrics.push(*metrics);
            report.outcome =
                self.after(report.steps, validation.as_ref(), &mut validation_log, progress.is_cancelled())?;
            if report.outcome != FitOutcome::Finished {
                break;
            }
        }

        self.unreached.warn();
        report.validation = validation_log.into_entries();
        Ok((self.model.expect("a model between steps"), report))
    }

    /// Logs a step.
    fn note(&mut self, metrics: &StepMetrics, progress: &mut dyn Progress) -> Result<(), TrainError> {
        if let Some(mean) = self.spikes.observe(metrics.loss).filter(|_| !metrics.skipped) {
            let StepMetrics { step, loss, .. } = metrics;
            tracing::warn!(step, loss, mean, "the loss stands out from the last ones");
        }
        let logged = metrics.step.is_multiple_of(self.config.log_every) || metrics.step == self.total;
        if let Some(file) = self.metrics_file.as_mut().filter(|_| logged) {
            file.push(metrics)?;
        }
        progress.note(&metrics.line());
        progress.advance(1);
        Ok(())
    }

    /// What is due after step `steps`: checkpoints, an evaluation, the end. `Finished` goes on while there are steps.
    fn after<V: BatchSource<Batch = M::Batch>>(
        &mut self,
        steps: usize,
        validation: Option<&Validation<V>>,
        validation_log: &mut ValidationLog,
        cancelled: bool,
    ) -> Result<FitOutcome, TrainError> {
        let stopped = self.stopped(cancelled)?;
        let last = steps == self.total;
        let mut outcome = if stopped && !last { FitOutcome::Stopped } else { FitOutcome::Finished };
        // Before the checkpoint: a run that is killed in between evaluates again, and none is left out.
        let evaluated = |v: &&Validation<V>| last || steps.is_multiple_of(v.every.max(1));
        if let Some(validation) = validation.filter(evaluated) {
            let pushed = validation_log.push(steps, validation_loss(self.model(), validation, self.collective)?);
            let found = all_ok(self.collective, pushed)?;
            tracing::info!(step = found.step, loss = found.loss, best = found.best, "evaluated");
            if found.best {
                self.save("best", steps, 1, None)?;
            }
            if validation.patience.is_some_and(|patience| validation_log.since_best() >= patience) && !last {
                outcome = FitOutcome::EarlyStopped;
            }
        }
        let due = self.config.save_every.is_some_and(|every| steps.is_multiple_of(every));
        if due || last || outcome != FitOutcome::Finished {
            self.save("", steps, self.config.keep_last, None)?;
        }
        Ok(outcome)
    }

    /// Whether any rank was asked to stop: all of them know after the same step.
    fn stopped(&self, cancelled: bool) -> Result<bool, TrainError> {
        let mut votes = [f64::from(u8::from(cancelled || self.stop_requested()))];
        self.collective.all_reduce_sum_f64(&mut votes)?;
        Ok(votes[0] > 0.0)
    }

    fn stop_requested(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// A checkpoint, which rank 0 writes; no rank goes on before it is whole.
    fn save(&self, below: &str, step: usize, keep: usize, partial: Option<PartialStep>) -> Result<(), TrainError> {
        all_ok(self.collective, self.write(below, step, keep, partial))
    }

    fn write(&self, below: &str, step: usize, keep: usize, partial: Option<PartialStep>) -> Result<(), TrainError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let folder = if below.is_empty() { folder.clone() } else { folder.join(below) };
        let (model, optimizer, config) = (self.model(), &self.optimizer, self.config);
        Checkpoint::write(&folder, RunState { step, n_examples: self.n_examples, model, optimizer, config, partial })?;
        Checkpoint::prune(&folder, keep)
    }

    fn step(&mut self, step: usize, batches: StepBatches<M::Batch>) -> Result<Stepped, TrainError> {
        let started = Instant::now();
        let mut metrics = self.counted(step, &batches.batches)?;
        if metrics.targets == 0 {
            return Err(TrainError::NoTargets { step: step + 1, examples: batches.examples });
        }
        let factor = self.config.schedule.factor(step, self.total);
        metrics.lr = self.config.learning_rate * factor;
        let partial = self.partial.take().unwrap_or_default();
        let passed = self.forward_backward(step, &batches.batches, metrics.targets, partial);
        let (partial, whole) = all_ok(self.collective, passed)?;
        if !whole {
            self.save("", step, self.config.keep_last, Some(partial))?;
            return Ok(Stepped::Interrupted);
        }
        let mut gradients = self.joined(partial, &mut metrics)?;
        self.check_gradients(step, &batches.batches, &gradients)?;
        if !metrics.is_finite()
            && self.config.non_finite == NonFinite::Quarantine
            && let Some(rest) = self.without_faulty_examples(&batches.examples, &metrics)?
        {
            metrics = StepMetrics { lr: metrics.lr, ..self.counted(step, &rest)? };
            let (partial, _) = self.forward_backward(step, &rest, metrics.targets, PartialStep::default())?;
            gradients = self.joined(partial, &mut metrics)?;
        }
        if metrics.is_finite() {
            let scale = match self.config.max_gradient_norm {
                // torch's clip_grad_norm_ adds 1e-6 and never scales up.
                Some(max) => (max / (metrics.grad_norm + 1e-6)).min(1.0),
                None => 1.0,
            };
            // Taken out, so that no second handle keeps the update from being made in place.
            let model = self.model.take().expect("a model between steps");
            self.model = Some(self.optimizer.step(model, gradients, self.config, factor, scale));
        } else {
            self.not_finite(&mut metrics, batches.examples)?;
        }
        metrics.step_s = started.elapsed().as_secs_f64();
        metrics.peak_bytes = peak_bytes();
        tracing::debug!(step = metrics.step, loss = metrics.loss, lr = metrics.lr, "step");
        Ok(Stepped::Made(Box::new(metrics)))
    }

    /// The sizes of a step, those of the other processes included.
    fn counted(&self, step: usize, passes: &[MicroBatch<M::Batch>]) -> Result<StepMetrics, TrainError> {
        let sum = |of: fn(&M::Batch) -> usize| passes.iter().map(|pass| of(&pass.batch)).sum::<usize>() as f64;
        let mut counts = [sum(Batch::n_targets), sum(Batch::n_tokens), sum(Batch::n_images)];
        self.collective.all_reduce_sum_f64(&mut counts)?;
        let [targets, tokens, images] = counts.map(|count| count as usize);
        Ok(StepMetrics::sized(step + 1, self.order.epoch(step), [targets, tokens, images]))
    }

    /// Forward and backward through the batches after those that are done, and whether it came to the last one. Each batch's loss
    /// is divided by the targets of the whole step (or its own, as the configuration says). One after the other: burn's graphs
    /// of two threads that share parameters consume each other's steps.
    fn forward_backward(
        &self,
        step: usize,
        passes: &[MicroBatch<M::Batch>],
        n_targets: usize,
        mut partial: PartialStep,
    ) -> Result<(PartialStep, bool), TrainError> {
        let passes: Vec<_> = passes.iter().filter(|pass| pass.batch.n_targets() > 0).collect();
        let mut n_passes = [passes.len() as f64];
        if self.config.loss_normalization == LossNormalization::MicroBatch {
            self.collective.all_reduce_sum_f64(&mut n_passes)?;
        }
        let done = partial.done.passes;
        for (i, MicroBatch { examples, batch }) in passes.into_iter().enumerate().skip(done) {
            // Several ranks could not agree on it here.
            if i > done && self.collective.size() == 1 && self.stop_requested() {
                return Ok((partial, false));
            }
            let share = match self.config.loss_normalization {
                LossNormalization::Step => 1.0 / n_targets.max(1) as f64,
                LossNormalization::MicroBatch => 1.0 / (batch.n_targets() as f64 * n_passes[0]),
            };
            let losses = self.differentiated(step, examples, batch, share, &mut partial.gradients)?;
            partial.done.passes += 1;
            partial.done.loss += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() * share;
            for (loss, &group) in losses.iter().zip(batch.target_groups()) {
                let sum = partial.done.losses.entry(batch.groups()[usize::from(group)].clone()).or_default();
                sum.loss += f64::from(*loss);
                sum.targets += 1;
            }
        }
        Ok((partial, true))
    }

    /// As [`differentiate`]; a backend that fails, such as a GPU without memory, is an error that names the pass.
    fn differentiated(
        &self,
        step: usize,
        examples: &[usize],
        batch: &M::Batch,
        share: f64,
        gradients: &mut Accumulated,
    ) -> Result<Vec<f32>, TrainError> {
        // Of the run's seed, the step and the examples alone, so that a resumed run drops the same.
        let seed = dropout_seed(self.config.seed, step, examples);
        let pass = || with_dropout(seed, || differentiate(self.model(), batch, share, self.config, gradients));

        // Unwind-safe: the error ends the run, so nobody reads gradients to which only a part was added.
        let pass = AssertUnwindSafe(pass);
        catch_unwind(pass).map_err(|panic| {
            // A panic's message is a `String` where it was formatted, a `&str` where it is a literal.
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("the backend failed without a message");
            TrainError::Backend {
                step: step + 1,
                examples: examples.to_vec(),
                tokens: batch.n_tokens(),
                targets: batch.n_targets(),
                images: batch.n_images(),
                detail: text.to_owned(),
            }
        })
    }

    /// The gradients of all processes together; their loss and norm go into `metrics`.
    fn joined(&self, partial: PartialStep, metrics: &mut StepMetrics) -> Result<GradientsParams, TrainError> {
        let PartialStep { done, gradients } = partial;
        let mut loss = [done.loss];
        self.collective.all_reduce_sum_f64(&mut loss)?;
        metrics.loss = loss[0];
        metrics.losses = self.joined_losses(done.losses)?;
        metrics.losses.values_mut().for_each(|group| group.loss /= group.targets as f64);
        let gradients = all_reduce_gradients(self.model(), gradients.take(), self.collective)?;
        // Rank 0's: another machine may add the squares up in another order, and all must scale alike.
        let mut norm = [if self.collective.rank() == 0 { global_norm(self.model(), &gradients) } else { 0.0 }];
        self.collective.all_reduce_sum_f64(&mut norm)?;
        metrics.grad_norm = norm[0];
        Ok(gradients)
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
        self.unreached.check(step + 1, model, gradients, batches, self.config, self.collective)
    }

    /// The sums of all processes, for the groups that any of them had a target of.
    fn joined_losses(&self, own: BTreeMap<String, GroupLoss>) -> Result<BTreeMap<String, GroupLoss>, TrainError> {
        if self.collective.size() == 1 {
            return Ok(own);
        }
        let names: Vec<&String> = own.keys().collect();
        let mut joined: BTreeMap<String, GroupLoss> = BTreeMap::new();
        for theirs in self.collective.all_gather(&serde_json::to_vec(&names).expect("names are text"))? {
            let theirs: Vec<String> = serde_json::from_slice(&theirs).expect("names as they were written");
            joined.extend(theirs.into_iter().map(|name| (name, GroupLoss::default())));
        }
        let of_own = |name| own.get(name).copied().unwrap_or_default();
        let mut sums: Vec<f64> =
            joined.keys().map(of_own).flat_map(|group| [group.loss, group.targets as f64]).collect();
        self.collective.all_reduce_sum_f64(&mut sums)?;
        for (group, sums) in joined.values_mut().zip(sums.chunks_exact(2)) {
            *group = GroupLoss { loss: sums[0], targets: sums[1] as usize };
        }
        Ok(joined)
    }

    fn model(&self) -> &M {
        self.model.as_ref().expect("a model between steps")
    }

    /// The step's batches again without the examples that are not finite by themselves, which are written to
    /// `quarantine.jsonl`. `None` where no example is, or where nothing is left.
    fn without_faulty_examples(
        &self,
        examples: &[usize],
        metrics: &StepMetrics,
    ) -> Result<Option<Vec<MicroBatch<M::Batch>>>, TrainError> {
        let (mut kept, mut faulty) = (Vec::new(), Vec::new());

        // Each example by itself, since one without finite values makes the sums of its whole batch not finite. One
        // without targets adds nothing to the loss.
        for &example in examples {
            let batch = self.source.batch(&[example])?;
            let share = 1.0 / batch.n_targets().max(1) as f64;
            let mut own = Accumulated::default();
            let losses = match batch.n_targets() {
                0 => continue,
                // `metrics` counts steps from 1, dropout's seed from 0.
                _ => with_dropout(dropout_seed(self.config.seed, metrics.step - 1, &[example]), || {
                    differentiate(self.model(), &batch, share, self.config, &mut own)
                }),
            };

            // A finite loss may still have gradients that are not.
            let finite = losses.iter().all(|loss| loss.is_finite());
            if finite && global_norm(self.model(), &own.take()).is_finite() {
                kept.push(example);
            } else {
                faulty.push(example);
            }
        }

        if faulty.is_empty() || kept.is_empty() {
            return Ok(None);
        }

        tracing::warn!(step = metrics.step, examples = ?faulty, "examples quarantined: not finite");
        if let Some(folder) = &self.folder {
            let quarantined: Vec<_> =
                faulty.iter().map(|example| Quarantined { step: metrics.step, example: *example }).collect();
            Appender::open(quarantine(folder))?.append(&quarantined)?;
        }

        let passes = micro_batches(&kept, self.source, self.config).into_iter();
        passes
            .map(|examples| Ok(MicroBatch { batch: self.source.batch(&examples)?, examples }))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn not_finite(&self, metrics: &mut StepMetrics, examples: Vec<usize>) -> Result<(), TrainError> {
        let StepMetrics { step, loss, grad_norm: gradient_norm, .. } = *metrics;
        match self.config.non_finite {
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

/// What a pass's dropout is drawn from: the same after a resume, and whatever the number of ranks.
fn dropout_seed(seed: u64, step: usize, examples: &[usize]) -> u64 {
    named_stream(seed, "dropout", &format!("{step}/{examples:?}")).next_u64()
}

fn quarantine(folder: &Path) -> PathBuf {
    folder.join("quarantine.jsonl")
}
