use burn::config::Config;
use serde::{Deserialize, Serialize};

/// The sizes of a [`Decoder`](crate::Decoder). Llama 3, Qwen2 and Qwen3 differ in numbers, in `qkv_bias` and in `qk_norm` only.
#[derive(Config, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Blocks with self-attention.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of one head.
    pub d_head: usize,
    /// Width inside the MLP.
    pub d_hidden: usize,
    /// Tokens of the head.
    pub vocab_size: usize,
    /// Added to the mean square in the norms.
    #[config(default = 1e-6)]
    pub rms_epsilon: f64,
    /// Whether query, key and value projections have biases (Qwen2).
    #[config(default = false)]
    pub qkv_bias: bool,
    /// Whether queries and keys are normalised head by head, before they are turned (Qwen3).
    #[config(default = false)]
    pub qk_norm: bool,
    /// Whether the embedding also serves as the head.
    #[config(default = false)]
    pub tied_head: bool,
    /// Tokens of the embedding that the head does not have (Mllama's image token).
    #[config(default = 0)]
    pub n_extra_embeddings: usize,
    /// Indices of the cross-attention layers among all layers, from 0 (Mllama).
    #[config(default = "Vec::new()")]
    pub cross_layers: Vec<usize>,
    /// Layers that attend within a window (Mistral, Qwen2); `None` where every layer attends to all earlier tokens.
    #[config(default = "None")]
    pub sliding_window: Option<SlidingWindow>,
    /// Rotary positions.
    pub rope: RopeConfig,
}

/// Attention within a window (Mistral 7B, arXiv 2310.06825, section 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlidingWindow {
    /// How many tokens a token attends to, itself included.
    pub width: usize,
    /// The layers with self-attention that have the window, counted from 0, rising.
    pub layers: Vec<usize>,
}

/// How rotary angles come from positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RopeConfig {
    /// The base of the frequencies.
    pub theta: f64,
    /// How frequencies are stretched for long contexts.
    pub scaling: RopeScaling,
    /// Channels for time, height and width (Qwen2-VL's M-RoPE); they sum to half a head. `None` for plain positions.
    pub mrope_section: Option<[usize; 3]>,
    /// Whether the channels of the three axes alternate (Qwen3-VL) instead of standing one axis after the other.
    #[serde(default)]
    pub mrope_interleaved: bool,
}

/// How frequencies are stretched for long contexts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies divided by one factor (`rope_type: "linear"`).
    Linear {
        /// Divides every frequency.
        factor: f64,
    },
    /// Llama 3.1's piecewise rule (`rope_type: "llama3"`).
    Llama3 {
        /// Divides the low frequencies.
        factor: f64,
        /// Below `original / low_freq_factor` wavelengths nothing changes... in cycles per original context.
        low_freq_factor: f64,
        /// Above this many cycles per original context a frequency is kept.
        high_freq_factor: f64,
        /// The context that the model was trained with first.
        original_max_positions: usize,
    },
}

impl RopeConfig {
    /// Plain rotary positions.
    pub fn plain(theta: f64) -> Self {
        Self { theta, scaling: RopeScaling::None, mrope_section: None, mrope_interleaved: false }
    }

    /// One frequency for each pair of channels, in f32 as transformers computes them.
    pub fn frequencies(&self, d_head: usize) -> Vec<f32> {
        let plain = (0..d_head / 2).map(|i| 1.0 / self.theta.powf(2.0 * i as f64 / d_head as f64));
        plain.map(|frequency| self.scaling.scale(frequency) as f32).collect()
    }
}

impl RopeScaling {
    /// transformers' `_compute_linear_scaling_rope_parameters` and `_compute_llama3_parameters`, for one frequency.
    fn scale(&self, frequency: f64) -> f64 {
        let (factor, low_freq_factor, high_freq_factor, original_max_positions) = match *self {
            Self::None => return frequency,
            Self::Linear { factor } => return frequency / factor,
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
                (factor, low_freq_factor, high_freq_factor, original_max_positions)
            }
        };
        let cycles = original_max_positions as f64 * frequency / (2.0 * std::f64::consts::PI);
        if cycles > high_freq_factor {
            frequency
        } else if cycles < low_freq_factor {
            frequency / factor
        } else {
            let smooth = (cycles - low_freq_factor) / (high_freq_factor - low_freq_factor);
            (1.0 - smooth) * frequency / factor + smooth * frequency
        }
    }
}

impl DecoderConfig {
    /// A few thousand parameters, for tests.
    pub fn tiny() -> Self {
        Self::new(16, 2, 4, 2, 4, 24, 32, RopeConfig::plain(10_000.0))
    }
}
