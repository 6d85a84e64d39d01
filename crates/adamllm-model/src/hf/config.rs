//! `config.json` of the supported families, old Hub layout and transformers 5, as one plain value.

use adamllm_core::json::shown;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adamllm_language::DecoderConfig;
use serde_json::{Map, Value};

use super::defaults;
use super::fields::Fields;
use super::weights::WeightFiles;
use crate::families::{Families, Family};
use crate::{ModelError, VisionConfig};

/// What `config.json` says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ModelConfig {
    /// The family.
    pub family: Family,
    /// The language side.
    pub decoder: DecoderConfig,
    /// The vision side, where the family has one.
    pub vision: Option<Arc<dyn VisionConfig>>,
    /// The placeholder's token id, where the family reads images and `config.json` names it.
    pub image_token: Option<u32>,
    /// The longest context the model was made for.
    pub max_context: usize,
}

/// A parsed `config.json`.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConfigFile {
    /// Where the file is.
    pub path: PathBuf,
    /// What stands in it.
    pub root: Map<String, Value>,
}

impl ModelConfig {
    /// A family's configuration without images.
    pub fn text_only(family: Family, decoder: DecoderConfig, max_context: usize) -> Self {
        Self { family, decoder, vision: None, image_token: None, max_context }
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// [`ModelError::Core`], [`ModelError::Json`], [`ModelError::UnknownFamily`], [`ModelError::Quantised`],
    /// [`ModelError::ConfigField`] for a field that cannot be used, and for one that would change what the model computes
    /// and is not supported.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        Self::read_with(path, &Families::default())
    }

    /// As [`ModelConfig::read`], with the family looked for among `families`.
    ///
    /// # Errors
    /// As [`ModelConfig::read`].
    pub fn read_with(path: &Path, families: &Families) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(path).map_err(adamllm_core::CoreError::io("read", path))?;
        let root: Map<String, Value> =
            serde_json::from_str(&text).map_err(|source| ModelError::Json { path: path.into(), source })?;
        let file = ConfigFile { path: path.into(), root };
        file.not_quantised()?;
        file.family(families)?.config(&file)
    }
}

impl ConfigFile {
    /// The section of this name; the root for an empty one. An absent section is `None`, and so is null.
    ///
    /// # Errors
    /// [`ModelError::ConfigField`] for what is no section.
    pub fn section(&self, name: &str) -> Result<Option<&Map<String, Value>>, ModelError> {
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
    ///
    /// # Errors
    /// As [`ConfigFile::section`].
    pub fn text_fields(&self, text_defaults: &'static Map<String, Value>) -> Result<Fields<'_>, ModelError> {
        Ok(match self.section("text_config")? {
            Some(nested) => Fields::new(&self.path, "text_config", nested, text_defaults),
            None => Fields::new(&self.path, "", &self.root, text_defaults),
        })
    }

    /// Whether the head is the embedding where the files hold no head: the flag stands at the root, in `text_config`, or in
    /// both, as the version that saved the file had it.
    ///
    /// # Errors
    /// [`ModelError::ConfigField`] for a flag that is neither true nor false.
    pub fn tied(&self) -> Result<bool, ModelError> {
        let flag = |section: Option<&Map<String, Value>>| match section.and_then(|s| s.get("tie_word_embeddings")) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(tied)) => Ok(*tied),
            Some(other) => Err(ModelError::config(&self.path, "tie_word_embeddings", "true or false", shown(other))),
        };
        Ok(flag(Some(&self.root))? || flag(self.section("text_config")?)?)
    }

    /// The placeholder's token, under either of its names.
    ///
    /// # Errors
    /// [`ModelError::ConfigField`] for what is no token's id.
    pub fn image_token(&self, fields: &Fields) -> Result<Option<u32>, ModelError> {
        let token = fields.optional_count(&["image_token_id", "image_token_index"], 0..=super::fields::MOST)?;
        Ok(token.map(|token| token as u32))
    }

    fn family(&self, families: &Families) -> Result<Family, ModelError> {
        let found = match self.root.get("model_type") {
            Some(Value::String(name)) => name.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => return Err(ModelError::config(&self.path, "model_type", "a word", shown(other))),
        };
        let unknown = || ModelError::UnknownFamily {
            path: self.path.clone(),
            found: found.clone(),
            known: families.iter().flat_map(|family| family.model_types()).copied().collect(),
        };
        if let Some(family) = families.find(&found) {
            return Ok(family);
        }
        let mut refused = families.iter().flat_map(|family| family.refused_types());
        match refused.find(|(name, _)| *name == found) {
            Some((_, instead)) => Err(ModelError::config(&self.path, "model_type", *instead, &found)),
            None => Err(unknown()),
        }
    }

    /// Weights of a quantised folder are packed. Those of bitsandbytes in 4 bits are read; nothing of the others would fit.
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
        // Weights in 4 bits are read as they are, unless their bytes stand for other numbers. Where the files hold none, whoever
        // reads the folder is meant to make them.
        let four_bit = method == "bitsandbytes" && flag("load_in_4bit");
        let folder = self.path.parent().unwrap_or(Path::new("."));
        if four_bit
            && word("bnb_4bit_quant_storage").is_none_or(|storage| storage == "uint8")
            && WeightFiles::open(folder).is_ok_and(|files| files.is_packed())
        {
            return Ok(());
        }
        Err(ModelError::Quantised { path: self.path.clone(), method })
    }
}

#[cfg(test)]
mod tests {
    use adamllm_nn::Parameters;
    use burn::tensor::Device;

    use super::*;
    use crate::VisionLanguageModel;

    /// Names and shapes only: no weight is made. The totals are those that the Hub shows for the checkpoints' safetensors.
    #[test]
    fn parameters_of_the_published_checkpoints() {
        let published = [
            (ModelConfig::qwen2_vl_2b(), 2_208_985_600),
            (ModelConfig::qwen2_5_vl_3b(), 3_754_622_976),
            (ModelConfig::qwen3_vl_2b(), 2_127_532_032),
            (ModelConfig::qwen3_vl_4b(), 4_437_815_808),
            (ModelConfig::qwen3_vl_8b(), 8_767_123_696),
            (ModelConfig::llava_next_llama3_8b(), 8_354_752_512),
            (ModelConfig::llama3_2_11b_vision(), 10_670_220_835),
            (ModelConfig::smolvlm_256m(), 256_484_928),
            (ModelConfig::smolvlm_500m(), 507_482_304),
            (ModelConfig::smolvlm_2_2b(), 2_246_272_880),
            (ModelConfig::llama3_8b(), 8_030_261_248),
            (ModelConfig::qwen2_1_5b(), 1_543_714_304),
            // Its files hold the tied head a second time: 751,632,384 there.
            (ModelConfig::qwen3_0_6b(), 751_632_384 - 151_936 * 1024),
        ];
        for (config, n) in published {
            let model: VisionLanguageModel = VisionLanguageModel::init(&config, &Device::flex());
            assert_eq!(Parameters::of(&model).n_elements(), n, "{:?}", config.family);
        }
    }
}
