//! The forward and backward passes of a step.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use adamllm_core::random::named_stream;
use adamllm_nn::{Batch, Objective, with_dropout};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::RunContext;
use crate::backward::differentiate;
use crate::optimizer::Accumulated;
use crate::step_batches::MicroBatch;
use crate::{GroupLoss, LossNormalization, TrainError};

/// Progress within a step that is not finished.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepProgress {
    /// Forward and backward passes.
    pub(crate) passes: usize,
    /// The sum of the targets' losses, each times its share of the step.
    pub(super) loss: f64,
    /// Sums for each group of targets.
    pub(super) losses: BTreeMap<String, GroupLoss>,
}

impl StepProgress {
    /// Adds a pass with the losses of its targets.
    fn add<B: Batch>(&mut self, losses: &[f32], batch: &B, share: f64) {
        self.passes += 1;
        self.loss += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() * share;
        for (loss, &group) in losses.iter().zip(batch.target_groups()) {
            let sum = self.losses.entry(batch.groups()[usize::from(group)].clone()).or_default();
            sum.loss += f64::from(*loss);
            sum.targets += 1;
        }
    }
}

/// A step that is not finished: its progress, and its gradients so far.
#[derive(Default)]
pub(crate) struct PartialStep {
    pub(crate) done: StepProgress,
    pub(crate) gradients: Accumulated,
}

impl<S> RunContext<'_, S> {
    /// Forward and backward through the batches after those that are done, and whether it came to the last one. Each batch's loss
    /// is divided by the targets of the whole step (or its own, as the configuration says). One after the other: burn's graphs
    /// of two threads that share parameters consume each other's steps.
    pub(super) fn forward_backward<M: Objective>(
        &self,
        model: &M,
        step: usize,
        passes: &[MicroBatch<M::Batch>],
        n_targets: usize,
        mut partial: PartialStep,
    ) -> Result<(PartialStep, bool), TrainError> {
        // A pass without targets has no loss.
        let passes: Vec<_> = passes.iter().filter(|pass| pass.batch.n_targets() > 0).collect();
        let mut n_passes = [passes.len() as f64];
        if self.config.loss_normalization == LossNormalization::MicroBatch {
            self.collective.all_reduce_sum_f64(&mut n_passes)?;
        }

        let done = partial.done.passes;
        for (i, pass) in passes.into_iter().enumerate().skip(done) {
            // Several ranks could not agree on it here.
            if i > done && self.collective.size() == 1 && self.stop_requested() {
                return Ok((partial, false));
            }

            let share = match self.config.loss_normalization {
                LossNormalization::Step => 1.0 / n_targets.max(1) as f64,
                LossNormalization::MicroBatch => 1.0 / (pass.batch.n_targets() as f64 * n_passes[0]),
            };
            let losses = self.differentiated(model, step, pass, share, &mut partial.gradients)?;
            partial.done.add(&losses, &pass.batch, share);
        }
        Ok((partial, true))
    }

    /// As [`differentiate`]; a backend that fails, such as a GPU without memory, is an error that names the pass.
    fn differentiated<M: Objective>(
        &self,
        model: &M,
        step: usize,
        MicroBatch { examples, batch }: &MicroBatch<M::Batch>,
        share: f64,
        gradients: &mut Accumulated,
    ) -> Result<Vec<f32>, TrainError> {
        // Of the run's seed, the step and the examples alone, so that a resumed run drops the same.
        let seed = dropout_seed(self.config.seed, step, examples);
        let pass = || with_dropout(seed, || differentiate(model, batch, share, self.config, gradients));

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
                examples: examples.clone(),
                tokens: batch.n_tokens(),
                targets: batch.n_targets(),
                images: batch.n_images(),
                detail: text.to_owned(),
            }
        })
    }
}

/// What a pass's dropout is drawn from: the same after a resume, and whatever the number of ranks.
pub(super) fn dropout_seed(seed: u64, step: usize, examples: &[usize]) -> u64 {
    named_stream(seed, "dropout", &format!("{step}/{examples:?}")).next_u64()
}
