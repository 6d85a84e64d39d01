//! What `tools/fixtures` made: folders of small models, and what transformers answered for them.

use std::path::PathBuf;

use adamllm_core::{Conversation, ImageStore, Message, Prompt, Role};
use adamllm_data::FolderImages;
use adamllm_model::{LocalModel, ModelFolder};
use burn::tensor::{DType, Device};
use safetensors::SafeTensors;
use serde_json::Value;

pub(crate) fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"))
}

/// One folder of a family, and what transformers answered for it.
pub(crate) struct Fixture {
    pub(crate) folder: ModelFolder,
    pub(crate) cases: Value,
    pub(crate) tensors: Vec<u8>,
}

impl Fixture {
    pub(crate) fn open(family: &str, folder: &str, cases: &str, tensors: &str) -> Self {
        let path = fixtures().join(family);
        let read = |name: &str| std::fs::read(path.join(name)).expect("a committed fixture");
        Self {
            folder: ModelFolder::open(path.join(folder)).expect("opens"),
            cases: serde_json::from_slice(&read(cases)).expect("valid JSON"),
            tensors: read(tensors),
        }
    }

    pub(crate) fn tensor(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        read_tensor(&self.tensors, name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.tensors).expect("whole").tensor(name).is_ok()
    }

    pub(crate) fn list(&self, name: &str) -> &[Value] {
        self.cases[name].as_array().map_or(&[], Vec::as_slice)
    }

    /// The case of a list that has a name.
    pub(crate) fn case(&self, list: &str, wanted: &str) -> &Value {
        self.list(list).iter().find(|case| name(case) == wanted).expect("recorded")
    }

    pub(crate) fn local(&self) -> LocalModel {
        LocalModel::load(&self.folder, DType::F32, &Device::flex(), std::sync::Arc::new(images())).expect("loads")
    }
}

pub(crate) fn read_tensor(bytes: &[u8], name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensors = SafeTensors::deserialize(bytes).expect("whole");
    let view = tensors.tensor(name).unwrap_or_else(|_| panic!("no tensor {name}"));
    let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes")));
    (view.shape().to_vec(), values.collect())
}

/// The images under their names, exactly as the reference decoded them.
pub(crate) struct Decoded(FolderImages);

impl ImageStore for Decoded {
    fn open(&self, image: &adamllm_core::ImageRef) -> Result<adamllm_core::RgbImage, adamllm_core::CoreError> {
        self.0.open(&file_of(image.as_str()).into())
    }
}

fn file_of(name: &str) -> String {
    let list = std::fs::read_to_string(fixtures().join("images/images.json")).expect("a committed fixture");
    let list: Value = serde_json::from_str(&list).expect("valid JSON");
    let entry = list.as_array().expect("a list").iter().find(|entry| entry["name"] == name);
    let entry = entry.unwrap_or_else(|| panic!("no image {name}"));
    entry["decoded"].as_str().or(entry["file"].as_str()).expect("a file").to_owned()
}

pub(crate) fn images() -> Decoded {
    Decoded(FolderImages::new(fixtures().join("images")))
}

fn messages(case: &Value) -> Vec<Message> {
    serde_json::from_value(case["messages"].clone()).expect("messages")
}

pub(crate) fn conversation(case: &Value) -> Conversation {
    let images = strings(&case["images"]).into_iter().map(Into::into).collect();
    Conversation::new(messages(case), images)
}

pub(crate) fn prompt(case: &Value) -> Prompt {
    Prompt::Chat { conversation: conversation(case), open: Role::Assistant }
}

pub(crate) fn strings(value: &Value) -> Vec<String> {
    value.as_array().map_or(vec![], |list| list.iter().map(|v| v.as_str().expect("text").to_owned()).collect())
}

pub(crate) fn numbers(value: &Value) -> Vec<i64> {
    value.as_array().expect("a list").iter().map(|v| v.as_i64().expect("a whole number")).collect()
}

pub(crate) fn name(case: &Value) -> &str {
    case["name"].as_str().expect("a name")
}

pub(crate) fn qwen2_vl(folder: &str) -> Fixture {
    Fixture::open("qwen2_vl", folder, "cases.json", "expected.safetensors")
}
