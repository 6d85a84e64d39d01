use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;

use super::linear::{self, Dense};
use super::view::{View4, dense, dense_rows, dims, tensor, values};
use super::{AllowedKeys, FusedOps, NormKind, Targets, attention, cross_entropy, elementwise, frozen, norm};
use crate::{Activation, FrozenWeight};

/// A dense tensor of rank 2 as a matrix.
fn matrix(tensor: &FloatTensor<Flex>) -> Dense<'_> {
    let dims = dims(tensor);
    Dense::new(values(tensor), [dims[0], dims[1]])
}

impl FusedOps for Flex {
    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, weight) = (dense(x), dense(weight));
        let y = linear::product(matrix(&x), matrix(&weight).transposed());
        tensor(y, &[dims(&x)[0], dims(&weight)[0]])
    }

    fn fused_linear_input(gradient: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let (gradient, weight) = (dense(gradient), dense(weight));
        let grad_x = linear::product(matrix(&gradient), matrix(&weight));
        tensor(grad_x, &[dims(&gradient)[0], dims(&weight)[1]])
    }

    fn fused_linear_weight(gradient: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (gradient, x) = (dense(gradient), dense(x));
        let grad_weight = linear::product(matrix(&gradient).transposed(), matrix(&x));
        tensor(grad_weight, &[dims(&gradient)[1], dims(&x)[1]])
    }

    fn fused_frozen_linear(x: FloatTensor<Self>, weight: FrozenWeight) -> FloatTensor<Self> {
        let x = dense(x);
        let y = frozen::product(values(&x), &weight);
        tensor(y, &[dims(&x)[0], weight.shape()[0]])
    }

    fn fused_frozen_linear_input(gradient: FloatTensor<Self>, weight: FrozenWeight) -> FloatTensor<Self> {
        let gradient = dense(gradient);
        let grad_x = frozen::input_gradient(values(&gradient), &weight);
        tensor(grad_x, &[dims(&gradient)[0], weight.shape()[1]])
    }

    fn fused_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, kind: NormKind, epsilon: f64) -> FloatTensor<Self> {
        let (x, weight) = (dense(x), dense(weight));
        tensor(norm::norm(values(&x), values(&weight), kind, epsilon as f32), &dims(&x))
    }

    fn fused_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        kind: NormKind,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [x, weight, gradient] = [x, weight, gradient].map(dense);
        let (grad_x, grad_weight) =
            norm::norm_backward(values(&x), values(&weight), values(&gradient), kind, epsilon as f32);
        (tensor(grad_x, &dims(&x)), tensor(grad_weight, &dims(&weight)))
    }

    fn fused_rotary(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        inverse: bool,
    ) -> FloatTensor<Self> {
        let (x, cos, sin) = (dense_rows(x), dense(cos), dense(sin));
        let rotated = elementwise::rotary(View4::of(&x), values(&cos), values(&sin), inverse);
        heads_first(rotated, &dims(&x))
    }

    fn fused_activation(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let x = dense(x);
        tensor(elementwise::activation(values(&x), activation), &dims(&x))
    }

    fn fused_activation_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let (x, gradient) = (dense(x), dense(gradient));
        tensor(elementwise::activation_backward(values(&x), values(&gradient), activation), &dims(&x))
    }

    fn fused_gate(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let (gate, up) = (dense(gate), dense(up));
        tensor(elementwise::gate(values(&gate), values(&up)), &dims(&gate))
    }

    fn fused_gate_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [gate, up, gradient] = [gate, up, gradient].map(dense);
        let (grad_gate, grad_up) = elementwise::gate_backward(values(&gate), values(&up), values(&gradient));
        let dims = dims(&gate);
        (tensor(grad_gate, &dims), tensor(grad_up, &dims))
    }

    fn fused_cross_entropy(logits: FloatTensor<Self>, targets: Targets) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let logits = dense(logits);
        let (losses, lse) = cross_entropy::forward(values(&logits), &targets);
        (tensor(losses, &[targets.len()]), tensor(lse, &[targets.len()]))
    }

    fn fused_cross_entropy_backward(
        logits: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        targets: Targets,
    ) -> FloatTensor<Self> {
        let [logits, lse, gradient] = [logits, lse, gradient].map(dense);
        let grads = cross_entropy::backward(values(&logits), values(&lse), values(&gradient), &targets);
        tensor(grads, &dims(&logits))
    }

    fn fused_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        allowed: AllowedKeys,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [query, key, value] = [query, key, value].map(dense_rows);
        let [batch, n_heads, n_queries, _] = View4::of(&query).dims;
        let d_value = View4::of(&value).dims[3];
        let (output, lse) = attention::forward(View4::of(&query), View4::of(&key), View4::of(&value), &allowed);
        let output = tensor(output, &[batch, n_queries, n_heads, d_value]);
        (output, tensor(lse, &[batch, n_heads, n_queries]))
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
        let inputs = [query, key, value].map(dense_rows);
        let gradient = dense(gradient);
        let views = inputs.each_ref().map(View4::of);
        let gradients = attention::backward(views, values(&output), values(&lse), values(&gradient), &allowed);
        let mut gradients = gradients.into_iter().zip(&inputs).map(|(values, input)| heads_first(values, &dims(input)));
        let mut next = || gradients.next().expect("three of them");
        (next(), next(), next())
    }
}

/// Values with the axis of positions before that of heads, as `[batch, n_heads, n, d_head]`.
fn heads_first(values: Vec<f32>, dims: &[usize]) -> FloatTensor<Flex> {
    let [batch, n_heads, n, d_head] = dims else { panic!("four axes, got {dims:?}") };
    tensor(values, &[*batch, *n, *n_heads, *d_head]).transpose(1, 2)
}
