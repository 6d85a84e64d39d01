//! What stays the same through a run.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{BatchOrder, Collective, TrainConfig, TrainError};

/// Settings, examples, ranks and the folder of a run.
pub(crate) struct RunContext<'a, S> {
    pub(crate) config: &'a TrainConfig,
    pub(crate) source: &'a S,
    pub(crate) n_examples: usize,
    pub(crate) order: BatchOrder,
    /// Steps of the whole run.
    pub(crate) total: usize,
    /// Where rank 0 writes, and the others where the optimizer's state is divided; `None` writes nothing.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) collective: &'a dyn Collective,
    pub(crate) stop: Option<&'a AtomicBool>,
}

impl<S> RunContext<'_, S> {
    /// Whether any rank was asked to stop: all of them know after the same step.
    pub(super) fn any_stopped(&self, cancelled: bool) -> Result<bool, TrainError> {
        let mut votes = [f64::from(u8::from(cancelled || self.stop_requested()))];
        self.collective.all_reduce_sum_f64(&mut votes)?;
        Ok(votes[0] > 0.0)
    }

    pub(super) fn stop_requested(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }
}
