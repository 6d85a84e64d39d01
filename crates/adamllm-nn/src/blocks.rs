use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// A block's forward pass over rows `[batch, n, width]`. It may run more than once, and must give the same each time.
pub type BlockFn<'a> = Box<dyn Fn(&[Tensor<3>], Pass) -> Tensor<3> + 'a>;

/// Whether a pass through a block is to be differentiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Autodiff keeps what the backward pass needs.
    Kept,
    /// Nothing is kept but the output.
    Forgotten,
}

/// Runs the blocks that a model is stacked from. Inference and plain training run each one at once ([`Direct`]); a trainer may
/// keep a block's inputs alone and run it again in the backward pass (Chen et al., 2016, arXiv 1604.06174).
pub trait BlockRunner<'a> {
    /// The block's output. `trained` tells whether the block itself has parameters that are trained. Models call [`run_block`].
    fn block(&mut self, inputs: Vec<Tensor<3>>, trained: bool, forward: BlockFn<'a>) -> Tensor<3>;

    /// To be put around a tensor that several blocks read.
    fn shared(&mut self, rows: Tensor<3>) -> Tensor<3> {
        rows
    }
}

/// Passes `inputs` through a block: what the block trains belongs to `module`, what it reads comes in through `inputs`.
pub fn run_block<'a, M: Module>(
    blocks: &mut dyn BlockRunner<'a>,
    module: &'a M,
    inputs: Vec<Tensor<3>>,
    forward: impl Fn(&M, &[Tensor<3>]) -> Tensor<3> + 'a,
) -> Tensor<3> {
    let forward = move |inputs: &[Tensor<3>], pass: Pass| match pass {
        Pass::Kept => forward(module, inputs),
        Pass::Forgotten => forward(&module.valid(), inputs),
    };
    blocks.block(inputs, is_trained(module), Box::new(forward))
}

/// Runs every block at once and leaves the graph to autodiff.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl<'a> BlockRunner<'a> for Direct {
    fn block(&mut self, inputs: Vec<Tensor<3>>, _trained: bool, forward: BlockFn<'a>) -> Tensor<3> {
        forward(&inputs, Pass::Kept)
    }
}

/// Whether any parameter of a module is trained.
fn is_trained(module: &impl Module) -> bool {
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
