//! The backward passes, registered with burn's autodiff.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use super::{AllowedKeys, FusedOps, NormKind, Targets};
use crate::{Activation, FrozenWeight};

type Inner<B> = FloatTensor<B>;

#[derive(Debug)]
struct LinearOp;

impl<B: FusedOps> Backward<B, 2> for LinearOp {
    /// Input and weight, each where the other's gradient is asked for.
    type State = (Option<Inner<B>>, Option<Inner<B>>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, weight_node] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let (x, weight) = ops.state;
        if let (Some(node), Some(weight)) = (x_node, weight) {
            grads.register::<B>(node.id, B::fused_linear_input(gradient.clone(), weight));
        }
        if let (Some(node), Some(x)) = (weight_node, x) {
            grads.register::<B>(node.id, B::fused_linear_weight(gradient, x));
        }
    }
}

#[derive(Debug)]
struct FrozenLinearOp;

impl<B: FusedOps> Backward<B, 1> for FrozenLinearOp {
    type State = FrozenWeight;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        if let Some(node) = node {
            grads.register::<B>(node.id, B::fused_frozen_linear_input(gradient, ops.state));
        }
    }
}

#[derive(Debug)]
struct NormOp;

impl<B: FusedOps> Backward<B, 2> for NormOp {
    type State = (Inner<B>, Inner<B>, NormKind, f64);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, weight_node] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let (x, weight, kind, epsilon) = ops.state;
        let (grad_x, grad_weight) = B::fused_norm_backward(x, weight, gradient, kind, epsilon);
        if let Some(node) = x_node {
            grads.register::<B>(node.id, grad_x);
        }
        if let Some(node) = weight_node {
            grads.register::<B>(node.id, grad_weight);
        }
    }
}

#[derive(Debug)]
struct RotaryOp;

impl<B: FusedOps> Backward<B, 1> for RotaryOp {
    type State = (Inner<B>, Inner<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let (cos, sin) = ops.state;
        if let Some(node) = node {
            grads.register::<B>(node.id, B::fused_rotary(gradient, cos, sin, true));
        }
    }
}

#[derive(Debug)]
struct ActivationOp;

impl<B: FusedOps> Backward<B, 1> for ActivationOp {
    type State = (Inner<B>, Activation);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let (x, activation) = ops.state;
        if let Some(node) = node {
            grads.register::<B>(node.id, B::fused_activation_backward(x, gradient, activation));
        }
    }
}

#[derive(Debug)]
struct GateOp;

impl<B: FusedOps> Backward<B, 2> for GateOp {
    type State = (Inner<B>, Inner<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [gate_node, up_node] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let (gate, up) = ops.state;
        let (grad_gate, grad_up) = B::fused_gate_backward(gate, up, gradient);
        if let Some(node) = gate_node {
            grads.register::<B>(node.id, grad_gate);
        }
        if let Some(node) = up_node {
            grads.register::<B>(node.id, grad_up);
        }
    }
}

#[derive(Debug)]
struct CrossEntropyOp;

impl<B: FusedOps> Backward<B, 1> for CrossEntropyOp {
    type State = (Inner<B>, Inner<B>, Targets);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let (logits, lse, targets) = ops.state;
        if let Some(node) = node {
            grads.register::<B>(node.id, B::fused_cross_entropy_backward(logits, lse, gradient, targets));
        }
    }
}

#[derive(Debug)]
struct AttentionOp;

