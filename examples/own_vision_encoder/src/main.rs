//! Joins a vision transformer of one's own to the decoder of a model folder, and gives the pair the paper's treatment on the mini
//! world: tasks from image-caption pairs, a single stage of post-training, held-out questions. Then saves the model, loads it
//! again, and asks both the same.
//!
//!     cargo run --release [-- MINI_FOLDER [OUT]]

mod vit;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use adamllm::eval::{PredictOptions, report_table};
use adamllm::model::VisionLanguageModel;
use adamllm::prelude::*;
use adamllm::recipes::adapt::Adaptation;
use adamllm::recipes::benchmarks::open_description;
use adamllm::recipes::{AdaptSettings, RunOptions};
use vit::VitConfig;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mini = PathBuf::from(arguments.next().unwrap_or_else(|| "../../datasets/mini".into()));
    let out = PathBuf::from(arguments.next().unwrap_or_else(|| "runs/own-vision-encoder".into()));
    let device = Device::flex();
    let dtype = DType::F32;

    // A decoder from a folder, and before it an encoder that nobody else knows.
    let base = ModelFolder::open(mini.join("models/base"))?;
    let image_token = base.config().image_token.ok_or("the folder has a placeholder for images")?;
    let vit = VitConfig { n_layers: 3, d_vision: 96, n_heads: 4, d_model: base.config().decoder.d_model };
    let joined = |folder: ModelFolder| folder.with_vision(Arc::new(vit.clone()), image_token);
    let folder = joined(base);
    let training = device.clone().autodiff();
    training.seed(0); // the encoder's first weights
    let model = VisionLanguageModel::new(Some(vit.build(&training)), folder.load_language(dtype, &training)?);

    // Part 1, synthesis: pairs to tasks. Part 2, post-training: captions and tasks in a single stage.
    let settings = AdaptSettings {
        captions: mini.join("slides/captions.json"),
        images: mini.join("slides"),
        judge_prompt: Some(mini.join("judge_prompt.txt")),
        epochs: 24.0,
        batch_size: 16,
        micro_batch_size: 16,
        learning_rate: 1e-3,
        warmup: 0.05,
        ..AdaptSettings::default()
    };
    let run = RunOptions::new(&out);
    let job = Adaptation::new(&settings, &folder, &device, &run)?;
    let mini_model = |name: &str| {
        LocalModel::load(&ModelFolder::open(mini.join("models").join(name))?, dtype, &device, job.images())
    };
    let synthesis = job.synthesize(&mini_model("synthesizer")?, &mini_model("judge")?, &mut ())?;
    let composed = job.compose(&mut ())?;
    println!(
        "{} pairs, {} tasks kept; post-training for {} steps",
        synthesis.records_in,
        synthesis.consistent,
        job.n_steps(&composed)
    );
    let (model, report) = job.post_train(model, &composed, &mut ())?;
    let losses = report.metrics.first().zip(report.metrics.last());
    if let Some((first, last)) = losses {
        println!("loss {:.3} -> {:.3}", first.loss, last.loss);
    }

    // Saved as a folder, and loaded again: the same answers to the same questions.
    let saved = out.join("model");
    folder.save_new(&model, dtype, &saved)?;
    let saved = joined(ModelFolder::open(&saved)?);
    let skeleton = VisionLanguageModel::new(Some(vit.build(&device)), saved.config().decoder.init(&device));
    let again = saved.load_into(skeleton, dtype)?;

    // Part 3, evaluation.
    let opened = open_description(&mini.join("slides/benchmark.toml"))?;
    let trained_model = adamllm::burn::module::Module::valid(&model);
    let mut runs = Vec::new();
    for (name, model) in [("trained", trained_model), ("loaded again", again)] {
        let local = LocalModel::new(model, Processor::read(&saved)?, opened.images.clone(), name.into());
        let options = PredictOptions { batch_size: 32, ..PredictOptions::default() };
        let scored =
            adamllm::eval::evaluate(&local, &opened.benchmark, &out.join("evaluation").join(name), &options, &mut ())?;
        runs.push((name, scored));
    }
    let reports: Vec<_> = runs.iter().map(|(name, scored)| (*name, &scored.report)).collect();
    println!("{}", report_table(&reports));
    if runs[0].1.outcomes != runs[1].1.outcomes {
        return Err("the loaded model answers otherwise than the trained one".into());
    }
    println!("the model: {}", saved.path().display());
    Ok(())
}
