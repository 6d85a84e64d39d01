//! Twenty AdamW steps on a tiny model of each family, beside torch's: the fixture of `tools/fixtures`.
#![cfg(all(feature = "train", feature = "model", feature = "data", feature = "flex"))]

#[path = "families/recorded.rs"]
mod recorded;

use adamllm::core::Supervision;
use adamllm::model::{KeyLayout, Padding, VlmBatch};
use adamllm::nn::snapshots;
use adamllm::prelude::*;
use adamllm::train::{ExampleBatches, FitOptions, Schedule, ScheduleKind};
use recorded::{Decoded, conversation, fixtures, json};

/// The gradient of these is zero by mathematics (softmax does not change with a bias of the keys); AdamW makes full steps of what
/// rounding leaves there, in any direction.
const WITHOUT_GRADIENT: &str = "self_attn.k_proj.bias";

fn twenty_steps_equal_torch(family: &str) {
    let folder = ModelFolder::open(fixtures().join(family).join("model")).expect("opens");
    let processor = Processor::read(&folder).expect("reads");
    let images = Decoded::read();
    let cases = json(&format!("{family}/cases.json"));
    let trace = json(&format!("{family}/training.json"));
    let named = |name: &str| {
        let list = cases["conversations"].as_array().expect("a list");
        conversation(list.iter().find(|c| c["name"] == name).expect("a recorded conversation"))
    };
    let steps = trace["steps"].as_array().expect("a list");
    let encoded: Vec<Vec<_>> = steps
        .iter()
        .map(|step| {
            let batch = step["batch"].as_array().expect("a list").iter();
            let names = batch.map(|name| name.as_str().expect("a name"));
            names.map(|n| processor.encode(&named(n), Supervision::Replies, &images).expect("encodes")).collect()
        })
        .collect();

    // A step of one "example": its index is looked up in the recorded order.
    let order = std::sync::atomic::AtomicUsize::new(0);
    let source = ExampleBatches::new(steps.len(), |_: &[usize]| {
        let step = order.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let examples: Vec<_> = encoded[step].iter().collect();
        Ok::<_, String>(VlmBatch::collate(&examples, Padding::Right, &processor))
    });
    let optimizer = &trace["optimizer"];
    let number = |key: &str| optimizer[key].as_f64().unwrap_or_else(|| panic!("no {key} in {optimizer}"));
    let config = TrainConfig {
        epochs: 1.0,
        batch_size: 1,
        micro_batch_size: 1,
        learning_rate: number("peak"),
        schedule: Schedule { kind: ScheduleKind::Cosine, warmup: 0.2 },
        weight_decay: number("weight_decay"),
        ..TrainConfig::default()
    };
    let model = folder.load(DType::F32, &Device::flex().autodiff()).expect("loads");
    let trainer = Trainer::new(config).expect("valid");
    let (model, report) = trainer.fit(model, &source, FitOptions::default(), &mut ()).expect("fits");

    for (got, expected) in report.metrics.iter().zip(steps) {
        let of = |key: &str| expected[key].as_f64().expect("a number");
        assert_eq!(got.targets as f64, of("n_targets"));
        assert!((got.lr - of("learning_rate")).abs() < 1e-9, "step {}: rate {}", got.step, got.lr);
        assert!((got.loss - of("loss")).abs() < 1e-4, "step {}: loss {}, expected {}", got.step, got.loss, of("loss"));
        let norm = of("gradient_norm");
        assert!((got.grad_norm - norm).abs() < 1e-3 * norm, "step {}: norm {} {norm}", got.step, got.grad_norm);
    }
    let mut checked = 0;
    for snapshot in snapshots(&model) {
        let key = KeyLayout::Transformers5.key(folder.config(), &snapshot.info.name);
        let norm = trace["final"][&key]["norm"].as_f64().unwrap_or_else(|| panic!("no final {key}"));
        let got: f64 = snapshot.read().iter::<f32>().map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        checked += 1;
        if ["llava_next", "smolvlm"].contains(&family) && key.contains("vision") && key.ends_with(WITHOUT_GRADIENT) {
            continue;
        }
        assert!((got - norm).abs() < 1e-3 * norm, "{key}: norm {got}, expected {norm}");
    }
    assert_eq!(checked, trace["final"].as_object().expect("an object").len());
}

#[test]
fn qwen2_vl() {
    twenty_steps_equal_torch("qwen2_vl");
}

#[test]
fn qwen2_5_vl() {
    twenty_steps_equal_torch("qwen2_5_vl");
}

#[test]
fn llava_next() {
    twenty_steps_equal_torch("llava_next");
}

#[test]
fn smolvlm() {
    twenty_steps_equal_torch("smolvlm");
}

#[test]
fn mllama() {
    twenty_steps_equal_torch("mllama");
}
