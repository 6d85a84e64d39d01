//! `config.json` of the supported families, old Hub layout and transformers 5, as one plain value.

use adamllm_core::json::shown;
use std::path::{Path, PathBuf};

use adamllm_language::DecoderConfig;
use serde_json::{Map, Value};

use super::defaults;
use super::fields::Fields;
use crate::families::Family;
use crate::{ModelError, VisionConfig};

/// What `config.json` says.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The family.
    pub family: Family,
    /// The language side.
    pub decoder: DecoderConfig,
    /// The vision side, where the family has one.
    pub vision: Option<VisionConfig>,
    /// The placeholder's token id, where the family reads images and `config.json` tells.
    pub image_token: Option<u32>,
    /// Whether this is LLaVA's first layout (`model_type` is `llava_llama`), whose folders bring no template for images.
    pub first_layout: bool,
    /// The longest context the model was made for.
    pub max_context: usize,
}

/// A parsed `config.json`.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    pub(crate) root: Map<String, Value>,
}

impl ModelConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// [`ModelError::Core`], [`ModelError::Json`], [`ModelError::UnknownFamily`], [`ModelError::Quantised`],
    /// [`ModelError::ConfigField`] for a field that cannot be used, and for one that would change what the model computes
    /// and is not supported.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(path).map_err(adamllm_core::CoreError::io("read", path))?;
        let root: Map<String, Value> =
            serde_json::from_str(&text).map_err(|source| ModelError::Json { path: path.into(), source })?;
        let file = ConfigFile { path: path.into(), root };
        file.not_quantised()?;
        (file.family()?.rules().config)(&file)
    }
}

impl ConfigFile {
    /// The section of this name; the root for an empty one. An absent section is `None`, and so is null.
    pub(crate) fn section(&self, name: &str) -> Result<Option<&Map<String, Value>>, ModelError> {
        if name.is_empty() {
            return Ok(Some(&self.root));
        }
        match self.root.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(section)) => Ok(Some(section)),
            Some(other) => Err(ModelError::config(&self.path, name, "an object", shown(other))),
        }
    }

    /// The root's fields, with the defaults of the family's own class.
    pub(crate) fn root_fields(&self, family: &str) -> Fields<'_> {
        Fields::new(&self.path, "", &self.root, defaults::of(family, "config"))
    }

    /// The vision encoder's fields. Where the file has no such section, it holds what the class fills in then.
    pub(crate) fn vision_fields(&self, family: &str) -> Result<Fields<'_>, ModelError> {
        let given = self.section("vision_config")?.unwrap_or_else(|| defaults::absent(family, "vision_config"));
        Ok(Fields::new(&self.path, "vision_config", given, defaults::of(family, "vision_config")))
    }

    /// The decoder's fields: nested in `text_config`, which then holds all of them, or at the root (2024).
    pub(crate) fn text_fields(&self, text_defaults: &'static Map<String, Value>) -> Result<Fields<'_>, ModelError> {
        Ok(match self.section("text_config")? {
            Some(nested) => Fields::new(&self.path, "text_config", nested, text_defaults),
            None => Fields::new(&self.path, "", &self.root, text_defaults),
        })
    }

    /// Whether the head is the embedding where the files hold no head: the flag stands at the root, in `text_config`, or in
    /// both, as the version that saved the file had it.
    pub(crate) fn tied(&self) -> Result<bool, ModelError> {
        let flag = |section: Option<&Map<String, Value>>| match section.and_then(|s| s.get("tie_word_embeddings")) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(tied)) => Ok(*tied),
            Some(other) => Err(ModelError::config(&self.path, "tie_word_embeddings", "true or false", shown(other))),
        };
        Ok(flag(Some(&self.root))? || flag(self.section("text_config")?)?)
    }

    /// The placeholder's token, under either of its names.
    pub(crate) fn image_token(&self, fields: &Fields) -> Result<Option<u32>, ModelError> {
        let token = fields.optional_count(&["image_token_id", "image_token_index"], 0..=super::fields::MOST)?;
        Ok(token.map(|token| token as u32))
    }

    fn family(&self) -> Result<Family, ModelError> {
        let found = match self.root.get("model_type") {
            Some(Value::String(name)) => name.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => return Err(ModelError::config(&self.path, "model_type", "a word", shown(other))),
        };
        let known = |family: &Family| family.rules().model_types.contains(&found.as_str());
        let unknown = || ModelError::UnknownFamily {
            path: self.path.clone(),
            found: found.clone(),
            known: Family::ALL.iter().flat_map(|family| family.rules().model_types).copied().collect(),
        };
        Family::ALL.into_iter().find(known).ok_or_else(unknown)
    }

    /// Weights of a quantised folder are packed; nothing of them would fit.
    fn not_quantised(&self) -> Result<(), ModelError> {
        let sections = [Some(&self.root), self.section("text_config")?];
        let config = |name| sections.iter().flatten().find_map(|section| section.get(name).filter(|v| !v.is_null()));
        let Some(found) = config("quantization_config").or_else(|| config("compression_config")) else { return Ok(()) };
        let word = |name: &str| found.get(name).and_then(Value::as_str).map(str::to_owned);
        let flag = |name: &str| found.get(name).and_then(Value::as_bool) == Some(true);
        let method = word("quant_method").or_else(|| word("quant_algo")).unwrap_or_else(|| {
            let bits = flag("load_in_4bit") || flag("load_in_8bit");
            if bits { "bitsandbytes".into() } else { "an unnamed method".into() }
        });
        Err(ModelError::Quantised { path: self.path.clone(), method })
    }
}
