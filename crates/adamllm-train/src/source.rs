use adamllm_core::BoxError;
use adamllm_nn::{Batch, ExampleSize};

use crate::{TrainError, WeightedSources};

/// Where the trainer's batches come from. Asked from a thread beside the training steps, always ahead of them.
///
/// ```
/// use adamllm_nn::Batch;
/// use adamllm_train::{BatchSource, TrainError};
///
/// struct Numbers(Vec<f32>);
///
/// impl Batch for Numbers {
///     fn n_targets(&self) -> usize {
///         self.0.len()
///     }
///     fn n_tokens(&self) -> usize {
///         self.0.len()
///     }
/// }
///
/// /// A hundred numbers; a file would be read in `batch`, which a thread beside the training steps calls.
/// struct Hundred;
///
/// impl BatchSource for Hundred {
///     type Batch = Numbers;
///
///     fn n_examples(&self) -> usize {
///         100
///     }
///
///     fn batch(&self, examples: &[usize]) -> Result<Numbers, TrainError> {
///         Ok(Numbers(examples.iter().map(|&example| example as f32).collect()))
///     }
/// }
///
/// assert_eq!(Hundred.batch(&[3, 1])?.0, [3.0, 1.0]);
/// # Ok::<(), TrainError>(())
/// ```
pub trait BatchSource: Sync {
    /// What it makes.
    type Batch: Batch;

    /// Examples that it has.
    fn n_examples(&self) -> usize;

    /// Examples of an epoch, the same number in each.
    fn examples_per_epoch(&self) -> usize {
        self.n_examples()
    }

    /// The examples of an epoch (from 0): each of them, unless a source knows better. A pure function of its arguments; in which
    /// order they are read is [`BatchOrder`](crate::BatchOrder)'s affair.
    fn epoch_examples(&self, _seed: u64, _epoch: usize) -> Vec<usize> {
        (0..self.n_examples()).collect()
    }

    /// The batch of these examples.
    ///
    /// # Errors
    /// [`TrainError::Batch`] names the examples.
    fn batch(&self, examples: &[usize]) -> Result<Self::Batch, TrainError>;

    /// How large an example is, where that is known before its batch is made; asked where a
    /// [`MicroBatchBudget`](crate::MicroBatchBudget) is set.
    fn example_size(&self, _example: usize) -> Option<ExampleSize> {
        None
    }
}

/// A [`BatchSource`] from a closure.
#[derive(Clone, Debug)]
pub struct ExampleBatches<F> {
    n_examples: usize,
    make: F,
    sizes: Vec<ExampleSize>,
    mixture: Option<WeightedSources>,
}

impl<F> ExampleBatches<F> {
    /// `make(examples)` makes the batch of these examples, each below `n_examples`.
    pub fn new(n_examples: usize, make: F) -> Self {
        Self { n_examples, make, sizes: Vec::new(), mixture: None }
    }

    /// Tells how large each example is.
    ///
    /// # Panics
    /// If there is not one size for each example.
    pub fn with_sizes(self, sizes: Vec<ExampleSize>) -> Self {
        assert_eq!(sizes.len(), self.n_examples, "one size for each example");
        Self { sizes, ..self }
    }

    /// Lets a mixture say which examples an epoch has.
    pub fn with_mixture(self, mixture: WeightedSources) -> Self {
        Self { mixture: Some(mixture), ..self }
    }
}

impl<B: Batch, E: Into<BoxError>, F: Fn(&[usize]) -> Result<B, E> + Sync> BatchSource for ExampleBatches<F> {
    type Batch = B;

    fn n_examples(&self) -> usize {
        self.n_examples
    }

    fn examples_per_epoch(&self) -> usize {
        self.mixture.as_ref().map_or(self.n_examples, WeightedSources::examples_per_epoch)
    }

    fn epoch_examples(&self, seed: u64, epoch: usize) -> Vec<usize> {
        match &self.mixture {
            Some(mixture) => mixture.epoch(seed, epoch),
            None => (0..self.n_examples).collect(),
        }
    }

    fn batch(&self, examples: &[usize]) -> Result<B, TrainError> {
        (self.make)(examples).map_err(|e| TrainError::Batch { examples: examples.to_vec(), source: e.into() })
    }

    fn example_size(&self, example: usize) -> Option<ExampleSize> {
        self.sizes.get(example).copied()
    }
}