impl<B: FusedOps> Backward<B, 3> for AttentionOp {
    /// Query, key, value, output, log-sum-exp of the scores.
    type State = ([Inner<B>; 5], AllowedKeys);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let ([query, key, value, output, lse], allowed) = ops.state;
        let (grad_query, grad_key, grad_value) =
            B::fused_attention_backward(query, key, value, output, lse, gradient, allowed);
        for (node, gradient) in ops.parents.into_iter().zip([grad_query, grad_key, grad_value]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: FusedOps, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = LinearOp.prepare::<C>([x.node(), weight.node()]).compute_bound().stateful();
        let (x_tracked, weight_tracked) = (x.is_tracked(), weight.is_tracked());
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        match prepared {
            OpsKind::Tracked(prep) => {
                let y = B::fused_linear(x.clone(), weight.clone());
                prep.finish((weight_tracked.then_some(x), x_tracked.then_some(weight)), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_linear(x, weight)),
        }
    }

    fn fused_linear_input(gradient: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let (gradient, weight) = (gradient.into_primitive(), weight.into_primitive());
        FloatTensor::<Self>::new(B::fused_linear_input(gradient, weight))
    }

    fn fused_linear_weight(gradient: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        FloatTensor::<Self>::new(B::fused_linear_weight(gradient.into_primitive(), x.into_primitive()))
    }

    fn fused_frozen_linear(x: FloatTensor<Self>, weight: FrozenWeight) -> FloatTensor<Self> {
        let prepared = FrozenLinearOp.prepare::<C>([x.node()]).compute_bound().stateful();
        let y = B::fused_frozen_linear(x.into_primitive(), weight.clone());
        match prepared {
            OpsKind::Tracked(prep) => prep.finish(weight, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fused_frozen_linear_input(gradient: FloatTensor<Self>, weight: FrozenWeight) -> FloatTensor<Self> {
        FloatTensor::<Self>::new(B::fused_frozen_linear_input(gradient.into_primitive(), weight))
    }

    fn fused_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, kind: NormKind, epsilon: f64) -> FloatTensor<Self> {
        let prepared = NormOp.prepare::<C>([x.node(), weight.node()]).compute_bound().stateful();
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        match prepared {
            OpsKind::Tracked(prep) => {
                let y = B::fused_norm(x.clone(), weight.clone(), kind, epsilon);
                prep.finish((x, weight, kind, epsilon), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_norm(x, weight, kind, epsilon)),
        }
    }

    fn fused_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        kind: NormKind,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [x, weight, gradient] = [x, weight, gradient].map(FloatTensor::<Self>::into_primitive);
        let (a, b) = B::fused_norm_backward(x, weight, gradient, kind, epsilon);
        (FloatTensor::<Self>::new(a), FloatTensor::<Self>::new(b))
    }

    fn fused_rotary(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        inverse: bool,
    ) -> FloatTensor<Self> {
        assert!(!inverse, "first derivatives only");
        let prepared = RotaryOp.prepare::<C>([x.node()]).compute_bound().stateful();
        let [x, cos, sin] = [x, cos, sin].map(FloatTensor::<Self>::into_primitive);
        let y = B::fused_rotary(x, cos.clone(), sin.clone(), inverse);
        match prepared {
            OpsKind::Tracked(prep) => prep.finish((cos, sin), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fused_activation(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let prepared = ActivationOp.prepare::<C>([x.node()]).compute_bound().stateful();
        let x = x.into_primitive();
        match prepared {
            OpsKind::Tracked(prep) => {
                let y = B::fused_activation(x.clone(), activation);
                prep.finish((x, activation), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_activation(x, activation)),
        }
    }

    fn fused_activation_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        FloatTensor::<Self>::new(B::fused_activation_backward(
            x.into_primitive(),
            gradient.into_primitive(),
            activation,
        ))
    }

    fn fused_gate(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = GateOp.prepare::<C>([gate.node(), up.node()]).compute_bound().stateful();
        let (gate, up) = (gate.into_primitive(), up.into_primitive());
        match prepared {
            OpsKind::Tracked(prep) => {
                let y = B::fused_gate(gate.clone(), up.clone());
                prep.finish((gate, up), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_gate(gate, up)),
        }
    }

    fn fused_gate_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [gate, up, gradient] = [gate, up, gradient].map(FloatTensor::<Self>::into_primitive);
        let (a, b) = B::fused_gate_backward(gate, up, gradient);
        (FloatTensor::<Self>::new(a), FloatTensor::<Self>::new(b))
    }

    fn fused_cross_entropy(logits: FloatTensor<Self>, targets: Targets) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let prepared = CrossEntropyOp.prepare::<C>([logits.node()]).compute_bound().stateful();
        let logits = logits.into_primitive();
        let (losses, lse) = B::fused_cross_entropy(logits.clone(), targets.clone());
        let output = match prepared {
            OpsKind::Tracked(prep) => prep.finish((logits, lse.clone(), targets), losses),
            OpsKind::UnTracked(prep) => prep.finish(losses),
        };
        (output, FloatTensor::<Self>::new(lse))
    }

    fn fused_cross_entropy_backward(
        logits: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        targets: Targets,
    ) -> FloatTensor<Self> {
        let [logits, lse, gradient] = [logits, lse, gradient].map(FloatTensor::<Self>::into_primitive);
        FloatTensor::<Self>::new(B::fused_cross_entropy_backward(logits, lse, gradient, targets))
    }

    fn fused_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        allowed: AllowedKeys,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let prepared = AttentionOp.prepare::<C>([query.node(), key.node(), value.node()]).compute_bound().stateful();
        let [query, key, value] = [query, key, value].map(FloatTensor::<Self>::into_primitive);

        // The log-sum-exp is for the backward pass alone, and so is outside the graph.
        match prepared {
            OpsKind::Tracked(prep) => {
                let [a, b, c] = [query.clone(), key.clone(), value.clone()];
                let (output, lse) = B::fused_attention(a, b, c, allowed.clone());
                let state = ([query, key, value, output.clone(), lse.clone()], allowed);
                (prep.finish(state, output), FloatTensor::<Self>::new(lse))
            }
            OpsKind::UnTracked(prep) => {
                let (output, lse) = B::fused_attention(query, key, value, allowed);
                (prep.finish(output), FloatTensor::<Self>::new(lse))
            }
        }
    }

    fn fused_attention_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        output: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        allowed: AllowedKeys,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [query, key, value] = [query, key, value].map(FloatTensor::<Self>::into_primitive);
        let [output, lse, gradient] = [output, lse, gradient].map(FloatTensor::<Self>::into_primitive);
        let (a, b, c) = B::fused_attention_backward(query, key, value, output, lse, gradient, allowed);
        (FloatTensor::<Self>::new(a), FloatTensor::<Self>::new(b), FloatTensor::<Self>::new(c))
    }
}
