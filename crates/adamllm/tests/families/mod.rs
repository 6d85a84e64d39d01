//! A family's tiny model and the recorded conversations of its fixture.

mod recorded;

use adamllm::core::Supervision;
use adamllm::model::{Encoded, Padding, VisionLanguageModel, VlmBatch};
use adamllm::prelude::*;
use recorded::{Decoded, conversation, fixtures, json};

/// A family's model and every recorded conversation that has a reply: with none, one and several images.
pub(crate) struct Family {
    pub(crate) model: VisionLanguageModel,
    pub(crate) processor: Processor,
    pub(crate) examples: Vec<Encoded>,
}

/// Where a family's model is.
pub(crate) fn folder(name: &str) -> std::path::PathBuf {
    fixtures().join(name).join("model")
}

impl Family {
    pub(crate) fn read(name: &str, dtype: DType) -> Self {
        let folder = ModelFolder::open(folder(name)).expect("opens");
        let processor = Processor::read(&folder).expect("reads");
        let images = Decoded::read();
        let cases = json(&format!("{name}/cases.json"));
        let examples = cases["conversations"].as_array().expect("a list").iter().map(conversation);
        let examples = examples.filter_map(|example| processor.encode(&example, Supervision::Replies, &images).ok());
        let examples: Vec<Encoded> = examples.filter(|example| example.n_targets() > 0).collect();
        assert!(examples.len() >= 3, "{} examples of {name}", examples.len());
        let model = folder.load(dtype, &Device::flex().autodiff()).expect("loads");
        Self { model, processor, examples }
    }

    /// The examples of these indices, padded.
    pub(crate) fn batch(&self, examples: &[usize]) -> VlmBatch {
        let examples: Vec<&Encoded> = examples.iter().map(|&example| &self.examples[example]).collect();
        VlmBatch::collate(&examples, Padding::Right, &self.processor)
    }
}
