//! Llama 3 (arXiv 2407.21783), text only.

use super::{Family, FamilyRules, text, text_only};
use crate::ModelError;
use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::defaults;
use crate::hf::keys::PartKeys;

pub(super) const RULES: FamilyRules = FamilyRules { model_types: &["llama"], config, keys: TEXT_KEYS };

/// The keys of every text-only family. A bare model without a head is saved without its prefix.
pub(super) const TEXT_KEYS: &[PartKeys] =
    &[PartKeys::language("model.", "model.", &["", "model.model."]), PartKeys::head("lm_head.", &["model.lm_head."])];

fn config(file: &ConfigFile) -> Result<ModelConfig, ModelError> {
    let fields = file.text_fields(defaults::of("llama", "config"))?;
    let (decoder, max_context) = text::decoder(&fields, text::LLAMA)?;
    fields.finish(&[])?;
    Ok(text_only(Family::Llama, decoder, max_context))
}
