//! Llama 3.2 Vision (arXiv 2407.21783, section 7; model card meta-llama/Llama-3.2-11B-Vision-Instruct).

use adamllm_core::json::shown;
use adamllm_nn::Activation;
use adamllm_vision::MllamaEncoderConfig;
use serde_json::Value;

use super::{Family, FamilyRules, text, with_vision};
use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::fields::{Fields, MOST};
use crate::hf::keys::{PartKeys, Renames};
use crate::hf::{defaults, vision as encoder};
use crate::{ModelError, VisionConfig};

mod vision;

pub use vision::{MllamaVision, MllamaVisionConfig, picture_spans};

pub(super) const RULES: FamilyRules = FamilyRules { model_types: &["mllama"], config, keys: KEYS };

/// The embedding has eight rows more than the head: the image token and seven that are not used.
const EXTRA_EMBEDDINGS: usize = 8;

const KEYS: &[PartKeys] = &[
    PartKeys::language(
        "model.language_model.",
        "language_model.model.",
        &["language_model.", "language_model.model.model.", "model.language_model.model."],
    ),
    PartKeys::head("language_model.lm_head.", &["model.lm_head.", "model.language_model.lm_head."]),
    PartKeys {
        starts: &[("global_layers.", "global_transformer.layers."), ("layers.", "transformer.layers.")],
        names: ENCODER,
        ..PartKeys::plain("vision.encoder.", "model.vision_model.", "vision_model.", &[])
    },
    PartKeys::plain("vision.projector.", "model.multi_modal_projector.", "multi_modal_projector.", &[]),
];

const ENCODER: Renames = &[
    ("positions.embedding", "gated_positional_embedding.embedding"),
    ("positions.tile_embedding", "gated_positional_embedding.tile_embedding.weight"),
    ("positions.gate", "gated_positional_embedding.gate"),
    ("pre_tile.embedding", "pre_tile_positional_embedding.embedding.weight"),
    ("pre_tile.gate", "pre_tile_positional_embedding.gate"),
    ("post_tile.embedding", "post_tile_positional_embedding.embedding.weight"),
    ("post_tile.gate", "post_tile_positional_embedding.gate"),
    ("pre_norm.", "layernorm_pre."),
    ("post_norm.", "layernorm_post."),
    ("norm1.", "input_layernorm."),
    ("norm2.", "post_attention_layernorm."),
    ("attention.query.", "self_attn.q_proj."),
    ("attention.key.", "self_attn.k_proj."),
    ("attention.value.", "self_attn.v_proj."),
    ("attention.output.", "self_attn.o_proj."),
    ("attention_gate", "gate_attn"),
    ("mlp_gate", "gate_ffn"),
];

fn config(file: &ConfigFile) -> Result<ModelConfig, ModelError> {
    let section = file.section("text_config")?.unwrap_or(super::nothing());
    let fields = Fields::new(&file.path, "text_config", section, defaults::of("mllama", "text_config"));
    let kind = text::TextKind { n_extra_embeddings: EXTRA_EMBEDDINGS, ..text::LLAMA };
    let (mut decoder, max_context) = text::decoder(&fields, kind)?;
    // The embedding has rows that the head has not.
    decoder.tied_head = false;

    // A set in transformers: order and repetition say nothing. The rest are the decoder's own layers.
    let n_layers = decoder.n_layers;
    let mut cross_layers = fields.counts("cross_attention_layers", n_layers)?;
    cross_layers.sort_unstable();
    cross_layers.dedup();
    decoder.n_layers = n_layers - cross_layers.len();
    decoder.cross_layers = cross_layers;
    fields.finish(&[])?;

    let vision_fields = file.vision_fields("mllama")?;
    let encoder = encoder(&vision_fields)?;
    vision_fields.finish(&["max_aspect_ratio_id", "supported_aspect_ratios"])?;
    let root = file.root_fields("mllama");
    let image_token = file.image_token(&root)?;
    root.finish(&["tie_word_embeddings"])?;
    let vision = MllamaVisionConfig { encoder, d_model: decoder.d_model };
    Ok(with_vision(Family::Mllama, decoder, VisionConfig::Mllama(vision), image_token, max_context))
}

fn encoder(fields: &Fields) -> Result<MllamaEncoderConfig, ModelError> {
    let (d_vision, n_layers) = (fields.size("hidden_size")?, encoder::n_layers(fields, &["num_hidden_layers"])?);
    let intermediate_layers = fields.counts("intermediate_layers_indices", n_layers)?;
    if !intermediate_layers.is_sorted_by(|a, b| a < b) {
        let expected = format!("rising numbers below {n_layers}");
        return Err(fields.fault("intermediate_layers_indices", expected, format!("{intermediate_layers:?}")));
    }
    let patch_size = encoder::patch_size(fields)?;
    let max_tiles = fields.count(&["max_num_tiles"], 1..=64)?;
    let config = MllamaEncoderConfig {
        n_layers,
        n_global_layers: fields.count(&["num_global_layers"], 0..=1 << 16)?,
        d_vision,
        n_heads: encoder::n_heads(fields, &["attention_heads", "num_attention_heads"], d_vision, 1)?,
        d_hidden: fields.size("intermediate_size")?,
        tile: encoder::tile(fields, patch_size)?,
        patch_size,
        max_tiles,
        n_aspect_ratios: aspect_ratios(fields, max_tiles)? + 1,
        intermediate_layers,
        n_channels: encoder::n_channels(fields, &["num_channels"])?,
        activation: encoder::activation(fields, "hidden_act", Activation::Gelu)?,
        epsilon: fields.positive("norm_eps")?,
    };
    let d_output = fields.count(&["vision_output_dim"], 1..=MOST)?;
    if d_output != config.d_output() {
        let expected = format!("hidden_size * (1 + the intermediate layers) = {}", config.d_output());
        return Err(fields.fault("vision_output_dim", expected, d_output));
    }
    Ok(config)
}

/// How many grids of tiles the encoder has embeddings for. Images are laid out on the grids in the order in which
/// transformers lists them, so a file may not have others.
fn aspect_ratios(fields: &Fields, max_tiles: usize) -> Result<usize, ModelError> {
    let value = fields.value(&["supported_aspect_ratios"])?.unwrap_or(&Value::Null);
    let pair = |ratio: &Value| {
        let side = |i: usize| ratio.get(i).and_then(Value::as_u64).map(|n| n as usize);
        side(0).zip(side(1)).filter(|_| ratio.as_array().is_some_and(|pair| pair.len() == 2))
    };
    let found = value.as_array().and_then(|ratios| ratios.iter().map(pair).collect::<Option<Vec<_>>>());
    let known: Vec<_> = (1..=max_tiles).flat_map(|w| (1..=max_tiles / w).map(move |h| (w, h))).collect();
    match found {
        Some(ratios) if ratios == known => Ok(ratios.len()),
        _ => Err(fields.fault("supported_aspect_ratios", format!("{known:?}"), shown(value))),
    }
}
