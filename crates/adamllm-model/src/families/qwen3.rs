//! Qwen3 (arXiv 2505.09388), text only, dense.

use adamllm_language::{DecoderConfig, RopeConfig};

use super::text::{self, TEXT_KEYS};
use super::{Family, ModelFamily};
use crate::ModelError;
use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::defaults;
use crate::hf::keys::PartKeys;

/// The family.
#[derive(Debug)]
pub(super) struct Qwen3;

const FAMILY: Family = Family::new(&Qwen3);

impl ModelFamily for Qwen3 {
    fn model_types(&self) -> &'static [&'static str] {
        &["qwen3"]
    }

    fn refused_types(&self) -> &'static [(&'static str, &'static str)] {
        &[("qwen3_moe", "qwen3, whose MLPs are dense: mixtures of experts are not supported")]
    }

    fn config(&self, file: &ConfigFile) -> Result<ModelConfig, ModelError> {
        let fields = file.text_fields(defaults::of("qwen3", "config"))?;
        let (decoder, max_context) = text::decoder(&fields, text::QWEN3)?;
        fields.finish(&[])?;
        Ok(ModelConfig::text_only(FAMILY, decoder, max_context))
    }

    fn keys(&self) -> &'static [PartKeys] {
        TEXT_KEYS
    }
}

impl ModelConfig {
    /// Qwen/Qwen3-0.6B.
    pub fn qwen3_0_6b() -> Self {
        let decoder = DecoderConfig::new(1024, 28, 16, 8, 128, 3072, 151_936, RopeConfig::plain(1_000_000.0));
        Self::text_only(FAMILY, decoder.with_qk_norm(true).with_tied_head(true), 40_960)
    }
}
