//! Loss and gradients of one batch: the head's logits of a few targets at a time, and the blocks with or without activation
//! checkpointing.

use adamllm_nn::{Batch, BlockExecutor, BlockFn, Eager, GradMode, Objective};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::optimizer::Accumulated;
use crate::{GradientCheckpointing, GradientDtype, TrainConfig};

/// The loss of each target of a batch, in nats; gradients of the sum, times `share`, are added to `gradients`.
pub(crate) fn differentiate<M: Objective>(
    model: &M,
    batch: &M::Batch,
    share: f64,
    config: &TrainConfig,
    gradients: &mut Accumulated,
) -> Vec<f32> {
    let mut sink = Sink { model, gradients, kept: config.gradients };
    match config.gradient_checkpointing {
        GradientCheckpointing::Off => {
            let hidden = model.target_hidden_states(batch, &mut Eager);
            if batch.n_targets() <= config.loss_chunk {
                let losses = model.token_losses(hidden, batch, 0..batch.n_targets());
                // Nothing is trained on a text where only the vision encoder is.
                if losses.is_tracked() {
                    sink.add((losses.clone().sum() * share).backward(), &mut []);
                }
                return host(losses);
            }
            let (losses, grad_hidden) = sink.head(&hidden, batch, share, config.loss_chunk);
            sink.backward_from(hidden, grad_hidden, &mut []);
            losses
        }
        GradientCheckpointing::Blocks => {
            let mut blocks = Checkpointing { steps: Vec::new() };
            let hidden = model.target_hidden_states(batch, &mut blocks);
            let (losses, grad_hidden) = sink.head(&hidden, batch, share, config.loss_chunk);
            blocks.backward(hidden, grad_hidden, &mut sink);
            losses
        }
    }
}

fn host(losses: Tensor<1>) -> Vec<f32> {
    losses.into_data().try_to_vec().expect("losses are in f32")
}

/// A tensor detached from what made it, whose gradient is asked for.
fn leaf<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    Tensor::from_inner(tensor.clone().without_autodiff()).require_grad()
}

/// Where gradients go.
struct Sink<'a, M> {
    model: &'a M,
    gradients: &'a mut Accumulated,
    kept: GradientDtype,
}

/// A leaf of the graph, and its gradient so far.
struct Leaf {
    tensor: Tensor<3>,
    grad: Option<Tensor<3>>,
}

impl<M: Objective> Sink<'_, M> {
    /// Takes the gradients of a backward pass: the leaves' own, and the parameters'.
    fn add(&mut self, mut gradients: burn::tensor::Gradients, leaves: &mut [&mut Leaf]) {
        for leaf in leaves {
            if let Some(grad) = leaf.tensor.grad_remove(&mut gradients) {
                leaf.grad = Some(match leaf.grad.take() {
                    Some(sum) => sum + grad,
                    None => grad,
                });
            }
        }
        self.gradients.add(self.model, GradientsParams::from_grads(gradients, self.model), self.kept);
    }

    /// The backward pass from `tensor`, whose gradient is `grad`. A tensor that is not tracked has no graph before it.
    fn backward_from<const D: usize>(&mut self, tensor: Tensor<D>, grad: Tensor<D>, leaves: &mut [&mut Leaf]) {
        if tensor.is_tracked() {
            self.add((tensor * Tensor::from_inner(grad)).sum().backward(), leaves);
        }
    }

    /// Recomputes a block and differentiates it: the gradients of its inputs, where they are tracked.
    fn block(&mut self, inputs: &[Tensor<3>], forward: &BlockFn, grad_output: Tensor<3>) -> Vec<Option<Tensor<3>>> {
        let own = |input: &Tensor<3>| if input.is_tracked() { leaf(input) } else { input.clone() };
        let own: Vec<Tensor<3>> = inputs.iter().map(own).collect();
        let output = forward(&own, GradMode::Enabled);
        let mut gradients = (output * Tensor::from_inner(grad_output)).sum().backward();
        let grad_inputs = own.iter().map(|input| input.grad_remove(&mut gradients)).collect();
        drop(own);
        self.add(gradients, &mut []);
        grad_inputs
    }

    /// The losses, and the gradient of the hidden states: those of `chunk` targets go through the head at a time.
    fn head(&mut self, hidden: &Tensor<2>, batch: &M::Batch, share: f64, chunk: usize) -> (Vec<f32>, Tensor<2>) {
        let n = batch.n_targets();
        let all = hidden.clone().without_autodiff();
        let (mut losses, mut grads) = (Vec::with_capacity(n), Vec::new());
        for first in (0..n).step_by(chunk) {
            let range = first..(first + chunk).min(n);
            let hidden = Tensor::from_inner(all.clone().narrow(0, first, range.len())).require_grad();
            let of_chunk = self.model.token_losses(hidden.clone(), batch, range);
            let mut gradients = (of_chunk.clone().sum() * share).backward();
            grads.push(hidden.grad_remove(&mut gradients).unwrap_or_else(|| hidden.without_autodiff().zeros_like()));
            self.add(gradients, &mut []);
            losses.push(of_chunk.without_autodiff());
        }
        (host(Tensor::cat(losses, 0)), Tensor::cat(grads, 0))
    }
}

