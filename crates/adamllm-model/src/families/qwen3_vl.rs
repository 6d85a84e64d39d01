//! Qwen3-VL (arXiv 2511.21631; model card Qwen/Qwen3-VL-4B-Instruct), dense: Qwen3 with interleaved M-RoPE after a vision
//! encoder whose inner features reach the decoder's first layers (DeepStack).

use std::path::Path;
use std::sync::Arc;

use adamllm_language::{DecoderConfig, RopeConfig};
use adamllm_nn::{Activation, ExampleSize, ImageLayout, MlpShape, PassSegment, SegmentFlow, TrainedParameters};
use adamllm_vision::Qwen3VlEncoderConfig;
use adamllm_vision::preprocess::ImageProcessor;
use burn::tensor::Device;

use super::qwen2_vl::{self, axial};
use super::{Family, ModelFamily, text};
use crate::flops::matrix;
use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::fields::{Fields, MOST};
use crate::hf::keys::{PartKeys, Renames};
use crate::hf::{defaults, vision};
use crate::memory::{Attention, EncoderShape};
use crate::{AutoVisionEncoder, ModelError, VisionConfig};

/// The family.
#[derive(Debug)]
pub(super) struct Qwen3Vl;

const FAMILY: Family = Family::new(&Qwen3Vl);

impl ModelFamily for Qwen3Vl {
    fn model_types(&self) -> &'static [&'static str] {
        &["qwen3_vl"]
    }

    fn refused_types(&self) -> &'static [(&'static str, &'static str)] {
        &[("qwen3_vl_moe", "qwen3_vl, whose MLPs are dense: mixtures of experts are not supported")]
    }

    fn config(&self, file: &ConfigFile) -> Result<ModelConfig, ModelError> {
        let text_fields = file.text_fields(defaults::of("qwen3_vl", "text_config"))?;
        let (mut decoder, max_context) = text::decoder(&text_fields, text::QWEN3_VL)?;
        has_theta(&text_fields)?;
        text_fields.finish(&[])?;
        decoder.tied_head = file.tied()?;

        let vision_fields = file.vision_fields("qwen3_vl")?;
        let vision = encoder(&vision_fields, &decoder)?;
        axial(&vision_fields)?;
        vision_fields.finish(&[])?;

        let root = file.root_fields("qwen3_vl");
        let image_token = file.image_token(&root)?;
        root.finish(&["tie_word_embeddings"])?;
        let text = ModelConfig::text_only(FAMILY, decoder, max_context);
        Ok(ModelConfig { vision: Some(Arc::new(vision)), image_token, ..text })
    }

    fn keys(&self) -> &'static [PartKeys] {
        KEYS
    }

    fn positions(&self, tokens: &[u32], image_token: u32, images: &[&ImageLayout]) -> (Vec<[i32; 3]>, i32) {
        qwen2_vl::multimodal_positions(tokens, image_token, images)
    }
}

impl VisionConfig for Qwen3VlEncoderConfig {
    fn image_processor(&self, folder: &Path) -> Result<Arc<dyn ImageProcessor>, ModelError> {
        qwen2_vl::image_processor(folder, [self.patch_size, self.merge_size, self.temporal_patch_size])
    }

    fn n_blocks(&self) -> usize {
        self.n_layers
    }

    fn forward_flops(&self, size: &ExampleSize) -> f64 {
        let (patches, pairs, d) = (size.patches as f64, size.attention_pairs as f64, self.d_vision);
        let products = patches * (matrix(d, 4 * d) + matrix(d, 2 * self.d_hidden));
        let blocks = self.n_layers as f64 * (products + 4.0 * d as f64 * pairs);
        let merger = qwen2_vl::merger_flops(size, d * self.merge_size.pow(2), self.d_model);
        let n_mergers = (1 + self.deepstack_layers.len()) as f64;
        patches * matrix(self.d_patch(), d) + blocks + n_mergers * merger
    }

    fn pass_segments(&self, size: &ExampleSize, trained: &TrainedParameters) -> Option<Vec<PassSegment>> {
        let encoder = EncoderShape {
            name: "vision",
            positions: size.patches,
            d_vision: self.d_vision,
            n_heads: self.n_heads,
            d_hidden: self.d_hidden,
            mlp: MlpShape::Plain,
        };
        let merger = |name: &str| encoder.merger(name, size.image_features, self.d_model, trained);
        let mut segments = vec![encoder.patch_embedding(self.d_patch(), trained)];
        for i in 0..self.n_layers {
            segments.push(encoder.block(&format!("vision.blocks.{i}"), Attention::Joined, trained));
            if let Some(at) = self.deepstack_layers.iter().position(|&layer| layer == i) {
                let merger = merger(&format!("vision.deepstack_mergers.{at}"));
                segments.push(PassSegment { flow: SegmentFlow::Branch, ..merger });
            }
        }
        segments.push(merger("vision.merger"));
        Some(segments)
    }

    fn n_layer_features(&self) -> usize {
        self.deepstack_layers.len()
    }

    fn init(&self, device: &Device) -> Option<AutoVisionEncoder> {
        Some(Qwen3VlEncoderConfig::init(self, device).into())
    }

    fn keeps_image_shape(&self) -> bool {
        true
    }

    fn patch_kernel(&self) -> Vec<usize> {
        vec![self.n_channels, self.temporal_patch_size, self.patch_size, self.patch_size]
    }
}

