//! Post-training in a library call: image-caption pairs and a model folder in, a better model's folder out.

use std::path::PathBuf;

use adamllm::prelude::*;
use adamllm::recipes::post_train::{DataSettings, PostTrainSettings};
use adamllm::recipes::{RunOptions, SourceSettings, post_train};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let mini = arguments.next().unwrap_or_else(|| "datasets/mini".into());
    let out = arguments.next().unwrap_or_else(|| "runs/downstream".into());

    let source = SourceSettings {
        captions: Some(mini.join("slides/captions.json")),
        images: vec![mini.join("slides")],
        ..SourceSettings::default()
    };
    let settings = PostTrainSettings {
        data: DataSettings { sources: vec![source], ..DataSettings::default() },
        train: TrainConfig {
            max_steps: Some(6),
            batch_size: 16,
            micro_batch_size: 16,
            learning_rate: 1e-3,
            ..TrainConfig::default()
        },
        ..PostTrainSettings::default()
    };
    let base = ModelFolder::open(mini.join("models/base"))?;
    let report = post_train(&settings, &base, &Device::flex(), &RunOptions::new(out), &mut ())?;

    let (first, last) = report.loss_first.zip(report.loss_last).ok_or("no step was made")?;
    let model = report.model.ok_or("no model was written")?;
    println!("{} steps, loss {first:.2} -> {last:.2}: {}", report.steps, model.display());
    assert!(last < first);
    ModelFolder::open(model)?;
    Ok(())
}
