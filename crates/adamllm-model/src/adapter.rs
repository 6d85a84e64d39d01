//! Low-rank adapters: beside the layers of a model, and in the layout of PEFT (Hugging Face), `adapter_config.json` and
//! `adapter_model.safetensors`.

use adamllm_nn::{
    Dropout, LanguageBackbone, LinearLayers, Lora, LoraConfig, ModulePath, ParameterKind, Parameters, PlannedParameter,
    VisionEncoder, prefixed_layers,
};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor};

use crate::{ModelError, VisionLanguageModel};

mod peft;
mod read;
mod selection;
mod write;

pub(crate) use peft::{CONFIG, PeftConfig};
use selection::Selection;

const WEIGHTS: &str = "adapter_model.safetensors";
/// PEFT wraps the model twice.
const PREFIX: &str = "base_model.model.";

impl<V: VisionEncoder, L: LanguageBackbone> VisionLanguageModel<V, L> {
    /// Freezes every weight but those of [`LoraConfig::modules_to_save`], and puts a new adapter beside each of the target
    /// layers of decoder, vision encoder and connector. Adapters train as any other parameter does;
    /// [`VisionLanguageModel::merge_lora`] folds them in.
    ///
    /// ```
    /// use adamllm_language::DecoderConfig;
    /// use adamllm_model::{AutoVisionEncoder, VisionLanguageModel};
    /// use adamllm_nn::{LoraConfig, Parameters};
    /// use burn::tensor::Device;
    ///
    /// let decoder = DecoderConfig::tiny().init(&Device::flex());
    /// let model = VisionLanguageModel::<AutoVisionEncoder>::new(None, decoder);
    /// let adapted = model.with_lora(&LoraConfig::new(4, 8.0).with_targets(["query", "value"]))?;
    /// assert!(Parameters::of(&adapted).names().contains(&"language.layers.0.attention.query.lora.a"));
    /// # Ok::<(), adamllm_model::ModelError>(())
    /// ```
    ///
    /// # Errors
    /// [`ModelError::Adapter`] if a target, a pattern or a module to save stands for nothing in the model, or a number is out of
    /// its range.
    pub fn with_lora(self, config: &LoraConfig) -> Result<Self, ModelError> {
        let selection = Selection::new(config)?;
        let mut model = self;
        let layers: Vec<String> = model.linear_layers_mut().into_iter().map(|(name, _)| name).collect();
        selection.check(&layers, &Parameters::of(&model).names())?;

        let device = model.device();
        let mut model = model.map(&mut Frozen { path: ModulePath::default(), selection: &selection });
        for (name, linear) in model.linear_layers_mut() {
            if linear.lora.is_some() {
                let detail = format!("{name} has an adapter already: merge it first");
                return Err(ModelError::Adapter { detail });
            }
            if selection.is_target(&name)? {
                let [d_output, d_input] = linear.weight.dims();
                let new = Lora::init(d_input, d_output, &selection.of_layer(&name)?, &device);
                linear.lora = Some(Lora { dropout: Dropout::of(&name, config.dropout), ..new });
            }
        }
        Ok(model)
    }

    /// Adds every adapter to the weight beside it, and drops it.
    pub fn merge_lora(mut self) -> Self {
        for (_, linear) in self.linear_layers_mut() {
            let merged = linear.clone().merge_lora();
            *linear = merged;
        }
        self
    }

    /// Every linear layer that may get an adapter, under its path of field names (`language.layers.0.attention.query`).
    pub fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        let vision = self.vision.as_mut().map(VisionEncoder::linear_layers_mut).unwrap_or_default();
        let mut layers = prefixed_layers("vision", vision);
        layers.extend(prefixed_layers("language", self.language.linear_layers_mut()));
        layers
    }
}

/// The factors that [`VisionLanguageModel::with_lora`] would put beside layers of these names and shapes `[d_output, d_input]`.
pub(crate) fn planned_factors(
    config: &LoraConfig,
    layers: &[(String, [usize; 2])],
) -> Result<Vec<PlannedParameter>, ModelError> {
    let selection = Selection::new(config)?;
    let mut factors = Vec::new();
    for (name, [d_output, d_input]) in layers {
        if !selection.is_target(name)? {
            continue;
        }
        let rank = selection.of_layer(name)?.rank;
        for (factor, shape) in [("a", [rank, *d_input]), ("b", [*d_output, rank])] {
            factors.push(PlannedParameter {
                name: format!("{name}.lora.{factor}"),
                shape: shape.to_vec(),
                // The device's own, whatever the model has.
                dtype: DType::F32,
                kind: ParameterKind::Hidden,
                trained: true,
            });
        }
    }
    Ok(factors)
}

/// The parameters that a configuration trains in full beside its adapters.
pub(crate) struct SavedModules<'c>(Selection<'c>);

impl<'c> SavedModules<'c> {
    pub(crate) fn of(config: &'c LoraConfig) -> Result<Self, ModelError> {
        Selection::new(config).map(Self)
    }

    pub(crate) fn contains(&self, parameter: &str) -> bool {
        self.0.is_saved(parameter)
    }
}

/// Marks the parameters that are not trained beside adapters.
struct Frozen<'s> {
    path: ModulePath,
    selection: &'s Selection<'s>,
}

impl ModuleMapper for Frozen<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.selection.is_saved(&self.path.name()) { param } else { param.set_require_grad(false) }
    }
}
