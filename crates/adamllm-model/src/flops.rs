use adamllm_nn::ExampleSize;
use serde::Serialize;

use crate::ModelConfig;

/// Floating-point operations of forward and backward passes; a multiplication and an addition are two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Flops {
    /// Of the decoder with its head.
    pub decoder: f64,
    /// Of the vision encoder and its connector.
    pub encoder: f64,
}

impl Flops {
    /// Of the whole model.
    pub fn total(self) -> f64 {
        self.decoder + self.encoder
    }
}

impl std::ops::Add for Flops {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { decoder: self.decoder + other.decoder, encoder: self.encoder + other.encoder }
    }
}

/// Backward passes compute a product for the input's gradient and one for the weight's where forward computes one.
const FORWARD_AND_BACKWARD: f64 = 3.0;

impl ModelConfig {
    /// The operations of a training step on an example, everything trained, nothing computed twice: three times the forward
    /// pass, in which every weight matrix takes two operations for each position (6 N for N weights), and attention four for
    /// each pair of positions and each channel. Self-attention of the decoder counts the pairs up to each token; the head reads
    /// the targets only; windows of Qwen2.5-VL count as full ones; norms, biases and activations are left out,
    /// as are class tokens outside attention.
    pub fn flops(&self, size: &ExampleSize) -> Flops {
        Flops {
            decoder: FORWARD_AND_BACKWARD * self.decoder_forward(size),
            encoder: FORWARD_AND_BACKWARD * self.vision.as_ref().map_or(0.0, |vision| vision.forward_flops(size)),
        }
    }

    fn decoder_forward(&self, size: &ExampleSize) -> f64 {
        let d = &self.decoder;
        let (tokens, features) = (size.tokens as f64, size.image_features as f64);
        let queries = matrix(d.d_model, 2 * d.n_heads * d.d_head);
        let keys = matrix(d.d_model, 2 * d.n_kv_heads * d.d_head);
        let mlp = matrix(d.d_model, 3 * d.d_hidden);
        let channels = (d.n_heads * d.d_head) as f64;
        let pairs = tokens * (tokens + 1.0) / 2.0;
        let own = tokens * (queries + keys + mlp) + 4.0 * channels * pairs;
        // An example without images passes the cross-attention layers by.
        let attended = features * keys + 4.0 * channels * tokens * features;
        let cross = if size.images == 0 { 0.0 } else { tokens * (queries + mlp) + attended };
        let head = size.targets as f64 * matrix(d.d_model, d.vocab_size);
        d.n_layers as f64 * own + d.cross_layers.len() as f64 * cross + head
    }
}

/// Operations of a weight matrix for one position.
pub(crate) fn matrix(d_in: usize, d_out: usize) -> f64 {
    2.0 * d_in as f64 * d_out as f64
}

#[cfg(test)]
mod tests {
    use adamllm_vision::preprocess::{ImageProcessor, Qwen2VlImageConfig, SmolVlmImageConfig, SmolVlmImageProcessor};

    use super::*;

    /// Six operations for each weight that a token passes: published sizes without their embeddings.
    #[test]
    fn six_for_each_weight() {
        let size = ExampleSize { tokens: 2, targets: 2, ..ExampleSize::default() };
        for (config, weights) in [
            // 1,543,714,304 parameters of the decoder, the tied embedding serving as head.
            (ModelConfig::qwen2_vl_2b(), 1_543_714_304.0),
            (ModelConfig::qwen3_0_6b(), 596_049_920.0),
            // 8,030,261,248 without the embedding's 128256 x 4096.
            (ModelConfig::llama3_8b(), 8_030_261_248.0 - 128_256.0 * 4096.0),
        ] {
            let got = config.flops(&size).total() / 2.0 / 6.0;
            assert!((got / weights - 1.0).abs() < 1e-3, "{got} for {weights}");
        }
    }

    /// 665 million parameters in Qwen2-VL's encoder: twelve patches' worth of blocks, and a merger for four patches.
    #[test]
    fn encoders_count_apart() {
        let config = ModelConfig::qwen2_vl_2b();
        let one_square = Qwen2VlImageConfig { min_pixels: 1, ..Qwen2VlImageConfig::default() };
        let layout = one_square.layout(28, 28).expect("two by two patches");
        let mut size = ExampleSize { tokens: 1, ..ExampleSize::default() };
        size.add_image(&layout);
        assert_eq!((size.images, size.patches, size.image_features, size.attention_pairs), (1, 4, 1, 16));
        let merger = 5120.0 * 5120.0 + 5120.0 * 1536.0;
        let blocks = 32.0 * 12.0 * 1280.0 * 1280.0 + 1176.0 * 1280.0;
        let got = config.flops(&size).encoder / 6.0;
        let expected = merger + 4.0 * blocks;
        assert!((got / expected - 1.0).abs() < 1e-3, "{got} for {expected}");
    }

    /// Four mergers, one of them after the last block: all read every feature.
    #[test]
    fn mergers_of_inner_blocks_count() {
        let config = ModelConfig::qwen3_vl_2b();
        let one_square = Qwen2VlImageConfig { min_pixels: 1, patch_size: 16, ..Qwen2VlImageConfig::default() };
        let mut size = ExampleSize { tokens: 1, ..ExampleSize::default() };
        size.add_image(&one_square.layout(32, 32).expect("two by two patches"));
        let mergers = 4.0 * (4096.0 * 4096.0 + 4096.0 * 2048.0);
        let expected = mergers + 4.0 * (24.0 * 12.0 * 1024.0 * 1024.0 + 1536.0 * 1024.0);
        let got = config.flops(&size).encoder / 6.0;
        assert!((got / expected - 1.0).abs() < 1e-3, "{got} for {expected}");
    }

    /// Tiles of 1024 patches, of which sixteen become a feature of the projector's.
    #[test]
    fn squares_of_patches_pass_the_projector_together() {
        let config = ModelConfig::smolvlm_256m();
        let tiles = SmolVlmImageConfig { longest_edge: 1024, tile: 512, ..Default::default() };
        let processor = SmolVlmImageProcessor { config: tiles, patch_size: 16, scale_factor: 4 };
        let mut size = ExampleSize { tokens: 1, ..ExampleSize::default() };
        size.add_image(&processor.layout(640, 480).expect("two by two tiles and the whole image"));
        assert_eq!((size.patches, size.image_features, size.attention_pairs), (5 * 1024, 5 * 64, 5 << 20));
        let blocks = 12.0 * (12.0 * 768.0 * 768.0 + 1024.0 * 768.0 * 2.0) + 768.0 * 768.0;
        let expected = 5.0 * (1024.0 * blocks + 64.0 * 16.0 * 768.0 * 576.0);
        let got = config.flops(&size).encoder / 6.0;
        assert!((got / expected - 1.0).abs() < 1e-3, "{got} for {expected}");
    }

    #[test]
    fn attention_grows_with_the_square() {
        let config = ModelConfig::qwen2_vl_2b();
        let of = |tokens| config.flops(&ExampleSize { tokens, ..ExampleSize::default() }).decoder;
        let n = 4096.0;
        let quadratic = 3.0 * 28.0 * 4.0 * 1536.0 * n * n;
        let difference = of(8192) - 2.0 * of(4096);
        assert!((difference / quadratic - 1.0).abs() < 1e-3);
    }
}
