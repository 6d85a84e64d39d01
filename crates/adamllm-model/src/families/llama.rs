//! Llama 3 (arXiv 2407.21783), text only.

use adamllm_language::{DecoderConfig, RopeConfig};

use super::text::{self, TEXT_KEYS};
use super::{Family, ModelFamily};
use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::defaults;
use crate::hf::keys::PartKeys;
use crate::{ModelError, Preset};

/// The family.
#[derive(Debug)]
pub(super) struct Llama;

const FAMILY: Family = Family::new(&Llama);

impl ModelFamily for Llama {
    fn model_types(&self) -> &'static [&'static str] {
        &["llama"]
    }

    fn config(&self, file: &ConfigFile) -> Result<ModelConfig, ModelError> {
        let fields = file.text_fields(defaults::of("llama", "config"))?;
        let (decoder, max_context) = text::decoder(&fields, text::LLAMA)?;
        fields.finish(&[])?;
        Ok(ModelConfig::text_only(FAMILY, decoder, max_context))
    }

    fn keys(&self) -> &'static [PartKeys] {
        TEXT_KEYS
    }

    fn presets(&self) -> &'static [Preset] {
        &[Preset::LlamaFactoryMllama, Preset::LlavaLlama3, Preset::LlavaLlama3DoubleBos]
    }
}

/// The decoder of meta-llama/Meta-Llama-3-8B.
pub(super) fn llama3_8b() -> DecoderConfig {
    DecoderConfig::new(4096, 32, 32, 8, 128, 14_336, 128_256, RopeConfig::plain(500_000.0)).with_rms_epsilon(1e-5)
}

impl ModelConfig {
    /// meta-llama/Meta-Llama-3-8B.
    pub fn llama3_8b() -> Self {
        Self::text_only(FAMILY, llama3_8b(), 8192)
    }
}
