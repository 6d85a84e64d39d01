//! A model's adapters as PEFT reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use adamllm_core::CoreError;
use adamllm_nn::{LanguageBackbone, LoraConfig, Parameters, StoredTensor, VisionEncoder, snapshots};
use safetensors::Dtype;
use serde_json::{Map, Value};

use super::{CONFIG, PREFIX, Selection, WEIGHTS};
use crate::folder::write_weights;
use crate::hf::keys::KeyLayout;
use crate::hf::weights::{EMBEDDING, HEAD};
use crate::{ModelError, ModelFolder, VisionLanguageModel};

/// A layer with an adapter, by its name in PEFT.
struct Adapted {
    module: String,
    rank: usize,
    alpha: f64,
}

/// A parameter that is trained in full.
struct Saved {
    name: String,
    module: String,
    key: String,
}

impl ModelFolder {
    /// Writes the adapters of a model that was loaded from this folder as PEFT reads them, in f32, and beside them the modules
    /// that [`LoraConfig::modules_to_save`] names. PEFT asks for modules by the names that they have in memory, which since
    /// transformers 4.52 are those of [`KeyLayout::Transformers5`], whatever the layout of the folder's own files.
    ///
    /// # Errors
    /// [`ModelError::Adapter`] if the model has none, they are not of the configuration's rank and scale, or something is
    /// trained in full that PEFT cannot save; [`ModelError::Core`] where a file cannot be written.
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
        let selection = Selection::new(config)?;
        let saved = self.saved_modules(model, &selection, layout)?;
        let mut model = model.clone();
        let (mut tensors, mut adapted, mut others) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (name, linear) in model.linear_layers_mut() {
            let module = self.module_key(layout, &name);
            let Some(lora) = &linear.lora else {
                others.push(module);
                continue;
            };
            let LoraConfig { rank, alpha, .. } = matching(&selection, &name, lora)?;
            for (factor, param) in [("A", &lora.a), ("B", &lora.b)] {
                let key = format!("{PREFIX}{module}.lora_{factor}.weight");
                tensors.insert(key, StoredTensor::from_data(param.val().into_data().convert::<f32>()));
            }
            adapted.push(Adapted { module, rank, alpha });
        }
        if adapted.is_empty() {
            return Err(ModelError::Adapter { detail: "the model has no adapter".into() });
        }
        for snapshot in snapshots(&model) {
            let Some(Saved { key, .. }) = saved.iter().find(|saved| saved.name == snapshot.info.name) else { continue };
            let shape = self.stored_shape(&snapshot.info.name, &snapshot.info.shape);
            tensors
                .insert(format!("{PREFIX}{key}"), StoredTensor::from_read(Dtype::F32, shape, move || snapshot.read()));
        }

        std::fs::create_dir_all(to).map_err(CoreError::io("create", to))?;
        write_weights(tensors, [("format".to_owned(), "pt".to_owned())].into(), &to.join(WEIGHTS))?;
        let json = self.peft_config(config, &adapted, &others, &saved);
        Ok(adamllm_core::write_atomically(to.join(CONFIG), format!("{json:#}\n"))?)
    }

    /// Whether [`ModelFolder::save_adapter`] could write what a model with such adapters trains: to be asked before a long run.
    ///
    /// # Errors
    /// [`ModelError::Adapter`] names what PEFT cannot save.
    pub fn check_adapter<V: VisionEncoder, L: LanguageBackbone>(
        &self,
        model: &VisionLanguageModel<V, L>,
        config: &LoraConfig,
    ) -> Result<(), ModelError> {
        self.saved_modules(model, &Selection::new(config)?, KeyLayout::Transformers5).map(|_| ())
    }

    /// The parameters that are trained in full, with the modules that PEFT knows them by.
    fn saved_modules<V: VisionEncoder, L: LanguageBackbone>(
        &self,
        model: &VisionLanguageModel<V, L>,
        selection: &Selection,
        layout: KeyLayout,
    ) -> Result<Vec<Saved>, ModelError> {
        let fault = |detail: String| ModelError::Adapter { detail };

        if self.adapter().is_some() {
            let detail = "its base has an adapter already; save the merged model, and train the next adapter on that";
            return Err(fault(detail.into()));
        }

        let parameters = Parameters::of(model);
        let names = parameters.names();
        let is_factor = |name: &str| name.ends_with(".lora.a") || name.ends_with(".lora.b");
        let mut saved = Vec::new();

        for name in names.iter().filter(|name| selection.is_saved(name) && !is_factor(name)) {
            if *name == EMBEDDING && !names.contains(&HEAD) {
                let detail = "modules_to_save: the embedding is the head too (tie_word_embeddings), which PEFT would leave as it was";
                return Err(fault(format!("{detail}; export the merged model")));
            }

            let key = layout.key(self.config(), name);
            let module = key.strip_suffix(".weight").or(key.strip_suffix(".bias"));
            let module = module.ok_or_else(|| {
                let detail = "a parameter without a module of its own, which PEFT cannot save; export the merged model, or name the modules beside it";
                fault(format!("modules_to_save: {name} is {detail}"))
            })?;
            saved.push(Saved { name: (*name).to_owned(), module: module.to_owned(), key: key.clone() });
        }
        Ok(saved)
    }

    fn peft_config(&self, config: &LoraConfig, adapted: &[Adapted], others: &[String], saved: &[Saved]) -> Value {
        let ranks = adapted.iter().map(|layer| (layer.module.as_str(), layer.rank));
        let alphas = adapted.iter().map(|layer| (layer.module.as_str(), Number(layer.alpha)));
        let modules: BTreeSet<&str> = saved.iter().map(|saved| saved.module.as_str()).collect();

        serde_json::json!({
            "alpha_pattern": patterns(alphas, &Number(config.alpha)),
            "base_model_name_or_path": self.path().to_string_lossy(),
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "lora_alpha": Value::from(Number(config.alpha)),
            "lora_dropout": config.dropout,
            "modules_to_save": (!modules.is_empty()).then_some(modules),
            "peft_type": "LORA",
            "r": config.rank,
            "rank_pattern": patterns(ranks, &config.rank),
            "target_modules": target_modules(adapted, others),
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": config.rslora,
        })
    }

    fn module_key(&self, layout: KeyLayout, name: &str) -> String {
        let key = layout.key(self.config(), &format!("{name}.weight"));
        key.strip_suffix(".weight").unwrap_or(&key).to_owned()
    }
}

