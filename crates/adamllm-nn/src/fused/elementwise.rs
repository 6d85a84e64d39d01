//! Activations, the gate of gated MLPs and rotary positions, element by element:
//!
//! ```text
//! silu(x)  = x * sigmoid(x)                     quick_gelu(x) = x * sigmoid(1.702 x)
//! gelu(x)  = x * phi(x)                         gelu_tanh(x)  = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
//! gate     = silu(gate) * up
//! rotary   = [x1 cos - x2 sin, x2 cos + x1 sin] for the halves x1, x2 of each head
//! ```
//!
//! - Kept for the backward pass: the inputs (of the rotation, the tables only). Recomputed: sigmoid, tanh and `phi`. The backward
//!   pass of a rotation is the rotation by the negative angles.
//! - Tiles and threads: pieces of some 2^14 values are tasks, each of which writes its own piece in one pass over memory.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::exp::{exp, sigmoid, tanh};
use super::view;
use super::view::{View4, buffer, rows_per_task};
use crate::Activation;

const TASK: usize = 1 << 14;

/// Each element of `x` through `f`.
fn map(x: &[f32], f: impl Fn(f32) -> f32 + Sync) -> Vec<f32> {
    let arch = pulp::Arch::new();
    written(x.len(), |y| {
        y.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).for_each(|(y, x)| {
            arch.dispatch(|| y.iter_mut().zip(x).for_each(|(y, &x)| _ = y.write(f(x))));
        });
    })
}

/// Each pair of elements through `f`.
fn zip(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    assert_eq!(a.len(), b.len(), "pairs");
    let arch = pulp::Arch::new();
    written(a.len(), |y| {
        y.par_chunks_mut(TASK).zip(a.par_chunks(TASK)).zip(b.par_chunks(TASK)).for_each(|((y, a), b)| {
            arch.dispatch(|| y.iter_mut().zip(a).zip(b).for_each(|((y, &a), &b)| _ = y.write(f(a, b))));
        });
    })
}

/// `n` values that `write` fills in, each of them once.
fn written(n: usize, write: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    let mut values = Vec::with_capacity(n);
    write(&mut values.spare_capacity_mut()[..n]);
    // SAFETY: there is room for `n` values, and `write` has written all of them: `map` and `zip` above, the only callers, go through
    // the `n` places and as many inputs in pieces of the same size. Where `write` panics, the length stays 0.
    unsafe { values.set_len(n) };
    values
}

/// The activation, element by element.
pub(super) fn activation(x: &[f32], activation: Activation) -> Vec<f32> {
    match activation {
        Activation::Silu => map(x, |x| x * sigmoid(x)),
        Activation::QuickGelu => map(x, |x| x * sigmoid(1.702 * x)),
        Activation::GeluPytorchTanh => map(x, |x| 0.5 * x * (1.0 + tanh(gelu_inner(x)))),
        Activation::Gelu => map(x, |x| x * phi(x)),
    }
}

/// `gradient * f'(x)`, element by element.
pub(super) fn activation_backward(x: &[f32], gradient: &[f32], activation: Activation) -> Vec<f32> {
    match activation {
        Activation::Silu => zip(x, gradient, |x, g| g * swish_derivative(x, 1.0)),
        Activation::QuickGelu => zip(x, gradient, |x, g| g * swish_derivative(x, 1.702)),
        Activation::GeluPytorchTanh => zip(x, gradient, |x, g| {
            let t = tanh(gelu_inner(x));
            let inner_derivative = GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * x * x);
            g * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner_derivative)
        }),
        Activation::Gelu => {
            const INVERSE_ROOT: f32 = 0.398_942_3;
            zip(x, gradient, |x, g| g * (phi(x) + x * INVERSE_ROOT * exp(-0.5 * x * x)))
        }
    }
}

/// The derivative of `x * sigmoid(a x)`.
#[inline(always)]
fn swish_derivative(x: f32, a: f32) -> f32 {
    let s = sigmoid(a * x);
    s * (1.0 + a * x * (1.0 - s))
}

