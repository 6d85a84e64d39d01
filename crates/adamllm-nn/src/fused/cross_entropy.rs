use rayon::prelude::*;

use super::exp::exp;
use super::lanes::{most, sum};
use super::view::buffer;

/// The loss of each row, and the logarithm of its sum of exponentials.
pub(super) fn forward(logits: &[f32], targets: &[u32]) -> (Vec<f32>, Vec<f32>) {
    let width = logits.len() / targets.len().max(1);
    let arch = pulp::Arch::new();
    let rows = logits.par_chunks(width.max(1)).zip(targets);
    rows.map(|(row, &target)| {
        let log_sum = arch.dispatch(|| log_sum(row));
        (log_sum - row[target as usize], log_sum)
    })
    .unzip()
}

#[inline(always)]
fn log_sum(row: &[f32]) -> f32 {
    let most = most(row);
    most + sum(row, |x| exp(x - most)).ln()
}

/// `(softmax - one_hot) * gradient`, row by row.
pub(super) fn backward(logits: &[f32], log_sums: &[f32], gradient: &[f32], targets: &[u32]) -> Vec<f32> {
    let width = logits.len() / targets.len().max(1);
    let mut slopes = buffer(logits.len());
    let arch = pulp::Arch::new();
    let rows = slopes.par_chunks_mut(width.max(1)).zip(logits.par_chunks(width.max(1))).enumerate();
    rows.for_each(|(i, (slopes, row))| {
        let (log_sum, g) = (log_sums[i], gradient[i]);
        arch.dispatch(|| slopes.iter_mut().zip(row).for_each(|(s, &x)| *s = g * exp(x - log_sum)));
        slopes[targets[i] as usize] -= g;
    });
    slopes
}
