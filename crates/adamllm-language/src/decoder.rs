//! The decoder of Llama 3 (arXiv 2407.21783), with the cross-attention layers of Llama 3.2 Vision, of Qwen2 (arXiv
//! 2407.10671) and Qwen3 (arXiv 2505.09388).

use adamllm_nn::{
    AttentionMask, BackboneInput, BlockExecutor, GatedMlp, GatedMlpConfig, KeyValueCache, LanguageBackbone, Linear,
    LinearConfig, LinearWeight, ParameterKind, RmsNorm, RmsNormConfig, RotaryTable, apply_rotary, attend, run_block,
};
use burn::module::{Initializer, Module};
use burn::tensor::{DType, Device, Int, Tensor};

use crate::cross::{CrossAttention, CrossLayer};
use crate::{DecoderConfig, KvCache};

/// Embedding, blocks, final norm, head.
#[derive(Module, Debug)]
pub struct Decoder {
    /// `[vocab_size + n_extra_embeddings, d_model]`.
    pub embedding: LinearWeight,
    /// The blocks.
    pub layers: Vec<DecoderLayer>,
    /// Between them, the layers that read images; empty for most families.
    pub cross_layers: Vec<CrossLayer>,
    /// After the last block.
    pub norm: RmsNorm,
    /// `[vocab_size, d_model]`; `None` where the embedding serves as the head.
    pub head: Option<Linear>,
    /// The sizes.
    #[module(skip)]
    pub config: DecoderConfig,
}

/// One block: attention and MLP, each with a norm before it, added to the residual stream.
#[derive(Module, Debug)]
pub struct DecoderLayer {
    /// Before the attention.
    pub attention_norm: RmsNorm,
    /// Grouped-query attention.
    pub attention: SelfAttention,
    /// Before the MLP.
    pub mlp_norm: RmsNorm,
    /// SwiGLU.
    pub mlp: GatedMlp,
}

/// Grouped-query attention with rotary positions.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// `[n_heads * d_head, d_model]`.
    pub query: Linear,
    /// `[n_kv_heads * d_head, d_model]`.
    pub key: Linear,
    /// `[n_kv_heads * d_head, d_model]`.
    pub value: Linear,
    /// `[d_model, n_heads * d_head]`.
    pub output: Linear,
    /// Over the width of a head; `None` for most families.
    pub query_norm: Option<RmsNorm>,
    /// Over the width of a head.
    pub key_norm: Option<RmsNorm>,
    /// Width of one head.
    pub d_head: usize,
}

