//! What the fixtures of `tools/fixtures` have recorded of each family.

use std::path::PathBuf;

use adamllm::prelude::*;
use serde_json::Value;

pub(crate) fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../adamllm-model/tests/fixtures"))
}

pub(crate) fn json(path: &str) -> Value {
    let text = std::fs::read_to_string(fixtures().join(path)).expect("a committed fixture");
    serde_json::from_str(&text).expect("valid JSON")
}

/// The images as the reference decoded them.
pub(crate) struct Decoded(FolderImages, Value);

impl Decoded {
    pub(crate) fn read() -> Self {
        Self(FolderImages::new(fixtures().join("images")), json("images/images.json"))
    }
}

impl ImageStore for Decoded {
    fn open(&self, image: &ImageRef) -> Result<adamllm::core::RgbImage, adamllm::core::CoreError> {
        let entry = self.1.as_array().and_then(|list| list.iter().find(|e| e["name"] == image.as_str()));
        let entry = entry.expect("an image of the fixtures");
        let file = entry["decoded"].as_str().or(entry["file"].as_str()).expect("a file");
        self.0.open(&file.into())
    }
}

/// A recorded conversation.
pub(crate) fn conversation(case: &Value) -> Conversation {
    let messages = serde_json::from_value(case["messages"].clone()).expect("messages");
    let images = case["images"].as_array().expect("a list").iter();
    Conversation::new(messages, images.map(|i| i.as_str().expect("a name").into()).collect())
}
