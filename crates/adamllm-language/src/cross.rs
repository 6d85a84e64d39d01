//! Cross-attention to images (Llama 3.2 Vision; arXiv 2407.21783, section 7.2): layers between the decoder's own, in
//! which tokens attend to the features of the images before them.

use adamllm_nn::{
    CrossAttentionInput, GatedMlp, GatedMlpConfig, Linear, LinearConfig, RmsNorm, RmsNormConfig, attend, tanh_gated,
};
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

use crate::{DecoderConfig, KvCache};

/// One layer: attention to image features and MLP, each with a norm before and a gate after it.
#[derive(Module, Debug)]
pub struct CrossLayer {
    /// Before the attention.
    pub attention_norm: RmsNorm,
    /// Queries from the text, keys and values from the images.
    pub attention: CrossAttention,
    /// `[1]`; the attention's branch is multiplied with its tanh.
    pub attention_gate: Param<Tensor<1>>,
    /// Before the MLP.
    pub mlp_norm: RmsNorm,
    /// SwiGLU.
    pub mlp: GatedMlp,
    /// `[1]`; the MLP's branch is multiplied with its tanh.
    pub mlp_gate: Param<Tensor<1>>,
}

/// Grouped-query attention without positions; queries and keys are normalised head by head.
#[derive(Module, Debug)]
pub struct CrossAttention {
    /// `[n_heads * d_head, d_model]`.
    pub query: Linear,
    /// `[n_kv_heads * d_head, d_model]`.
    pub key: Linear,
    /// `[n_kv_heads * d_head, d_model]`.
    pub value: Linear,
    /// `[d_model, n_heads * d_head]`.
    pub output: Linear,
    /// Over the width of a head.
    pub query_norm: RmsNorm,
    /// Over the width of a head.
    pub key_norm: RmsNorm,
    /// Width of one head.
    pub d_head: usize,
}

impl DecoderConfig {
    pub(crate) fn init_cross_layer(&self, device: &Device) -> CrossLayer {
        let linear = |d_in, d_out| LinearConfig::new(d_in, d_out).init(device);
        let norm = |d| RmsNormConfig::new(d).with_epsilon(self.rms_epsilon).init(device);

        // Gates start at 0, as in transformers: a new layer changes nothing until it is trained.
        let gate = || Initializer::Zeros.init([1], device);
        let (d_query, d_key) = (self.n_heads * self.d_head, self.n_kv_heads * self.d_head);

        CrossLayer {
            attention_norm: norm(self.d_model),
            attention: CrossAttention {
                query: linear(self.d_model, d_query),
                key: linear(self.d_model, d_key),
                value: linear(self.d_model, d_key),
                output: linear(d_query, self.d_model),
                query_norm: norm(self.d_head),
                key_norm: norm(self.d_head),
                d_head: self.d_head,
            },
            attention_gate: gate(),
            mlp_norm: norm(self.d_model),
            mlp: GatedMlpConfig::new(self.d_model, self.d_hidden).init(device),
            mlp_gate: gate(),
        }
    }
}

impl CrossLayer {
    /// `[batch, seq, d_model]` to the same.
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        input: &CrossAttentionInput,
        cache: Option<(usize, &mut KvCache)>,
    ) -> Tensor<3> {
        let mixed = self.attention.forward(self.attention_norm.forward(x.clone()), input, cache);
        let mixed = switched(tanh_gated(mixed, &self.attention_gate), input.has_image.as_ref());
        let x = x + mixed;
        let changed = self.mlp.forward(self.mlp_norm.forward(x.clone()));
        x + tanh_gated(switched(changed, input.attends_to_image.as_ref()), &self.mlp_gate)
    }
}

fn switched(x: Tensor<3>, factor: Option<&Tensor<3>>) -> Tensor<3> {
    factor.map_or(x.clone(), |factor| x * factor.clone())
}

impl CrossAttention {
    fn forward(&self, x: Tensor<3>, input: &CrossAttentionInput, cache: Option<(usize, &mut KvCache)>) -> Tensor<3> {
        let query = self.query_norm.forward(self.heads(&self.query, x));
        let (key, value) = match (&input.features, cache) {
            (Some(features), cache) => {
                let key = self.key_norm.forward(self.heads(&self.key, features.clone()));
                let value = self.heads(&self.value, features.clone());
                if let Some((layer, cache)) = cache {
                    cache.keep_images(layer, key.clone(), value.clone());
                }
                (key, value)
            }
            (None, Some((layer, cache))) => cache.images(layer),
            (None, None) => panic!("image features come with the input or from the cache"),
        };
        self.output.forward(attend(query, key, value, Some(&input.mask)))
    }

    /// `[batch, n, d_model]` to `[batch, n_heads, n, d_head]`.
    fn heads(&self, projection: &Linear, x: Tensor<3>) -> Tensor<4> {
        let [batch, n, _] = x.dims();
        let y = projection.forward(x);
        let n_heads = y.dims()[2] / self.d_head;
        y.reshape([batch, n, n_heads, self.d_head]).swap_dims(1, 2)
    }
}
