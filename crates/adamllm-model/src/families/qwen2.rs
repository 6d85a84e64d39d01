//! Qwen2 (arXiv 2407.10671), text only.

use super::llama::TEXT_KEYS;
use super::{Family, FamilyRules, text, text_only};
use crate::ModelError;
use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::defaults;

pub(super) const RULES: FamilyRules = FamilyRules { model_types: &["qwen2"], config, keys: TEXT_KEYS };

fn config(file: &ConfigFile) -> Result<ModelConfig, ModelError> {
    let fields = file.text_fields(defaults::of("qwen2", "config"))?;
    let (decoder, max_context) = text::decoder(&fields, text::QWEN2)?;
    fields.finish(&[])?;
    Ok(text_only(Family::Qwen2, decoder, max_context))
}
