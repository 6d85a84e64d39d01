//! Examples that make a step not finite.

use adamllm_core::jsonl::Appender;
use adamllm_nn::{Batch, Objective, with_dropout};
use serde::Serialize;

use super::RunContext;
use super::passes::dropout_seed;
use crate::backward::differentiate;
use crate::micro_batches::micro_batches;
use crate::optimizer::{Accumulated, global_norm};
use crate::step_batches::MicroBatch;
use crate::{BatchSource, StepMetrics, TrainError};

/// An example that was left out of a step.
#[derive(Serialize)]
struct Quarantined {
    step: usize,
    example: usize,
}

impl<S> RunContext<'_, S> {
    /// The step's batches again without the examples that are not finite by themselves, which are written to
    /// `quarantine.jsonl`. `None` where no example is, or where nothing is left.
    pub(super) fn without_faulty_examples<M>(
        &self,
        model: &M,
        examples: &[usize],
        metrics: &StepMetrics,
    ) -> Result<Option<Vec<MicroBatch<M::Batch>>>, TrainError>
    where
        M: Objective,
        S: BatchSource<Batch = M::Batch>,
    {
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
                    differentiate(model, &batch, share, self.config, &mut own)
                }),
            };

            // A finite loss may still have gradients that are not.
            let finite = losses.iter().all(|loss| loss.is_finite());
            if finite && global_norm(model, &own.take()).is_finite() {
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
            Appender::open(folder.join("quarantine.jsonl"))?.append(&quarantined)?;
        }

        let passes = micro_batches(&kept, self.source, self.config).into_iter();
        passes
            .map(|examples| Ok(MicroBatch { batch: self.source.batch(&examples)?, examples }))
            .collect::<Result<_, _>>()
            .map(Some)
    }
}
