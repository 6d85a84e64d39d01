//! Where a run's steps are written: its files, the log, the progress.

use std::path::Path;

use adamllm_core::Progress;

use crate::collective::all_ok;
use crate::metrics::MetricsFile;
use crate::spikes::Spikes;
use crate::{Collective, StepMetrics, TrainError};

/// Writes each step to `metrics.jsonl` and the event file, where the run has a folder, and warns of a loss that stands out.
pub(crate) struct StepLog {
    file: Option<MetricsFile>,
    spikes: Spikes,
    /// Every so many steps, and the last one.
    every: usize,
    total: usize,
}

impl StepLog {
    /// Opens the files in `folder`; what they hold of steps after `step` belongs to work that was lost, and is removed.
    ///
    /// # Errors
    /// Those of the files, on any rank.
    pub(crate) fn open(
        folder: Option<&Path>,
        step: usize,
        [every, total]: [usize; 2],
        collective: &dyn Collective,
    ) -> Result<Self, TrainError> {
        let opened = folder.map(|folder| MetricsFile::open(folder, step)).transpose();
        Ok(Self { file: all_ok(collective, opened)?, spikes: Spikes::default(), every, total })
    }

    pub(super) fn push(&mut self, metrics: &StepMetrics, progress: &mut dyn Progress) -> Result<(), TrainError> {
        if let Some(mean) = self.spikes.observe(metrics.loss).filter(|_| !metrics.skipped) {
            let StepMetrics { step, loss, .. } = metrics;
            tracing::warn!(step, loss, mean, "the loss stands out from the last ones");
        }

        let due = metrics.step.is_multiple_of(self.every) || metrics.step == self.total;
        if let Some(file) = self.file.as_mut().filter(|_| due) {
            file.push(metrics)?;
        }

        progress.note(&metrics.line());
        progress.advance(1);
        Ok(())
    }
}
