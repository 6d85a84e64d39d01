use std::sync::mpsc::SyncSender;

use crate::micro_batches::micro_batches;
use crate::{BatchOrder, BatchSource, Collective, TrainConfig, TrainError};

/// One process's micro-batches of one optimizer step.
pub(crate) struct StepBatches<B> {
    /// All examples of the step, also those of the other processes.
    pub(crate) examples: Vec<usize>,
    pub(crate) batches: Vec<MicroBatch<B>>,
}

/// One forward and backward pass: its batch, and the examples that are in it.
pub(crate) struct MicroBatch<B> {
    pub(crate) examples: Vec<usize>,
    pub(crate) batch: B,
}

/// Makes each step's batches ahead of the training loop, and ends when nobody receives any more.
pub(crate) fn feed<S: BatchSource>(
    source: &S,
    order: &BatchOrder,
    steps: std::ops::Range<usize>,
    config: &TrainConfig,
    collective: &dyn Collective,
    sender: &SyncSender<Result<StepBatches<S::Batch>, TrainError>>,
) {
    let mut shuffled = None;
    for step in steps {
        let examples = order.examples_of(source, step, &mut shuffled).to_vec();

        // Each rank splits the whole step and takes every `size`-th pass: the split is the same on all, and needs no
        // message.
        let passes = micro_batches(&examples, source, config);
        let own = passes.iter().skip(collective.rank()).step_by(collective.size());
        let batches =
            own.map(|examples| Ok(MicroBatch { examples: examples.clone(), batch: source.batch(examples)? })).collect();

        // The loop must hear of a failure, and nothing can be trained after it. Where the receiver is gone, the loop
        // has ended.
        let step_batches = Result::map(batches, |batches| StepBatches { examples, batches });
        let failed = step_batches.is_err();
        if sender.send(step_batches).is_err() || failed {
            return;
        }
    }
}
