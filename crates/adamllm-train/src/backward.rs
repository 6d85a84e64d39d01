//! Loss and gradients of one batch: the head's logits a few rows at a time, and the blocks' inner values kept or made again.

use adamllm_nn::{Batch, BlockFn, BlockRunner, Direct, Objective, Pass};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::optimizer::Accumulated;
use crate::{Recompute, TrainConfig};

/// The loss of each target of a batch, in nats; gradients of the sum, times `share`, are added to `gradients`.
pub(crate) fn differentiate<M: Objective>(
    model: &M,
    batch: &M::Batch,
    share: f64,
    config: &TrainConfig,
    gradients: &mut Accumulated,
) -> Vec<f32> {
    let mut pass = Sink { model, gradients };
    match config.recompute {
        Recompute::Nothing => {
            let rows = model.target_rows(batch, &mut Direct);
            if batch.n_targets() <= config.loss_chunk {
                let losses = model.losses(rows, batch, 0..batch.n_targets());
                // Nothing is trained on a text where only the tower is.
                if losses.is_tracked() {
                    pass.add((losses.clone().sum() * share).backward(), &mut []);
                }
                return host(losses);
            }
            let (losses, slopes) = pass.head(&rows, batch, share, config.loss_chunk);
            pass.from(rows, slopes, &mut []);
            losses
        }
        Recompute::Blocks => {
            let mut blocks = Recomputing { steps: Vec::new() };
            let rows = model.target_rows(batch, &mut blocks);
            let (losses, slopes) = pass.head(&rows, batch, share, config.loss_chunk);
            blocks.backward(rows, slopes, &mut pass);
            losses
        }
    }
}

fn host(losses: Tensor<1>) -> Vec<f32> {
    losses.into_data().try_to_vec().expect("losses are in f32")
}

/// A tensor cut off from what made it, whose gradient is asked for.
fn leaf<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    Tensor::from_inner(tensor.clone().without_autodiff()).require_grad()
}

/// Where gradients go.
struct Sink<'a, M> {
    model: &'a M,
    gradients: &'a mut Accumulated,
}

/// A leaf, and its gradient so far.
struct Leaf {
    tensor: Tensor<3>,
    slope: Option<Tensor<3>>,
}

impl<M: Objective> Sink<'_, M> {
    /// Takes the gradients of a backward pass: the leaves' own, and the parameters'.
    fn add(&mut self, mut gradients: burn::tensor::Gradients, leaves: &mut [&mut Leaf]) {
        for leaf in leaves {
            if let Some(slope) = leaf.tensor.grad_remove(&mut gradients) {
                leaf.slope = Some(match leaf.slope.take() {
                    Some(sum) => sum + slope,
                    None => slope,
                });
            }
        }
        self.gradients.add(self.model, GradientsParams::from_grads(gradients, self.model));
    }

    /// Goes on backward from `tensor`, whose gradient is `slope`. Nothing is before a tensor that is not tracked.
    fn from<const D: usize>(&mut self, tensor: Tensor<D>, slope: Tensor<D>, leaves: &mut [&mut Leaf]) {
        if tensor.is_tracked() {
            self.add((tensor * Tensor::from_inner(slope)).sum().backward(), leaves);
        }
    }

    /// Runs a block again and differentiates it: the gradients of its inputs, where they are tracked.
    fn block(&mut self, inputs: &[Tensor<3>], forward: &BlockFn, slope: Tensor<3>) -> Vec<Option<Tensor<3>>> {
        let own = |input: &Tensor<3>| if input.is_tracked() { leaf(input) } else { input.clone() };
        let own: Vec<Tensor<3>> = inputs.iter().map(own).collect();
        let mut gradients = (forward(&own, Pass::Kept) * Tensor::from_inner(slope)).sum().backward();
        let slopes = own.iter().map(|input| input.grad_remove(&mut gradients)).collect();
        drop(own);
        self.add(gradients, &mut []);
        slopes
    }

    /// The losses, and the gradient of the rows: `chunk` rows go through the head at a time.
    fn head(&mut self, rows: &Tensor<2>, batch: &M::Batch, share: f64, chunk: usize) -> (Vec<f32>, Tensor<2>) {
        let n = batch.n_targets();
        let all = rows.clone().without_autodiff();
        let (mut losses, mut slopes) = (Vec::with_capacity(n), Vec::new());
        for first in (0..n).step_by(chunk) {
            let range = first..(first + chunk).min(n);
            let rows = Tensor::from_inner(all.clone().narrow(0, first, range.len())).require_grad();
            let of_chunk = self.model.losses(rows.clone(), batch, range);
            let mut gradients = (of_chunk.clone().sum() * share).backward();
            slopes.push(rows.grad_remove(&mut gradients).unwrap_or_else(|| rows.without_autodiff().zeros_like()));
            self.add(gradients, &mut []);
            losses.push(of_chunk.without_autodiff());
        }
        (host(Tensor::cat(losses, 0)), Tensor::cat(slopes, 0))
    }
}

/// Keeps what goes into each block, and nothing of its inside.
struct Recomputing<'a> {
    steps: Vec<Step<'a>>,
}

struct Step<'a> {
    inputs: Vec<Tensor<3>>,
    /// `None` where the output is the only input itself, cut off.
    forward: Option<BlockFn<'a>>,
    output: Leaf,
}

impl<'a> Recomputing<'a> {
    fn push(&mut self, inputs: Vec<Tensor<3>>, forward: Option<BlockFn<'a>>, output: &Tensor<3>) -> Tensor<3> {
        let tensor = leaf(output);
        self.steps.push(Step { inputs, forward, output: Leaf { tensor: tensor.clone(), slope: None } });
        tensor
    }

    /// Backward from the model's rows through every step, the last one first.
    fn backward<M: Objective>(mut self, rows: Tensor<2>, slopes: Tensor<2>, pass: &mut Sink<M>) {
        pass.from(rows, slopes, &mut leaves(&mut self.steps));
        while let Some(Step { inputs, forward, output: Leaf { tensor, slope } }) = self.steps.pop() {
            drop(tensor);
            let Some(slope) = slope else { continue };
            let slopes = match forward {
                None => vec![Some(slope)],
                Some(forward) => pass.block(&inputs, &forward, slope),
            };
            for (input, slope) in inputs.into_iter().zip(slopes) {
                if let Some(slope) = slope {
                    pass.from(input, slope, &mut leaves(&mut self.steps));
                }
            }
        }
    }
}

/// The leaves of the steps before: what a backward pass may reach.
fn leaves<'s>(steps: &'s mut [Step]) -> Vec<&'s mut Leaf> {
    steps.iter_mut().map(|step| &mut step.output).collect()
}

impl<'a> BlockRunner<'a> for Recomputing<'a> {
    fn block(&mut self, inputs: Vec<Tensor<3>>, trained: bool, forward: BlockFn<'a>) -> Tensor<3> {
        let trained = trained || inputs.iter().any(Tensor::is_tracked);
        let bare: Vec<Tensor<3>> = inputs.iter().map(|input| input.clone().without_autodiff()).collect();
        let output = forward(&bare, Pass::Forgotten);
        if !trained {
            return Tensor::from_inner(output.without_autodiff());
        }
        self.push(inputs, Some(forward), &output)
    }

    fn shared(&mut self, rows: Tensor<3>) -> Tensor<3> {
        if !rows.is_tracked() {
            return rows;
        }
        let output = rows.clone();
        self.push(vec![rows], None, &output)
    }
}
