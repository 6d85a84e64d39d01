//! Cross-attention to images (Llama 3.2 Vision; arXiv 2407.21783, section 7.2): layers between the decoder's own, in
//! which tokens read the rows of the images that stand before them.

use adamllm_nn::{AttentionMask, GatedMlp, GatedMlpConfig, Linear, LinearConfig, RmsNorm, RmsNormConfig, attend};
use burn::module::{Initializer, Module, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::{DecoderConfig, KvCache};

/// One layer: attention to the images' rows and MLP, each behind a norm and a gate.
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

/// A stretch of tokens that sees one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSpan {
    /// The first token that sees the image: its placeholder. Counted in the row without padding.
    pub first: usize,
    /// One past the last token that sees it.
    pub end: usize,
    /// How many of the image's rows are open; the rest belongs to missing tiles.
    pub n_open: usize,
}

/// Which tokens of a batch see which images: plain host values. Every row of the batch has the same number of slots
/// for images; each slot holds `slot` rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageView {
    /// Rows of a slot.
    pub slot: usize,
    /// For each row of the batch, the images in its slots.
    pub spans: Vec<Vec<ImageSpan>>,
    /// Left padding of each row of the batch.
    pub padding: Vec<usize>,
    /// Tokens in each row of the batch, padding left out. Tokens behind them were generated, and see what the last of
    /// them sees.
    pub lengths: Vec<usize>,
    /// Where the sequences of a packed row begin, for each row of the batch; empty where every row is one sequence. Tokens see
    /// the images of their own sequence only.
    pub starts: Vec<Vec<usize>>,
}

/// What the cross-attention layers read in one forward pass.
#[derive(Clone, Debug)]
pub struct CrossInput {
    /// The images' rows, `[batch, n_slots * slot, d_model]`; `None` where their keys and values are in the cache.
    pub rows: Option<Tensor<3>>,
    mask: AttentionMask,
    /// `[batch, 1, 1]` or `[batch, seq, 1]`: 0 for sequences that have no image at all. They pass the layers unchanged.
    has_picture: Option<Tensor<3>>,
    /// `[batch, seq, 1]`: 0 for tokens before the first image. They pass the MLP unchanged.
    sees_picture: Option<Tensor<3>>,
}

impl CrossInput {
    /// The same view of other rows.
    pub(crate) fn with_rows(&self, rows: Option<Tensor<3>>) -> Self {
        Self { rows, ..self.clone() }
    }
}

