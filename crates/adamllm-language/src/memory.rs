//! What a pass through a [`Decoder`](crate::Decoder) holds in memory, by formula.

use adamllm_nn::{
    BlockShape, ExampleSize, F32_BYTES, HeadMemory, MlpShape, PassSegment, SegmentFlow, TrainedParameters,
};

use crate::DecoderConfig;

impl DecoderConfig {
    /// The pieces of a training pass: the embedding with the images' features put into it, the layers, the last norm. `size` is that
    /// of the whole batch, padding included; `name` is the decoder's path of field names in the model.
    ///
    /// `n_layer_features` are the features that the first layers add ([`BackboneInput::layer_features`]).
    ///
    /// [`BackboneInput::layer_features`]: adamllm_nn::BackboneInput::layer_features
    pub fn pass_segments(
        &self,
        size: &ExampleSize,
        name: &str,
        n_layer_features: usize,
        trained: &TrainedParameters,
    ) -> Vec<PassSegment> {
        let n_layers = self.n_layers + self.cross_layers.len();
        let layers = (0..n_layers).map(|index| {
            let n_cross = self.cross_layers.iter().filter(|&&cross| cross < index).count();
            match self.cross_layers.contains(&index) {
                true => self.cross_attention(size, &format!("{name}.cross_layers.{n_cross}"), trained),
                false => self.self_attention(size, &format!("{name}.layers.{}", index - n_cross)).segment(trained),
            }
        });
        let embedding = self.embedding(size, name, n_layer_features, trained);
        let norm = trained.n_elements(&format!("{name}.norm."));
        // The backward pass spreads the targets' gradients over all tokens, and normalises them.
        let d = F32_BYTES * self.d_model as u64;
        let norm = PassSegment::between(size.tokens, [d, 0, 2 * d, 2 * d], norm);
        std::iter::once(embedding).chain(layers).chain([norm]).collect()
    }

    /// The head, which reads the targets' hidden states.
    pub fn head_memory(&self, size: &ExampleSize, name: &str, trained: &TrainedParameters) -> HeadMemory {
        let weights = if self.tied_head { format!("{name}.embedding") } else { format!("{name}.head.") };
        HeadMemory::new(size.targets, self.d_model, self.vocab_size, trained.n_elements(&weights))
    }

    /// Bytes of what all layers share: cosines and sines of each token, and the range of keys that it attends to.
    pub fn shared_bytes(&self, size: &ExampleSize) -> u64 {
        size.tokens as u64 * (F32_BYTES * 2 * self.d_head as u64 + 8)
    }

    /// The embeddings of the tokens, joined with the images' features, of which each token takes one. Nothing of it is kept.
    fn embedding(&self, size: &ExampleSize, name: &str, n_added: usize, trained: &TrainedParameters) -> PassSegment {
        let (tokens, features) = (size.tokens as u64, size.image_features as u64);
        let d = F32_BYTES * self.d_model as u64;
        let joined = if features > 0 { 2 * tokens + features } else { 0 };
        let of_table = trained.n_elements(&format!("{name}.embedding"));
        PassSegment {
            flow: SegmentFlow::Join,
            inside: n_added as u64 * tokens * d,
            forward: (tokens + joined) * d,
            backward: joined * d,
            trained: of_table,
            tied: if self.tied_head { of_table } else { 0 },
            ..PassSegment::default()
        }
    }

    fn self_attention<'a>(&self, size: &ExampleSize, name: &'a str) -> BlockShape<'a> {
        let (d_query, d_key) = (self.n_heads * self.d_head, self.n_kv_heads * self.d_head);
        BlockShape {
            name,
            positions: size.tokens,
            d_model: self.d_model,
            d_query,
            d_key,
            n_heads: self.n_heads,
            d_hidden: self.d_hidden,
            projections: &["attention.query", "attention.key", "attention.value"],
            output: "attention.output",
            mlp: MlpShape::Gated,
            // The norms of queries and keys keep what they read.
            extra: if self.qk_norm { d_query + d_key } else { 0 },
        }
    }

    /// As a self-attention layer with keys and values of the images' features instead of the tokens'. Queries and keys are normalised;
    /// both gates keep what they multiply.
    fn cross_attention(&self, size: &ExampleSize, name: &str, trained: &TrainedParameters) -> PassSegment {
        let (d_query, d_key) = (self.n_heads * self.d_head, self.n_kv_heads * self.d_head);
        // A batch without images passes the layer by.
        if size.images == 0 {
            return PassSegment::default();
        }
        let own = self.self_attention(size, name);
        let own = BlockShape { d_key: 0, projections: &["attention.query"], extra: d_query + 2 * self.d_model, ..own };
        let mut segment = own.segment(trained);
        let keys = size.image_features as u64 * F32_BYTES * d_key as u64;
        segment.inside += 3 * keys;
        segment.forward += 3 * keys;
        segment.backward += 3 * keys;
        segment
    }
}
