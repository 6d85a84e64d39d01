//! Qwen2.5-VL (arXiv 2502.13923; model card Qwen/Qwen2.5-VL-3B-Instruct): Qwen2-VL with another vision encoder.

use std::path::Path;
use std::sync::Arc;

use adamllm_language::{DecoderConfig, RopeConfig};
use adamllm_nn::{ExampleSize, ImageLayout, MlpShape, PassSegment, TrainedParameters};
use adamllm_vision::Qwen2_5VlEncoderConfig;
use adamllm_vision::preprocess::ImageProcessor;
use burn::tensor::Device;

use super::qwen2_vl::{self, KEYS, vision_language};
use super::{Family, ModelFamily};
use crate::flops::matrix;
use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::fields::Fields;
use crate::hf::keys::PartKeys;
use crate::hf::vision;
use crate::memory::{Attention, EncoderShape};
use crate::{AutoVisionEncoder, ModelError, Preset, VisionConfig};

/// The family.
#[derive(Debug)]
pub(super) struct Qwen2_5Vl;

const FAMILY: Family = Family::new(&Qwen2_5Vl);

impl ModelFamily for Qwen2_5Vl {
    fn model_types(&self) -> &'static [&'static str] {
        &["qwen2_5_vl"]
    }

    fn config(&self, file: &ConfigFile) -> Result<ModelConfig, ModelError> {
        vision_language(file, FAMILY, |fields, d_model| Ok(Arc::new(encoder(fields, d_model)?)))
    }

    fn keys(&self) -> &'static [PartKeys] {
        KEYS
    }

    fn presets(&self) -> &'static [Preset] {
        qwen2_vl::PRESETS
    }

    fn positions(&self, tokens: &[u32], image_token: u32, images: &[&ImageLayout]) -> (Vec<[i32; 3]>, i32) {
        qwen2_vl::multimodal_positions(tokens, image_token, images)
    }
}

impl VisionConfig for Qwen2_5VlEncoderConfig {
    fn image_processor(&self, folder: &Path) -> Result<Arc<dyn ImageProcessor>, ModelError> {
        qwen2_vl::image_processor(folder, [self.patch_size, self.merge_size, self.temporal_patch_size])
    }

    fn n_blocks(&self) -> usize {
        self.n_layers
    }

    /// Windows count as full ones.
    fn forward_flops(&self, size: &ExampleSize) -> f64 {
        let (patches, pairs, d) = (size.patches as f64, size.attention_pairs as f64, self.d_vision);
        let products = self.n_layers as f64 * patches * (matrix(d, 4 * d) + matrix(d, 3 * self.d_hidden));
        let (window, full) =
            ((self.window_size / self.patch_size).pow(2) as f64, self.full_attention_layers.len() as f64);
        let windowed = (self.n_layers as f64 - full) * (patches * window).min(pairs);
        let attention = 4.0 * d as f64 * (full * pairs + windowed);
        let merger = qwen2_vl::merger_flops(size, d * self.merge_size.pow(2), self.d_model);
        patches * matrix(self.d_patch(), d) + products + attention + merger
    }

    fn pass_segments(&self, size: &ExampleSize, trained: &TrainedParameters) -> Option<Vec<PassSegment>> {
        let encoder = EncoderShape {
            name: "vision",
            positions: size.patches,
            d_vision: self.d_vision,
            n_heads: self.n_heads,
            d_hidden: self.d_hidden,
            mlp: MlpShape::Gated,
        };
        let mut segments = vec![encoder.patch_embedding(self.d_patch(), trained)];
        segments.extend((0..self.n_layers).map(|i| {
            let windowed = !self.full_attention_layers.contains(&i);
            let attention = if windowed { Attention::Windowed } else { Attention::Joined };
            encoder.block(&format!("vision.blocks.{i}"), attention, trained)
        }));
        segments.push(encoder.merger("vision.merger", size.image_features, self.d_model, trained));
        Some(segments)
    }

    fn init(&self, device: &Device) -> Option<AutoVisionEncoder> {
        Some(Qwen2_5VlEncoderConfig::init(self, device).into())
    }

    fn keeps_image_shape(&self) -> bool {
        true
    }

    fn patch_kernel(&self) -> Vec<usize> {
        vec![self.n_channels, self.temporal_patch_size, self.patch_size, self.patch_size]
    }
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

impl ModelConfig {
    /// Qwen/Qwen2.5-VL-3B-Instruct.
    pub fn qwen2_5_vl_3b() -> Self {
        let rope = RopeConfig { mrope_section: Some([16, 24, 24]), ..RopeConfig::plain(1_000_000.0) };
        let decoder = DecoderConfig::new(2048, 36, 16, 2, 128, 11_008, 151_936, rope);
        let decoder = decoder.with_qkv_bias(true).with_tied_head(true);
        let vision = Arc::new(Qwen2_5VlEncoderConfig::qwen2_5_vl_3b());
        let text = Self::text_only(FAMILY, decoder, 128_000);
        Self { vision: Some(vision), image_token: Some(151_655), ..text }
    }
}
