//! What saves memory or time must not change what is learnt: packed rows, recomputed blocks and losses in pieces give the loss
//! and the gradients of plain padded batches, for every family.
#![cfg(all(feature = "train", feature = "model", feature = "data", feature = "flex"))]

use std::collections::BTreeMap;
use std::path::PathBuf;

use adamllm::burn::tensor::TensorData;
use adamllm::core::Supervision;
use adamllm::model::{Encoded, Padding, VisionLanguageModel, VlmBatch};
use adamllm::nn::Batch;
use adamllm::prelude::*;
use adamllm::train::Recompute;
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
struct Family {
    model: VisionLanguageModel,
    processor: Processor,
    rows: Vec<Encoded>,
}

impl Family {
    fn read(name: &str) -> Self {
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
        let model = folder.load(DType::F32, &Device::flex().autodiff()).expect("loads");
        Self { model, processor, rows }
    }

    fn padded(&self) -> VlmBatch {
        VlmBatch::collate(&self.rows.iter().collect::<Vec<_>>(), Padding::Right, &self.processor)
    }

    fn packed(&self) -> VlmBatch {
        VlmBatch::pack(&self.rows.iter().collect::<Vec<_>>(), &self.processor)
    }

    fn gradients(&self, batch: VlmBatch, config: TrainConfig) -> (f64, BTreeMap<String, TensorData>) {
        Trainer::new(config).expect("valid").gradients(&self.model, &[batch])
    }
}

fn assert_same(what: &str, got: &(f64, BTreeMap<String, TensorData>), expected: &(f64, BTreeMap<String, TensorData>)) {
    assert!((got.0 - expected.0).abs() < 1e-5, "{what}: loss {}, expected {}", got.0, expected.0);
    assert_eq!(got.1.keys().collect::<Vec<_>>(), expected.1.keys().collect::<Vec<_>>(), "{what}");
    let largest = |data: &TensorData| data.iter::<f32>().fold(0.0f32, |most, x| most.max(x.abs()));
    let overall = expected.1.values().map(largest).fold(0.0, f32::max);
    for (name, gradient) in &got.1 {
        let expected = &expected.1[name];
        let apart =
            gradient.iter::<f32>().zip(expected.iter::<f32>()).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        // Gradients that are zero by mathematics hold rounding noise of the others' size.
        let allowed = 1e-4 * largest(expected) + 1e-6 * overall;
        assert!(apart <= allowed, "{what}, {name}: {apart} apart, {} large", largest(expected));
    }
}

fn nothing_changes(family: &str) {
    let family = Family::read(family);
    let expected = family.gradients(family.padded(), TrainConfig { loss_chunk: 100_000, ..TrainConfig::default() });
    assert!(family.padded().n_targets() > 7);
    let pieces = TrainConfig { loss_chunk: 7, ..TrainConfig::default() };
    assert_same("losses in pieces", &family.gradients(family.padded(), pieces.clone()), &expected);
    let blocks = TrainConfig { recompute: Recompute::Blocks, ..pieces };
    assert_same("blocks again", &family.gradients(family.padded(), blocks.clone()), &expected);
    assert_same("packed", &family.gradients(family.packed(), TrainConfig::default()), &expected);
    assert_same("packed, blocks again", &family.gradients(family.packed(), blocks), &expected);
}

#[test]
fn qwen2_vl() {
    nothing_changes("qwen2_vl");
}

#[test]
fn qwen2_5_vl() {
    nothing_changes("qwen2_5_vl");
}

#[test]
fn llava_next() {
    nothing_changes("llava_next");
}

#[test]
fn mllama() {
    nothing_changes("mllama");
}
