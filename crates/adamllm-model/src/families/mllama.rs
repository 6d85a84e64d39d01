//! Llama 3.2 Vision (arXiv 2407.21783, section 7; model card meta-llama/Llama-3.2-11B-Vision-Instruct).

use std::path::Path;
use std::sync::Arc;

use adamllm_core::json::shown;
use adamllm_language::{DecoderConfig, RopeConfig, RopeScaling};
use adamllm_nn::{Activation, ExampleSize, MlpShape, PassSegment, TrainedParameters};
use adamllm_vision::preprocess::{ImageProcessor, MllamaImageConfig, MllamaImageProcessor};
use adamllm_vision::{MllamaEncoderConfig, MllamaVisionConfig};
use burn::tensor::Device;
use serde_json::Value;

use super::{Family, ModelFamily, text};
use crate::flops::matrix;
use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::fields::{Fields, MOST};
use crate::hf::keys::{PartKeys, Renames};
use crate::hf::{defaults, vision as encoder};
use crate::image_processor::{agrees, settings};
use crate::memory::{Attention, EncoderShape, linear_connector};
use crate::{AutoVisionEncoder, ImagePrompt, ModelError, Preset, VisionConfig};

/// The family.
#[derive(Debug)]
pub(super) struct Mllama;

const FAMILY: Family = Family::new(&Mllama);

impl ModelFamily for Mllama {
    fn model_types(&self) -> &'static [&'static str] {
        &["mllama"]
    }

    fn config(&self, file: &ConfigFile) -> Result<ModelConfig, ModelError> {
        config(file)
    }

    fn keys(&self) -> &'static [PartKeys] {
        KEYS
    }

    fn presets(&self) -> &'static [Preset] {
        &[Preset::LlamaFactoryMllama]
    }
}

impl VisionConfig for MllamaVisionConfig {
    fn image_processor(&self, folder: &Path) -> Result<Arc<dyn ImageProcessor>, ModelError> {
        let (path, read) = settings(folder, MllamaImageConfig::from_json)?;
        agrees(&path, "size", read.tile, self.encoder.tile)?;
        agrees(&path, "max_image_tiles", read.max_tiles, self.encoder.max_tiles)?;
        Ok(Arc::new(MllamaImageProcessor::new(read, &self.encoder)))
    }

    fn n_blocks(&self) -> usize {
        self.encoder.n_layers + self.encoder.n_global_layers
    }

    fn forward_flops(&self, size: &ExampleSize) -> f64 {
        let (features, pairs, encoder) = (size.image_features as f64, size.attention_pairs as f64, &self.encoder);
        let d = encoder.d_vision;
        let block = features * (matrix(d, 4 * d) + matrix(d, 2 * encoder.d_hidden)) + 4.0 * d as f64 * pairs;
        let patch = matrix(encoder.n_channels * encoder.patch_size.pow(2), d);
        let projector = features * matrix(encoder.d_output(), self.d_model);
        size.patches as f64 * patch + VisionConfig::n_blocks(self) as f64 * block + projector
    }

    /// Missing tiles count as the others do. What fills a tile up to a multiple of eight positions is left out.
    fn pass_segments(&self, size: &ExampleSize, trained: &TrainedParameters) -> Option<Vec<PassSegment>> {
        let config = &self.encoder;
        let encoder = EncoderShape {
            name: "vision.encoder",
            positions: size.image_features,
            d_vision: config.d_vision,
            n_heads: config.n_heads,
            d_hidden: config.d_hidden,
            mlp: MlpShape::Plain,
        };
        let d_patch = config.n_channels * config.patch_size.pow(2);
        let mut segments = vec![encoder.patch_embedding(d_patch, trained), encoder.norm("pre_norm", trained)];
        let block = |name, i, attention| encoder.block(&format!("vision.encoder.{name}.{i}"), attention, trained);
        segments.extend((0..config.n_layers).map(|i| block("layers", i, Attention::Separate)));
        segments.push(encoder.norm("post_norm", trained));
        segments.extend((0..config.n_global_layers).map(|i| block("global_layers", i, Attention::Gated)));
        let projector = [config.d_output(), self.d_model];
        segments.push(linear_connector("vision.projector", size.image_features, projector, trained));
        Some(segments)
    }

    fn init(&self, device: &Device) -> Option<AutoVisionEncoder> {
        Some(MllamaVisionConfig::init(self, device).into())
    }

    fn image_prompt(&self) -> ImagePrompt {
        ImagePrompt { begin_after: Some(PLACEHOLDER), ..ImagePrompt::default() }
    }

    fn is_cross_attended(&self) -> bool {
        true
    }

    fn patch_kernel(&self) -> Vec<usize> {
        let encoder = &self.encoder;
        vec![encoder.n_channels, encoder.patch_size, encoder.patch_size]
    }
}

/// The placeholder that transformers' processor looks for.
const PLACEHOLDER: &str = "<|image|>";

/// There are eight embeddings more than the head has: the image token and seven that are not used.
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
    // There are embeddings that the head has not.
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
    let vision = Arc::new(MllamaVisionConfig { encoder, d_model: decoder.d_model });
    Ok(ModelConfig { vision: Some(vision), image_token, ..ModelConfig::text_only(FAMILY, decoder, max_context) })
}

fn encoder(fields: &Fields) -> Result<MllamaEncoderConfig, ModelError> {
    let (d_vision, n_layers) = (fields.size("hidden_size")?, encoder::n_layers(fields, &["num_hidden_layers"])?);

    // The encoder collects these layers' features in the order of the layers, transformers in that of the file.
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
        // transformers counts from 1, and keeps 0 for padding without an image.
        n_aspect_ratios: aspect_ratios(fields, max_tiles)? + 1,
        intermediate_layers,
        n_channels: encoder::n_channels(fields, &["num_channels"])?,
        activation: encoder::activation(fields, "hidden_act", Activation::Gelu)?,
        epsilon: fields.positive("norm_eps")?,
    };

    // The projection's input, which transformers has from the file and we from the layers: they must agree.
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

impl ModelConfig {
    /// meta-llama/Llama-3.2-11B-Vision-Instruct.
    pub fn llama3_2_11b_vision() -> Self {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_positions: 8192,
        };
        let rope = RopeConfig { scaling, ..RopeConfig::plain(500_000.0) };
        let decoder = DecoderConfig::new(4096, 32, 32, 8, 128, 14_336, 128_256, rope)
            .with_rms_epsilon(1e-5)
            .with_n_extra_embeddings(EXTRA_EMBEDDINGS)
            .with_cross_layers(vec![3, 8, 13, 18, 23, 28, 33, 38]);
        let vision = Arc::new(MllamaVisionConfig::llama3_2_11b());
        let text = Self::text_only(FAMILY, decoder, 131_072);
        Self { vision: Some(vision), image_token: Some(128_256), ..text }
    }
}
