//! PEFT's adapters beside the layers of a model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use adamllm_core::CoreError;
use adamllm_nn::{LanguageBackbone, Linear, Lora, ModulePath, Parameters, VisionEncoder, float_dtype};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::{PREFIX, PeftConfig, WEIGHTS};
use crate::hf::config::ModelConfig;
use crate::hf::keys::candidates;
use crate::hf::weights::{EMBEDDING, HEAD, flatten_kernel};
use crate::{ModelError, ModelFolder, VisionLanguageModel};

impl ModelFolder {
    /// Puts the adapter of a PEFT folder beside the layers of a model that was loaded from this folder, and its whole modules
    /// (`modules_to_save`) in place of the model's.
    ///
    /// # Errors
    /// [`ModelError::FileMissing`], [`ModelError::NotRead`] for pickled weights, [`ModelError::ConfigField`] for kinds of
    /// adapters that are not supported (DoRA, trained biases), [`ModelError::Safetensors`], and [`ModelError::Adapter`] for
    /// keys or shapes that do not fit.
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
        let mut left: HashMap<String, TensorView> =
            tensors.tensors().into_iter().map(|(key, view)| (plain(&key), view)).collect();

        let (dtype, device, mut model) = (model.dtype(), model.device(), model);
        for (name, linear) in model.linear_layers_mut() {
            for module in self.module_keys(&name) {
                let mut take = |factor: &str| left.remove(&format!("{module}.lora_{factor}.weight"));
                let (Some(a), Some(b)) = (take("A"), take("B")) else { continue };
                linear.lora = Some(pair(&module, linear, &a, &b, &config, dtype, &device)?);
            }
        }
        let model = self.load_whole_modules(model, &config, &mut left, &path)?;

        let mut unused: Vec<&String> = left.keys().collect();
        unused.sort();
        match unused.first() {
            None => Ok(model),
            Some(key) => {
                let (path, n) = (path.display(), unused.len());
                let detail = format!("{path}: {n} keys fit no linear layer and no module to save, first {key:?}");
                Err(ModelError::Adapter { detail })
            }
        }
    }

    /// Takes what `modules_to_save` names out of the tensors that are left.
    fn load_whole_modules<V: VisionEncoder, L: LanguageBackbone>(
        &self,
        model: VisionLanguageModel<V, L>,
        config: &PeftConfig,
        left: &mut HashMap<String, TensorView>,
        path: &Path,
    ) -> Result<VisionLanguageModel<V, L>, ModelError> {
        if config.modules_to_save.is_empty() {
            return Ok(model);
        }
        let fault = |detail: String| ModelError::Adapter { detail: format!("{}: {detail}", path.display()) };
        let unfilled = config.modules_to_save.iter().find(|entry| !left.keys().any(|key| is_in_module(key, entry)));
        if let Some(entry) = unfilled {
            return Err(fault(format!("modules_to_save names {entry:?}, and no tensor belongs to such a module")));
        }
        if !Parameters::of(&model).names().contains(&HEAD) {
            self.check_tied(config, left).map_err(fault)?;
        }

        let dtype = model.dtype();
        let path = ModulePath::default();
        let mut whole = WholeModules { path, folder: self.config(), config, left, dtype, faults: Vec::new() };
        let model = model.map(&mut whole);
        match whole.faults.into_iter().next() {
            None => Ok(model),
            Some(detail) => Err(fault(detail)),
        }
    }

    /// Where the model's head is its embedding, the adapter must hold the two alike: PEFT trains copies that may differ.
    fn check_tied(&self, config: &PeftConfig, left: &mut HashMap<String, TensorView>) -> Result<(), String> {
        let key_of = |left: &HashMap<String, TensorView>, name| {
            let keys = candidates(self.config(), name).into_iter().map(|(prefix, rest)| format!("{prefix}{rest}"));
            keys.into_iter().find(|key| left.contains_key(key))
        };

        let (head, embedding) = (key_of(left, HEAD), key_of(left, EMBEDDING));
        // The embedding alone will do where PEFT makes the head follow it (`ensure_weight_tying`).
        let alike = match (&head, &embedding) {
            (None, None) => true,
            (None, Some(_)) => config.ties_weights,
            (Some(head), Some(embedding)) => left[head].data() == left[embedding].data(),
            (Some(_), None) => false,
        };

        if !alike {
            let detail =
                "the base's head is its embedding (tie_word_embeddings), and the adapter has others for the two";
            return Err(format!("{detail}; merge it with PEFT, and give the merged folder"));
        }

        // The model has one parameter for both: the head's copy must not be left over as a key that fits nothing.
        if let Some(head) = head {
            left.remove(&head);
        }
        Ok(())
    }

    /// Every name that a layer may have in an adapter: PEFT names modules as the model was in memory, which differs from
    /// version to version.
    fn module_keys(&self, name: &str) -> Vec<String> {
        let keys = candidates(self.config(), &format!("{name}.weight")).into_iter();
        let keys = keys.map(|(prefix, rest)| format!("{prefix}{rest}"));
        keys.map(|key| key.strip_suffix(".weight").map_or(key.clone(), str::to_owned)).collect()
    }
}

