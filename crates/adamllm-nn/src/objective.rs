use std::ops::Range;

use burn::module::Module;
use burn::tensor::Tensor;

use crate::{BlockExecutor, Eager};

/// All that a trainer asks of a model: the hidden state that each target is predicted from, and the loss of each target. The two
/// stand apart so that a trainer can compute the losses piece by piece: a large vocabulary's logits are never held together.
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

    /// The loss **summed** over the batch's targets, `[1]`. Whoever accumulates gradients divides once, by the targets of the
    /// whole optimizer step.
    fn loss_sum(&self, batch: &Self::Batch) -> Tensor<1> {
        self.token_losses(self.target_hidden_states(batch, &mut Eager), batch, 0..batch.n_targets()).sum()
    }
}

/// A batch on the host.
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
