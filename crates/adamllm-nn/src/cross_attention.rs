//! Which image features the cross-attention layers of Llama 3.2 Vision read, as host values. With token `t` of a sequence, and
//! feature `f` of the image in slot `s`:
//!
//! ```text
//! t attends to f of s   where   first_s <= t < end_s   and   f < n_unpadded_s
//! ```
//!
//! A token that attends to no image would have a softmax over nothing: it gets all features of its own sequence, and
//! `attends_to_image` is 0 for it. Equal to transformers' `get_cross_attention_token_mask` and
//! `convert_sparse_cross_attention_mask_to_dense` (`processing_mllama.py`) with `_prepare_cross_attention_mask`
//! (`modeling_mllama.py`).
//!
//! The attention itself is [`attend`](crate::attend) under this mask, with its forward and backward pass. The mask is dense, `[batch,
//! seq, n_slots * n_features]`, and made once for all layers of a pass, on one thread; nothing of it has a gradient.

use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::AttentionMask;

/// A stretch of tokens that attends to one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSpan {
    /// The first token that attends to the image: its placeholder. Counted in the sequence without padding.
    pub first: usize,
    /// One past the last token that attends to it.
    pub end: usize,
    /// How many of the image's features hold image; the rest is padding.
    pub n_unpadded: usize,
}

/// Which tokens of a batch attend to which images through cross-attention layers: plain host values. Every batch element has
/// the same number of slots for images, and each slot holds `n_features` features.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrossAttentionView {
    /// Features of a slot.
    pub n_features: usize,
    /// For each batch element, the images in its slots.
    pub spans: Vec<Vec<ImageSpan>>,
    /// Left padding of each batch element.
    pub padding: Vec<usize>,
    /// Tokens of each batch element without its padding. Later tokens were generated, and attend to what the last of them
    /// attends to.
    pub lengths: Vec<usize>,
    /// Where the sequences of a packed batch element start, for each batch element; empty where each is one sequence. Tokens
    /// attend to the images of their own sequence only.
    pub starts: Vec<Vec<usize>>,
}

/// What cross-attention layers read in one forward pass.
#[derive(Clone, Debug)]
pub struct CrossAttentionInput {
    /// The image features, `[batch, n_slots * n_features, d_model]`; `None` where their keys and values are in the cache.
    pub features: Option<Tensor<3>>,
    /// Which features each token attends to.
    pub mask: AttentionMask,
    /// `[batch, 1, 1]` or `[batch, seq, 1]`: 0 for sequences that have no image at all, which pass the layers unchanged.
    pub has_image: Option<Tensor<3>>,
    /// `[batch, seq, 1]`: 0 for tokens before the first image, which pass the layers' MLPs unchanged.
    pub attends_to_image: Option<Tensor<3>>,
}

impl CrossAttentionInput {
    /// The same masks with other features.
    pub fn with_features(&self, features: Option<Tensor<3>>) -> Self {
        Self { features, ..self.clone() }
    }
}

impl ImageSpan {
    /// Which tokens of a sequence of `n_tokens` attend to which image, by Llama 3.2 Vision's rule: to an image attend the tokens
    /// from its placeholder to the next image's, to the last one those up to the end; images side by side share what follows
    /// them. `images` has, for each image, the index of its placeholder and how many of its features hold image.
    pub fn of_images(images: &[(usize, usize)], n_tokens: usize) -> Vec<Self> {
        let mut spans: Vec<Self> = Vec::with_capacity(images.len());
        let (mut next, mut end_of_next) = (n_tokens, n_tokens);
        for (i, &(first, n_unpadded)) in images.iter().enumerate().rev() {
            let side_by_side = i + 1 < images.len() && first + 1 == next;
            let end = if side_by_side { end_of_next } else { next };
            spans.push(Self { first, end, n_unpadded });
            (next, end_of_next) = (first, end);
        }
        spans.reverse();
        spans
    }

    fn holds(&self, token: usize) -> bool {
        (self.first..self.end).contains(&token)
    }
}

impl CrossAttentionView {
    /// Slots of each batch element.
    pub fn n_slots(&self) -> usize {
        self.spans.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The input of a pass over the columns `columns` of the padded batch.
    pub fn input(
        &self,
        features: Option<Tensor<3>>,
        columns: std::ops::Range<usize>,
        dtype: DType,
        device: &Device,
    ) -> CrossAttentionInput {
        let (batch, seq, n_keys) = (self.spans.len(), columns.len(), self.n_slots() * self.n_features);
        // A token that attends to no image is given all features of its own sequence: that is what transformers does, and the
        // token's MLP is switched off afterwards.
        let allowed = |b: usize, column: usize, key: usize| {
            let (slot, within) = (key / self.n_features, key % self.n_features);
            let Some(span) = self.spans[b].get(slot) else { return false };
            match self.token(b, columns.start + column) {
                Some(token) if self.any(b, token) => span.holds(token) && within < span.n_unpadded,
                Some(token) => self.sequence(b, token) == self.sequence(b, span.first),
                None => true,
            }
        };

        // Factors of 0 and 1, left out where all are 1.
        let each = || (0..batch).flat_map(|b| columns.clone().map(move |column| (b, column)));
        let factor = |ones: Vec<bool>, shape: [usize; 3]| {
            let all = ones.iter().all(|&one| one);
            let values: Vec<f32> = ones.into_iter().map(|one| f32::from(u8::from(one))).collect();
            (!all).then(|| Tensor::<3>::from_data(TensorData::new(values, shape), (device, dtype)))
        };
        let attends = each().map(|(b, column)| self.token(b, column).is_some_and(|token| self.any(b, token))).collect();
        let has_image = if self.starts.is_empty() {
            factor(self.spans.iter().map(|spans| !spans.is_empty()).collect(), [batch, 1, 1])
        } else {
            let has = |(b, token): (usize, usize)| {
                let mut spans = self.spans[b].iter();
                spans.any(|span| self.sequence(b, span.first) == self.sequence(b, token))
            };
            factor(each().map(has).collect(), [batch, seq, 1])
        };
        CrossAttentionInput {
            features,
            mask: AttentionMask::from_rule([batch, seq, n_keys], device, allowed),
            has_image,
            attends_to_image: factor(attends, [batch, seq, 1]),
        }
    }

    /// The token in a column, `None` for left padding.
    fn token(&self, b: usize, column: usize) -> Option<usize> {
        column.checked_sub(self.padding[b]).map(|token| token.min(self.lengths[b].saturating_sub(1)))
    }

    /// Which of the packed sequences a token belongs to.
    fn sequence(&self, b: usize, token: usize) -> usize {
        self.starts.get(b).map_or(0, |starts| starts.partition_point(|&start| start <= token))
    }

    fn any(&self, b: usize, token: usize) -> bool {
        self.spans[b].iter().any(|span| span.holds(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_side_by_side_share_what_follows() {
        let spans = ImageSpan::of_images(&[(1, 5), (2, 5), (6, 5)], 9);
        let ends: Vec<_> = spans.iter().map(|span| (span.first, span.end)).collect();
        assert_eq!(ends, [(1, 6), (2, 6), (6, 9)]);
    }
}
