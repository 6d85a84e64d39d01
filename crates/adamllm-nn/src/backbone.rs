use burn::module::{Module, ModuleDisplay};
use burn::tensor::{DType, Device, Int, Tensor};

use crate::{AttentionMask, BlockExecutor, CrossAttentionInput, Linear, LinearWeight, ParameterKind, Positions};

/// What one forward pass of a [`LanguageBackbone`] reads.
#[derive(Debug)]
pub struct BackboneInput<'a> {
    /// Embeddings of text and images, `[batch, seq, d_model]`.
    pub embeddings: Tensor<3>,
    /// One position for each of the `batch * seq` tokens.
    pub positions: &'a Positions,
    /// Which keys each query attends to: `seq` queries, the cached keys and `seq` new ones. `None` masks nothing.
    pub mask: Option<AttentionMask>,
    /// What cross-attention layers read; without it they are passed over.
    pub cross: Option<CrossAttentionInput>,
    /// What is added to the hidden states after each of the first layers (DeepStack, arXiv 2406.04334): `[batch, seq, d_model]`
    /// each, 0 where a token is no image's. Empty for most models, and wherever no image is read.
    pub layer_features: Vec<Tensor<3>>,
}

/// A language model between token ids and logits: all that joining it to a vision encoder, training, adapters and decoding
/// ask of it.
pub trait LanguageBackbone: Module + ModuleDisplay {
    /// Keys and values of the tokens read so far.
    type Cache: KeyValueCache;

    /// Token ids to embeddings.
    ///
    /// # Shapes
    /// - input: `[batch, seq]`
    /// - output: `[batch, seq, d_model]`
    fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<3>;

    /// Embeddings to hidden states after the final norm, without a cache; `blocks` runs the blocks.
    ///
    /// # Shapes
    /// - output: `[batch, seq, d_model]`
    fn forward<'a>(&'a self, input: BackboneInput, blocks: &mut dyn BlockExecutor<'a>) -> Tensor<3>;

    /// As [`LanguageBackbone::forward`], reading and extending a cache.
    fn forward_cached(&self, input: BackboneInput, cache: &mut Self::Cache) -> Tensor<3>;

    /// Hidden states to logits.
    ///
    /// # Shapes
    /// - input: `[n, d_model]`
    /// - output: `[n, vocab_size]`
    fn logits(&self, hidden: Tensor<2>) -> Tensor<2>;

    /// An empty cache for at most `capacity` tokens of each batch element, padding included.
    fn cache(&self, capacity: usize) -> Self::Cache;

    /// Every linear layer that may get a low-rank adapter, under its path of field names (`layers.0.attention.query`).
    fn linear_layers_mut(&mut self) -> Vec<(String, &mut Linear)>;

    /// The embedding and the output head, under their parameters' names: tables over the vocabulary, which may be kept as they stand
    /// in the file while they are not trained. None unless a backbone keeps them as a [`LinearWeight`].
    fn vocabulary_weights_mut(&mut self) -> Vec<(String, &mut LinearWeight)> {
        Vec::new()
    }

    /// The device of the weights.
    fn device(&self) -> Device;

    /// The dtype of the weights.
    fn dtype(&self) -> DType;

    /// Whether the loss of a batch depends on a parameter, by its name inside the backbone: cross-attention layers have no part
    /// in a batch without images.
    fn uses(&self, _parameter: &str, _has_images: bool) -> bool {
        true
    }

    /// What a parameter is to the backbone, by its name inside the backbone
    /// ([`Objective::parameter_kind`](crate::Objective::parameter_kind)).
    fn parameter_kind(&self, _parameter: &str) -> ParameterKind {
        ParameterKind::Hidden
    }
}

/// A cache of keys and values.
pub trait KeyValueCache {
    /// Tokens of each batch element read so far, padding included.
    fn len(&self) -> usize;

    /// Whether nothing was read yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
