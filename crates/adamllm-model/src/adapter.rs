//! Low-rank adapters in the layout of PEFT (Hugging Face): `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use adamllm_core::CoreError;
use adamllm_nn::{LanguageBackbone, Linear, Lora, LoraConfig, VisionEncoder};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::hf::keys::{KeyLayout, candidates};
use crate::hf::weights::float_dtype;
use crate::{ModelError, ModelFolder, VisionLanguageModel};

mod peft;

pub(crate) use peft::{CONFIG, PeftConfig};

const WEIGHTS: &str = "adapter_model.safetensors";
/// PEFT wraps the model twice.
const PREFIX: &str = "base_model.model.";

/// Layer names: ours, and those of Hugging Face checkpoints.
const NAMES: [(&str, &str); 7] = [
    ("query", "q_proj"),
    ("key", "k_proj"),
    ("value", "v_proj"),
    ("output", "o_proj"),
    ("gate", "gate_proj"),
    ("up", "up_proj"),
    ("down", "down_proj"),
];

impl<V: VisionEncoder, L: LanguageBackbone> VisionLanguageModel<V, L> {
    /// Freezes every weight and puts a new adapter beside each of the backbone's target layers. Adapters train as any other
    /// parameter does; [`VisionLanguageModel::merge_lora`] folds them in.
    ///
    /// ```
    /// use adamllm_language::DecoderConfig;
    /// use adamllm_model::{AutoVisionEncoder, VisionLanguageModel};
    /// use adamllm_nn::{LoraConfig, Parameters};
    /// use burn::tensor::Device;
    ///
    /// let decoder = DecoderConfig::tiny().init(&Device::flex());
    /// let model = VisionLanguageModel::<AutoVisionEncoder>::new(None, decoder);
    /// let config = LoraConfig { rank: 4, alpha: 8.0, targets: vec!["query".into(), "value".into()] };
    /// let adapted = model.with_lora(&config)?;
    /// assert!(Parameters::of(&adapted).names().contains(&"language.layers.0.attention.query.lora.a"));
    /// # Ok::<(), adamllm_model::ModelError>(())
    /// ```
    ///
    /// # Errors
    /// [`ModelError::Adapter`] if a target names no layer.
    pub fn with_lora(self, config: &LoraConfig) -> Result<Self, ModelError> {
        struct Frozen;
        impl ModuleMapper for Frozen {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                param.set_require_grad(false)
            }
        }
        let fault = |detail: String| Err(ModelError::Adapter { detail });
        if config.rank == 0 || !(config.alpha.is_finite() && config.alpha > 0.0) {
            return fault(format!("expected a rank and an alpha above 0, got {} and {}", config.rank, config.alpha));
        }
        if config.targets.is_empty() {
            return fault("expected targets, got none: no layer would get an adapter".into());
        }
        let mut model = self.map(&mut Frozen);
        let layers = model.language.linear_layers_mut();
        let known: BTreeSet<&str> = layers.iter().map(|(name, _)| last(name)).collect();
        if let Some(target) = config.targets.iter().find(|target| !known.contains(ours(target))) {
            return fault(format!("target {target:?} is none of {known:?}"));
        }
        let device = model.device();
        for (name, linear) in model.language.linear_layers_mut() {
            if config.targets.iter().any(|target| ours(target) == last(&name)) {
                let [d_output, d_input] = linear.weight.lazy_shape().dims();
                linear.lora = Some(Lora::init(d_input, d_output, config, &device));
            }
        }
        Ok(model)
    }

    /// Adds every adapter to the weight beside it, and drops it.
    pub fn merge_lora(mut self) -> Self {
        for (_, linear) in self.language.linear_layers_mut() {
            let merged = linear.clone().merge_lora();
            *linear = merged;
        }
        self
    }
}

