use std::path::{Path, PathBuf};

use adamllm_nn::{FrozenForm, LoraConfig};
use adamllm_synth::FilterConfig;
use adamllm_train::{Schedule, TrainConfig};
use serde::{Deserialize, Serialize};

use crate::{Dtype, RecipeError};

/// How a model is adapted. The defaults are the paper's for Qwen2-VL-2B.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaptSettings {
    /// The pairs: ShareGPT JSON or JSON Lines.
    pub captions: PathBuf,
    /// Where the pairs' images are: a folder or an archive.
    pub images: PathBuf,
    /// A benchmark's description (TOML), to evaluate both models with.
    pub benchmark: Option<PathBuf>,
    /// Descriptions of general benchmarks: what of them does post-training take away?
    pub retain: Vec<PathBuf>,
    /// The judge's few-shot prompt with `{Q}`, `{informative_A}` and `{precise_A}`; the library's own otherwise.
    pub judge_prompt: Option<PathBuf>,
    /// The least probability of yes with which the judge keeps a task.
    pub judge_threshold: f64,
    /// Passes over the data.
    pub epochs: f64,
    /// Conversations in an optimizer step.
    pub batch_size: usize,
    /// Conversations in one forward pass, at most.
    pub micro_batch_size: usize,
    /// The peak learning rate.
    pub learning_rate: f64,
    /// The share of the steps over which the rate rises to its peak.
    pub warmup: f64,
    /// A checkpoint after every so many steps.
    pub save_every: usize,
    /// Seeds every random choice.
    pub seed: u64,
    /// What the weights are kept in.
    pub dtype: Dtype,
    /// Trains low-rank adapters beside the weights, which are merged in the end; left out, the weights themselves.
    pub adapter: Option<LoraConfig>,
    /// How the linear layers beside adapters are kept, as [`ModelSettings::frozen`](crate::post_train::ModelSettings::frozen).
    pub frozen: Option<FrozenForm>,
    /// How many pairs both models describe for the report.
    pub samples: usize,
}

impl Default for AdaptSettings {
    fn default() -> Self {
        Self {
            captions: PathBuf::new(),
            images: PathBuf::new(),
            benchmark: None,
            retain: Vec::new(),
            judge_prompt: None,
            judge_threshold: 0.5,
            epochs: 1.0,
            batch_size: 128,
            micro_batch_size: 1,
            learning_rate: 1e-5,
            warmup: 0.1,
            save_every: 100,
            seed: 0,
            dtype: Dtype::F32,
            adapter: None,
            frozen: None,
            samples: 3,
        }
    }
}

impl AdaptSettings {
    /// The descriptions of all benchmarks that are asked, the domain's first.
    pub(super) fn descriptions(&self) -> impl Iterator<Item = &Path> {
        self.benchmark.iter().chain(&self.retain).map(PathBuf::as_path)
    }

    pub(super) fn filter(&self) -> Result<FilterConfig, RecipeError> {
        let mut config = FilterConfig::scored(self.judge_threshold);
        if let Some(file) = &self.judge_prompt {
            config.prompt = adamllm_core::read_text(file)?;
        }
        Ok(config)
    }

    /// The training loop's settings.
    pub fn training(&self) -> TrainConfig {
        TrainConfig {
            seed: self.seed,
            epochs: self.epochs,
            batch_size: self.batch_size,
            micro_batch_size: self.micro_batch_size,
            learning_rate: self.learning_rate,
            schedule: Schedule { warmup: self.warmup, ..Schedule::default() },
            save_every: Some(self.save_every),
            ..TrainConfig::default()
        }
    }
}
