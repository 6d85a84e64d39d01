//! The block that the vision encoders of CLIP (arXiv 2103.00020) and Mllama (arXiv 2407.21783, section 7) are made of.

use adamllm_nn::{
    Activation, AttentionMask, LayerNorm, LayerNormConfig, Linear, LinearConfig, LinearLayers, Mlp, MlpConfig, attend,
    prefixed_layers, tanh_gated,
};
use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

/// The sizes of a [`EncoderBlock`].
#[derive(Config, Debug)]
pub struct EncoderBlockConfig {
    /// Width of the residual stream.
    pub d_vision: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Width inside the MLP.
    pub d_hidden: usize,
    /// Inside the MLP.
    pub activation: Activation,
    /// Added to the variance in the norms.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Whether the attention's layers have biases (CLIP).
    #[config(default = false)]
    pub attention_bias: bool,
    /// Whether both branches pass a gate (Mllama's global layers).
    #[config(default = false)]
    pub gated: bool,
}

/// Attention and MLP, each after a norm, gated where the family does so, and added to the residual stream.
#[derive(Module, Debug)]
pub struct EncoderBlock {
    /// Before the attention.
    pub norm1: LayerNorm,
    /// Every patch attends to every patch that the mask allows.
    pub attention: EncoderAttention,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// Two layers.
    pub mlp: Mlp,
    /// `[1]`; the attention's branch is multiplied with its tanh.
    pub attention_gate: Option<Param<Tensor<1>>>,
    /// `[1]`; the MLP's branch is multiplied with its tanh.
    pub mlp_gate: Option<Param<Tensor<1>>>,
}

/// Multi-head attention with a layer of its own for query, key and value: each `[d_vision, d_vision]`.
#[derive(Module, Debug)]
pub struct EncoderAttention {
    /// Queries.
    pub query: Linear,
    /// Keys.
    pub key: Linear,
    /// Values.
    pub value: Linear,
    /// Heads to the residual stream.
    pub output: Linear,
    /// Attention heads.
    pub n_heads: usize,
}

impl EncoderBlockConfig {
    /// A block with normally distributed weights, made when first used.
    pub fn init(&self, device: &Device) -> EncoderBlock {
        let d = self.d_vision;
        let linear = || LinearConfig::new(d, d).with_bias(self.attention_bias).init(device);
        let norm = || LayerNormConfig::new(d).with_epsilon(self.epsilon).init(device);

        // Where transformers starts the gates of `MllamaVisionEncoderLayer`.
        let gate =
            || self.gated.then(|| Initializer::Constant { value: std::f64::consts::FRAC_PI_4 }.init([1], device));

        EncoderBlock {
            norm1: norm(),
            attention: EncoderAttention {
                query: linear(),
                key: linear(),
                value: linear(),
                output: linear(),
                n_heads: self.n_heads,
            },
            norm2: norm(),
            mlp: MlpConfig::new(d, self.d_hidden, d, self.activation).init(device),
            attention_gate: gate(),
            mlp_gate: gate(),
        }
    }
}

impl EncoderBlock {
    /// # Shapes
    /// - input and output: `[batch, n_patches, d_vision]`
    pub fn forward(&self, x: Tensor<3>, mask: Option<&AttentionMask>) -> Tensor<3> {
        let mixed = self.attention.forward(self.norm1.forward(x.clone()), mask);
        let x = x + gated(mixed, self.attention_gate.as_ref());
        let changed = self.mlp.forward(self.norm2.forward(x.clone()));
        x + gated(changed, self.mlp_gate.as_ref())
    }

    /// Its linear layers, under their paths of field names.
    pub fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        let EncoderAttention { query, key, value, output, .. } = &mut self.attention;
        let attention = [("query", query), ("key", key), ("value", value), ("output", output)];
        let attention = attention.map(|(name, layer)| (name.to_owned(), layer)).into();
        let mut layers = prefixed_layers("attention", attention);
        layers.extend(prefixed_layers("mlp", self.mlp.linear_layers_mut()));
        layers
    }
}

impl EncoderAttention {
    /// `[batch, n_patches, d_vision]` to the same.
    fn forward(&self, x: Tensor<3>, mask: Option<&AttentionMask>) -> Tensor<3> {
        let [query, key, value] = [&self.query, &self.key, &self.value].map(|layer| self.heads(layer, x.clone()));
        self.output.forward(attend(query, key, value, mask))
    }

    /// `[batch, n_patches, d_vision]` to `[batch, n_heads, n_patches, d_head]`.
    fn heads(&self, layer: &Linear, x: Tensor<3>) -> Tensor<4> {
        let [batch, n_patches, d_vision] = x.dims();
        let y = layer.forward(x).reshape([batch, n_patches, self.n_heads, d_vision / self.n_heads]);
        y.swap_dims(1, 2)
    }
}

fn gated(x: Tensor<3>, gate: Option<&Param<Tensor<1>>>) -> Tensor<3> {
    match gate {
        Some(gate) => tanh_gated(x, gate),
        None => x,
    }
}