impl ModelFolder {
    /// Puts the adapter of a PEFT folder beside the layers of a model that was loaded from this folder.
    ///
    /// # Errors
    /// [`ModelError::FileMissing`], [`ModelError::NotRead`] for pickled weights, [`ModelError::ConfigField`] for kinds of
    /// adapters that are not supported (DoRA, trained biases, whole modules), [`ModelError::Safetensors`], and
    /// [`ModelError::Adapter`] for keys or shapes that do not fit.
    pub fn load_adapter<V: VisionEncoder, L: LanguageBackbone>(
        &self,
        model: VisionLanguageModel<V, L>,
        adapter: &Path,
    ) -> Result<VisionLanguageModel<V, L>, ModelError> {
        let config = PeftConfig::read(adapter)?;
        let path = weights_file(adapter)?;
        let bytes = std::fs::read(&path).map_err(CoreError::io("read", &path))?;
        let broken = |e: safetensors::SafeTensorError| ModelError::Safetensors { path: path.clone(), source: e.into() };
        let tensors = SafeTensors::deserialize(&bytes).map_err(broken)?;
        // Older versions wrote the adapter's own name into the keys.
        let plain = |key: String| key.replace(".default.weight", ".weight");
        let mut left: HashMap<String, TensorView> =
            tensors.tensors().into_iter().map(|(key, view)| (plain(key), view)).collect();
        let (dtype, device, mut model) = (model.dtype(), model.device(), model);
        for (name, linear) in model.language.linear_layers_mut() {
            for module in self.module_keys(&name) {
                let mut take = |factor: &str| left.remove(&format!("{PREFIX}{module}.lora_{factor}.weight"));
                let (Some(a), Some(b)) = (take("A"), take("B")) else { continue };
                linear.lora = Some(pair(&module, linear, &a, &b, &config, dtype, &device)?);
            }
        }
        let mut unused: Vec<&String> = left.keys().collect();
        unused.sort();
        match unused.first() {
            None => Ok(model),
            Some(key) => {
                let detail = format!("{}: {} keys fit no layer, first {key:?}", path.display(), unused.len());
                Err(ModelError::Adapter { detail })
            }
        }
    }

    /// Writes the adapters of a model that was loaded from this folder as PEFT reads them, in f32. PEFT asks for modules by the
    /// names that they have in memory, which since transformers 4.52 are those of [`KeyLayout::Transformers5`], whatever the
    /// layout of the folder's own files.
    ///
    /// # Errors
    /// [`ModelError::Adapter`] if the model has none, or they are not alike; [`ModelError::Core`] where a file cannot be
    /// written.
    pub fn save_adapter<V: VisionEncoder, L: LanguageBackbone>(
        &self,
        model: &VisionLanguageModel<V, L>,
        config: &LoraConfig,
        to: &Path,
    ) -> Result<(), ModelError> {
        self.save_adapter_as(model, config, KeyLayout::Transformers5, to)
    }

    /// As [`ModelFolder::save_adapter`], with the modules' names of another version: those of [`KeyLayout::Hub2024`] are what
    /// transformers before 4.52 has in memory.
    ///
    /// # Errors
    /// As [`ModelFolder::save_adapter`].
    pub fn save_adapter_as<V: VisionEncoder, L: LanguageBackbone>(
        &self,
        model: &VisionLanguageModel<V, L>,
        config: &LoraConfig,
        layout: KeyLayout,
        to: &Path,
    ) -> Result<(), ModelError> {
        if self.adapter().is_some() {
            let detail = "its base has an adapter already; save the merged model, and train the next adapter on that";
            return Err(ModelError::Adapter { detail: detail.into() });
        }
        let mut model = model.clone();
        let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for (name, linear) in model.language.linear_layers_mut() {
            let Some(lora) = &linear.lora else { continue };
            let module = self.module_key(layout, &name);
            for (factor, param) in [("A", &lora.a), ("B", &lora.b)] {
                let data = param.val().into_data().convert::<f32>();
                let key = format!("{PREFIX}{module}.lora_{factor}.weight");
                tensors.push((key, data.shape().as_slice().to_vec(), data.as_bytes().to_vec()));
            }
        }
        if tensors.is_empty() {
            return Err(ModelError::Adapter { detail: "the model has no adapter".into() });
        }
        std::fs::create_dir_all(to).map_err(CoreError::io("create", to))?;
        let path = to.join(WEIGHTS);
        let broken = |e: safetensors::SafeTensorError| ModelError::Safetensors { path: path.clone(), source: e.into() };
        let views: Result<Vec<_>, _> = tensors
            .iter()
            .map(|(key, shape, bytes)| TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (key, view)))
            .collect();
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let bytes = safetensors::serialize(views.map_err(broken)?, Some(metadata)).map_err(broken)?;
        adamllm_core::write_atomically(&path, bytes)?;
        let json = self.peft_config(config);
        Ok(adamllm_core::write_atomically(to.join(CONFIG), format!("{json:#}\n"))?)
    }

    fn peft_config(&self, config: &LoraConfig) -> Value {
        serde_json::json!({
            "base_model_name_or_path": self.path().to_string_lossy(),
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "lora_alpha": config.alpha,
            "lora_dropout": 0.0,
            "peft_type": "LORA",
            "r": config.rank,
            "target_modules": target_pattern(&config.targets),
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": false,
        })
    }

    /// Every name that a layer may have in an adapter: PEFT names modules as the model was in memory, which differs from
    /// version to version.
    fn module_keys(&self, name: &str) -> Vec<String> {
        let keys = candidates(self.config(), &format!("language.{name}.weight")).into_iter();
        keys.map(|(prefix, rest)| format!("{prefix}{}", rest.strip_suffix(".weight").unwrap_or(&rest))).collect()
    }

    fn module_key(&self, layout: KeyLayout, name: &str) -> String {
        let key = layout.key(self.config(), &format!("language.{name}.weight"));
        key.strip_suffix(".weight").unwrap_or(&key).to_owned()
    }
}

