//! Qwen2-VL (arXiv 2409.12191; model card Qwen/Qwen2-VL-2B-Instruct).

use std::path::Path;
use std::sync::Arc;

use adamllm_language::{DecoderConfig, RopeConfig};
use adamllm_nn::{Activation, ExampleSize, ImageLayout, MlpShape, PassSegment, TrainedParameters};
use adamllm_vision::Qwen2VlEncoderConfig;
use adamllm_vision::preprocess::{ImageProcessor, Qwen2VlImageConfig};
use burn::tensor::Device;

use super::{Family, ModelFamily, text};
use crate::flops::matrix;
use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::fields::Fields;
use crate::hf::keys::{PartKeys, Renames};
use crate::hf::{defaults, vision};
use crate::image_processor::{agrees, settings};
use crate::memory::{Attention, EncoderShape};
use crate::{AutoVisionEncoder, ModelError, Preset, VisionConfig};

mod positions;

pub(super) use positions::multimodal_positions;

/// The family.
#[derive(Debug)]
pub(super) struct Qwen2Vl;

const FAMILY: Family = Family::new(&Qwen2Vl);

/// The formats that the families with Qwen2's tokens can write.
pub(super) const PRESETS: &[Preset] = &[Preset::LlamaFactory091Qwen2Vl, Preset::LlamaFactory092Qwen2Vl];

impl ModelFamily for Qwen2Vl {
    fn model_types(&self) -> &'static [&'static str] {
        &["qwen2_vl"]
    }

    fn config(&self, file: &ConfigFile) -> Result<ModelConfig, ModelError> {
        vision_language(file, FAMILY, |fields, d_model| Ok(Arc::new(encoder(fields, d_model)?)))
    }

    fn keys(&self) -> &'static [PartKeys] {
        KEYS
    }

    fn presets(&self) -> &'static [Preset] {
        PRESETS
    }

    fn positions(&self, tokens: &[u32], image_token: u32, images: &[&ImageLayout]) -> (Vec<[i32; 3]>, i32) {
        multimodal_positions(tokens, image_token, images)
    }
}

impl VisionConfig for Qwen2VlEncoderConfig {
    fn image_processor(&self, folder: &Path) -> Result<Arc<dyn ImageProcessor>, ModelError> {
        image_processor(folder, [self.patch_size, self.merge_size, self.temporal_patch_size])
    }

    fn n_blocks(&self) -> usize {
        self.n_layers
    }

    fn forward_flops(&self, size: &ExampleSize) -> f64 {
        let (patches, pairs, d) = (size.patches as f64, size.attention_pairs as f64, self.d_vision);
        let products = patches * (matrix(d, 4 * d) + matrix(d, 2 * self.mlp_ratio * d));
        let blocks = self.n_layers as f64 * (products + 4.0 * d as f64 * pairs);
        patches * matrix(self.d_patch(), d) + blocks + merger_flops(size, d * self.merge_size.pow(2), self.d_model)
    }

    fn pass_segments(&self, size: &ExampleSize, trained: &TrainedParameters) -> Option<Vec<PassSegment>> {
        let encoder = EncoderShape {
            name: "vision",
            positions: size.patches,
            d_vision: self.d_vision,
            n_heads: self.n_heads,
            d_hidden: self.d_vision * self.mlp_ratio,
            mlp: MlpShape::Plain,
        };
        let mut segments = vec![encoder.patch_embedding(self.d_patch(), trained)];
        let block = |i| encoder.block(&format!("vision.blocks.{i}"), Attention::Joined, trained);
        segments.extend((0..self.n_layers).map(block));
        segments.push(encoder.merger("vision.merger", size.image_features, self.d_model, trained));
        Some(segments)
    }

    fn init(&self, device: &Device) -> Option<AutoVisionEncoder> {
        Some(Qwen2VlEncoderConfig::init(self, device).into())
    }

    fn keeps_image_shape(&self) -> bool {
        true
    }

    fn patch_kernel(&self) -> Vec<usize> {
        vec![self.n_channels, self.temporal_patch_size, self.patch_size, self.patch_size]
    }
}

/// Operations of the merger, whose layers read `d_merged` channels of each merged square.
pub(super) fn merger_flops(size: &ExampleSize, d_merged: usize, d_model: usize) -> f64 {
    size.image_features as f64 * (matrix(d_merged, d_merged) + matrix(d_merged, d_model))
}

/// The image processor of the families with Qwen2-VL's; the encoder's patch, merge and frame sizes must be its own.
pub(super) fn image_processor(
    folder: &Path,
    [patch, merge, frames]: [usize; 3],
) -> Result<Arc<dyn ImageProcessor>, ModelError> {
    let (path, read) = settings(folder, Qwen2VlImageConfig::from_json)?;
    agrees(&path, "patch_size", read.patch_size, patch)?;
    agrees(&path, "merge_size", read.merge_size, merge)?;
    agrees(&path, "temporal_patch_size", read.temporal_patch_size, frames)?;
    Ok(Arc::new(read))
}

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

/// What both families' files have in common: M-RoPE, and a decoder whose fields stand at the root or in `text_config`.
pub(super) fn vision_language(
    file: &ConfigFile,
    family: Family,
    encoder: impl Fn(&Fields, usize) -> Result<Arc<dyn VisionConfig>, ModelError>,
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
    Ok(ModelConfig { vision: Some(vision), image_token, ..ModelConfig::text_only(family, decoder, max_context) })
}

/// The encoder's rotary positions have one form.
pub(super) fn axial(fields: &Fields) -> Result<(), ModelError> {
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

/// The decoder of Qwen/Qwen2-VL-2B-Instruct.
pub(super) fn decoder_2b() -> DecoderConfig {
    let rope = RopeConfig { mrope_section: Some([16, 24, 24]), ..RopeConfig::plain(1_000_000.0) };
    DecoderConfig::new(1536, 28, 12, 2, 128, 8960, 151_936, rope).with_qkv_bias(true).with_tied_head(true)
}

impl ModelConfig {
    /// Qwen/Qwen2-VL-2B-Instruct.
    pub fn qwen2_vl_2b() -> Self {
        let vision = Arc::new(Qwen2VlEncoderConfig::qwen2_vl_2b());
        let text = Self::text_only(FAMILY, decoder_2b(), 32_768);
        Self { vision: Some(vision), image_token: Some(151_655), ..text }
    }
}
