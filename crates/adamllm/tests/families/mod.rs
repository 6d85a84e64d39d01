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
    pub(crate) rows: Vec<Encoded>,
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
        let rows = cases["conversations"].as_array().expect("a list").iter().map(conversation);
        let rows = rows.filter_map(|row| processor.encode(&row, Supervision::Replies, &images).ok());
        let rows: Vec<Encoded> = rows.filter(|row| row.n_targets() > 0).collect();
        assert!(rows.len() >= 3, "{} rows of {name}", rows.len());
        let model = folder.load(dtype, &Device::flex().autodiff()).expect("loads");
        Self { model, processor, rows }
    }

    /// The rows of these numbers, padded.
    pub(crate) fn batch(&self, rows: &[usize]) -> VlmBatch {
        let rows: Vec<&Encoded> = rows.iter().map(|&row| &self.rows[row]).collect();
        VlmBatch::collate(&rows, Padding::Right, &self.processor)
    }
}
