//! What a training pass holds in memory, by formula.
//!
//! The formulas follow this crate's fused operations on the CPU in f32: which of a layer's values the graph keeps for the backward
//! pass stands on top of each file of `fused`. Attention keeps no scores. Counts are in bytes; a value has 4.
//!
//! A pass is a list of [`PassSegment`]s in the order of the forward pass. How they add up, with and without activation
//! checkpointing, is the trainer's to say, which runs them.

use std::collections::BTreeMap;

use burn::tensor::DType;

use crate::ParameterKind;

/// Bytes of a value in f32.
pub const F32_BYTES: u64 = 4;

/// A parameter of a model that is not in memory yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedParameter {
    /// The path of field names, joined by dots.
    pub name: String,
    /// Its axes.
    pub shape: Vec<usize>,
    /// What it will be kept in.
    pub dtype: DType,
    /// What it is to the model.
    pub kind: ParameterKind,
    /// Whether the model lets it be trained: beside adapters, most are not.
    pub trained: bool,
}

impl PlannedParameter {
    /// Its elements.
    pub fn n_elements(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product()
    }

    /// Its bytes.
    pub fn n_bytes(&self) -> u64 {
        self.n_elements() * self.dtype.size() as u64
    }
}

/// The parameters that a pass finds gradients for. What the graph keeps follows from them.
///
/// ```
/// use adamllm_nn::TrainedParameters;
///
/// let trained = TrainedParameters::new([("blocks.1.fc1.weight".to_owned(), 8 * 16), ("blocks.1.fc1.bias".to_owned(), 16)]);
/// assert_eq!(trained.n_elements("blocks.1."), 8 * 16 + 16);
/// assert_eq!(trained.n_elements("blocks.0."), 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct TrainedParameters {
    elements: BTreeMap<String, u64>,
    has_dropout: bool,
}

impl TrainedParameters {
    /// Parameters by name, with their elements.
    pub fn new(parameters: impl IntoIterator<Item = (String, u64)>) -> Self {
        Self { elements: parameters.into_iter().collect(), has_dropout: false }
    }

    /// The same, with adapters that drop a share of their inputs or do not.
    #[must_use]
    pub fn with_dropout(self, has_dropout: bool) -> Self {
        Self { has_dropout, ..self }
    }

    /// Elements of the parameters whose names begin so.
    pub fn n_elements(&self, prefix: &str) -> u64 {
        let from = self.elements.range(prefix.to_owned()..);
        from.take_while(|(name, _)| name.starts_with(prefix)).map(|(_, n)| n).sum()
    }

    /// Whether any name begins so.
    pub fn any(&self, prefix: &str) -> bool {
        self.elements.range(prefix.to_owned()..).next().is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// Bytes that linear layers which read the same input keep of each of its positions: the input once, where one of them needs
    /// it, what is between the factors of each adapter, and what an adapter's dropout makes of the input (with a mask of a byte
    /// for each value).
    pub fn linear_bytes(&self, layers: &[String], d_input: usize) -> u64 {
        let d_input = d_input as u64;
        let (mut needs_input, mut bytes) = (false, 0);
        for layer in layers {
            needs_input |= self.elements.contains_key(&format!("{layer}.weight"));
            let Some(elements) = self.elements.get(&format!("{layer}.lora.a")) else { continue };
            bytes += F32_BYTES * elements / d_input.max(1);
            match self.has_dropout {
                true => bytes += (F32_BYTES + 1) * d_input,
                false => needs_input = true,
            }
        }
        bytes + if needs_input { F32_BYTES * d_input } else { 0 }
    }
}

/// How a piece of a pass is joined to the others. The backward pass reaches a piece if it trains something itself or reads what does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SegmentFlow {
    /// It reads the piece before, and the next one reads it.
    #[default]
    Chain,
    /// It reads the piece before, which the next one reads too.
    Branch,
    /// As [`SegmentFlow::Chain`], and it reads the branches before it.
    Join,
}

/// A piece of a pass, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassSegment {
    /// Whether it is a block of [`run_block`](crate::run_block): where activations are checkpointed, its input alone is kept.
    pub is_block: bool,
    /// What it reads, and who reads it.
    pub flow: SegmentFlow,
    /// Its input, where it is kept: by the graph, or for the recomputation.
    pub input: u64,
    /// What the graph keeps beside the input.
    pub inside: u64,
    /// The most that a forward pass without a graph holds at a time, the input included.
    pub forward: u64,
    /// The most that the backward pass holds beside what the graph still keeps: gradients of hidden states.
    pub backward: u64,
    /// Elements of its own parameters that get a gradient.
    pub trained: u64,
    /// Those among them that the head reads too, and has found a gradient for already: this one is added to it.
    pub tied: u64,
}

