//! The committed fixtures: tiny models of each family, and what transformers answered for them. Their format is described in
//! `tools/fixtures/README.md`.

use std::path::{Path, PathBuf};

use adamllm::core::{CoreError, RgbImage, Supervision};
use adamllm::model::{Encoded, Padding, VlmBatch};
use adamllm::prelude::*;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::Answer;

/// Where the fixtures are in the repository.
const PLACE: &str = "crates/adamllm-model/tests/fixtures";

/// The folder of the fixtures: as given, or that of the repository that the current folder is in.
///
/// # Errors
/// Says what was looked for.
pub(crate) fn folder(given: Option<&Path>) -> Answer<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let here = std::env::current_dir()?;
    let found = here.ancestors().map(|folder| folder.join(PLACE)).find(|folder| folder.is_dir());
    found.ok_or_else(|| format!("no {PLACE} in {} or above it; give --fixtures", here.display()).into())
}

/// One family's tiny model, and what transformers answered for it.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) root: PathBuf,
    pub(crate) folder: ModelFolder,
    pub(crate) processor: Processor,
    cases: Value,
    tensors: Vec<u8>,
    images: Decoded,
}

impl Fixture {
    /// Reads a family's fixture.
    ///
    /// # Errors
    /// The file at fault.
    pub(crate) fn open(root: &Path, family: &str) -> Answer<Self> {
        let place = root.join(family);
        let folder = ModelFolder::open(place.join("model"))?;
        Ok(Self {
            root: root.to_owned(),
            processor: Processor::read(&folder)?,
            folder,
            cases: json(&place.join("cases.json"))?,
            tensors: bytes(&place.join("expected.safetensors"))?,
            images: Decoded::read(root)?,
        })
    }

    pub(crate) fn images(&self) -> Decoded {
        self.images.clone()
    }

    /// The recorded prompts.
    pub(crate) fn prompts(&self) -> &[Value] {
        self.cases["prompts"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The recorded conversations, whose losses and gradients are known.
    pub(crate) fn conversations(&self) -> &[Value] {
        self.cases["conversations"].as_array().map_or(&[], Vec::as_slice)
    }

    /// A recorded tensor's shape and values; `None` where it was not recorded.
    pub(crate) fn tensor(&self, name: &str) -> Answer<Option<(Vec<usize>, Vec<f32>)>> {
        let tensors = SafeTensors::deserialize(&self.tensors)?;
        let Ok(view) = tensors.tensor(name) else { return Ok(None) };
        let values = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        Ok(Some((view.shape().to_vec(), values.collect())))
    }

    /// A recorded conversation, ready for the model.
    pub(crate) fn encode(&self, case: &Value) -> Answer<Encoded> {
        Ok(self.processor.encode(&conversation(case)?, Supervision::Replies, &self.images)?)
    }

    /// Every recorded conversation that has a target.
    pub(crate) fn examples(&self) -> Answer<Vec<Encoded>> {
        let all: Vec<Encoded> = self.conversations().iter().map(|case| self.encode(case)).collect::<Answer<_>>()?;
        Ok(all.into_iter().filter(|example| example.n_targets() > 0).collect())
    }

    /// Some examples, padded.
    pub(crate) fn padded(&self, examples: &[&Encoded]) -> VlmBatch {
        VlmBatch::collate(examples, Padding::Right, &self.processor)
    }
}

/// A case's prompt: the conversation, open for a reply.
pub(crate) fn prompt(case: &Value) -> Answer<Prompt> {
    Ok(Prompt::Chat { conversation: conversation(case)?, open: Role::Assistant })
}

fn conversation(case: &Value) -> Answer<Conversation> {
    let images = case["images"].as_array().into_iter().flatten().filter_map(Value::as_str).map(Into::into);
    Ok(Conversation::new(serde_json::from_value(case["messages"].clone())?, images.collect()))
}

/// A case's name.
pub(crate) fn name(case: &Value) -> &str {
    case["name"].as_str().unwrap_or("without a name")
}

/// The images under their names, exactly as the reference decoded them.
#[derive(Clone, Debug)]
pub(crate) struct Decoded(FolderImages, Value);

impl Decoded {
    fn read(root: &Path) -> Answer<Self> {
        let folder = root.join("images");
        Ok(Self(FolderImages::new(&folder), json(&folder.join("images.json"))?))
    }
}

impl ImageStore for Decoded {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        let entry = self.1.as_array().and_then(|list| list.iter().find(|entry| entry["name"] == image.as_str()));
        let file = entry.and_then(|entry| entry["decoded"].as_str().or(entry["file"].as_str()));
        // A name that the list lacks is no file of the folder either, and its error names it.
        self.0.open(&file.unwrap_or(image.as_str()).into())
    }
}

pub(crate) fn bytes(path: &Path) -> Answer<Vec<u8>> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn json(path: &Path) -> Answer<Value> {
    serde_json::from_slice(&bytes(path)?).map_err(|error| format!("{}: {error}", path.display()).into())
}