/// A key without what PEFT puts around the model's own: its wrappers, and in older versions the adapter's name.
fn plain(key: &str) -> String {
    let key = key.strip_prefix(PREFIX).unwrap_or(key);
    let (module, parameter) = key.rsplit_once('.').unwrap_or(("", key));
    let module = module.strip_suffix(".default").unwrap_or(module);
    format!("{module}.{parameter}").replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".")
}

/// Whether a key belongs to a module that an entry of `modules_to_save` names: PEFT takes the modules whose names end with it.
fn is_in_module(key: &str, entry: &str) -> bool {
    key.match_indices('.').any(|(dot, _)| key[..dot].ends_with(entry))
}

/// The adapter's weights.
fn weights_file(adapter: &Path) -> Result<PathBuf, ModelError> {
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
        let fault = |detail: String| ModelError::Adapter { detail: format!("{module}.lora_{factor}: {detail}") };
        let data = values(view, dtype).map_err(fault)?;
        if view.shape() != wanted {
            return Err(fault(format!("expected shape {wanted:?}, got {:?}", view.shape())));
        }
        Ok(Param::from_tensor(Tensor::<2>::from_data(data, (device, dtype))))
    };

    Ok(Lora { a: read("A", a, [rank, d_input])?, b: read("B", b, [d_output, rank])?, scale, dropout: None })
}

/// A tensor's values in `dtype`.
fn values(view: &TensorView, dtype: DType) -> Result<TensorData, String> {
    let source = float_dtype(view.dtype()).ok_or_else(|| format!("dtype {:?} holds no weights", view.dtype()))?;
    Ok(TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), source).convert_dtype(dtype))
}

/// Puts an adapter's whole modules in place of a model's.
struct WholeModules<'a, 't> {
    path: ModulePath,
    folder: &'a ModelConfig,
    config: &'a PeftConfig,
    left: &'a mut HashMap<String, TensorView<'t>>,
    dtype: DType,
    faults: Vec<String>,
}

impl WholeModules<'_, '_> {
    /// The values for a parameter, where the adapter has any.
    fn take(&mut self, shape: &[usize]) -> Result<Option<TensorData>, String> {
        let keys =
            candidates(self.folder, &self.path.name()).into_iter().map(|(prefix, rest)| prefix.to_owned() + &rest);
        let named = |key: &String| self.config.modules_to_save.iter().any(|entry| is_in_module(key, entry));
        let Some(key) = keys.into_iter().find(|key| self.left.contains_key(key) && named(key)) else {
            return Ok(None);
        };
        let view = self.left.remove(&key).expect("just found");
        let data = flatten_kernel(values(&view, self.dtype).map_err(|e| format!("{key}: {e}"))?, shape);
        match data.shape().as_slice() == shape {
            true => Ok(Some(data)),
            false => Err(format!("{key}: expected shape {shape:?}, got {:?}", view.shape())),
        }
    }
}

impl ModuleMapper for WholeModules<'_, '_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.take(param.lazy_shape().as_slice()) {
            Ok(None) => param,
            Ok(Some(data)) => {
                let (id, device) = (param.id, param.lazy_device());
                param.transform_for_load(Tensor::from_data(data, (&device, self.dtype)), id)
            }
            Err(fault) => {
                self.faults.push(fault);
                param
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_version_are_one() {
        for (key, bare) in [
            ("base_model.model.lm_head.weight", "lm_head.weight"),
            ("base_model.model.lm_head.modules_to_save.default.weight", "lm_head.weight"),
            ("base_model.model.lm_head.modules_to_save.weight", "lm_head.weight"),
            (
                "base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight",
                "model.layers.0.mlp.up_proj.lora_A.weight",
            ),
            ("base_model.model.visual.merger.mlp.0.bias", "visual.merger.mlp.0.bias"),
        ] {
            assert_eq!(plain(key), bare);
        }
    }

    #[test]
    fn a_module_to_save_is_named_by_its_end() {
        assert!(is_in_module("model.visual.merger.mlp.0.weight", "visual.merger"));
        assert!(is_in_module("lm_head.weight", "lm_head"));
        assert!(!is_in_module("model.visual.merger.mlp.0.weight", "mlp.2"));
    }
}