const GELU_SCALE: f32 = 0.797_884_6;
const GELU_CUBIC: f32 = 0.044_715;

#[inline(always)]
fn gelu_inner(x: f32) -> f32 {
    GELU_SCALE * (x + GELU_CUBIC * x * x * x)
}

/// The standard normal distribution function, from a Chebyshev fit of the complementary error function (Press et al.,
/// Numerical Recipes): its error is relative, so the lower tail stays good.
#[inline(always)]
fn phi(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let mut p = 0.170_872_77f32;
    p = p * t - 0.822_152_23;
    p = p * t + 1.488_515_9;
    p = p * t - 1.135_204;
    p = p * t + 0.278_868_07;
    p = p * t - 0.186_288_06;
    p = p * t + 0.096_784_18;
    p = p * t + 0.374_091_96;
    p = p * t + 1.000_023_7;
    let erfc = t * exp(-z * z - 1.265_512_2 + t * p);
    if x < 0.0 { 0.5 * erfc } else { 1.0 - 0.5 * erfc }
}

/// `silu(gate) * up`, element by element.
pub(super) fn gate(gate: &[f32], up: &[f32]) -> Vec<f32> {
    zip(gate, up, |gate, up| gate * sigmoid(gate) * up)
}

/// Gradients of `gate` and `up`.
pub(super) fn gate_backward(gate: &[f32], up: &[f32], gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (mut grad_gate, mut grad_up) = (buffer(gate.len()), buffer(gate.len()));
    let arch = pulp::Arch::new();
    let outputs = grad_gate.par_chunks_mut(TASK).zip(grad_up.par_chunks_mut(TASK));
    let inputs = gate.par_chunks(TASK).zip(up.par_chunks(TASK)).zip(gradient.par_chunks(TASK));
    outputs.zip(inputs).for_each(|((grad_gate, grad_up), ((gate, up), gradient))| {
        arch.dispatch(|| {
            let outputs = grad_gate.iter_mut().zip(grad_up.iter_mut());
            for ((grad_gate, grad_up), ((&x, &u), &g)) in outputs.zip(gate.iter().zip(up).zip(gradient)) {
                let s = sigmoid(x);
                *grad_up = g * x * s;
                *grad_gate = g * u * s * (1.0 + x * (1.0 - s));
            }
        });
    });
    (grad_gate, grad_up)
}

/// Rotates the halves of each head by the angles of the tables, or by their negatives: `[batch, n_heads, seq, d_head]` in,
/// `[batch, seq, n_heads, d_head]` in memory out. The tables are dense, `[batch, 1, seq, d_head]`.
pub(super) fn rotary(x: View4, cos: &[f32], sin: &[f32], inverse: bool) -> Vec<f32> {
    let [batch, n_heads, seq, d_head] = x.dims;
    let (half, sign) = (d_head / 2, if inverse { -1.0 } else { 1.0 });

    let mut y = view::buffer(batch * n_heads * seq * d_head);
    let width = n_heads * d_head;
    let rows = rows_per_task(batch * seq, width);
    let arch = pulp::Arch::new();
    y.par_chunks_mut(rows * width).enumerate().for_each(|(task, y)| {
        arch.dispatch(|| {
            for (i, y) in y.chunks_exact_mut(width).enumerate() {
                let position = task * rows + i;
                // Half a row of the tables: the second half repeats the first (transformers' `rotate_half` layout).
                let (cos, sin) = (&cos[position * d_head..][..half], &sin[position * d_head..][..half]);
                for (head, y) in y.chunks_exact_mut(d_head).enumerate() {
                    let (x1, x2) = x.row(position / seq, head, position % seq).split_at(half);
                    let (y1, y2) = y.split_at_mut(half);
                    for j in 0..half {
                        let s = sign * sin[j];
                        y1[j] = x1[j] * cos[j] - x2[j] * s;
                        y2[j] = x2[j] * cos[j] + x1[j] * s;
                    }
                }
            }
        });
    });

    y
}
