use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::dropout::{next_call, within};

/// A block's forward pass over hidden states `[batch, seq, d_model]`. It may run more than once, and must give the same
/// each time.
pub type BlockFn<'a> = Box<dyn Fn(&[Tensor<3>], GradMode) -> Tensor<3> + 'a>;

/// Whether autodiff records a forward pass, as torch's `enable_grad` and `no_grad`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradMode {
    /// Autodiff keeps what the backward pass needs.
    Enabled,
    /// Nothing is kept but the output.
    Disabled,
}

/// Runs the blocks that a model is stacked from. Inference and plain training run each one at once ([`Eager`]); with activation
/// checkpointing a trainer keeps a block's inputs alone and recomputes its inside in the backward pass (Chen et al., 2016,
/// arXiv 1604.06174).
pub trait BlockExecutor<'a> {
    /// The block's output. `trained` says whether the block itself has parameters that are trained. Models call [`run_block`].
    fn block(&mut self, inputs: Vec<Tensor<3>>, trained: bool, forward: BlockFn<'a>) -> Tensor<3>;

    /// To be put around a tensor that several blocks read.
    fn shared(&mut self, hidden: Tensor<3>) -> Tensor<3> {
        hidden
    }
}

/// Passes `inputs` through a block: what the block trains belongs to `module`, what it reads comes in through `inputs`.
pub fn run_block<'a, M: Module>(
    blocks: &mut dyn BlockExecutor<'a>,
    module: &'a M,
    inputs: Vec<Tensor<3>>,
    forward: impl Fn(&M, &[Tensor<3>]) -> Tensor<3> + 'a,
) -> Tensor<3> {
    // A block that runs again must drop the same elements.
    let call = next_call();
    let forward = move |inputs: &[Tensor<3>], mode: GradMode| {
        within(call, || match mode {
            GradMode::Enabled => forward(module, inputs),
            GradMode::Disabled => forward(&module.valid(), inputs),
        })
    };
    blocks.block(inputs, is_trained(module), Box::new(forward))
}

/// Runs every block at once and leaves the graph to autodiff.
#[derive(Clone, Copy, Debug, Default)]
pub struct Eager;

impl<'a> BlockExecutor<'a> for Eager {
    fn block(&mut self, inputs: Vec<Tensor<3>>, _trained: bool, forward: BlockFn<'a>) -> Tensor<3> {
        forward(&inputs, GradMode::Enabled)
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
