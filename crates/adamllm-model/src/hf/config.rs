//! `config.json` of the supported families, old Hub layout and transformers 5, as one plain value.

use std::path::Path;

use adamllm_language::{DecoderConfig, RopeConfig, RopeScaling};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::vision_config::{self, LLAVA_LLAMA};
use crate::{ModelError, VisionConfig};

const KNOWN: &[&str] = &["qwen2_vl", "qwen2_5_vl", "llava_next", LLAVA_LLAMA, "mllama", "llama", "qwen2"];

/// Mllama's embedding has eight rows more than its head: the image token and seven that are not used.
const MLLAMA_EXTRA_EMBEDDINGS: usize = 8;

/// The supported families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Qwen2-VL.
    Qwen2Vl,
    /// Qwen2.5-VL.
    #[serde(rename = "qwen2_5_vl")]
    Qwen2_5Vl,
    /// LLaVA-NeXT, in the Hugging Face layout or its first authors'.
    LlavaNext,
    /// Llama 3.2 Vision.
    Mllama,
    /// Text-only Llama 3.
    Llama,
    /// Text-only Qwen2.
    Qwen2,
}

impl Family {
    /// The `model_type` in `config.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qwen2Vl => "qwen2_vl",
            Self::Qwen2_5Vl => "qwen2_5_vl",
            Self::LlavaNext => "llava_next",
            Self::Mllama => "mllama",
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
        }
    }
}

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

#[derive(Deserialize)]
struct RawText {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    vocab_size: usize,
    rms_norm_eps: f64,
    hidden_act: Option<String>,
    max_position_embeddings: usize,
    rope_theta: Option<f64>,
    rope_scaling: Option<RawRope>,
    rope_parameters: Option<RawRope>,
    tie_word_embeddings: Option<bool>,
    #[serde(alias = "image_token_index")]
    image_token_id: Option<u32>,
    #[serde(default)]
    cross_attention_layers: Vec<usize>,
}

#[derive(Deserialize, Default, Clone)]
struct RawRope {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
    #[serde(rename = "type")]
    old_type: Option<String>,
    mrope_section: Option<[usize; 3]>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

impl ModelConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// [`ModelError::Core`], [`ModelError::Json`], [`ModelError::UnknownFamily`], [`ModelError::ConfigField`].
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(path).map_err(adamllm_core::CoreError::io("read", path))?;
        let root: Map<String, Value> =
            serde_json::from_str(&text).map_err(|source| ModelError::Json { path: path.into(), source })?;
        Self::parse(path, &root)
    }

    fn parse(path: &Path, root: &Map<String, Value>) -> Result<Self, ModelError> {
        let (family, first_layout) = family(path, root)?;
        let text: RawText = section(path, "text_config", merged_text(root))?;
        let vision = vision_config::read(path, root, family, first_layout, text.hidden_size)?;
        let decoder = text.decoder(path, family)?;
        let default_token = match family {
            Family::Qwen2Vl | Family::Qwen2_5Vl => Some(151_655),
            Family::Mllama => Some(128_256),
            Family::LlavaNext | Family::Llama | Family::Qwen2 => None,
        };
        let image_token = vision.as_ref().and(text.image_token_id.or(default_token));
        Ok(Self { family, decoder, vision, image_token, first_layout, max_context: text.max_position_embeddings })
    }
}

/// The family, and whether `config.json` is of LLaVA's first layout.
fn family(path: &Path, root: &Map<String, Value>) -> Result<(Family, bool), ModelError> {
    let found = root.get("model_type").and_then(Value::as_str).unwrap_or("").to_owned();
    let families =
        [Family::Qwen2Vl, Family::Qwen2_5Vl, Family::LlavaNext, Family::Mllama, Family::Llama, Family::Qwen2];
    if found == LLAVA_LLAMA {
        return Ok((Family::LlavaNext, true));
    }
    families
        .into_iter()
        .find(|family| family.as_str() == found)
        .map(|family| (family, false))
        .ok_or_else(|| ModelError::UnknownFamily { path: path.into(), found, known: KNOWN })
}

/// The language side's fields: nested in `text_config` (transformers 5) or at the root (2024), the nested ones first.
fn merged_text(root: &Map<String, Value>) -> Value {
    let mut merged = root.clone();
    if let Some(Value::Object(nested)) = root.get("text_config") {
        merged.extend(nested.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())));
        if let Some(tied) = root.get("tie_word_embeddings") {
            merged.insert("tie_word_embeddings".into(), tied.clone());
        }
    }
    Value::Object(merged)
}

