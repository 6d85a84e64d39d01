use adamllm_train::{PlannedBatch, RunMemory, RunPlan, TrainConfig};
use serde::Serialize;

use crate::{ExampleSize, RecipeError, RecordCounts, TrainingSet};

/// What a job will read, known before its first step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PostTrainPlan {
    /// Records in, out, and in the ledger.
    #[serde(flatten)]
    pub counts: RecordCounts,
    /// Each stage's run.
    pub stages: Vec<StagePlan>,
}

/// What a stage will read.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StagePlan {
    /// Steps, examples, tokens, and the worst batches.
    #[serde(flatten)]
    pub run: RunPlan,
    /// As the sources number it.
    pub stage: usize,
    /// The share of the decoder's tokens that are padding, 0 to 1.
    pub padding_share: f64,
    /// Floating-point operations of the run, everything trained and nothing computed twice.
    pub flops: f64,
    /// Examples of which more than half of the tokens are an image's: those learn little text for what they cost.
    pub mostly_image: usize,
    /// The memory that it takes, by formula. [`PostTraining::plan_memory`](super::PostTraining::plan_memory) adds it.
    pub memory: Option<RunMemory>,
    /// What is not known of the memory, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_unknown: Option<String>,
}

impl StagePlan {
    /// Plans a run over the examples; nothing is decoded. `flops` tells what an example of a size costs once.
    ///
    /// # Errors
    /// Settings at fault.
    pub fn new(
        stage: usize,
        examples: &TrainingSet,
        config: &TrainConfig,
        flops: impl Fn(&ExampleSize) -> f64,
    ) -> Result<Self, RecipeError> {
        let run = RunPlan::new(examples, config)?;
        let flops = run.sum(|example| flops(examples.size_of(example)));
        let sizes = (0..examples.len()).map(|example| examples.size_of(example));
        let mostly_image = sizes.filter(|size| 2 * size.image_tokens > size.tokens).count();
        let padding_share = run.padding_share();
        Ok(Self { stage, padding_share, flops, mostly_image, run, memory: None, memory_unknown: None })
    }
}

/// The plan in a line.
impl std::fmt::Display for StagePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RunPlan { examples, examples_read, steps, micro_batches, read, most_tokens, most_patches, .. } = &self.run;
        write!(
            f,
            "{examples} examples, {examples_read} read in {steps} steps and {micro_batches} forward passes; {} tokens ({} targets, {} of \
             images), {:.1} % padding, {} images, {} patches; {:.3e} floating-point operations; worst pass: {}",
            read.tokens,
            read.targets,
            read.image_tokens,
            100.0 * self.padding_share,
            read.images,
            read.patches,
            self.flops,
            shown(most_tokens),
        )?;

        if self.mostly_image > 0 {
            let mostly = self.mostly_image;
            write!(f, "; {mostly} examples are images for more than half (`model.max_pixels` makes images smaller)")?;
        }

        if most_patches.examples != most_tokens.examples {
            write!(f, "; of most patches: {}", shown(most_patches))?;
        }
        if let Some(memory) = &self.memory {
            write!(f, "; {memory}")?;
        }
        self.memory_unknown.as_ref().map_or(Ok(()), |unknown| write!(f, "; memory that is not known: {unknown}"))
    }
}

fn shown(batch: &PlannedBatch) -> String {
    let PlannedBatch { step, examples, tokens, patches, .. } = batch;
    format!("{} examples of step {step}, {tokens} tokens with padding, {patches} patches", examples.len())
}