/// Our name of a target, which may be given as checkpoints call it. Layers of a backbone of one's own have their own names.
fn ours(target: &str) -> &str {
    NAMES.iter().find(|(_, theirs)| *theirs == target).map_or(target, |(ours, _)| ours)
}

/// The last part of a path of field names.
fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// A regular expression, as PEFT matches it against a module's whole name: the targets in the decoder's layers, in every
/// version's naming, and nothing of the vision encoder, whose layers have the same names.
fn target_pattern(targets: &[String]) -> String {
    let theirs = |target: &'_ String| NAMES.iter().find(|(name, _)| *name == ours(target)).map(|(_, theirs)| *theirs);
    let names: Vec<&str> = targets.iter().map(|target| theirs(target).unwrap_or(target)).collect();
    format!(r"(?!.*(?:vis|projector)).*\blayers\.\d+\.(?:self_attn|cross_attn|mlp)\.(?:{})", names.join("|"))
}

/// The adapter's weights.
fn weights_file(adapter: &Path) -> Result<std::path::PathBuf, ModelError> {
    let (path, pickled) = (adapter.join(WEIGHTS), adapter.join("adapter_model.bin"));
    if !path.exists() && pickled.exists() {
        let detail =
            "pickled weights are not read; save the adapter again as safetensors (PEFT does by default)".into();
        return Err(ModelError::NotRead { path: pickled, detail });
    }
    Ok(path)
}

fn pair(
    module: &str,
    linear: &Linear,
    a: &TensorView,
    b: &TensorView,
    config: &PeftConfig,
    dtype: DType,
    device: &Device,
) -> Result<Lora, ModelError> {
    let [d_output, d_input] = linear.weight.lazy_shape().dims();
    let (rank, scale) = config.rank_and_scale(module)?;
    let read = |factor: &str, view: &TensorView, wanted: [usize; 2]| {
        if view.shape() != wanted {
            let detail = format!("{module}.lora_{factor}: expected shape {wanted:?}, got {:?}", view.shape());
            return Err(ModelError::Adapter { detail });
        }
        let source = float_dtype(view.dtype()).ok_or_else(|| ModelError::Adapter {
            detail: format!("{module}.lora_{factor}: dtype {:?}", view.dtype()),
        })?;
        let data = TensorData::from_bytes_vec(view.data().to_vec(), wanted.to_vec(), source).convert_dtype(dtype);
        Ok(Param::from_tensor(Tensor::<2>::from_data(data, (device, dtype))))
    };
    Ok(Lora { a: read("A", a, [rank, d_input])?, b: read("B", b, [d_output, rank])?, scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names that transformers' versions give modules in memory.
    #[test]
    fn exported_targets_match_the_decoder_alone() {
        let pattern = target_pattern(&["query".into(), "gate".into()]);
        let whole = fancy_regex::Regex::new(&format!("^(?:{pattern})$")).expect("a pattern");
        for (module, matches) in [
            ("model.layers.0.self_attn.q_proj", true),
            ("model.language_model.layers.11.mlp.gate_proj", true),
            ("language_model.model.layers.3.self_attn.q_proj", true),
            ("model.language_model.layers.3.cross_attn.q_proj", true),
            ("model.language_model.layers.3.self_attn.k_proj", false),
            ("model.text_model.layers.3.self_attn.q_proj", true),
            ("model.vision_model.encoder.layers.3.self_attn.q_proj", false),
            ("model.vision_tower.encoder.layers.0.self_attn.q_proj", false),
            ("vision_tower.vision_model.encoder.layers.0.self_attn.q_proj", false),
            ("model.visual.blocks.0.mlp.gate_proj", false),
            ("model.vision_model.global_transformer.layers.1.self_attn.q_proj", false),
        ] {
            assert_eq!(whole.is_match(module).expect("short"), matches, "{module}");
        }
    }
}