/// A number that JSON has as a whole one where it is: PEFT's alphas are integers in most files.
#[derive(Clone, Copy, PartialEq)]
struct Number(f64);

impl From<Number> for Value {
    fn from(Number(number): Number) -> Self {
        match number.fract() == 0.0 && number < 1e15 {
            true => (number as u64).into(),
            false => number.into(),
        }
    }
}

/// The configuration of a layer's adapter, which must be the one that the adapter has.
fn matching(selection: &Selection, name: &str, lora: &adamllm_nn::Lora) -> Result<LoraConfig, ModelError> {
    let config = selection.of_layer(name)?;
    let [rank, _] = lora.a.lazy_shape().dims();
    if rank != config.rank || (lora.scale - config.scale()).abs() > 1e-6 * lora.scale.abs() {
        let (wanted, scale) = (config.rank, config.scale());
        let detail = format!(
            "the adapter of {name} has rank {rank} and scale {}, the configuration says {wanted} and {scale}",
            lora.scale
        );
        return Err(ModelError::Adapter { detail });
    }
    Ok(config)
}

/// PEFT's `target_modules`: a regular expression for whole names that matches the layers with an adapter and no other linear
/// layer; where some blocks of a kind have one and others have none, the list of names.
fn target_modules(adapted: &[Adapted], others: &[String]) -> Value {
    let patterns: BTreeSet<String> = adapted.iter().map(|layer| any_block(&layer.module)).collect();
    if others.iter().any(|module| patterns.contains(&any_block(module))) {
        return adapted.iter().map(|layer| layer.module.clone()).collect();
    }
    Value::String(patterns.into_iter().collect::<Vec<_>>().join("|"))
}

/// PEFT's `rank_pattern` or `alpha_pattern`: what differs from the default, blocks that are alike together.
fn patterns<'a, T>(layers: impl Iterator<Item = (&'a str, T)>, default: &T) -> Map<String, Value>
where
    T: Copy + PartialEq + Into<Value>,
{
    let mut by_pattern: BTreeMap<String, Vec<(&str, T)>> = BTreeMap::new();
    for (module, value) in layers {
        by_pattern.entry(any_block(module)).or_default().push((module, value));
    }
    let mut found = Map::new();
    for (pattern, layers) in by_pattern {
        let first = layers[0].1;
        let alike = layers.iter().all(|(_, value)| *value == first);
        let each = layers.into_iter().map(|(module, value)| (fancy_regex::escape(module).into_owned(), value));
        let entries = if alike { vec![(pattern, first)] } else { each.collect() };
        let differing = entries.into_iter().filter(|(_, value)| value != default);
        found.extend(differing.map(|(pattern, value)| (pattern, value.into())));
    }
    found
}

/// A module's name as a regular expression in which the number of a block is any number. A number at the end is no block's:
/// modules beside it may be activations.
fn any_block(module: &str) -> String {
    let parts: Vec<&str> = module.split('.').collect();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let part = |(i, part): (usize, &&str)| match is_number(part) && i + 1 < parts.len() {
        true => r"\d+".to_owned(),
        false => fancy_regex::escape(part).into_owned(),
    };
    parts.iter().enumerate().map(part).collect::<Vec<_>>().join(r"\.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(modules: &[&str]) -> Vec<Adapted> {
        modules.iter().map(|module| Adapted { module: (*module).to_owned(), rank: 4, alpha: 8.0 }).collect()
    }

    #[test]
    fn exported_targets_match_the_adapted_layers_alone() {
        let layers = [
            "model.language_model.layers.0.self_attn.q_proj",
            "model.language_model.layers.11.self_attn.q_proj",
            "model.visual.merger.mlp.0",
        ];
        let others =
            ["model.language_model.layers.0.self_attn.k_proj".to_owned(), "model.visual.merger.mlp.2".to_owned()];
        let Value::String(pattern) = target_modules(&adapted(&layers), &others) else { panic!("a pattern") };
        let whole = fancy_regex::Regex::new(&format!("^(?:{pattern})$")).expect("a pattern");
        assert!(layers.iter().all(|module| whole.is_match(module).expect("short")));
        assert!(!others.iter().any(|module| whole.is_match(module).expect("short")));
        assert!(!whole.is_match("model.vision_tower.layers.0.self_attn.q_proj").expect("short"));
        assert!(!whole.is_match("model.visual.merger.mlp.1").expect("short"), "an activation");

        let one = adapted(&layers[..1]);
        let names = target_modules(&one, &[layers[1].to_owned()]);
        assert_eq!(names, serde_json::json!([layers[0]]), "blocks that differ are named one by one");
    }

    #[test]
    fn blocks_that_are_alike_share_a_pattern() {
        let all = [("a.0.q", 2), ("a.1.q", 2), ("a.0.k", 4), ("a.1.k", 3), ("a.0.v", 4), ("a.1.v", 4)];
        let found = patterns(all.into_iter(), &4);
        assert_eq!(Value::Object(found), serde_json::json!({r"a\.1\.k": 3, r"a\.\d+\.q": 2}));
    }
}