/// The head, and the loss of the targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeadMemory {
    /// Targets of the pass.
    pub targets: u64,
    /// Bytes of a target's hidden state.
    pub hidden: u64,
    /// Bytes of a target's logits. In the backward pass, as many are their gradient.
    pub logits: u64,
    /// Elements of the head, or of the embedding that serves as one, where they get a gradient.
    pub trained: u64,
}

/// What a pass over one batch holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PassMemory {
    /// The pieces, in the order of the forward pass.
    pub segments: Vec<PassSegment>,
    /// After the last of them.
    pub head: HeadMemory,
    /// What all of them share and the batch itself, in bytes: pixel values, rotary angles, masks.
    pub shared: u64,
}

impl HeadMemory {
    /// A head for `targets` hidden states of `d_model` values.
    pub fn new(targets: usize, d_model: usize, vocab_size: usize, trained: u64) -> Self {
        Self {
            targets: targets as u64,
            hidden: F32_BYTES * d_model as u64,
            logits: F32_BYTES * vocab_size as u64,
            trained,
        }
    }
}

impl PassMemory {
    /// A pass of these pieces.
    pub fn new(segments: Vec<PassSegment>, head: HeadMemory, shared: u64) -> Self {
        Self { segments, head, shared }
    }

    /// Whether the backward pass reaches each of the pieces: of the others, no value is kept.
    pub fn tracked(&self) -> Vec<bool> {
        let (mut chain, mut branches) = (false, false);
        let reached = self.segments.iter().map(|segment| {
            let reached = chain || segment.trained > 0 || (segment.flow == SegmentFlow::Join && branches);
            match segment.flow {
                SegmentFlow::Branch => branches |= reached,
                SegmentFlow::Chain | SegmentFlow::Join => chain = reached,
            }
            reached
        });
        reached.collect()
    }
}

impl PassSegment {
    /// A piece that is no block: `positions` times values of each of them.
    pub fn between(positions: usize, [input, inside, forward, backward]: [u64; 4], trained: u64) -> Self {
        let all = |values: u64| positions as u64 * values;
        Self {
            is_block: false,
            flow: SegmentFlow::Chain,
            input: all(input),
            inside: all(inside),
            forward: all(forward),
            backward: all(backward),
            trained,
            tied: 0,
        }
    }
}

/// The MLP of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MlpShape {
    /// [`GatedMlp`](crate::GatedMlp): `gate`, `up` and `down`.
    Gated,
    /// [`Mlp`](crate::Mlp): `fc1` and `fc2`.
    Plain,
}

/// The sizes of a block of attention and MLP, each after a norm and added to the residual stream: what such blocks have in common
/// in every family.
#[derive(Clone, Debug)]
pub struct BlockShape<'a> {
    /// Its path of field names.
    pub name: &'a str,
    /// Positions of the pass.
    pub positions: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of all query heads.
    pub d_query: usize,
    /// Width of all key heads; values have the same.
    pub d_key: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Width inside the MLP.
    pub d_hidden: usize,
    /// The linear layers that read the attention's norm, by their names in the block.
    pub projections: &'a [&'a str],
    /// The linear layer after the attention.
    pub output: &'a str,
    /// Its MLP.
    pub mlp: MlpShape,
    /// Values that the family's attention keeps for each position beside query, key, value, output and log-sum-exps.
    pub extra: usize,
}

impl BlockShape<'_> {
    /// What the block holds:
    ///
    /// ```text
    /// input    d_model                              the residual stream, for the first norm
    /// inside   d_model                              the norm's output, for the projections
    ///          d_query + 2 d_key + extra            attention: query, key, value
    ///          d_query + n_heads                    its output, also for the layer after it, and the log-sum-exps
    ///          2 d_model                            the residual stream, for the second norm, and its output
    ///          3 d_hidden, or 2 without a gate      the MLP: gate and up (or fc1's output), and what the last layer reads
    /// ```
    ///
    /// The backward pass is widest where the gradients of the MLP's inner values stand beside those values: what the last layer
    /// read is gone by then.
    pub fn segment(&self, trained: &TrainedParameters) -> PassSegment {
        let Self { d_model: d, d_query, d_key, d_hidden: f, n_heads, .. } = *self;
        let named = |layers: &[&str]| -> Vec<String> { layers.iter().map(|l| format!("{}.{l}", self.name)).collect() };
        let (first, last, n_inner, n_grads): (&[&str], &str, _, _) = match self.mlp {
            MlpShape::Gated => (&["mlp.gate", "mlp.up"], "mlp.down", 2, 2),
            MlpShape::Plain => (&["mlp.fc1"], "mlp.fc2", 1, 1),
        };

        // The attention's output is kept in any case: the layer after it adds what only its adapter needs.
        let after = named(&[self.output]);
        let after = trained.linear_bytes(&after, d_query) - input_bytes(trained, &after, d_query);
        let layers = trained.linear_bytes(&named(self.projections), d)
            + after
            + trained.linear_bytes(&named(first), d)
            + trained.linear_bytes(&named(&[last]), f);
        let values = 2 * d_query + 2 * d_key + self.extra + n_heads + d + n_inner * f;

        let attention = 2 * d + 2 * d_query + 2 * d_key + self.extra;
        let mlp = 2 * d + (n_inner + 1) * f;
        let all = |bytes: u64| self.positions as u64 * bytes;
        let bytes = |values: usize| F32_BYTES * values as u64;
        PassSegment {
            is_block: true,
            flow: SegmentFlow::Chain,
            input: all(bytes(d)),
            inside: all(layers + bytes(values)),
            forward: all(bytes(attention.max(mlp))),
            backward: all(bytes(n_grads * f + 2 * d)),
            trained: trained.n_elements(&format!("{}.", self.name)),
            tied: 0,
        }
    }
}

