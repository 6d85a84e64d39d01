use adamllm_core::Progress;
use adamllm_model::{FrozenLayers, ModelFolder, VisionLanguageModel};
use adamllm_nn::{FrozenForm, LoraConfig};
use burn::tensor::Device;

use crate::settings::SettingsError;
use crate::{Dtype, RecipeError};

/// How a base model is made ready for training.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BaseTraining<'a> {
    /// Of weights that are parameters.
    pub(crate) dtype: Dtype,
    /// The form of the weights beside the adapter.
    pub(crate) frozen: Option<FrozenForm>,
    pub(crate) adapter: Option<&'a LoraConfig>,
    /// What the adapter's first weights are drawn from.
    pub(crate) seed: u64,
}

impl BaseTraining<'_> {
    /// The model of `base` on `device` with autodiff.
    pub(crate) fn load(
        &self,
        base: &ModelFolder,
        device: &Device,
        progress: &mut dyn Progress,
    ) -> Result<VisionLanguageModel, RecipeError> {
        let Self { dtype, frozen, adapter, seed } = *self;
        let device = device.clone().autodiff();
        let model = match frozen {
            None => base.load_with(dtype.into(), &device, progress)?,
            Some(form) => base.load_frozen(dtype.into(), &device, &FrozenLayers { form, adapter }, progress)?,
        };
        let Some(adapter) = adapter else { return Ok(model) };
        device.seed(seed);
        Ok(model.with_lora(adapter)?)
    }
}

/// Frozen weights are for what an adapter leaves as it is; `key` is the setting's name.
pub(crate) fn check_frozen(
    frozen: Option<FrozenForm>,
    adapter: Option<&LoraConfig>,
    key: &'static str,
) -> Result<(), SettingsError> {
    if frozen.is_some() && adapter.is_none() {
        return Err(SettingsError::value(key, "expected an [adapter] beside frozen weights, got none"));
    }
    Ok(())
}
