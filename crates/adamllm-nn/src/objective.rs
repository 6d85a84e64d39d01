use burn::module::Module;
use burn::tensor::Tensor;

/// All that a trainer asks of a model.
pub trait Objective: Module {
    /// What one forward pass reads.
    type Batch: Batch;

    /// The loss **summed** over the batch's targets, `[1]`. Whoever accumulates divides once, by the targets of the
    /// whole window.
    fn loss_sum(&self, batch: &Self::Batch) -> Tensor<1>;
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
}