pub(super) fn section<T: for<'a> Deserialize<'a>>(path: &Path, name: &str, value: Value) -> Result<T, ModelError> {
    serde_json::from_value(value).map_err(|error| ModelError::config(path, name, "the family's fields", error))
}

impl RawText {
    fn decoder(&self, path: &Path, family: Family) -> Result<DecoderConfig, ModelError> {
        self.check(path)?;
        let n_kv_heads = self.num_key_value_heads.unwrap_or(self.num_attention_heads);
        let d_head = self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads);
        Ok(DecoderConfig {
            d_model: self.hidden_size,
            n_layers: self.num_hidden_layers - self.cross_attention_layers.len(),
            n_heads: self.num_attention_heads,
            n_kv_heads,
            d_head,
            d_hidden: self.intermediate_size,
            vocab_size: self.vocab_size,
            rms_epsilon: self.rms_norm_eps,
            qkv_bias: matches!(family, Family::Qwen2Vl | Family::Qwen2_5Vl | Family::Qwen2),
            n_extra_embeddings: if family == Family::Mllama { MLLAMA_EXTRA_EMBEDDINGS } else { 0 },
            cross_layers: self.cross_attention_layers.clone(),
            tied_head: self.tie_word_embeddings.unwrap_or(false),
            rope: self.rope(path, family, d_head)?,
        })
    }

    fn check(&self, path: &Path) -> Result<(), ModelError> {
        let n_kv_heads = self.num_key_value_heads.unwrap_or(self.num_attention_heads);
        if n_kv_heads == 0 || !self.num_attention_heads.is_multiple_of(n_kv_heads) {
            let expected = format!("a divisor of num_attention_heads = {}", self.num_attention_heads);
            return Err(ModelError::config(path, "num_key_value_heads", expected, n_kv_heads));
        }
        if let Some(place) = self.cross_attention_layers.iter().find(|&&place| place >= self.num_hidden_layers) {
            let expected = format!("places below num_hidden_layers = {}", self.num_hidden_layers);
            return Err(ModelError::config(path, "cross_attention_layers", expected, place));
        }
        match self.hidden_act.as_deref() {
            None | Some("silu") => Ok(()),
            Some(other) => Err(ModelError::config(path, "hidden_act", "silu", other)),
        }
    }

    /// `rope_parameters` (transformers 5), or `rope_theta` with `rope_scaling` (2024).
    fn rope(&self, path: &Path, family: Family, d_head: usize) -> Result<RopeConfig, ModelError> {
        let raw = self.rope_parameters.clone().or(self.rope_scaling.clone()).unwrap_or_default();
        let theta = raw.rope_theta.or(self.rope_theta).unwrap_or(10_000.0);
        let kind = raw.rope_type.as_deref().or(raw.old_type.as_deref()).unwrap_or("default");
        let scaling = match kind {
            "default" | "mrope" => RopeScaling::None,
            "llama3" => raw.llama3(path)?,
            other => {
                return Err(ModelError::config(path, "rope_scaling.rope_type", "default, mrope or llama3", other));
            }
        };
        let mrope_section = match (family, raw.mrope_section) {
            (Family::Qwen2Vl | Family::Qwen2_5Vl, Some(section)) if section.iter().sum::<usize>() * 2 == d_head => {
                Some(section)
            }
            (Family::Qwen2Vl | Family::Qwen2_5Vl, found) => {
                let expected = format!("three numbers that sum to {}", d_head / 2);
                let got = found.map_or("none".into(), |s| format!("{s:?}"));
                return Err(ModelError::config(path, "rope_scaling.mrope_section", expected, got));
            }
            _ => None,
        };
        Ok(RopeConfig { theta, scaling, mrope_section })
    }
}

impl RawRope {
    fn llama3(&self, path: &Path) -> Result<RopeScaling, ModelError> {
        let missing = |field: &str| ModelError::config(path, format!("rope_scaling.{field}"), "a number", "none");
        Ok(RopeScaling::Llama3 {
            factor: self.factor.ok_or_else(|| missing("factor"))?,
            low_freq_factor: self.low_freq_factor.ok_or_else(|| missing("low_freq_factor"))?,
            high_freq_factor: self.high_freq_factor.ok_or_else(|| missing("high_freq_factor"))?,
            original_max_positions: self
                .original_max_position_embeddings
                .ok_or_else(|| missing("original_max_position_embeddings"))?,
        })
    }
}
