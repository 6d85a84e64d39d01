use serde::Serialize;

use crate::{ModelConfig, TileLayout, VisionConfig};

/// How large a row is, known without a pixel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Measure {
    /// Tokens, with all placeholders.
    pub tokens: usize,
    /// Tokens that count for the loss.
    pub targets: usize,
    /// Images.
    pub images: usize,
    /// Patches that the encoder reads.
    pub patches: usize,
    /// Rows that the vision side gives to the decoder.
    pub image_rows: usize,
    /// Pairs of patches that see each other in a layer of the encoder that attends to a whole image (to a tile in
    /// LLaVA-NeXT).
    pub patch_pairs: u64,
}

/// Floating-point operations of forward and backward passes; a multiplication and an addition are two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Flops {
    /// Of the decoder with its head.
    pub decoder: f64,
    /// Of the encoder and of what joins it to the decoder.
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

impl Measure {
    pub(crate) fn add(&mut self, layout: &TileLayout) {
        self.images += 1;
        self.patches += layout.n_patches();
        self.image_rows += layout.n_rows();
        self.patch_pairs += layout.n_patch_pairs();
    }
}

impl TileLayout {
    /// Pairs of the encoder's positions that see each other.
    fn n_patch_pairs(&self) -> u64 {
        let square = |n: usize| (n * n) as u64;
        match self {
            Self::Patches { .. } => square(self.n_patches()),
            Self::Anyres(layout) => layout.n_tiles() as u64 * square(layout.side * layout.side + 1),
            Self::Tiled { .. } => square(self.n_rows()),
        }
    }
}

/// Backward passes compute a product for the input's gradient and one for the weight's where forward computes one.
const FORWARD_AND_BACKWARD: f64 = 3.0;

impl ModelConfig {
    /// The operations of a training step on a row, everything trained, nothing computed twice: three times the forward
    /// pass, in which every weight matrix takes two operations for each position (6 N for N weights), and attention four for
    /// each pair of positions and each channel. Self-attention of the decoder sees the pairs up to each token; the head reads
    /// the tokens that are learnt only; windows of Qwen2.5-VL count as full ones; norms, biases and activations are left out,
    /// as are class tokens outside attention.
    pub fn flops(&self, row: &Measure) -> Flops {
        Flops {
            decoder: FORWARD_AND_BACKWARD * self.decoder_forward(row),
            encoder: FORWARD_AND_BACKWARD * self.vision.as_ref().map_or(0.0, |vision| vision.forward_flops(row)),
        }
    }

    fn decoder_forward(&self, row: &Measure) -> f64 {
        let d = &self.decoder;
        let (tokens, rows) = (row.tokens as f64, row.image_rows as f64);
        let queries = matrix(d.d_model, 2 * d.n_heads * d.d_head);
        let keys = matrix(d.d_model, 2 * d.n_kv_heads * d.d_head);
        let mlp = matrix(d.d_model, 3 * d.d_hidden);
        let channels = (d.n_heads * d.d_head) as f64;
        let pairs = tokens * (tokens + 1.0) / 2.0;
        let own = tokens * (queries + keys + mlp) + 4.0 * channels * pairs;
        // A row without images passes the cross-attention layers by.
        let cross =
            if row.images == 0 { 0.0 } else { tokens * (queries + mlp) + rows * keys + 4.0 * channels * tokens * rows };
        let head = row.targets as f64 * matrix(d.d_model, d.vocab_size);
        d.n_layers as f64 * own + d.cross_layers.len() as f64 * cross + head
    }
}

