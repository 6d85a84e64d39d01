//! Qwen2.5-VL (arXiv 2502.13923; model card Qwen/Qwen2.5-VL-3B-Instruct): Qwen2-VL with another vision encoder.

use adamllm_vision::Qwen2_5VlEncoderConfig;

use super::qwen2_vl::{KEYS, vision_language};
use super::{Family, FamilyRules};
use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::fields::Fields;
use crate::hf::vision;
use crate::{ModelError, VisionConfig};

pub(super) const RULES: FamilyRules = FamilyRules { model_types: &["qwen2_5_vl"], config, keys: KEYS };

fn config(file: &ConfigFile) -> Result<ModelConfig, ModelError> {
    vision_language(file, Family::Qwen2_5Vl, |fields, d_model| encoder(fields, d_model).map(VisionConfig::Qwen2_5Vl))
}

fn encoder(fields: &Fields, d_model: usize) -> Result<Qwen2_5VlEncoderConfig, ModelError> {
    let d_vision = fields.size("hidden_size")?;
    vision::joins(fields, "out_hidden_size", d_model)?;
    fields.only("hidden_act", "silu".into())?;
    let n_layers = vision::n_layers(fields, &["depth", "num_hidden_layers"])?;
    // A published file lists no block twice; numbers past the last block name none, as in transformers.
    let full_attention_layers = fields.counts("fullatt_block_indexes", crate::hf::fields::MOST)?;

    let (patch_size, merge_size) = (vision::patch_size(fields)?, fields.count(&["spatial_merge_size"], 1..=64)?);
    let window_size = fields.count(&["window_size"], 1..=1 << 16)?;
    if window_size / merge_size / patch_size == 0 {
        let expected = format!("at least patch_size * spatial_merge_size = {}", patch_size * merge_size);
        return Err(fields.fault("window_size", expected, window_size));
    }
    Ok(Qwen2_5VlEncoderConfig {
        n_layers,
        d_vision,
        d_hidden: fields.size("intermediate_size")?,
        d_model,
        n_heads: vision::n_heads(fields, &["num_heads", "num_attention_heads"], d_vision, 4)?,
        full_attention_layers,
        window_size,
        n_channels: vision::n_channels(fields, &["in_channels", "in_chans"])?,
        patch_size,
        temporal_patch_size: fields.count(&["temporal_patch_size"], 1..=64)?,
        merge_size,
    })
}
