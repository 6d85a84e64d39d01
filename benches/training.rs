//! A whole training step (forward, backward, AdamW) of each family, on the tiny models and the conversations of the parity
//! fixtures: padded, packed, and with activation checkpointing.
#![allow(missing_docs)]

use std::path::{Path, PathBuf};

use adamllm::core::{RgbImage, Supervision};
use adamllm::model::{Encoded, Padding, VisionLanguageModel, VlmBatch};
use adamllm::prelude::*;
use adamllm::train::{ExampleBatches, FitOptions, GradientCheckpointing};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/adamllm-model/tests/fixtures")
}

fn json(path: &str) -> Value {
    let text = std::fs::read_to_string(fixtures().join(path)).expect("a committed fixture");
    serde_json::from_str(&text).expect("valid JSON")
}

struct FixtureImages(FolderImages, Value);

impl ImageStore for FixtureImages {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, adamllm::core::CoreError> {
        let entry = self.1.as_array().and_then(|list| list.iter().find(|e| e["name"] == image.as_str()));
        let entry = entry.expect("an image of the fixtures");
        self.0.open(&entry["decoded"].as_str().or(entry["file"].as_str()).expect("a file").into())
    }
}

struct Family {
    model: VisionLanguageModel,
    processor: Processor,
    examples: Vec<Encoded>,
}

fn family(name: &str) -> Family {
    let folder = ModelFolder::open(fixtures().join(name).join("model")).expect("opens");
    let processor = Processor::read(&folder).expect("reads");
    let images = FixtureImages(FolderImages::new(fixtures().join("images")), json("images/images.json"));
    let cases = json(&format!("{name}/cases.json"));
    let conversations = cases["conversations"].as_array().expect("a list").iter().map(|case| {
        let messages = serde_json::from_value(case["messages"].clone()).expect("messages");
        let names = case["images"].as_array().expect("a list").iter();
        Conversation::new(messages, names.map(|i| i.as_str().expect("a name").into()).collect())
    });
    let examples = conversations.filter_map(|c| processor.encode(&c, Supervision::Replies, &images).ok());
    let examples: Vec<Encoded> = examples.collect();
    Family { model: folder.load(DType::F32, &Device::flex().autodiff()).expect("loads"), processor, examples }
}

fn step(family: &Family, batch: &VlmBatch, gradient_checkpointing: GradientCheckpointing) {
    let source = ExampleBatches::new(1, |_: &[usize]| Ok::<_, String>(batch.clone()));
    let config = TrainConfig { batch_size: 1, gradient_checkpointing, save_every: None, ..TrainConfig::default() };
    let trainer = Trainer::new(config).expect("valid");
    trainer.fit(family.model.clone(), &source, FitOptions::default(), &mut ()).expect("fits");
}

fn training(criterion: &mut Criterion) {
    for name in ["qwen2_vl", "qwen2_5_vl", "llava_next", "mllama"] {
        let family = family(name);
        let examples: Vec<&Encoded> = family.examples.iter().collect();
        let padded = VlmBatch::collate(&examples, Padding::Right, &family.processor);
        let packed = VlmBatch::pack(&examples, &family.processor);
        let mut group = criterion.benchmark_group(format!("training step/{name}"));
        group.sample_size(10);
        group.throughput(Throughput::Elements(examples.iter().map(|example| example.tokens.len() as u64).sum()));
        group.bench_function("padded", |b| b.iter(|| step(&family, &padded, GradientCheckpointing::Off)));
        group.bench_function("padded, activation checkpointing", |b| {
            b.iter(|| step(&family, &padded, GradientCheckpointing::Blocks))
        });
        group.bench_function("packed", |b| b.iter(|| step(&family, &packed, GradientCheckpointing::Off)));
        group.finish();
    }
}

criterion_group!(benches, training);
criterion_main!(benches);
