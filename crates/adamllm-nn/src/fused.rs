//! Operations that burn's CPU backend would take apart into many passes over memory, each as one pass over all cores, with
//! its own backward pass. They compute what the layers' plain form computes; every other device, and every dtype but
//! f32, runs that plain form.

mod attention;
#[cfg(feature = "autodiff")]
mod autodiff;
mod cross_entropy;
mod elementwise;
mod exp;
mod flex;
mod frozen;
mod lanes;
mod linear;
mod norm;
mod view;

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchDevice, backend_extension};
use burn::tensor::{DType, Device, Tensor};

use crate::{Activation, FrozenWeight};

/// Which keys each query may attend to, on the host.
#[derive(Clone, Debug)]
pub(crate) enum AllowedKeys {
    /// Every key.
    All,
    /// For each batch element and query, the keys from the first index to before the second.
    Ranges(Arc<Vec<[u32; 2]>>),
    /// For each batch element, query and key, whether it is allowed.
    Dense(Arc<Vec<bool>>),
}

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NormKind {
    /// Divided by the root mean square.
    Rms,
    /// Centred, and divided by the standard deviation.
    Layer,
}

/// The class that each row of logits is to predict.
pub(crate) type Targets = Arc<Vec<u32>>;

/// The fused operations; each forward has its backward beside it.
#[backend_extension(Flex, Autodiff: cfg(feature = "autodiff"))]
pub(crate) trait FusedOps: Backend {
    /// `x W^T`, `[n, d_input] x [d_output, d_input]`.
    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
    /// The gradient of the input, `gradient W`.
    fn fused_linear_input(gradient: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
    /// The gradient of the weight, `gradient^T x`, in the weight's own layout.
    fn fused_linear_weight(gradient: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `x W^T` for a weight that is not trained.
    fn fused_frozen_linear(x: FloatTensor<Self>, weight: FrozenWeight) -> FloatTensor<Self>;
    /// The gradient of its input, `gradient W`.
    fn fused_frozen_linear_input(gradient: FloatTensor<Self>, weight: FrozenWeight) -> FloatTensor<Self>;

    /// The last axis, normalised and scaled.
    fn fused_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, kind: NormKind, epsilon: f64) -> FloatTensor<Self>;
    /// Gradients of `x` and `weight`.
    fn fused_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        kind: NormKind,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// `x` rotated by the angles of the tables, or by their negatives.
    fn fused_rotary(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        inverse: bool,
    ) -> FloatTensor<Self>;

    /// The activation, element by element.
    fn fused_activation(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;
    /// The gradient of `x`.
    fn fused_activation_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// `silu(gate) * up`.
    fn fused_gate(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Gradients of `gate` and `up`.
    fn fused_gate_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The cross-entropy of each row of logits, and the log-sum-exp of the row.
    fn fused_cross_entropy(logits: FloatTensor<Self>, targets: Targets) -> (FloatTensor<Self>, FloatTensor<Self>);
    /// The gradient of the logits.
    fn fused_cross_entropy_backward(
        logits: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        targets: Targets,
    ) -> FloatTensor<Self>;

    /// The attention output, `[batch, n_queries, n_heads, d_head]`, and the log-sum-exp of each query's scores, `[batch,
    /// n_heads, n_queries]`.
    fn fused_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        allowed: AllowedKeys,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
    /// Gradients of query, key and value.
    fn fused_attention_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        output: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        allowed: AllowedKeys,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// Whether tensors of this device and dtype take the fused form.
pub(crate) fn applies(device: &Device, dtype: DType) -> bool {
    let flex = match device.as_dispatch() {
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "autodiff")]
        DispatchDevice::Autodiff(device) => matches!(&**device, DispatchDevice::Flex(_)),
        #[allow(unreachable_patterns, reason = "other backends may be compiled in")]
        _ => false,
    };
    flex && dtype == DType::F32
}

pub(crate) fn linear(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_linear(x.into_dispatch(), weight.into_dispatch()))
}

pub(crate) fn frozen_linear(x: Tensor<2>, weight: FrozenWeight) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_frozen_linear(x.into_dispatch(), weight))
}

pub(crate) fn norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, kind: NormKind, epsilon: f64) -> Tensor<D> {
    let y = <Dispatch as FusedOps>::fused_norm(x.into_dispatch(), weight.into_dispatch(), kind, epsilon);
    Tensor::from_dispatch(y)
}

pub(crate) fn rotary(x: Tensor<4>, cos: Tensor<4>, sin: Tensor<4>) -> Tensor<4> {
    let [x, cos, sin] = [x, cos, sin].map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_rotary(x, cos, sin, false))
}

pub(crate) fn activation<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_activation(x.into_dispatch(), activation))
}

pub(crate) fn gate<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_gate(gate.into_dispatch(), up.into_dispatch()))
}

/// `[batch, n_heads, n, d_head]` each, `n_kv_heads` for key and value; the output is `[batch, n_queries, n_heads, d_head]`.
pub(crate) fn attention(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, allowed: AllowedKeys) -> Tensor<4> {
    let [query, key, value] = [query, key, value].map(Tensor::into_dispatch);
    let (mixed, _) = <Dispatch as FusedOps>::fused_attention(query, key, value, allowed);
    Tensor::from_dispatch(mixed)
}

pub(crate) fn cross_entropy(logits: Tensor<2>, targets: Targets) -> Tensor<1> {
    let (losses, _) = <Dispatch as FusedOps>::fused_cross_entropy(logits.into_dispatch(), targets);
    Tensor::from_dispatch(losses)
}
