use std::sync::mpsc::SyncSender;

use crate::micro_batches::micro_batches;
use crate::{BatchOrder, BatchSource, Replicas, TrainConfig, TrainError};

/// One member's micro-batches of one optimizer step.
pub(crate) struct Window<B> {
    /// All rows of the step, also those of the other members.
    pub(crate) rows: Vec<usize>,
    pub(crate) batches: Vec<Pass<B>>,
}

/// One forward and backward pass: its batch, and the rows that are in it.
pub(crate) struct Pass<B> {
    pub(crate) rows: Vec<usize>,
    pub(crate) batch: B,
}

/// Makes windows ahead of the training steps, and ends when nobody listens any more.
pub(crate) fn feed<S: BatchSource>(
    source: &S,
    order: &BatchOrder,
    steps: std::ops::Range<usize>,
    config: &TrainConfig,
    replicas: &dyn Replicas,
    sender: &SyncSender<Result<Window<S::Batch>, TrainError>>,
) {
    let mut shuffled = None;
    for step in steps {
        let rows = order.rows_of(source, step, &mut shuffled).to_vec();
        let passes = micro_batches(&rows, source, config);
        let own = passes.iter().skip(replicas.rank()).step_by(replicas.size());
        let batches = own.map(|rows| Ok(Pass { rows: rows.clone(), batch: source.batch(rows)? })).collect();
        let window = Result::map(batches, |batches| Window { rows, batches });
        let failed = window.is_err();
        if sender.send(window).is_err() || failed {
            return;
        }
    }
}