/// A layer, and its index among the layers of its kind.
enum AnyLayer<'a> {
    SelfAttention(usize, &'a DecoderLayer),
    CrossAttention(usize, &'a CrossLayer),
}

impl DecoderConfig {
    /// A decoder with normally distributed weights, made when first used.
    pub fn init(&self, device: &Device) -> Decoder {
        let normal = Initializer::Normal { mean: 0.0, std: 0.02 };
        let head = || LinearConfig::new(self.d_model, self.vocab_size).init(device);
        Decoder {
            embedding: LinearWeight::Parameter(
                normal.init([self.vocab_size + self.n_extra_embeddings, self.d_model], device),
            ),
            layers: (0..self.n_layers).map(|_| self.init_layer(device)).collect(),
            cross_layers: self.cross_layers.iter().map(|_| self.init_cross_layer(device)).collect(),
            norm: self.init_norm(device),
            head: (!self.tied_head).then(head),
            config: self.clone(),
        }
    }

    fn init_layer(&self, device: &Device) -> DecoderLayer {
        DecoderLayer {
            attention_norm: self.init_norm(device),
            attention: self.init_attention(device),
            mlp_norm: self.init_norm(device),
            mlp: GatedMlpConfig::new(self.d_model, self.d_hidden).init(device),
        }
    }

    fn init_attention(&self, device: &Device) -> SelfAttention {
        let linear = |d_in, d_out, bias| LinearConfig::new(d_in, d_out).with_bias(bias).init(device);
        let head_norm = || RmsNormConfig::new(self.d_head).with_epsilon(self.rms_epsilon).init(device);
        let (d_query, d_key) = (self.n_heads * self.d_head, self.n_kv_heads * self.d_head);
        SelfAttention {
            query: linear(self.d_model, d_query, self.qkv_bias),
            key: linear(self.d_model, d_key, self.qkv_bias),
            value: linear(self.d_model, d_key, self.qkv_bias),
            output: linear(d_query, self.d_model, false),
            query_norm: self.qk_norm.then(head_norm),
            key_norm: self.qk_norm.then(head_norm),
            d_head: self.d_head,
        }
    }

    fn init_norm(&self, device: &Device) -> RmsNorm {
        RmsNormConfig::new(self.d_model).with_epsilon(self.rms_epsilon).init(device)
    }
}

impl LanguageBackbone for Decoder {
    type Cache = KvCache;

    fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.embedding.lookup(tokens, self.dtype(), &self.device())
    }

    fn forward<'a>(&'a self, input: BackboneInput, blocks: &mut dyn BlockExecutor<'a>) -> Tensor<3> {
        let BackboneInput { embeddings, positions, mask, cross, layer_features } = input;
        self.check(&layer_features);
        let [batch, seq, _] = embeddings.dims();
        let windowed = self.windowed(mask.as_ref(), [batch, seq, seq], &embeddings.device());
        let rotary = self.config.rope.table(positions, self.config.d_head, &embeddings.device());
        let cross = cross.map(|cross| {
            let features = cross.features.clone().expect("without a cache, image features come with the input");
            (blocks.shared(features), cross.with_features(None))
        });

        let mut hidden = embeddings;
        for layer in self.all_layers() {
            hidden = match (layer, &cross) {
                (AnyLayer::SelfAttention(i, layer), _) => {
                    let mask = if self.is_windowed(i) { windowed.clone() } else { mask.clone() };
                    let rotary = rotary.clone();
                    // Inside the block, so that its output alone is kept where activations are checkpointed.
                    let forward = move |layer: &DecoderLayer, x: &[Tensor<3>]| {
                        let hidden = layer.forward(x[0].clone(), &rotary, mask.as_ref(), None);
                        added(hidden, x.get(1))
                    };
                    let inputs = [hidden].into_iter().chain(layer_features.get(i).cloned()).collect();
                    run_block(blocks, layer, inputs, forward)
                }
                (AnyLayer::CrossAttention(_, layer), Some((features, cross))) => {
                    let cross = cross.clone();
                    let forward = move |layer: &CrossLayer, x: &[Tensor<3>]| {
                        layer.forward(x[0].clone(), &cross.with_features(Some(x[1].clone())), None)
                    };
                    run_block(blocks, layer, vec![hidden, features.clone()], forward)
                }
                (AnyLayer::CrossAttention(..), None) => hidden,
            };
        }
        self.norm.forward(hidden)
    }

    fn forward_cached(&self, input: BackboneInput, cache: &mut KvCache) -> Tensor<3> {
        let BackboneInput { embeddings, positions, mask, cross, layer_features } = input;
        self.check(&layer_features);
        let [batch, seq, _] = embeddings.dims();
        let windowed = self.windowed(mask.as_ref(), [batch, seq, cache.len() + seq], &embeddings.device());
        let rotary = self.config.rope.table(positions, self.config.d_head, &embeddings.device());

        let mut hidden = embeddings;
        for layer in self.all_layers() {
            hidden = match (layer, &cross) {
                (AnyLayer::SelfAttention(i, layer), _) => {
                    let mask = if self.is_windowed(i) { windowed.as_ref() } else { mask.as_ref() };
                    added(layer.forward(hidden, &rotary, mask, Some((i, cache))), layer_features.get(i))
                }
                (AnyLayer::CrossAttention(i, layer), Some(cross)) => layer.forward(hidden, cross, Some((i, cache))),
                (AnyLayer::CrossAttention(..), None) => hidden,
            };
        }
        cache.advance(seq);
        self.norm.forward(hidden)
    }

    fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        match &self.head {
            Some(head) => head.forward(hidden),
            None => self.embedding.product(hidden, None),
        }
    }

    fn cache(&self, capacity: usize) -> KvCache {
        KvCache::new(self.layers.len(), self.cross_layers.len(), capacity)
    }

    fn linear_layers_mut(&mut self) -> Vec<(String, &mut Linear)> {
        let mut found = Vec::new();
        for (i, layer) in self.layers.iter_mut().enumerate() {
            let SelfAttention { query, key, value, output, .. } = &mut layer.attention;
            found.extend(named(&format!("layers.{i}"), [query, key, value, output], &mut layer.mlp));
        }
        for (i, layer) in self.cross_layers.iter_mut().enumerate() {
            let CrossAttention { query, key, value, output, .. } = &mut layer.attention;
            found.extend(named(&format!("cross_layers.{i}"), [query, key, value, output], &mut layer.mlp));
        }
        found
    }

    fn vocabulary_weights_mut(&mut self) -> Vec<(String, &mut LinearWeight)> {
        let head = self.head.as_mut().map(|head| ("head.weight".to_owned(), &mut head.weight));
        [("embedding".to_owned(), &mut self.embedding)].into_iter().chain(head).collect()
    }

    fn device(&self) -> Device {
        self.norm.weight.val().device()
    }

    fn dtype(&self) -> DType {
        self.norm.weight.val().dtype()
    }

    fn uses(&self, parameter: &str, has_images: bool) -> bool {
        has_images || !parameter.starts_with("cross_layers.")
    }

    fn parameter_kind(&self, parameter: &str) -> ParameterKind {
        match parameter.split('.').next() {
            Some("embedding") => ParameterKind::Embedding,
            Some("head") => ParameterKind::Head,
            _ => ParameterKind::Hidden,
        }
    }
}

