//! What saves memory or time must not change the loss: packed examples, checkpointed blocks and losses in pieces give the loss
//! and the gradients of plain padded batches, for every family.
#![cfg(all(feature = "train", feature = "model", feature = "data", feature = "flex"))]

mod families;

use std::collections::BTreeMap;

use adamllm::burn::tensor::TensorData;
use adamllm::model::VlmBatch;
use adamllm::nn::Batch;
use adamllm::prelude::*;
use adamllm::train::GradientCheckpointing;
use families::Family;

fn padded(family: &Family) -> VlmBatch {
    family.batch(&(0..family.examples.len()).collect::<Vec<_>>())
}

fn packed(family: &Family) -> VlmBatch {
    VlmBatch::pack(&family.examples.iter().collect::<Vec<_>>(), &family.processor)
}

fn gradients(family: &Family, batch: VlmBatch, config: TrainConfig) -> (f64, BTreeMap<String, TensorData>) {
    Trainer::new(config).expect("valid").gradients(&family.model, &[batch])
}

fn assert_same(what: &str, got: &(f64, BTreeMap<String, TensorData>), expected: &(f64, BTreeMap<String, TensorData>)) {
    assert!((got.0 - expected.0).abs() < 1e-5, "{what}: loss {}, expected {}", got.0, expected.0);
    assert_eq!(got.1.keys().collect::<Vec<_>>(), expected.1.keys().collect::<Vec<_>>(), "{what}");
    let largest = |data: &TensorData| data.iter::<f32>().fold(0.0f32, |max, x| max.max(x.abs()));
    let overall = expected.1.values().map(largest).fold(0.0, f32::max);
    for (name, gradient) in &got.1 {
        let expected = &expected.1[name];
        let apart =
            gradient.iter::<f32>().zip(expected.iter::<f32>()).fold(0.0f32, |max, (a, b)| max.max((a - b).abs()));
        // Gradients that are zero by mathematics hold rounding noise of the others' size.
        let allowed = 1e-4 * largest(expected) + 1e-6 * overall;
        assert!(apart <= allowed, "{what}, {name}: {apart} apart, {} large", largest(expected));
    }
}

fn nothing_changes(family: &str) {
    let family = Family::read(family, DType::F32);
    let expected = gradients(&family, padded(&family), TrainConfig { loss_chunk: 100_000, ..TrainConfig::default() });
    assert!(padded(&family).n_targets() > 7);
    let pieces = TrainConfig { loss_chunk: 7, ..TrainConfig::default() };
    assert_same("losses in pieces", &gradients(&family, padded(&family), pieces.clone()), &expected);
    let blocks = TrainConfig { gradient_checkpointing: GradientCheckpointing::Blocks, ..pieces };
    assert_same("checkpointed", &gradients(&family, padded(&family), blocks.clone()), &expected);
    assert_same("packed", &gradients(&family, packed(&family), TrainConfig::default()), &expected);
    assert_same("packed, checkpointed", &gradients(&family, packed(&family), blocks), &expected);
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
fn qwen3_vl() {
    nothing_changes("qwen3_vl");
}

#[test]
fn smolvlm() {
    nothing_changes("smolvlm");
}

#[test]
fn idefics3() {
    nothing_changes("idefics3");
}

#[test]
fn llava_next() {
    nothing_changes("llava_next");
}

#[test]
fn mllama() {
    nothing_changes("mllama");
}
