//! Qwen2 (arXiv 2407.10671), text only.

use adamllm_language::{DecoderConfig, RopeConfig};

use super::text::{self, TEXT_KEYS};
use super::{Family, ModelFamily, qwen2_vl};
use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::defaults;
use crate::hf::keys::PartKeys;
use crate::{ModelError, Preset};

/// The family.
#[derive(Debug)]
pub(super) struct Qwen2;

const FAMILY: Family = Family::new(&Qwen2);

impl ModelFamily for Qwen2 {
    fn model_types(&self) -> &'static [&'static str] {
        &["qwen2"]
    }

    fn config(&self, file: &ConfigFile) -> Result<ModelConfig, ModelError> {
        let fields = file.text_fields(defaults::of("qwen2", "config"))?;
        let (decoder, max_context) = text::decoder(&fields, text::QWEN2)?;
        fields.finish(&[])?;
        Ok(ModelConfig::text_only(FAMILY, decoder, max_context))
    }

    fn keys(&self) -> &'static [PartKeys] {
        TEXT_KEYS
    }

    fn presets(&self) -> &'static [Preset] {
        qwen2_vl::PRESETS
    }
}

impl ModelConfig {
    /// Qwen/Qwen2-1.5B-Instruct.
    pub fn qwen2_1_5b() -> Self {
        let decoder = DecoderConfig { rope: RopeConfig::plain(1_000_000.0), ..qwen2_vl::decoder_2b() };
        Self::text_only(FAMILY, decoder, 32_768)
    }
}