/// The bytes of the input itself among [`TrainedParameters::linear_bytes`].
fn input_bytes(trained: &TrainedParameters, layers: &[String], d_input: usize) -> u64 {
    let needs = |layer: &String| {
        let adapted = trained.elements.contains_key(&format!("{layer}.lora.a")) && !trained.has_dropout;
        adapted || trained.elements.contains_key(&format!("{layer}.weight"))
    };
    if layers.iter().any(needs) { F32_BYTES * d_input as u64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trained(names: &[(&str, u64)]) -> TrainedParameters {
        TrainedParameters::new(names.iter().map(|(name, n)| ((*name).to_owned(), *n)))
    }

    #[test]
    fn layers_that_read_the_same_keep_it_once() {
        let layers = ["a".to_owned(), "b".to_owned()];
        let bytes = |names: &[(&str, u64)]| trained(names).linear_bytes(&layers, 10);
        assert_eq!(bytes(&[("c.weight", 100)]), 0);
        assert_eq!(bytes(&[("a.weight", 100), ("b.weight", 100)]), 40);
        // Three values between the factors of each adapter.
        assert_eq!(bytes(&[("a.lora.a", 30), ("b.lora.a", 30)]), 40 + 2 * 12);
        // A dropped input each, with a byte of its mask.
        let dropping = trained(&[("a.lora.a", 30), ("b.lora.a", 30)]).with_dropout(true);
        assert_eq!(dropping.linear_bytes(&layers, 10), 2 * (12 + 50));
    }

    #[test]
    fn the_backward_pass_reaches_what_stands_after_something_trained() {
        let segment = |flow, trained| PassSegment { flow, trained, ..PassSegment::default() };
        let tracked = |segments| PassMemory::new(segments, HeadMemory::default(), 0).tracked();
        use SegmentFlow::{Branch, Chain, Join};
        assert_eq!(tracked(vec![segment(Chain, 0), segment(Chain, 1), segment(Chain, 0)]), [false, true, true]);
        // A branch that trains does not make the chain beside it trained; what joins both is.
        let segments =
            vec![segment(Chain, 0), segment(Branch, 1), segment(Chain, 0), segment(Join, 0), segment(Chain, 0)];
        assert_eq!(tracked(segments), [false, true, false, true, true]);
    }

    /// Counted by hand: 4 bytes times width 8, keys of 4, an MLP of 20, two heads.
    #[test]
    fn a_block_keeps_what_its_layers_read() {
        let shape = BlockShape {
            name: "block",
            positions: 5,
            d_model: 8,
            d_query: 8,
            d_key: 4,
            n_heads: 2,
            d_hidden: 20,
            projections: &["query", "key"],
            output: "output",
            mlp: MlpShape::Gated,
            extra: 0,
        };
        let all =
            ["query", "key", "output", "mlp.gate", "mlp.up", "mlp.down"].map(|l| (format!("block.{l}.weight"), 1));
        let full = shape.segment(&TrainedParameters::new(all));
        assert_eq!((full.input, full.trained), (5 * 4 * 8, 6));
        assert_eq!(full.inside, 5 * 4 * (8 + (8 + 4 + 4) + (8 + 2) + 8 + 8 + 3 * 20));
        // Only what lies between the layers is kept beside weights that are not trained.
        assert_eq!(shape.segment(&TrainedParameters::default()).inside, 5 * 4 * ((8 + 4 + 4) + (8 + 2) + 8 + 2 * 20));
    }
}
