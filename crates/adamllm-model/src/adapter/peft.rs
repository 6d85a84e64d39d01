//! PEFT's `adapter_config.json`.

use adamllm_core::json::shown;
use std::path::{Path, PathBuf};

use fancy_regex::Regex;
use serde_json::{Map, Value};

use super::selection::pattern_at_end;
use crate::ModelError;
use crate::text::read_json;

pub(crate) const CONFIG: &str = "adapter_config.json";

/// A LoRA adapter's settings: those that decide what it adds to the model.
#[derive(Debug)]
pub(crate) struct PeftConfig {
    path: PathBuf,
    rank: usize,
    alpha: f64,
    rank_stabilised: bool,
    /// By pattern of module names, in the file's order.
    rank_pattern: Vec<(String, usize)>,
    alpha_pattern: Vec<(String, f64)>,
    /// Ends of the names of modules whose own weights stand in the file.
    pub(super) modules_to_save: Vec<String>,
    /// Whether a head that is tied to a saved embedding follows it (`ensure_weight_tying`).
    pub(super) ties_weights: bool,
    /// The base model: a folder or a Hub id.
    pub(crate) base: Option<String>,
}

/// Fields that say how the adapter was made, or where it stands; the weights' keys say which layers have one.
const WITHOUT_EFFECT: &[&str] = &[
    "auto_mapping",
    "inference_mode",
    "revision",
    "task_type",
    "target_modules",
    "exclude_modules",
    "lora_dropout",
    "layers_to_transform",
    "layers_pattern",
    "peft_version",
    "eva_config",
    "lora_ga_config",
    "corda_config",
    "loftq_config",
    "megatron_core",
    "runtime_config",
    "ensure_weight_tying",
    "modules_to_save",
    "base_model_name_or_path",
    "peft_type",
    "r",
    "lora_alpha",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "init_lora_weights",
    "qalora_group_size",
    "low_cpu_mem_usage",
];

/// Ways of starting that change the base's weights, so that the pair fits no untouched base.
const CHANGES_BASE: &[&str] = &["pissa", "olora", "loftq", "corda", "lora_ga"];

impl PeftConfig {
    /// Reads the settings of a PEFT folder.
    ///
    /// # Errors
    /// [`ModelError::FileMissing`], [`ModelError::Json`], and [`ModelError::ConfigField`] for what is not supported.
    pub(crate) fn read(adapter: &Path) -> Result<Self, ModelError> {
        let path = adapter.join(CONFIG);
        let missing = || ModelError::FileMissing { folder: adapter.into(), expected: &[CONFIG] };
        let json = read_json(&path)?.ok_or_else(missing)?;
        let fault = |field: &str, expected: &str, got: &Value| ModelError::config(&path, field, expected, shown(got));
        let root = json.as_object().ok_or_else(|| fault("(root)", "an object", &json))?;
        check(root, fault)?;

        let value = |name: &str| root.get(name).filter(|value| !value.is_null());
        let number = |name: &str| match value(name) {
            Some(found) => {
                let number = found.as_f64().filter(|n| n.is_finite() && *n > 0.0);
                number.ok_or_else(|| fault(name, "a number above 0", found))
            }
            None => Ok(8.0), // PEFT's default for both
        };
        let rank = number("r")?;
        if rank.fract() != 0.0 || rank > 1e6 {
            return Err(fault("r", "a whole number", &root["r"]));
        }
        let pattern = |name: &str| -> Result<Vec<(String, f64)>, ModelError> {
            let Some(found) = value(name) else { return Ok(Vec::new()) };
            let object = found.as_object().ok_or_else(|| fault(name, "an object", found))?;
            let entry = |(key, value): (&String, &Value)| {
                let number = value.as_f64().filter(|n| n.is_finite() && *n > 0.0);
                Ok((key.clone(), number.ok_or_else(|| fault(name, "numbers above 0", value))?))
            };
            object.iter().map(entry).collect()
        };
        let modules = value("modules_to_save").map_or(Ok(Vec::new()), |found| {
            let names =
                found.as_array().and_then(|list| list.iter().map(|name| name.as_str().map(str::to_owned)).collect());
            names.ok_or_else(|| fault("modules_to_save", "a list of names", found))
        })?;
        Ok(Self {
            modules_to_save: modules,
            ties_weights: value("ensure_weight_tying") == Some(&Value::Bool(true)),
            rank: rank as usize,
            alpha: number("lora_alpha")?,
            rank_stabilised: value("use_rslora") == Some(&Value::Bool(true)),
            rank_pattern: pattern("rank_pattern")?.into_iter().map(|(key, rank)| (key, rank as usize)).collect(),
            alpha_pattern: pattern("alpha_pattern")?,
            base: value("base_model_name_or_path").and_then(Value::as_str).map(str::to_owned),
            path,
        })
    }

