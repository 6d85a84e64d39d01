//! Low-rank adapters in the layout of PEFT (Hugging Face): `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::HashMap;
use std::path::Path;

use adamllm_core::CoreError;
use adamllm_nn::{Linear, Lora, LoraConfig};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::hf::keys::{KeyLayout, candidates};
use crate::text::read_json;
use crate::{ModelError, ModelFolder, VisionLanguageModel};

const CONFIG: &str = "adapter_config.json";
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

/// The fields of PEFT's `adapter_config.json` that matter here; others are read over.
#[derive(Deserialize, Serialize)]
struct PeftConfig {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    target_modules: Targets,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default = "no_bias")]
    bias: String,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Targets {
    Names(Vec<String>),
    Pattern(String),
}

fn no_bias() -> String {
    "none".into()
}

impl VisionLanguageModel {
    /// Freezes every weight and puts a new adapter beside each of the decoder's target layers. Adapters train as any other
    /// parameter does; [`VisionLanguageModel::merge_lora`] folds them in.
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
        let known = |target: &&String| !NAMES.iter().any(|(ours, _)| ours == target);
        if let Some(target) = config.targets.iter().find(known) {
            let known: Vec<_> = NAMES.iter().map(|(ours, _)| ours).collect();
            return Err(ModelError::Adapter { detail: format!("target {target:?} is none of {known:?}") });
        }
        let mut model = self.map(&mut Frozen);
        let device = model.device();
        for (name, linear) in model.language.linear_layers_mut() {
            if config.targets.iter().any(|target| name.ends_with(&format!(".{target}"))) {
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
    /// [`ModelError::FileMissing`], [`ModelError::ConfigField`] for kinds of adapters that are not supported (DoRA, trained
    /// biases, patterns), [`ModelError::Safetensors`], and [`ModelError::Adapter`] for keys or shapes that do not fit.
    pub fn load_adapter(&self, model: VisionLanguageModel, adapter: &Path) -> Result<VisionLanguageModel, ModelError> {
        let config = read_config(adapter)?;
        let path = adapter.join(WEIGHTS);
        let bytes = std::fs::read(&path).map_err(CoreError::io("read", &path))?;
        let broken = |detail: String| ModelError::Safetensors { path: path.clone(), detail };
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| broken(e.to_string()))?;
        let mut left: HashMap<String, TensorView> = tensors.tensors().into_iter().collect();
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
    pub fn save_adapter(&self, model: &VisionLanguageModel, config: &LoraConfig, to: &Path) -> Result<(), ModelError> {
        let mut model = model.clone();
        let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for (name, linear) in model.language.linear_layers_mut() {
            let Some(lora) = &linear.lora else { continue };
            let module = self.module_key(KeyLayout::Transformers5, &name);
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
        let broken =
            |e: safetensors::SafeTensorError| ModelError::Safetensors { path: path.clone(), detail: e.to_string() };
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
            "target_modules": config.targets.iter().map(|target| theirs(target)).collect::<Vec<_>>(),
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

/// The checkpoints' name of a layer.
fn theirs(ours: &str) -> &str {
    NAMES.iter().find(|(name, _)| *name == ours).map_or(ours, |(_, theirs)| theirs)
}

fn read_config(adapter: &Path) -> Result<PeftConfig, ModelError> {
    let path = adapter.join(CONFIG);
    let json = read_json(&path)?;
    let missing = || ModelError::FileMissing { folder: adapter.into(), expected: &[CONFIG] };
    let config: PeftConfig = serde_json::from_value(json.ok_or_else(missing)?)
        .map_err(|e| ModelError::config(&path, "(root)", "PEFT's fields of a LoRA adapter", e))?;
    let refused = [
        ("peft_type", config.peft_type != "LORA", "LORA", config.peft_type.clone()),
        ("use_dora", config.use_dora, "false", "true".into()),
        ("bias", config.bias != "none", "none", config.bias.clone()),
        ("r", config.r == 0, "at least 1", config.r.to_string()),
    ];
    match refused.into_iter().find(|(_, at_fault, ..)| *at_fault) {
        Some((field, _, expected, got)) => Err(ModelError::config(&path, field, expected, got)),
        None => Ok(config),
    }
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
    let scale = config.lora_alpha / if config.use_rslora { (config.r as f64).sqrt() } else { config.r as f64 };
    let read = |factor: &str, view: &TensorView, wanted: [usize; 2]| {
        if view.shape() != wanted {
            let detail = format!("{module}.lora_{factor}: expected shape {wanted:?}, got {:?}", view.shape());
            return Err(ModelError::Adapter { detail });
        }
        let source = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => {
                return Err(ModelError::Adapter { detail: format!("{module}.lora_{factor}: dtype {other:?}") });
            }
        };
        let data = TensorData::from_bytes_vec(view.data().to_vec(), wanted.to_vec(), source).convert_dtype(dtype);
        Ok(Param::from_tensor(Tensor::<2>::from_data(data, (device, dtype))))
    };
    Ok(Lora { a: read("A", a, [config.r, d_input])?, b: read("B", b, [d_output, config.r])?, scale })
}
