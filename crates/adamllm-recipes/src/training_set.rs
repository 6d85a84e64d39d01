//! Conversations as training batches.
//!
//! Sizes first: what each example will hold is known from the headers of its images before a batch is made, so that a run can be
//! planned and its worst batch tried. Images are opened when a batch needs them, by the threads that the set has for it. What
//! cannot be trained on stands in the ledger, with the stage and the reason of its own error.

use std::sync::Arc;

use adamllm_core::{BoxError, Conversation, ImageStore, RecordId};
use adamllm_model::{Encoded, Encoder, ModelError, Padding, Processor, VlmBatch};
use adamllm_train::{BatchSource, ExampleSize, TrainError, WeightedSources};
use rayon::prelude::*;

mod reader;
mod source;
#[cfg(test)]
mod tests;

pub use reader::{ReadOptions, RecordCounts, TrainingSetReader};
pub use source::{ConversationSource, ImageCheck, SourceSettings};

/// Conversations of one or several sources, encoded batch by batch: a [`BatchSource`] for the trainer. [`TrainingSetReader`] makes
/// one.
pub struct TrainingSet<'a> {
    encoder: Encoder<'a>,
    processor: &'a Processor,
    images: Vec<Arc<dyn ImageStore>>,
    examples: Vec<Example>,
    mixture: WeightedSources,
    threads: Arc<rayon::ThreadPool>,
    packing: bool,
}

/// A conversation, the number of its source, and how large it is once it is encoded.
struct Example {
    conversation: Conversation,
    source: usize,
    size: ExampleSize,
}

impl std::fmt::Debug for TrainingSet<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrainingSet")
            .field("n_examples", &self.examples.len())
            .field("mixture", &self.mixture)
            .finish_non_exhaustive()
    }
}

impl TrainingSet<'_> {
    /// Examples that it has.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether it has none; a set that was read has some.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// The conversation of an example.
    pub fn conversation(&self, example: usize) -> &Conversation {
        &self.examples[example].conversation
    }

    /// How large an example is, images included, as the model's floating-point operations are counted from it.
    pub fn size_of(&self, example: usize) -> &ExampleSize {
        &self.examples[example].size
    }

    fn encode(&self, example: usize) -> Result<Encoded, BoxError> {
        let Example { conversation, source, .. } = &self.examples[example];
        let named = |error: ModelError| ExampleError { id: conversation.id.clone(), source: error }.into();
        self.encoder.encode(conversation, &*self.images[*source]).map_err(named)
    }
}

/// Why one example could not be encoded.
#[derive(Debug, thiserror::Error)]
#[error("example {id}: {source}")]
struct ExampleError {
    id: RecordId,
    source: ModelError,
}

impl BatchSource for TrainingSet<'_> {
    type Batch = VlmBatch;

    fn n_examples(&self) -> usize {
        self.examples.len()
    }

    fn examples_per_epoch(&self) -> usize {
        self.mixture.examples_per_epoch()
    }

    fn epoch_examples(&self, seed: u64, epoch: usize) -> Vec<usize> {
        self.mixture.epoch(seed, epoch)
    }

    fn batch(&self, examples: &[usize]) -> Result<VlmBatch, TrainError> {
        // Collected in the order of `examples`, whichever thread is done first.
        let encode = || examples.par_iter().map(|&example| self.encode(example)).collect::<Result<Vec<_>, _>>();
        let encoded = self.threads.install(encode);
        let encoded = encoded.map_err(|source| TrainError::Batch { examples: examples.to_vec(), source })?;
        let encoded: Vec<&Encoded> = encoded.iter().collect();
        Ok(match self.packing {
            true => VlmBatch::pack(&encoded, self.processor),
            false => VlmBatch::collate(&encoded, Padding::Right, self.processor),
        })
    }

    fn example_size(&self, example: usize) -> Option<ExampleSize> {
        self.examples.get(example).map(|example| example.size)
    }
}
