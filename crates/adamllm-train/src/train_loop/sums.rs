//! What the ranks of a run add up: the sizes of a step, its losses and its gradients.

use std::collections::BTreeMap;

use adamllm_nn::{Batch, Objective};
use burn::optim::GradientsParams;

use super::{PartialStep, RunContext};
use crate::optimizer::{all_reduce_gradients, global_norm};
use crate::step_batches::MicroBatch;
use crate::{GroupLoss, StepMetrics, TrainError};

impl<S> RunContext<'_, S> {
    /// The sizes of a step, those of the other processes included.
    pub(super) fn counted<B: Batch>(&self, step: usize, passes: &[MicroBatch<B>]) -> Result<StepMetrics, TrainError> {
        let sum = |of: fn(&B) -> usize| passes.iter().map(|pass| of(&pass.batch)).sum::<usize>() as f64;
        let mut counts = [sum(Batch::n_targets), sum(Batch::n_tokens), sum(Batch::n_images)];
        self.collective.all_reduce_sum_f64(&mut counts)?;
        let [targets, tokens, images] = counts.map(|count| count as usize);
        Ok(StepMetrics::sized(step + 1, self.order.epoch(step), [targets, tokens, images]))
    }

    /// The gradients of all processes together; their loss and norm go into `metrics`.
    pub(super) fn joined<M: Objective>(
        &self,
        model: &M,
        partial: PartialStep,
        metrics: &mut StepMetrics,
    ) -> Result<GradientsParams, TrainError> {
        let PartialStep { done, gradients } = partial;
        let mut loss = [done.loss];
        self.collective.all_reduce_sum_f64(&mut loss)?;
        metrics.loss = loss[0];
        metrics.losses = self.joined_losses(done.losses)?;
        metrics.losses.values_mut().for_each(|group| group.loss /= group.targets as f64);
        let gradients = all_reduce_gradients(model, gradients.take(), self.config.gradients, self.collective)?;
        // Rank 0's: another machine may add the squares up in another order, and all must scale alike.
        let mut norm = [if self.collective.rank() == 0 { global_norm(model, &gradients) } else { 0.0 }];
        self.collective.all_reduce_sum_f64(&mut norm)?;
        metrics.grad_norm = norm[0];
        Ok(gradients)
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
}
