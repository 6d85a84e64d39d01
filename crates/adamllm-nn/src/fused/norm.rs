//! Root mean square norm (Zhang and Sennrich, 2019) and layer norm (Ba et al., 2016) of the last axis, scaled:
//!
//! ```text
//! y       = (x - mean) * inverse * weight
//! inverse = 1 / sqrt(mean((x - mean)^2) + epsilon)      mean = 0 for the root mean square
//! ```
//!
//! - Kept for the backward pass: `x` and `weight`. Recomputed: mean and inverse of each row.
//! - Tiles: whole rows, as many to a task as make some 2^14 values; the forward pass reads each row two or three times, the backward pass four or five times, while it is in the cache.
//! - Threads: each task writes its own rows. The gradient of the weight is a sum over all rows: each task has one of its own, and
//!   they are added in the order of the rows.

use rayon::prelude::*;

use super::NormKind;
use super::lanes::{dot, sum};
use super::view::{buffer, rows_per_task};

/// The mean (0 for the root mean square) and the inverse of the deviation of one row.
#[inline(always)]
fn statistics(x: &[f32], kind: NormKind, epsilon: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = match kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => sum(x, |x| x) / n,
    };
    let variance = sum(x, |x| (x - mean) * (x - mean)) / n;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// `(x - mean) / deviation * weight`, row by row.
pub(super) fn norm(x: &[f32], weight: &[f32], kind: NormKind, epsilon: f32) -> Vec<f32> {
    let width = weight.len();
    let mut y = buffer(x.len());
    let size = width * rows_per_task(x.len() / width, width);
    let arch = pulp::Arch::new();
    y.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(y, x)| {
        arch.dispatch(|| {
            for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let (mean, inverse) = statistics(x, kind, epsilon);
                for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
                    *y = (x - mean) * inverse * w;
                }
            }
        });
    });
    y
}

/// Gradients of `x` and `weight`.
pub(super) fn norm_backward(
    x: &[f32],
    weight: &[f32],
    gradient: &[f32],
    kind: NormKind,
    epsilon: f32,
) -> (Vec<f32>, Vec<f32>) {
    let width = weight.len();
    let mut grad_x = buffer(x.len());
    let size = width * rows_per_task(x.len() / width, width);
    let arch = pulp::Arch::new();
    let pieces = grad_x.par_chunks_mut(size).zip(x.par_chunks(size).zip(gradient.par_chunks(size)));
    let parts: Vec<Vec<f32>> = pieces
        .map(|(grad_x, (x, gradient))| {
            let mut grad_weight = vec![0.0f32; width];
            arch.dispatch(|| {
                let rows = x.chunks_exact(width).zip(gradient.chunks_exact(width));
                for (grad_x, (x, g)) in grad_x.chunks_exact_mut(width).zip(rows) {
                    row_backward(grad_x, &mut grad_weight, x, weight, g, kind, epsilon);
                }
            });
            grad_weight
        })
        .collect();
    // Added in the order of the rows, so that the sum does not depend on which thread was first.
    let mut grad_weight = vec![0.0f32; width];
    for part in &parts {
        grad_weight.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    (grad_x, grad_weight)
}

#[inline(always)]
fn row_backward(
    grad_x: &mut [f32],
    grad_weight: &mut [f32],
    x: &[f32],
    weight: &[f32],
    g: &[f32],
    kind: NormKind,
    epsilon: f32,
) {
    let n = x.len() as f32;
    let (mean, inverse) = statistics(x, kind, epsilon);
    for ((d, &x), &g) in grad_weight.iter_mut().zip(x).zip(g) {
        *d += g * (x - mean) * inverse;
    }
    // With y = (x - mean) * inverse and h = g * weight: grad_x = inverse * (h - mean(h) - y * mean(h y)), the first mean for
    // the layer norm only.
    for ((d, &g), &w) in grad_x.iter_mut().zip(g).zip(weight) {
        *d = g * w;
    }
    let projection = dot(grad_x, x, |h, x| h * (x - mean)) * inverse / n;
    let centre = match kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => sum(grad_x, |h| h) / n,
    };
    for (d, &x) in grad_x.iter_mut().zip(x) {
        *d = inverse * (*d - centre - (x - mean) * inverse * projection);
    }
}
