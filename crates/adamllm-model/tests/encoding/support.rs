//! Conversations, and how their encoding is shown.

use std::path::{Path, PathBuf};

use adamllm_core::{Conversation, MemoryImages, Message, RgbImage, Role};
use adamllm_model::{Encoded, Encoder, Encoding, ModelError, ModelFolder, Preset, Processor, SpanKind};

pub(crate) const FAMILIES: [&str; 7] = [
    "qwen2_vl/model",
    "qwen2_5_vl/model",
    "qwen3_vl/model",
    "llava_next/model",
    "mllama/model",
    "smolvlm/model",
    "idefics3/model",
];

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

pub(crate) fn processor(folder: &str) -> Processor {
    Processor::read(&ModelFolder::open(fixture(folder)).expect("opens")).expect("reads")
}

pub(crate) fn images() -> MemoryImages {
    let mut images = MemoryImages::new();
    for (name, width, height) in [("wide.png", 200, 60), ("tall.png", 50, 180), ("large.png", 400, 300)] {
        images.insert(name, RgbImage::new(width, height));
    }
    images
}

/// Requests and replies in turn, an image for each marker.
pub(crate) fn conversation(turns: &[&str], images: &[&str]) -> Conversation {
    let role = |i: usize| if i.is_multiple_of(2) { Role::User } else { Role::Assistant };
    let messages = turns.iter().enumerate().map(|(i, text)| Message::new(role(i), *text)).collect();
    Conversation::new(messages, images.iter().map(|&image| image.into()).collect())
}

pub(crate) fn two_turns() -> Conversation {
    conversation(&["<image>\nWhat is it?", "A cat.", "Its colour?", "Red."], &["wide.png"])
}

pub(crate) fn encode(processor: &Processor, encoding: Encoding, example: &Conversation) -> Result<Encoded, ModelError> {
    Encoder::new(processor, encoding).expect("settings of this model").encode(example, &images())
}

pub(crate) fn preset(preset: Preset) -> Encoding {
    Encoding { preset, ..Encoding::default() }
}

/// The example's text, supervised parts between `»` and `«`, images as their number.
pub(crate) fn shown(encoded: &Encoded, processor: &Processor) -> String {
    let mut text = String::new();
    let mut supervised = false;
    for span in &encoded.spans {
        if span.target != supervised {
            text.push_str(if span.target { "»" } else { "«" });
            supervised = span.target;
        }
        match span.kind {
            SpanKind::Image(image) => text.push_str(&format!("[{image}]")),
            _ => text.push_str(&processor.text().decode(&encoded.tokens[span.tokens.clone()], true).expect("decodes")),
        }
    }
    if supervised { text + "«" } else { text }
}

pub(crate) fn shown_by(folder: &str, encoding: Encoding, example: &Conversation) -> String {
    let processor = processor(folder);
    shown(&encode(&processor, encoding, example).expect("encodes"), &processor)
}
