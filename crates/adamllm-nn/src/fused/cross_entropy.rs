//! Cross-entropy of rows of logits against one class each:
//!
//! ```text
//! lse         = log(sum(exp(logits - max))) + max
//! loss        = lse - logits[target]
//! grad_logits = (exp(logits - lse) - one_hot(target)) * gradient
//! ```
//!
//! - Kept for the backward pass: the logits and `lse`. Recomputed: the probabilities, which are written nowhere in the forward pass
//!   and straight into the gradient in the backward pass.
//! - Threads: a row is a task's smallest piece; rows share nothing. The maximum is subtracted so that no `exp` overflows.

use rayon::prelude::*;

use super::exp::exp;
use super::lanes::{row_max, sum};
use super::view::buffer;

/// `loss = lse - logits[target]` of each row, and `lse`, the log-sum-exp of the row.
pub(super) fn forward(logits: &[f32], targets: &[u32]) -> (Vec<f32>, Vec<f32>) {
    let width = logits.len() / targets.len().max(1);
    let arch = pulp::Arch::new();
    let rows = logits.par_chunks(width.max(1)).zip(targets);
    rows.map(|(row, &target)| {
        let row_lse = arch.dispatch(|| log_sum_exp(row));
        (row_lse - row[target as usize], row_lse)
    })
    .unzip()
}

#[inline(always)]
fn log_sum_exp(row: &[f32]) -> f32 {
    let row_max = row_max(row);
    row_max + sum(row, |x| exp(x - row_max)).ln()
}

/// `grad_logits = (softmax(logits) - one_hot(target)) * gradient`, row by row, with `softmax(logits) = exp(logits - lse)`.
pub(super) fn backward(logits: &[f32], lse: &[f32], gradient: &[f32], targets: &[u32]) -> Vec<f32> {
    let width = logits.len() / targets.len().max(1);
    let mut grads = buffer(logits.len());
    let arch = pulp::Arch::new();
    let rows = grads.par_chunks_mut(width.max(1)).zip(logits.par_chunks(width.max(1))).enumerate();
    rows.for_each(|(i, (grads, row))| {
        let (row_lse, g) = (lse[i], gradient[i]);
        arch.dispatch(|| grads.iter_mut().zip(row).for_each(|(s, &x)| *s = g * exp(x - row_lse)));
        grads[targets[i] as usize] -= g;
    });
    grads
}
