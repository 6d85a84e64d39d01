use std::ops::Range;

use burn::module::Module;
use burn::tensor::Tensor;

use crate::{BlockExecutor, Eager};

/// All that a trainer asks of a model: the hidden state that each target is predicted from, and the loss of each target. The two
/// stand apart so that a trainer can compute the losses piece by piece: a large vocabulary's logits are never held together.
///
/// A linear regression, whose hidden state is its prediction:
///
/// ```
/// use std::ops::Range;
///
/// use adamllm_nn::{Batch, BlockExecutor, Linear, LinearConfig, Objective};
/// use burn::module::Module;
/// use burn::tensor::{Device, Tensor, TensorData};
///
/// #[derive(Module, Debug)]
/// struct Line {
///     layer: Linear,
/// }
///
/// struct Points(Vec<[f32; 2]>);
///
/// impl Batch for Points {
///     fn n_targets(&self) -> usize {
///         self.0.len()
///     }
///     fn n_tokens(&self) -> usize {
///         self.0.len()
///     }
/// }
///
/// impl Objective for Line {
///     type Batch = Points;
///
///     fn target_hidden_states<'a>(&'a self, batch: &Points, _: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
///         let x = batch.0.iter().map(|point| point[0]).collect();
///         let device = self.layer.weight.val().device();
///         self.layer.forward(Tensor::from_data(TensorData::new(x, [batch.0.len(), 1]), &device))
///     }
///
///     fn token_losses(&self, hidden: Tensor<2>, batch: &Points, range: Range<usize>) -> Tensor<1> {
///         let y = batch.0[range.clone()].iter().map(|point| point[1]).collect();
///         let y = Tensor::from_data(TensorData::new(y, [range.len(), 1]), &hidden.device());
///         (hidden - y).square().flatten(0, 1)
///     }
/// }
///
/// let line = Line { layer: LinearConfig::new(1, 1).init(&Device::flex()) };
/// assert_eq!(line.loss_sum(&Points(vec![[0.0, 3.0], [0.0, 1.0]])).into_scalar::<f32>(), 10.0);
/// ```
pub trait Objective: Module {
    /// What one forward pass reads.
    type Batch: Batch;

    /// The hidden state that each target is predicted from.
    ///
    /// # Shapes
    /// - output: `[n_targets, d_model]`
    fn target_hidden_states<'a>(&'a self, batch: &Self::Batch, blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2>;

    /// The loss of each of the batch's targets in `range`, from their hidden states alone.
    ///
    /// # Shapes
    /// - `hidden`: `[range.len(), d_model]`
    /// - output: `[range.len()]`, in f32
    fn token_losses(&self, hidden: Tensor<2>, batch: &Self::Batch, range: Range<usize>) -> Tensor<1>;

    /// Whether the loss of a batch depends on a parameter, by its name: a vision encoder has no part in a batch without images.
    /// A trainer refuses a trained parameter that is used and gets no gradient, because it is detached from the loss or no
    /// forward pass reads it. Every batch uses every parameter, unless a model knows better.
    fn uses(&self, _parameter: &str, _batch: &Self::Batch) -> bool {
        true
    }

    /// What a parameter is to the model, by its name. Optimizers update embeddings and head by another rule than the matrices
    /// between hidden states. All are [`ParameterKind::Hidden`], unless a model knows better.
    fn parameter_kind(&self, _parameter: &str) -> ParameterKind {
        ParameterKind::Hidden
    }

    /// The loss **summed** over the batch's targets, `[1]`. Whoever accumulates gradients divides once, by the targets of the
    /// whole optimizer step.
    fn loss_sum(&self, batch: &Self::Batch) -> Tensor<1> {
        self.token_losses(self.target_hidden_states(batch, &mut Eager), batch, 0..batch.n_targets()).sum()
    }
}

/// What a parameter is to its model. Names do not tell: a layer of `two_heads` is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParameterKind {
    /// Part of a layer between hidden states.
    Hidden,
    /// From the input to hidden states: tables of token and position embeddings, the embedding of patches.
    Embedding,
    /// From hidden states to logits.
    Head,
}

/// A batch on the host.
///
/// ```
/// use adamllm_nn::Batch;
///
/// /// Texts as token ids: each token after the first is predicted from those before it.
/// struct Texts(Vec<Vec<u32>>);
///
/// impl Batch for Texts {
///     fn n_targets(&self) -> usize {
///         self.0.iter().map(|text| text.len().saturating_sub(1)).sum()
///     }
///
///     fn n_tokens(&self) -> usize {
///         self.0.iter().map(Vec::len).sum()
///     }
/// }
///
/// assert_eq!(Texts(vec![vec![1, 5, 2], vec![1, 2]]).n_targets(), 3);
/// ```
pub trait Batch: Send + 'static {
    /// Targets that count for the loss. Known before any forward pass.
    fn n_targets(&self) -> usize;

    /// Tokens that the decoder reads, padding left out.
    fn n_tokens(&self) -> usize;

    /// Images that the vision encoder reads.
    fn n_images(&self) -> usize {
        0
    }

    /// Names of the groups that losses are reported for by themselves, such as a source or a task.
    fn groups(&self) -> &[String] {
        &[]
    }

    /// For each target, its index in [`Batch::groups`]; empty where there are none.
    fn target_groups(&self) -> &[u16] {
        &[]
    }
}