impl VisionConfig {
    fn forward_flops(&self, row: &Measure) -> f64 {
        let (patches, rows, pairs) = (row.patches as f64, row.image_rows as f64, row.patch_pairs as f64);
        let attention = |d: usize| 4.0 * d as f64;
        match self {
            Self::Qwen2Vl(c) => {
                let d = c.d_vision;
                let block = patches * (matrix(d, 4 * d) + matrix(d, 2 * c.mlp_ratio * d)) + attention(d) * pairs;
                let merged = d * c.merge_size * c.merge_size;
                let merger = rows * (matrix(merged, merged) + matrix(merged, c.d_model));
                patches * matrix(c.d_patch(), d) + c.n_layers as f64 * block + merger
            }
            Self::Qwen2_5Vl(c) => {
                let d = c.d_vision;
                let dense = patches * (matrix(d, 4 * d) + matrix(d, 3 * c.d_hidden));
                let window = (c.window_size / c.patch_size).pow(2) as f64;
                let full = c.full_attention_layers.len() as f64;
                let windowed = (c.n_layers as f64 - full) * (patches * window).min(pairs);
                let merged = d * c.merge_size * c.merge_size;
                let merger = rows * (matrix(merged, merged) + matrix(merged, c.d_model));
                let seen = attention(d) * (full * pairs + windowed);
                patches * matrix(c.d_patch(), d) + c.n_layers as f64 * dense + seen + merger
            }
            Self::LlavaNext(c) => {
                let t = &c.encoder;
                let d = t.d_vision;
                let block = patches * (matrix(d, 4 * d) + matrix(d, 2 * t.d_hidden)) + attention(d) * pairs;
                let projector = patches * (matrix(d, c.d_model) + matrix(c.d_model, c.d_model));
                patches * matrix(t.n_channels * t.patch_size.pow(2), d) + t.n_used_layers as f64 * block + projector
            }
            Self::Mllama(c) => {
                let t = &c.encoder;
                let d = t.d_vision;
                let block = rows * (matrix(d, 4 * d) + matrix(d, 2 * t.d_hidden)) + attention(d) * pairs;
                let n_layers = (t.n_layers + t.n_global_layers) as f64;
                let patch = matrix(t.n_channels * t.patch_size.pow(2), d);
                patches * patch + n_layers * block + rows * matrix(t.d_output(), c.d_model)
            }
        }
    }
}

/// Operations of a weight matrix for one position.
fn matrix(d_in: usize, d_out: usize) -> f64 {
    2.0 * d_in as f64 * d_out as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six operations for each weight that a token passes: published sizes without their embeddings.
    #[test]
    fn six_for_each_weight() {
        let row = Measure { tokens: 2, targets: 2, ..Measure::default() };
        for (config, weights) in [
            // 1,543,714,304 parameters of the decoder, the tied embedding serving as head.
            (ModelConfig::qwen2_vl_2b(), 1_543_714_304.0),
            // 8,030,261,248 without the embedding's 128256 x 4096.
            (ModelConfig::llama3_8b(), 8_030_261_248.0 - 128_256.0 * 4096.0),
        ] {
            let got = config.flops(&row).total() / 2.0 / 6.0;
            assert!((got / weights - 1.0).abs() < 1e-3, "{got} for {weights}");
        }
    }

    /// 665 million parameters in Qwen2-VL's encoder: twelve patches' worth of blocks, and a merger for four patches.
    #[test]
    fn towers_count_apart() {
        let config = ModelConfig::qwen2_vl_2b();
        let layout = TileLayout::Patches { patches: [1, 2, 2], merge: 2 };
        let mut row = Measure { tokens: 1, ..Measure::default() };
        row.add(&layout);
        assert_eq!((row.images, row.patches, row.image_rows, row.patch_pairs), (1, 4, 1, 16));
        let merger = 5120.0 * 5120.0 + 5120.0 * 1536.0;
        let blocks = 32.0 * 12.0 * 1280.0 * 1280.0 + 1176.0 * 1280.0;
        let got = config.flops(&row).encoder / 6.0;
        let expected = merger + 4.0 * blocks;
        assert!((got / expected - 1.0).abs() < 1e-3, "{got} for {expected}");
    }

    #[test]
    fn attention_grows_with_the_square() {
        let config = ModelConfig::qwen2_vl_2b();
        let of = |tokens| config.flops(&Measure { tokens, ..Measure::default() }).decoder;
        let n = 4096.0;
        let quadratic = 3.0 * 28.0 * 4.0 * 1536.0 * n * n;
        let difference = of(8192) - 2.0 * of(4096);
        assert!((difference / quadratic - 1.0).abs() < 1e-3);
    }
}
