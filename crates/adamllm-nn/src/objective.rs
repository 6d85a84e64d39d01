use std::ops::Range;

use burn::module::Module;
use burn::tensor::Tensor;

use crate::{BlockRunner, Direct};

/// All that a trainer asks of a model: rows, one for each target, and what each row costs. The two stand apart so that a
/// trainer can compute the costs piece by piece: a large vocabulary's logits are never held together.
pub trait Objective: Module {
    /// What one forward pass reads.
    type Batch: Batch;

    /// The row that each target is predicted from.
    ///
    /// # Shapes
    /// - output: `[n_targets, width]`
    fn target_rows<'a>(&'a self, batch: &Self::Batch, blocks: &mut dyn BlockRunner<'a>) -> Tensor<2>;

    /// The loss of each of the batch's targets in `range`, from their rows alone.
    ///
    /// # Shapes
    /// - `rows`: `[range.len(), width]`
    /// - output: `[range.len()]`, in f32
    fn losses(&self, rows: Tensor<2>, batch: &Self::Batch, range: Range<usize>) -> Tensor<1>;

    /// Whether the loss of a batch depends on a parameter, by its name: a vision encoder has no part in a batch without images.
    /// A trainer refuses a trained parameter that is used and gets no gradient, because it is detached from the loss or no
    /// forward pass reads it. Every batch uses every parameter, unless a model knows better.
    fn uses(&self, _parameter: &str, _batch: &Self::Batch) -> bool {
        true
    }

    /// The loss **summed** over the batch's targets, `[1]`. Whoever accumulates divides once, by the targets of the
    /// whole window.
    fn loss_sum(&self, batch: &Self::Batch) -> Tensor<1> {
        self.losses(self.target_rows(batch, &mut Direct), batch, 0..batch.n_targets()).sum()
    }
}

/// A batch on the host.
pub trait Batch: Send + 'static {
    /// Targets that count for the loss. Known before any forward pass.
    fn n_targets(&self) -> usize;

    /// Tokens that the decoder reads, padding left out.
    fn n_tokens(&self) -> usize;

    /// Images that the tower reads.
    fn n_images(&self) -> usize {
        0
    }

    /// Names of the groups that losses are reported for by themselves, such as a source or a task.
    fn groups(&self) -> &[String] {
        &[]
    }

    /// For each target, its place in [`Batch::groups`]; empty where there are none.
    fn target_groups(&self) -> &[u16] {
        &[]
    }
}
