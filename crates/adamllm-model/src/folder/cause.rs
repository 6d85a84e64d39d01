//! Why a folder's weights do not fit its `config.json`: the first thing that an error says.

use crate::hf::config::ModelConfig;
use crate::hf::weights::{HEAD, WeightFiles};

/// Endings of keys that quantised checkpoints have beside or instead of weights.
const QUANTISED: &[&str] = &[
    ".qweight",
    ".qzeros",
    ".scales",
    ".g_idx",
    ".absmax",
    ".quant_map",
    ".weight_scale",
    ".weight_scale_inv",
    ".weight_packed",
    ".SCB",
    ".quant_state.bitsandbytes__nf4",
    ".quant_state.bitsandbytes__fp4",
];

/// The likely cause, from what is missing (key and fault) and what is unexpected.
pub(super) fn likely(
    files: &WeightFiles,
    config: &ModelConfig,
    missing: &[(String, String)],
    unexpected: &[String],
) -> String {
    let family = config.family.as_str();
    let quantised = |key: &String| QUANTISED.iter().any(|ending| key.ends_with(ending));
    if unexpected.iter().any(quantised) || missing.iter().any(|(_, fault)| fault.contains("expected F32")) {
        return "the weights are quantised, which is not supported; use the folder that they were made from".into();
    }
    if unexpected.iter().any(|key| key.contains(".lora_A.") || key.contains(".lora_B.")) {
        return "an adapter was saved inside its base model; merge it, or keep base and adapter in two folders".into();
    }

    let head = files.expected_key(config, HEAD);
    if missing.len() == 1 && missing[0].0 == head && unexpected.is_empty() {
        return "the files have no head, and `tie_word_embeddings` does not say that the embedding is the head".into();
    }
    if missing.iter().any(|(_, fault)| fault.contains("expected shape")) {
        return "config.json has other sizes than the weights; it may belong to another model".into();
    }
    if missing.iter().any(|(_, fault)| fault.contains("not finite")) {
        return "the weights hold values that are not numbers; training may have diverged".into();
    }
    match (missing.is_empty(), unexpected.is_empty()) {
        (false, true) if missing.len() * 2 > files.n_tensors() => {
            format!("a part of the weights is not there: a shard may be missing, or config.json is a larger {family}'s")
        }
        (false, true) => format!("a few weights are not there, which a {family} needs"),
        (true, _) => format!("the files hold weights that a {family} with this config.json does not have"),
        (false, false) if unexpected.len() == files.n_tensors() => {
            format!("these are no weights of a {family}: none of the keys is known")
        }
        (false, false) => format!("keys of a {family} under other names, or of another model beside them"),
    }
}