impl ImageView {
    /// Slots in each row of the batch.
    pub fn n_slots(&self) -> usize {
        self.spans.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The input of a pass over the columns `columns` of the padded batch.
    pub fn input(
        &self,
        rows: Option<Tensor<3>>,
        columns: std::ops::Range<usize>,
        dtype: DType,
        device: &Device,
    ) -> CrossInput {
        let (batch, seq, n_keys) = (self.spans.len(), columns.len(), self.n_slots() * self.slot);
        // A token that sees no image is given all rows of its own: that is what transformers does, and its MLP is
        // switched off afterwards.
        let sees = |row: usize, column: usize, key: usize| {
            let (slot, within) = (key / self.slot, key % self.slot);
            let Some(span) = self.spans[row].get(slot) else { return false };
            match self.token(row, columns.start + column) {
                Some(token) if self.any(row, token) => span.holds(token) && within < span.n_open,
                Some(token) => self.sequence(row, token) == self.sequence(row, span.first),
                None => true,
            }
        };
        let cells = (0..batch).flat_map(|row| columns.clone().map(move |column| (row, column)));
        let sees_any: Vec<bool> =
            cells.map(|(row, column)| self.token(row, column).is_some_and(|token| self.any(row, token))).collect();
        let factor = |open: Vec<bool>, shape: [usize; 3]| {
            let all = open.iter().all(|&open| open);
            let values: Vec<f32> = open.into_iter().map(|open| f32::from(u8::from(open))).collect();
            (!all).then(|| Tensor::<3>::from_data(TensorData::new(values, shape), (device, dtype)))
        };
        let has_picture = if self.starts.is_empty() {
            factor(self.spans.iter().map(|spans| !spans.is_empty()).collect(), [batch, 1, 1])
        } else {
            let cells = (0..batch).flat_map(|row| columns.clone().map(move |column| (row, column)));
            let has = |(row, token): (usize, usize)| {
                let mut spans = self.spans[row].iter();
                spans.any(|span| self.sequence(row, span.first) == self.sequence(row, token))
            };
            factor(cells.map(has).collect(), [batch, seq, 1])
        };
        CrossInput {
            rows,
            mask: AttentionMask::from_rule([batch, seq, n_keys], device, sees),
            has_picture,
            sees_picture: factor(sees_any, [batch, seq, 1]),
        }
    }

    /// The token in a column, `None` for left padding.
    fn token(&self, row: usize, column: usize) -> Option<usize> {
        column.checked_sub(self.padding[row]).map(|token| token.min(self.lengths[row].saturating_sub(1)))
    }

    /// Which of a packed row's sequences a token belongs to.
    fn sequence(&self, row: usize, token: usize) -> usize {
        self.starts.get(row).map_or(0, |starts| starts.partition_point(|&start| start <= token))
    }

    fn any(&self, row: usize, token: usize) -> bool {
        self.spans[row].iter().any(|span| span.holds(token))
    }
}

impl ImageSpan {
    fn holds(&self, token: usize) -> bool {
        (self.first..self.end).contains(&token)
    }
}

impl DecoderConfig {
    pub(crate) fn init_cross_layer(&self, device: &Device) -> CrossLayer {
        let linear = |d_in, d_out| LinearConfig::new(d_in, d_out).init(device);
        let norm = |d| RmsNormConfig::new(d).with_epsilon(self.rms_epsilon).init(device);
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
    pub(crate) fn forward(&self, x: Tensor<3>, input: &CrossInput, cache: Option<(usize, &mut KvCache)>) -> Tensor<3> {
        let mixed = self.attention.forward(self.attention_norm.forward(x.clone()), input, cache);
        let mixed = switched(gated(mixed, &self.attention_gate), input.has_picture.as_ref());
        let x = x + mixed;
        let changed = self.mlp.forward(self.mlp_norm.forward(x.clone()));
        x + gated(switched(changed, input.sees_picture.as_ref()), &self.mlp_gate)
    }
}

fn gated(x: Tensor<3>, gate: &Param<Tensor<1>>) -> Tensor<3> {
    x * gate.val().tanh().unsqueeze::<3>()
}

fn switched(x: Tensor<3>, factor: Option<&Tensor<3>>) -> Tensor<3> {
    factor.map_or(x.clone(), |factor| x * factor.clone())
}

impl CrossAttention {
    fn forward(&self, x: Tensor<3>, input: &CrossInput, cache: Option<(usize, &mut KvCache)>) -> Tensor<3> {
        let query = self.query_norm.forward(self.heads(&self.query, x));
        let (key, value) = match (&input.rows, cache) {
            (Some(rows), cache) => {
                let key = self.key_norm.forward(self.heads(&self.key, rows.clone()));
                let value = self.heads(&self.value, rows.clone());
                if let Some((layer, cache)) = cache {
                    cache.keep_pictures(layer, key.clone(), value.clone());
                }
                (key, value)
            }
            (None, Some((layer, cache))) => cache.pictures(layer),
            (None, None) => panic!("pictures' rows come with the input or from the cache"),
        };
        self.output.forward(attend(query, key, value, Some(&input.mask)))
    }

    /// `[batch, n_rows, d_model]` to `[batch, n, n_rows, d_head]`.
    fn heads(&self, projection: &Linear, x: Tensor<3>) -> Tensor<4> {
        let [batch, n_rows, _] = x.dims();
        let y = projection.forward(x);
        let n = y.dims()[2] / self.d_head;
        y.reshape([batch, n_rows, n, self.d_head]).swap_dims(1, 2)
    }
}
