use adamllm_nn::Batch;

use crate::TrainError;

/// Where the trainer's batches come from. Asked from a thread beside the training steps, always ahead of them.
pub trait BatchSource: Sync {
    /// What it makes.
    type Batch: Batch;

    /// Rows in an epoch.
    fn n_rows(&self) -> usize;

    /// The batch of these rows.
    ///
    /// # Errors
    /// [`TrainError::Batch`] names the rows.
    fn batch(&self, rows: &[usize]) -> Result<Self::Batch, TrainError>;
}

/// A [`BatchSource`] from a closure.
#[derive(Clone, Debug)]
pub struct RowBatches<F> {
    n_rows: usize,
    make: F,
}

impl<F> RowBatches<F> {
    /// `make(rows)` makes the batch of these rows, each below `n_rows`.
    pub fn new(n_rows: usize, make: F) -> Self {
        Self { n_rows, make }
    }
}

impl<B: Batch, E: ToString, F: Fn(&[usize]) -> Result<B, E> + Sync> BatchSource for RowBatches<F> {
    type Batch = B;

    fn n_rows(&self) -> usize {
        self.n_rows
    }

    fn batch(&self, rows: &[usize]) -> Result<B, TrainError> {
        (self.make)(rows).map_err(|e| TrainError::Batch { rows: rows.to_vec(), detail: e.to_string() })
    }
}
