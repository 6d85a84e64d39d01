use std::path::Path;

use adamllm_core::jsonl::{self, Appender};
use adamllm_nn::{Batch, Objective};
use serde::{Deserialize, Serialize};

use crate::replicas::{agreed, first_one_says};
use crate::tensorboard::EventFile;
use crate::{BatchSource, Replicas, TrainError};

/// Held-out rows that a run is examined on while it trains.
#[derive(Clone, Copy, Debug)]
pub struct Validation<'a, V> {
    /// The rows.
    pub source: &'a V,
    /// After every so many steps, and behind the last.
    pub every: usize,
    /// Rows in one forward pass.
    pub batch_size: usize,
    /// Ends the run when so many examinations in a row brought no better loss; `None` never ends it.
    pub patience: Option<usize>,
}

/// One examination, as `validation.jsonl` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationMetrics {
    /// Behind this step.
    pub step: usize,
    /// The loss per target token, in nats.
    pub loss: f64,
    /// Whether it is the best so far.
    pub best: bool,
}

/// The examinations of a run so far, kept in `validation.jsonl` and in an event file where there is a folder.
pub(crate) struct Examinations {
    done: Vec<ValidationMetrics>,
    files: Option<(Appender, EventFile)>,
}

impl Examinations {
    /// Reads those up to `step`; later ones belong to work that was lost with a killed run.
    pub(crate) fn open(folder: Option<&Path>, step: usize) -> Result<Self, TrainError> {
        let Some(folder) = folder else { return Ok(Self { done: Vec::new(), files: None }) };
        let path = folder.join("validation.jsonl");
        let mut done: Vec<ValidationMetrics> = Vec::new();
        if path.exists() {
            drop(Appender::open(&path)?);
            done = jsonl::read_all(&path)?;
            done.retain(|row| row.step <= step);
            jsonl::write(&path, &done)?;
        }
        // A run of its own for TensorBoard, which then draws both losses into one chart.
        let events = EventFile::open(&folder.join("tensorboard/validation"), step)?;
        Ok(Self { done, files: Some((Appender::open(&path)?, events)) })
    }

    /// Gives every member those that member 0 has read.
    pub(crate) fn shared(self, replicas: &dyn Replicas) -> Result<Self, TrainError> {
        if replicas.size() == 1 {
            return Ok(self);
        }
        let done = first_one_says(replicas, &serde_json::to_vec(&self.done).expect("plain values"))?;
        Ok(Self { done: serde_json::from_slice(&done).expect("rows as they were written"), ..self })
    }

    pub(crate) fn push(&mut self, step: usize, loss: f64) -> Result<&ValidationMetrics, TrainError> {
        let best = self.done.iter().all(|row| loss < row.loss);
        let row = ValidationMetrics { step, loss, best };
        if let Some((file, events)) = &mut self.files {
            file.append([&row])?;
            events.push(step, &[("loss".into(), loss)])?;
        }
        self.done.push(row);
        Ok(&self.done[self.done.len() - 1])
    }

    /// Examinations since the best one.
    pub(crate) fn since_best(&self) -> usize {
        self.done.iter().rev().take_while(|row| !row.best).count()
    }

    pub(crate) fn into_rows(self) -> Vec<ValidationMetrics> {
        self.done
    }
}

/// The loss per target over all rows, without a graph.
pub(crate) fn examine<M, V>(model: &M, validation: &Validation<V>, replicas: &dyn Replicas) -> Result<f64, TrainError>
where
    M: Objective,
    V: BatchSource<Batch = M::Batch>,
{
    let model = model.valid();
    let rows: Vec<usize> = (0..validation.source.n_rows()).collect();
    let own = rows.chunks(validation.batch_size.max(1)).skip(replicas.rank()).step_by(replicas.size());
    let own = own.map(|rows| {
        let batch = validation.source.batch(rows)?;
        Ok(match batch.n_targets() {
            0 => [0.0; 2],
            n => [f64::from(model.loss_sum(&batch).into_scalar::<f32>()), n as f64],
        })
    });
    let own: Result<Vec<[f64; 2]>, TrainError> = own.collect();
    let mut sums = agreed(replicas, own)?.into_iter().fold([0.0; 2], |[a, b], [c, d]| [a + c, b + d]);
    replicas.add_up_f64(&mut sums)?;
    let [sum, n_targets] = sums;
    if n_targets == 0.0 {
        return Err(TrainError::Config {
            field: "validation",
            expected: "rows with target tokens".into(),
            got: format!("{} rows without any", rows.len()),
        });
    }
    Ok(sum / n_targets)
}
