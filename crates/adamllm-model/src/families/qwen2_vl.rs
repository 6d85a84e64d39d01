//! Qwen2-VL (arXiv 2409.12191; model card Qwen/Qwen2-VL-2B-Instruct).

use adamllm_nn::Activation;
use adamllm_vision::Qwen2VlEncoderConfig;

use super::{Family, FamilyRules, text, with_vision};
use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::fields::Fields;
use crate::hf::keys::{PartKeys, Renames};
use crate::hf::{defaults, vision};
use crate::{ModelError, VisionConfig};

mod positions;

pub use positions::multimodal_positions;

pub(super) const RULES: FamilyRules = FamilyRules { model_types: &["qwen2_vl"], config, keys: KEYS };

/// The keys of Qwen2-VL and Qwen2.5-VL.
pub(super) const KEYS: &[PartKeys] = &[
    PartKeys::language(
        "model.language_model.",
        "model.",
        &["language_model.", "language_model.model.", "language_model.model.model.", "model.language_model.model."],
    ),
    PartKeys::head("lm_head.", &["language_model.lm_head.", "model.lm_head.", "model.language_model.lm_head."]),
    PartKeys {
        ours: "vision.",
        transformers5: "model.visual.",
        hub2024: "visual.",
        others: &["model.model.visual."],
        starts: &[],
        names: ENCODER,
    },
];

/// The gated MLPs are Qwen2.5-VL's.
const ENCODER: Renames = &[
    ("patch_embedding.", "patch_embed.proj."),
    ("qkv.", "attn.qkv."),
    ("projection.", "attn.proj."),
    ("merger.norm.", "merger.ln_q."),
    ("merger.mlp.fc1.", "merger.mlp.0."),
    ("merger.mlp.fc2.", "merger.mlp.2."),
    ("mlp.gate.", "mlp.gate_proj."),
    ("mlp.up.", "mlp.up_proj."),
    ("mlp.down.", "mlp.down_proj."),
];

fn config(file: &ConfigFile) -> Result<ModelConfig, ModelError> {
    vision_language(file, Family::Qwen2Vl, |fields, d_model| encoder(fields, d_model).map(VisionConfig::Qwen2Vl))
}

/// What both families' files have in common: M-RoPE, and a decoder whose fields stand at the root or in `text_config`.
pub(super) fn vision_language(
    file: &ConfigFile,
    family: Family,
    encoder: impl Fn(&Fields, usize) -> Result<VisionConfig, ModelError>,
) -> Result<ModelConfig, ModelError> {
    let name = family.as_str();
    let text_fields = file.text_fields(defaults::of(name, "text_config"))?;
    let (mut decoder, max_context) = text::decoder(&text_fields, text::QWEN_VL)?;
    text_fields.finish(&[])?;
    decoder.tied_head = file.tied()?;

    let vision_fields = file.vision_fields(name)?;
    let vision = encoder(&vision_fields, decoder.d_model)?;
    axial(&vision_fields)?;
    vision_fields.finish(&["spatial_patch_size", "tokens_per_second"])?;

    let root = file.root_fields(name);
    let image_token = file.image_token(&root)?;
    root.finish(&["tie_word_embeddings"])?;
    Ok(with_vision(family, decoder, vision, image_token, max_context))
}

/// The encoder's rotary positions have one form.
fn axial(fields: &Fields) -> Result<(), ModelError> {
    let Some(value) = fields.value(&["rope_parameters"])? else { return Ok(()) };
    let theta = value.get("rope_theta").is_none_or(|theta| theta.as_f64() == Some(10_000.0));
    let kind = value.get("rope_type").is_none_or(|kind| ["axial", "default"].iter().any(|known| kind == known));
    if theta && kind && fields.positive("rope_theta")? == 10_000.0 {
        return Ok(());
    }
    let expected = "rope_type axial with rope_theta 10000: nothing else is supported";
    Err(fields.fault("rope_parameters", expected, adamllm_core::json::shown(value)))
}

fn encoder(fields: &Fields, d_model: usize) -> Result<Qwen2VlEncoderConfig, ModelError> {
    let d_vision = fields.size("embed_dim")?;
    vision::joins(fields, "hidden_size", d_model)?;
    Ok(Qwen2VlEncoderConfig {
        n_layers: vision::n_layers(fields, &["depth", "num_hidden_layers"])?,
        d_vision,
        d_model,
        n_heads: vision::n_heads(fields, &["num_heads", "num_attention_heads"], d_vision, 4)?,
        mlp_ratio: fields.count(&["mlp_ratio"], 1..=1024)?,
        n_channels: vision::n_channels(fields, &["in_channels", "in_chans"])?,
        patch_size: vision::patch_size(fields)?,
        temporal_patch_size: fields.count(&["temporal_patch_size"], 1..=64)?,
        merge_size: fields.count(&["spatial_merge_size"], 1..=64)?,
        activation: vision::activation(fields, "hidden_act", Activation::QuickGelu)?,
    })
}
