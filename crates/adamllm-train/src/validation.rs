use std::path::Path;

use adamllm_core::jsonl::{self, Appender};
use adamllm_nn::{Batch, Objective};
use serde::{Deserialize, Serialize};

use crate::collective::all_ok;
use crate::tensorboard::EventFile;
use crate::{BatchSource, Collective, TrainError};

/// Held-out examples that a run is evaluated on while it trains.
#[derive(Clone, Copy, Debug)]
pub struct Validation<'a, V> {
    /// The examples.
    pub source: &'a V,
    /// After every so many steps, and after the last.
    pub every: usize,
    /// Examples in one forward pass.
    pub batch_size: usize,
    /// Ends the run when so many evaluations in succession brought no better loss; `None` never ends it.
    pub patience: Option<usize>,
}

/// One evaluation, as `validation.jsonl` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ValidationMetrics {
    /// After this step.
    pub step: usize,
    /// The loss per target token, in nats.
    pub loss: f64,
    /// Whether it is the best so far.
    pub best: bool,
}

/// The evaluations of a run so far, kept in `validation.jsonl` and in an event file where there is a folder.
pub(crate) struct ValidationLog {
    done: Vec<ValidationMetrics>,
    files: Option<(Appender, EventFile)>,
}

impl ValidationLog {
    /// Reads those up to `step`; later ones belong to work that was lost with a killed run.
    pub(crate) fn open(folder: Option<&Path>, step: usize) -> Result<Self, TrainError> {
        let Some(folder) = folder else { return Ok(Self { done: Vec::new(), files: None }) };
        let path = folder.join("validation.jsonl");
        let mut done: Vec<ValidationMetrics> = Vec::new();
        if path.exists() {
            drop(Appender::open(&path)?);
            done = jsonl::read_all(&path)?;
            done.retain(|entry| entry.step <= step);
            jsonl::write(&path, &done)?;
        }
        // A run of its own for TensorBoard, which then draws both losses into one chart.
        let events = EventFile::open(&folder.join("tensorboard/validation"), step)?;
        Ok(Self { done, files: Some((Appender::open(&path)?, events)) })
    }

    /// Gives every process those that rank 0 has read.
    pub(crate) fn shared(self, collective: &dyn Collective) -> Result<Self, TrainError> {
        if collective.size() == 1 {
            return Ok(self);
        }
        let done = collective.broadcast(&serde_json::to_vec(&self.done).expect("plain values"))?;
        Ok(Self { done: serde_json::from_slice(&done).expect("entries as they were written"), ..self })
    }

    pub(crate) fn push(&mut self, step: usize, loss: f64) -> Result<&ValidationMetrics, TrainError> {
        let best = self.done.iter().all(|entry| loss < entry.loss);
        let entry = ValidationMetrics { step, loss, best };
        if let Some((file, events)) = &mut self.files {
            file.append([&entry])?;
            events.push(step, &[("loss".into(), loss)])?;
        }
        self.done.push(entry);
        Ok(&self.done[self.done.len() - 1])
    }

    /// Evaluations since the best one.
    pub(crate) fn since_best(&self) -> usize {
        self.done.iter().rev().take_while(|entry| !entry.best).count()
    }

    pub(crate) fn into_entries(self) -> Vec<ValidationMetrics> {
        self.done
    }
}

/// The loss per target over all examples, without a graph.
pub(crate) fn validation_loss<M, V>(
    model: &M,
    validation: &Validation<V>,
    collective: &dyn Collective,
) -> Result<f64, TrainError>
where
    M: Objective,
    V: BatchSource<Batch = M::Batch>,
{
    // Without a graph, and without dropout.
    let model = model.valid();
    let examples: Vec<usize> = (0..validation.source.n_examples()).collect();

    // Each rank takes every `size`-th batch. One without targets has no mean, but 0 in the sums.
    let own = examples.chunks(validation.batch_size.max(1)).skip(collective.rank()).step_by(collective.size());
    let own = own.map(|examples| {
        let batch = validation.source.batch(examples)?;
        Ok(match batch.n_targets() {
            0 => [0.0; 2],
            n => [f64::from(model.loss_sum(&batch).into_scalar::<f32>()), n as f64],
        })
    });
    let own: Result<Vec<[f64; 2]>, TrainError> = own.collect();

    // A rank that failed must be known before the sum, where the others would wait for it.
    let mut sums = all_ok(collective, own)?.into_iter().fold([0.0; 2], |[a, b], [c, d]| [a + c, b + d]);
    collective.all_reduce_sum_f64(&mut sums)?;
    let [sum, n_targets] = sums;

    if n_targets == 0.0 {
        return Err(TrainError::Config {
            field: "validation",
            expected: "examples with target tokens".into(),
            got: format!("{} examples without any", examples.len()),
        });
    }

    // Summed over all tokens and divided once: the size of the batches and the number of ranks do not weigh in.
    Ok(sum / n_targets)
}