    /// The rank of a module's pair, and the factor of its product.
    pub(super) fn rank_and_scale(&self, module: &str) -> Result<(usize, f64), ModelError> {
        let rank = self.matching("rank_pattern", &self.rank_pattern, module)?.unwrap_or(self.rank);
        let alpha = self.matching("alpha_pattern", &self.alpha_pattern, module)?.unwrap_or(self.alpha);
        let divisor = if self.rank_stabilised { (rank as f64).sqrt() } else { rank as f64 };
        Ok((rank, alpha / divisor))
    }

    /// The first entry whose pattern the module's name matches, as PEFT looks for it: the whole name, or what follows a dot.
    fn matching<T: Copy>(&self, field: &str, patterns: &[(String, T)], module: &str) -> Result<Option<T>, ModelError> {
        for (pattern, value) in patterns {
            let regex = Regex::new(&pattern_at_end(pattern))
                .map_err(|e| ModelError::config(&self.path, field, "a pattern", e))?;
            if regex.is_match(module).map_err(|e| ModelError::config(&self.path, field, "a pattern", e))? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }
}

/// Refuses every field that is not known to be without effect and is set: what would be read over could change the answers.
fn check(root: &Map<String, Value>, fault: impl Fn(&str, &str, &Value) -> ModelError) -> Result<(), ModelError> {
    for (name, value) in root {
        let unset = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(object) => object.is_empty(),
            _ => false,
        };

        match name.as_str() {
            "peft_type" if value != "LORA" => return Err(fault(name, "LORA: nothing else is supported", value)),
            "bias" if value != "none" => return Err(fault(name, "none: trained biases are not supported", value)),
            // These start from a changed base, which is not in the adapter: over the plain base it would give other
            // answers.
            "init_lora_weights" => {
                let word = value.as_str().unwrap_or("").to_ascii_lowercase();
                if CHANGES_BASE.iter().any(|kind| word.starts_with(kind)) {
                    let expected =
                        "an adapter for an unchanged base (PEFT's path_initial_model_for_weight_conversion makes one)";
                    return Err(fault(name, expected, value));
                }
            }
            "bias" => {}

            known if WITHOUT_EFFECT.contains(&known) || unset => {}
            _ => return Err(fault(name, "nothing: this kind of adapter is not supported", value)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &Value) -> Result<PeftConfig, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join(CONFIG), json.to_string()).expect("written");
        PeftConfig::read(folder.path()).map_err(|e| e.to_string())
    }

    #[test]
    fn patterns_decide_as_in_peft() {
        let config = read(&serde_json::json!({
            "peft_type": "LORA", "r": 4, "lora_alpha": 8,
            "rank_pattern": {"layers.1.self_attn.q_proj": 2, "^model.layers.0.*": 16},
            "alpha_pattern": {"self_attn.[qk]_proj": 3},
        }))
        .expect("supported");
        let of = |module| config.rank_and_scale(module).expect("patterns");
        assert_eq!(of("model.layers.1.self_attn.q_proj"), (2, 1.5));
        assert_eq!(of("model.layers.11.self_attn.q_proj"), (4, 0.75));
        assert_eq!(of("model.layers.0.mlp.up_proj"), (16, 0.5));
        assert_eq!(of("model.layers.2.mlp.up_proj"), (4, 2.0));
    }

    #[test]
    fn what_would_be_read_over_is_refused_by_name() {
        for (field, value) in [
            ("peft_type", serde_json::json!("LOHA")),
            ("use_dora", true.into()),
            ("bias", "all".into()),
            ("modules_to_save", "lm_head".into()),
            ("trainable_token_indices", serde_json::json!([3])),
            ("layer_replication", serde_json::json!([[0, 4]])),
            ("lora_bias", true.into()),
            ("init_lora_weights", "pissa_niter_4".into()),
            ("fan_in_fan_out", true.into()),
            ("r", 0.into()),
            ("of_the_future", 3.into()),
        ] {
            let mut json = serde_json::json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"});
            json[field] = value;
            let error = read(&json).expect_err("not supported");
            assert!(error.contains(&format!("`{field}`")), "{error}");
        }
    }
}
