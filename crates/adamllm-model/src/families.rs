//! What is known of each model family: `config.json`, the keys of checkpoints, positions. One folder for each, one line in
//! [`Family::rules`].

use serde_json::{Map, Value};

use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::keys::PartKeys;
use crate::{ModelError, VisionConfig};

mod llama;
pub mod llava_next;
pub mod mllama;
mod qwen2;
mod qwen2_5_vl;
pub mod qwen2_vl;
mod text;

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

/// What the rest of this crate asks a family.
pub(crate) struct FamilyRules {
    /// The `model_type`s in `config.json`.
    pub(crate) model_types: &'static [&'static str],
    /// What `config.json` says.
    pub(crate) config: fn(&ConfigFile) -> Result<ModelConfig, ModelError>,
    /// Where checkpoints keep each part.
    pub(crate) keys: &'static [PartKeys],
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Qwen2Vl, Self::Qwen2_5Vl, Self::LlavaNext, Self::Mllama, Self::Llama, Self::Qwen2];

    /// The `model_type` in `config.json`.
    pub fn as_str(self) -> &'static str {
        self.rules().model_types[0]
    }

    pub(crate) fn rules(self) -> &'static FamilyRules {
        match self {
            Self::Qwen2Vl => &qwen2_vl::RULES,
            Self::Qwen2_5Vl => &qwen2_5_vl::RULES,
            Self::LlavaNext => &llava_next::RULES,
            Self::Mllama => &mllama::RULES,
            Self::Llama => &llama::RULES,
            Self::Qwen2 => &qwen2::RULES,
        }
    }
}

/// An empty section of `config.json`.
fn nothing() -> &'static Map<String, Value> {
    static NOTHING: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    &NOTHING
}

/// A text-only family's configuration.
fn text_only(family: Family, decoder: adamllm_language::DecoderConfig, max_context: usize) -> ModelConfig {
    ModelConfig { family, decoder, vision: None, image_token: None, first_layout: false, max_context }
}

/// A vision-language family's configuration.
fn with_vision(
    family: Family,
    decoder: adamllm_language::DecoderConfig,
    vision: VisionConfig,
    image_token: Option<u32>,
    max_context: usize,
) -> ModelConfig {
    ModelConfig { family, decoder, vision: Some(vision), image_token, first_layout: false, max_context }
}
