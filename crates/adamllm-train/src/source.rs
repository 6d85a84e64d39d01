use adamllm_nn::Batch;

use crate::{TrainError, WeightedSources};

/// Where the trainer's batches come from. Asked from a thread beside the training steps, always ahead of them.
pub trait BatchSource: Sync {
    /// What it makes.
    type Batch: Batch;

    /// Rows that it has.
    fn n_rows(&self) -> usize;

    /// Rows of an epoch, the same number in each.
    fn rows_per_epoch(&self) -> usize {
        self.n_rows()
    }

    /// The rows of an epoch (from 0): each of them, unless a source knows better. A pure function of its arguments; in which
    /// order they are read is [`BatchOrder`](crate::BatchOrder)'s affair.
    fn epoch_rows(&self, _seed: u64, _epoch: usize) -> Vec<usize> {
        (0..self.n_rows()).collect()
    }

    /// The batch of these rows.
    ///
    /// # Errors
    /// [`TrainError::Batch`] names the rows.
    fn batch(&self, rows: &[usize]) -> Result<Self::Batch, TrainError>;

    /// How large a row is, where that is known before its batch is made; asked where a
    /// [`MicroBatchBudget`](crate::MicroBatchBudget) is set.
    fn row_size(&self, _row: usize) -> Option<RowSize> {
        None
    }
}

/// How large a row is before it meets any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RowSize {
    /// Tokens that the decoder reads, placeholders of images included.
    pub tokens: usize,
    /// Tokens that count for the loss.
    pub targets: usize,
    /// Patches that the tower reads.
    pub patches: usize,
    /// Images.
    pub images: usize,
}

/// A [`BatchSource`] from a closure.
#[derive(Clone, Debug)]
pub struct RowBatches<F> {
    n_rows: usize,
    make: F,
    sizes: Vec<RowSize>,
    mixture: Option<WeightedSources>,
}

impl<F> RowBatches<F> {
    /// `make(rows)` makes the batch of these rows, each below `n_rows`.
    pub fn new(n_rows: usize, make: F) -> Self {
        Self { n_rows, make, sizes: Vec::new(), mixture: None }
    }

    /// Tells how large each row is.
    ///
    /// # Panics
    /// If there is not one size for each row.
    pub fn with_sizes(self, sizes: Vec<RowSize>) -> Self {
        assert_eq!(sizes.len(), self.n_rows, "one size for each row");
        Self { sizes, ..self }
    }

    /// Lets a mixture say which rows an epoch has.
    pub fn with_mixture(self, mixture: WeightedSources) -> Self {
        Self { mixture: Some(mixture), ..self }
    }
}

impl<B: Batch, E: ToString, F: Fn(&[usize]) -> Result<B, E> + Sync> BatchSource for RowBatches<F> {
    type Batch = B;

    fn n_rows(&self) -> usize {
        self.n_rows
    }

    fn rows_per_epoch(&self) -> usize {
        self.mixture.as_ref().map_or(self.n_rows, WeightedSources::rows_per_epoch)
    }

    fn epoch_rows(&self, seed: u64, epoch: usize) -> Vec<usize> {
        match &self.mixture {
            Some(mixture) => mixture.epoch(seed, epoch),
            None => (0..self.n_rows).collect(),
        }
    }

    fn batch(&self, rows: &[usize]) -> Result<B, TrainError> {
        (self.make)(rows).map_err(|e| TrainError::Batch { rows: rows.to_vec(), detail: e.to_string() })
    }

    fn row_size(&self, row: usize) -> Option<RowSize> {
        self.sizes.get(row).copied()
    }
}
