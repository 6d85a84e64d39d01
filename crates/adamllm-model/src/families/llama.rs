//! Llama 3 (arXiv 2407.21783), text only.

use super::{Family, FamilyRules, text, text_only};
use crate::ModelError;
use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::defaults;
use crate::hf::keys::{DECODER, LANGUAGE, PartKeys};

pub(super) const RULES: FamilyRules = FamilyRules { model_types: &["llama"], config, keys: TEXT_KEYS };

/// The keys of every text-only family. A bare model without a head is saved without its prefix.
pub(super) const TEXT_KEYS: &[PartKeys] = &[
    PartKeys {
        ours: LANGUAGE,
        transformers5: "model.",
        hub2024: "model.",
        others: &["", "model.model."],
        starts: &[],
        names: DECODER,
    },
    PartKeys {
        ours: "language.head.",
        transformers5: "lm_head.",
        hub2024: "lm_head.",
        others: &["model.lm_head."],
        starts: &[],
        names: &[],
    },
];

fn config(file: &ConfigFile) -> Result<ModelConfig, ModelError> {
    let fields = file.text_fields(defaults::of("llama", "config"))?;
    let (decoder, max_context) = text::decoder(&fields, text::LLAMA)?;
    fields.finish(&[])?;
    Ok(text_only(Family::Llama, decoder, max_context))
}
