//! The memory that a job's stages take, from the settings, the folder's headers and the sizes of the examples.

use adamllm_model::{FrozenLayers, ModelFolder, PlannedWeights};
use adamllm_train::{ExampleSize, PlannedBatch, RunMemory, TrainConfig, WeightBytes, resident_bytes};
use burn::tensor::Device;

use super::{PostTrainSettings, StagePlan};
use crate::{Dtype, TrainingSet};

/// What is the same in all stages.
pub(super) struct JobMemory<'a> {
    base: &'a ModelFolder,
    training: TrainConfig,
    /// Or why they are not known.
    weights: Result<PlannedWeights, String>,
    /// Why the activations are not known.
    unknown: Option<String>,
    process: u64,
}

impl<'a> JobMemory<'a> {
    /// Reads the headers of the base's weights.
    pub(super) fn new(settings: &PostTrainSettings, base: &'a ModelFolder, device: &Device) -> Self {
        let (model, adapter) = (&settings.model, settings.adapter.as_ref());
        let frozen = model.frozen.map(|form| FrozenLayers { form, adapter });
        let weights = base.plan_weights(model.dtype.into(), device, frozen.as_ref(), adapter);
        let on_cpu = ["flex", "cpu"].contains(&model.device.as_str()) && model.dtype == Dtype::F32;
        let other =
            || format!("activations on {} in {:?}: the formulas are those of flex in f32", model.device, model.dtype);
        Self {
            base,
            training: settings.training(),
            weights: weights.map_err(|error| format!("the weights: {error}")),
            unknown: (!on_cpu).then(other),
            process: resident_bytes().unwrap_or(0),
        }
    }

    /// Says in the plan what memory it takes, or what is not known of it.
    pub(super) fn add_to(&self, plan: &mut StagePlan, examples: &TrainingSet) {
        let weights = match &self.weights {
            Ok(weights) => weights,
            Err(unknown) => {
                plan.memory_unknown = Some(unknown.clone());
                return;
            }
        };

        let (config, run) = (self.base.config(), &plan.run);
        let trained = weights.trained(|name| self.training.trains_name(name));
        let pass = |batch: &PlannedBatch| config.pass_memory(&whole(batch, examples), &trained);
        let passes: Option<Vec<_>> = [&run.most_tokens, &run.most_patches].into_iter().map(pass).collect();
        let encoder = || "activations: the vision encoder does not say what its passes hold".to_owned();
        let unknown = self.unknown.clone().or_else(|| passes.is_none().then(encoder));
        let passes = passes.filter(|_| unknown.is_none()).unwrap_or_default();

        let PlannedWeights { parameters, quantised, mapped, largest_tensor, .. } = weights;
        let (quantised, mapped, largest_tensor) = (*quantised, *mapped, *largest_tensor);
        let weights = WeightBytes { parameters, quantised, mapped, largest_tensor };
        let step_pixels = config.pixel_bytes(&run.read) / run.steps.max(1) as u64;
        plan.memory = Some(RunMemory::new(&self.training, &weights, &passes, self.process, step_pixels));
        plan.memory_unknown = unknown;
    }
}

/// The size of a batch's examples together, with the padding.
fn whole(batch: &PlannedBatch, examples: &TrainingSet) -> ExampleSize {
    let mut size = ExampleSize::default();
    batch.examples.iter().for_each(|&example| size += *examples.size_of(example));
    ExampleSize { tokens: batch.tokens, ..size }
}