impl Decoder {
    /// # Panics
    /// If there are features for layers that do not exist.
    fn check(&self, layer_features: &[Tensor<3>]) {
        let (n, n_layers) = (layer_features.len(), self.layers.len());
        assert!(n <= n_layers, "features for {n} layers of a decoder that has {n_layers}");
    }

    /// The mask of the layers that attend within a window, for `[batch, queries, keys]`.
    fn windowed(&self, mask: Option<&AttentionMask>, dims: [usize; 3], device: &Device) -> Option<AttentionMask> {
        let window = self.config.sliding_window.as_ref()?;
        Some(AttentionMask::within(mask, window.width, dims, device))
    }

    /// Whether the layer of this number attends within a window.
    fn is_windowed(&self, layer: usize) -> bool {
        self.config.sliding_window.as_ref().is_some_and(|window| window.layers.contains(&layer))
    }

    /// The layers of both kinds in the order of the forward pass.
    fn all_layers(&self) -> impl Iterator<Item = AnyLayer<'_>> {
        let (mut own, mut cross) = (self.layers.iter().enumerate(), self.cross_layers.iter().enumerate());
        (0..self.layers.len() + self.cross_layers.len()).map(move |index| {
            if self.config.cross_layers.contains(&index) {
                let (i, layer) = cross.next().expect("one layer for each index in cross_layers");
                AnyLayer::CrossAttention(i, layer)
            } else {
                let (i, layer) = own.next().expect("the other indices are of self-attention layers");
                AnyLayer::SelfAttention(i, layer)
            }
        })
    }
}

/// Hidden states after a layer, with the features that are added there.
fn added(hidden: Tensor<3>, features: Option<&Tensor<3>>) -> Tensor<3> {
    match features {
        Some(features) => hidden + features.clone(),
        None => hidden,
    }
}

/// The linear layers of one block under their names.
fn named<'a>(
    block: &str,
    [query, key, value, output]: [&'a mut Linear; 4],
    GatedMlp { gate, up, down }: &'a mut GatedMlp,
) -> Vec<(String, &'a mut Linear)> {
    let attention = [("query", query), ("key", key), ("value", value), ("output", output)];
    let attention = attention.map(|(name, linear)| (format!("{block}.attention.{name}"), linear));
    let mlp = [("gate", gate), ("up", up), ("down", down)];
    let mlp = mlp.map(|(name, linear)| (format!("{block}.mlp.{name}"), linear));
    attention.into_iter().chain(mlp).collect()
}

impl DecoderLayer {
    fn forward(
        &self,
        x: Tensor<3>,
        rotary: &RotaryTable,
        mask: Option<&AttentionMask>,
        cache: Option<(usize, &mut KvCache)>,
    ) -> Tensor<3> {
        let mixed = self.attention.forward(self.attention_norm.forward(x.clone()), rotary, mask, cache);
        let x = x + mixed;
        let changed = self.mlp.forward(self.mlp_norm.forward(x.clone()));
        x + changed
    }
}

impl SelfAttention {
    fn forward(
        &self,
        x: Tensor<3>,
        rotary: &RotaryTable,
        mask: Option<&AttentionMask>,
        cache: Option<(usize, &mut KvCache)>,
    ) -> Tensor<3> {
        let query = apply_rotary(self.heads(&self.query, self.query_norm.as_ref(), x.clone()), rotary);
        let key = apply_rotary(self.heads(&self.key, self.key_norm.as_ref(), x.clone()), rotary);
        let value = self.heads(&self.value, None, x);
        let (key, value) = match cache {
            Some((layer, cache)) => cache.extend(layer, key, value),
            None => (key, value),
        };
        self.output.forward(attend(query, key, value, mask))
    }

    /// `[batch, seq, d_model]` to `[batch, n, seq, d_head]`.
    fn heads(&self, projection: &Linear, norm: Option<&RmsNorm>, x: Tensor<3>) -> Tensor<4> {
        let [batch, seq, _] = x.dims();
        let y = projection.forward(x);
        let n = y.dims()[2] / self.d_head;
        let heads = y.reshape([batch, seq, n, self.d_head]);
        let heads = norm.map_or(heads.clone(), |norm| norm.forward(heads));
        heads.swap_dims(1, 2)
    }
}
