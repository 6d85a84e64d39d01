use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// A block's forward pass over rows `[batch, n, width]`. It may run more than once, and must give the same each time.
pub type BlockFn<'a> = Box<dyn Fn(&[Tensor<3>]) -> Tensor<3> + 'a>;

/// Runs the blocks that a model is stacked from. Inference and plain training run each one at once ([`Direct`]); a trainer may
/// keep a block's inputs alone and run it again in the backward pass (Chen et al., 2016, arXiv 1604.06174).
pub trait BlockRunner<'a> {
    /// The block's output. What the block reads and trains comes in through `inputs` or belongs to its module; `trained`
    /// tells whether anything in it or before it is.
    fn block(&mut self, inputs: Vec<Tensor<3>>, trained: bool, forward: BlockFn<'a>) -> Tensor<3>;

    /// To be put around a tensor that several blocks read.
    fn shared(&mut self, rows: Tensor<3>) -> Tensor<3> {
        rows
    }
}

/// Runs every block at once and leaves the graph to autodiff.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl<'a> BlockRunner<'a> for Direct {
    fn block(&mut self, inputs: Vec<Tensor<3>>, _trained: bool, forward: BlockFn<'a>) -> Tensor<3> {
        forward(&inputs)
    }
}

/// Whether any parameter of a module is trained.
pub fn is_trained(module: &impl Module) -> bool {
    struct Trained(bool);
    impl ModuleVisitor for Trained {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 |= param.is_require_grad();
        }
    }
    let mut trained = Trained(false);
    module.visit(&mut trained);
    trained.0
}