/// Activation checkpointing: keeps the inputs of each block, and recomputes its inner values in the backward pass.
struct Checkpointing<'a> {
    steps: Vec<BlockStep<'a>>,
}

struct BlockStep<'a> {
    inputs: Vec<Tensor<3>>,
    /// `None` where the output is the only input itself, detached.
    forward: Option<BlockFn<'a>>,
    output: Leaf,
}

impl<'a> Checkpointing<'a> {
    fn push(&mut self, inputs: Vec<Tensor<3>>, forward: Option<BlockFn<'a>>, output: &Tensor<3>) -> Tensor<3> {
        let tensor = leaf(output);
        self.steps.push(BlockStep { inputs, forward, output: Leaf { tensor: tensor.clone(), grad: None } });
        tensor
    }

    /// Backward from the model's hidden states through every step, the last one first.
    fn backward<M: Objective>(mut self, hidden: Tensor<2>, grad_hidden: Tensor<2>, sink: &mut Sink<M>) {
        sink.backward_from(hidden, grad_hidden, &mut leaves(&mut self.steps));
        while let Some(BlockStep { inputs, forward, output: Leaf { tensor, grad } }) = self.steps.pop() {
            drop(tensor);
            let Some(grad) = grad else { continue };
            let grad_inputs = match forward {
                None => vec![Some(grad)],
                Some(forward) => sink.block(&inputs, &forward, grad),
            };
            for (input, grad) in inputs.into_iter().zip(grad_inputs) {
                if let Some(grad) = grad {
                    sink.backward_from(input, grad, &mut leaves(&mut self.steps));
                }
            }
        }
    }
}

/// The outputs of the steps before: the leaves that a backward pass may reach.
fn leaves<'s>(steps: &'s mut [BlockStep]) -> Vec<&'s mut Leaf> {
    steps.iter_mut().map(|step| &mut step.output).collect()
}

impl<'a> BlockExecutor<'a> for Checkpointing<'a> {
    fn block(&mut self, inputs: Vec<Tensor<3>>, trained: bool, forward: BlockFn<'a>) -> Tensor<3> {
        let trained = trained || inputs.iter().any(Tensor::is_tracked);
        let detached: Vec<Tensor<3>> = inputs.iter().map(|input| input.clone().without_autodiff()).collect();
        let output = forward(&detached, GradMode::Disabled);
        if !trained {
            return Tensor::from_inner(output.without_autodiff());
        }
        self.push(inputs, Some(forward), &output)
    }

    fn shared(&mut self, hidden: Tensor<3>) -> Tensor<3> {
        if !hidden.is_tracked() {
            return hidden;
        }
        let output = hidden.clone();
        self.push(vec![hidden], None, &output)
    }
}
