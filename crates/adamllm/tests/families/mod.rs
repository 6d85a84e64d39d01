//! A family's tiny model and the recorded conversations of its fixture.

use std::path::PathBuf;

use adamllm::core::Supervision;
use adamllm::model::{Encoded, Padding, VisionLanguageModel, VlmBatch};
use adamllm::prelude::*;
use serde_json::Value;

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../adamllm-model/tests/fixtures"))
}

fn json(path: &str) -> Value {
    let text = std::fs::read_to_string(fixtures().join(path)).expect("a committed fixture");
    serde_json::from_str(&text).expect("valid JSON")
}

struct Decoded(FolderImages, Value);

impl ImageStore for Decoded {
    fn open(&self, image: &ImageRef) -> Result<adamllm::core::RgbImage, adamllm::core::CoreError> {
        let entry = self.1.as_array().and_then(|list| list.iter().find(|e| e["name"] == image.as_str()));
        let entry = entry.expect("a picture of the fixtures");
        let file = entry["decoded"].as_str().or(entry["file"].as_str()).expect("a file");
        self.0.open(&file.into())
    }
}

/// A family's model and every recorded conversation that has a reply: with none, one and several pictures.
pub(crate) struct Family {
    pub(crate) model: VisionLanguageModel,
    pub(crate) processor: Processor,
    pub(crate) rows: Vec<Encoded>,
}

impl Family {
    pub(crate) fn read(name: &str, dtype: DType) -> Self {
        let folder = ModelFolder::open(fixtures().join(name).join("model")).expect("opens");
        let processor = Processor::read(&folder).expect("reads");
        let images = Decoded(FolderImages::new(fixtures().join("images")), json("images/images.json"));
        let cases = json(&format!("{name}/cases.json"));
        let rows = cases["conversations"].as_array().expect("a list").iter().map(|case| {
            let messages = serde_json::from_value(case["messages"].clone()).expect("messages");
            let names = case["images"].as_array().expect("a list").iter();
            Conversation::new(messages, names.map(|i| i.as_str().expect("a name").into()).collect())
        });
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