/// Published files have the names of transformers 5.
const KEYS: &[PartKeys] = &[
    PartKeys::language(
        "model.language_model.",
        "model.language_model.",
        &["model.", "language_model.", "language_model.model."],
    ),
    PartKeys::head("lm_head.", &["language_model.lm_head.", "model.lm_head.", "model.language_model.lm_head."]),
    visual("vision.", "model.visual.", &["visual.", "model.model.visual."], BLOCKS),
    visual("vision.merger.", "model.visual.merger.", &["visual.merger.", "model.model.visual.merger."], MERGER),
    visual(
        "vision.deepstack_mergers.",
        "model.visual.deepstack_merger_list.",
        &["visual.deepstack_merger_list.", "model.model.visual.deepstack_merger_list."],
        MERGER,
    ),
];

const fn visual(ours: &'static str, prefix: &'static str, others: &'static [&'static str], names: Renames) -> PartKeys {
    PartKeys { names, ..PartKeys::plain(ours, prefix, prefix, others) }
}

const BLOCKS: Renames = &[
    ("patch_embedding.", "patch_embed.proj."),
    ("position_embedding", "pos_embed.weight"),
    ("qkv.", "attn.qkv."),
    ("projection.", "attn.proj."),
    ("mlp.fc1.", "mlp.linear_fc1."),
    ("mlp.fc2.", "mlp.linear_fc2."),
];

const MERGER: Renames = &[("mlp.fc1.", "linear_fc1."), ("mlp.fc2.", "linear_fc2.")];

/// Releases of transformers have two defaults for the base of the rotary frequencies, so a file must name it.
fn has_theta(fields: &Fields) -> Result<(), ModelError> {
    let inner = |name: &str| Ok::<_, ModelError>(fields.value(&[name])?.filter(|_| fields.has(name)));
    let given = [inner("rope_parameters")?, inner("rope_scaling")?];
    if fields.has("rope_theta")
        || given.iter().flatten().any(|rope| rope.get("rope_theta").is_some_and(|theta| !theta.is_null()))
    {
        return Ok(());
    }
    let expected = "a number: transformers 4.57 takes 5000000 where it is left out, later releases 500000";
    Err(fields.fault("rope_theta", expected, "nothing"))
}

fn encoder(fields: &Fields, decoder: &DecoderConfig) -> Result<Qwen3VlEncoderConfig, ModelError> {
    let d_vision = fields.size("hidden_size")?;
    vision::joins(fields, "out_hidden_size", decoder.d_model)?;

    let n_layers = vision::n_layers(fields, &["depth", "num_hidden_layers"])?;
    // Each deepstack layer's features are added after one of the decoder's first layers, in turn.
    let deepstack_layers = fields.counts("deepstack_visual_indexes", n_layers)?;
    let distinct: std::collections::BTreeSet<&usize> = deepstack_layers.iter().collect();
    let n = deepstack_layers.len();
    if distinct.len() < n || n > decoder.n_layers {
        let expected = format!("at most {} numbers (num_hidden_layers), each once", decoder.n_layers);
        return Err(fields.fault("deepstack_visual_indexes", expected, format!("{deepstack_layers:?}")));
    }

    Ok(Qwen3VlEncoderConfig {
        n_layers,
        d_vision,
        d_hidden: fields.size("intermediate_size")?,
        d_model: decoder.d_model,
        n_heads: vision::n_heads(fields, &["num_heads", "num_attention_heads"], d_vision, 4)?,
        deepstack_layers,
        n_positions: fields.count(&["num_position_embeddings"], 1..=MOST)?,
        n_channels: vision::n_channels(fields, &["in_channels"])?,
        patch_size: vision::patch_size(fields)?,
        temporal_patch_size: fields.count(&["temporal_patch_size"], 1..=64)?,
        merge_size: fields.count(&["spatial_merge_size"], 1..=64)?,
        activation: vision::activation(fields, "hidden_act", Activation::GeluPytorchTanh)?,
    })
}

/// A dense model of the given sizes: `[d_model, n_layers, n_heads, d_hidden]` of the decoder.
fn dense([d_model, n_layers, n_heads, d_hidden]: [usize; 4], vision: Qwen3VlEncoderConfig, tied: bool) -> ModelConfig {
    let plain = RopeConfig::plain(5_000_000.0);
    let rope = RopeConfig { mrope_section: Some([24, 20, 20]), mrope_interleaved: true, ..plain };
    let decoder = DecoderConfig::new(d_model, n_layers, n_heads, 8, 128, d_hidden, 151_936, rope);
    let decoder = decoder.with_qk_norm(true).with_tied_head(tied);
    let text = ModelConfig::text_only(FAMILY, decoder, 262_144);
    ModelConfig { vision: Some(Arc::new(vision)), image_token: Some(151_655), ..text }
}

impl ModelConfig {
    /// Qwen/Qwen3-VL-2B-Instruct.
    pub fn qwen3_vl_2b() -> Self {
        dense([2048, 28, 16, 6144], Qwen3VlEncoderConfig::qwen3_vl_2b_4b(2048), true)
    }

    /// Qwen/Qwen3-VL-4B-Instruct.
    pub fn qwen3_vl_4b() -> Self {
        dense([2560, 36, 32, 9728], Qwen3VlEncoderConfig::qwen3_vl_2b_4b(2560), true)
    }

    /// Qwen/Qwen3-VL-8B-Instruct.
    pub fn qwen3_vl_8b() -> Self {
        dense([4096, 36, 32, 12_288], Qwen3VlEncoderConfig::qwen3_vl_8b(), false)
    }
}
