//! Products with weights that are not trained and stand in a narrow form ([`FrozenWeight`]):
//!
//! ```text
//! y      = x W^T         [n, d_input] x [d_output, d_input]
//! grad_x = gradient W
//! ```
//!
//! - Kept for the backward pass: the weight in its narrow form, which all passes share. Expanded values are not kept.
//! - Tiles: as many rows of the weight as make some 2^19 values are expanded to f32 on all cores, and multiplied by the `gemm` crate
//!   while they are in the cache; the gradient adds up over the tiles, in their order. For few input vectors, as in decoding, each
//!   row is expanded by itself (for one vector and bf16, 8 or 4 bits, not at all) and multiplied at once.
//! - Threads: rows of the weight are shared out. No sum is split between threads.

use std::cell::RefCell;

use rayon::prelude::*;

use super::lanes::dot;
use super::linear::{Dense, Destination, product_into};
use crate::FrozenWeight;
use crate::frozen::InputVector;

/// Values of a tile.
const TILE: usize = 1 << 19;

/// Up to as many input vectors, a row is multiplied with each of them while it is in the innermost cache.
const FEW: usize = 8;

/// `x W^T`, `[n, d_output]`.
pub(super) fn product(x: &[f32], weight: &FrozenWeight) -> Vec<f32> {
    let [d_output, d_input] = weight.shape();
    let n = x.len() / d_input.max(1);
    if n * d_output == 0 || d_input == 0 {
        return vec![0.0; n * d_output];
    }
    if n <= FEW {
        return product_of_few(x, n, weight);
    }

    let mut y = vec![0.0; n * d_output];
    let x = Dense::new(x, [n, d_input]);
    for_each_tile(weight, |first, rows, tile| {
        let to = Destination { values: &mut y[first..], row_stride: d_output, adds: false };
        product_into(x, Dense::new(tile, [rows, d_input]).transposed(), to);
    });
    y
}

/// `gradient W`, `[n, d_input]`.
pub(super) fn input_gradient(gradient: &[f32], weight: &FrozenWeight) -> Vec<f32> {
    let [d_output, d_input] = weight.shape();
    let n = gradient.len() / d_output.max(1);
    let mut grad_x = vec![0.0; n * d_input];
    if n * d_output * d_input == 0 {
        return grad_x;
    }
    let gradient = Dense::new(gradient, [n, d_output]);
    for_each_tile(weight, |first, rows, tile| {
        let to = Destination { values: &mut grad_x, row_stride: d_input, adds: first > 0 };
        product_into(gradient.columns(first..first + rows), Dense::new(tile, [rows, d_input]), to);
    });
    grad_x
}

/// Expands the weight tile by tile: the first row, the number of rows, and their values.
fn for_each_tile(weight: &FrozenWeight, mut each: impl FnMut(usize, usize, &[f32])) {
    let [d_output, d_input] = weight.shape();
    let rows_per_tile = (TILE / d_input).clamp(1, d_output);
    let mut tile = vec![0.0; rows_per_tile * d_input];
    for first in (0..d_output).step_by(rows_per_tile) {
        let rows = rows_per_tile.min(d_output - first);
        let tile = &mut tile[..rows * d_input];
        let rows_per_task = rows.div_ceil(4 * rayon::current_num_threads());
        let arch = pulp::Arch::new();
        tile.par_chunks_mut(rows_per_task * d_input).enumerate().for_each(|(task, out)| {
            let from = first + task * rows_per_task;
            arch.dispatch(|| weight.expand_rows(from..from + out.len() / d_input, out));
        });
        each(first, rows, tile);
    }
}

/// As [`product`], row by row of the weight.
fn product_of_few(x: &[f32], n: usize, weight: &FrozenWeight) -> Vec<f32> {
    thread_local! {
        static ROW: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }

    let [d_output, d_input] = weight.shape();
    let vector = (n == 1).then(|| InputVector::of(x));
    // `[d_output, n]`: each row of the weight writes its own.
    let mut y = vec![0.0; d_output * n];
    let rows_per_task = d_output.div_ceil(8 * rayon::current_num_threads());
    let arch = pulp::Arch::new();
    y.par_chunks_mut(rows_per_task * n).enumerate().for_each(|(task, out)| {
        let first = task * rows_per_task;
        if let Some(vector) = &vector
            && weight.rows_times_vector(first..first + out.len(), vector, out)
        {
            return;
        }
        ROW.with_borrow_mut(|row| {
            row.resize(d_input, 0.0);
            arch.dispatch(|| {
                for (i, out) in out.chunks_exact_mut(n).enumerate() {
                    weight.expand_rows(first + i..first + i + 1, row);
                    for (out, x) in out.iter_mut().zip(x.chunks_exact(d_input)) {
                        *out = dot(x, row, |a, b| a * b);
                    }
                }
            });
        });
    });

    if n == 1 {
        return y;
    }
    let at = |i: usize| y[i % d_output * n + i / d_output];
    (0..n * d_output).map(at).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Tensor};
    use half::bf16;

    use super::*;
    use crate::testing::random;
    use crate::{FrozenForm, SharedBytes};

    fn matrix(shape: [usize; 2], seed: u64) -> Vec<f32> {
        random(shape, 1.0, seed).into_data().try_into_vec().expect("f32")
    }

    fn stored(shape: [usize; 2], dtype: DType) -> FrozenWeight {
        let values = matrix(shape, 1);
        let bytes: Vec<u8> = match dtype {
            DType::BF16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
            DType::F16 => values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        FrozenWeight::stored(shape, dtype, SharedBytes::from(bytes)).expect("fits")
    }

    /// What a plan counts before anything is read is what the weight then takes; 3 x 7 fills no block, 700 x 1024 fills many.
    #[test]
    fn bytes_are_known_beforehand() {
        for shape in [[3, 7], [33, 50], [700, 1024]] {
            for form in [FrozenForm::Stored, FrozenForm::Int8, FrozenForm::Nf4] {
                let planned = form.n_bytes(shape[0] * shape[1], DType::BF16);
                assert_eq!(stored(shape, DType::BF16).into_form(form).n_bytes(), planned, "{shape:?} {form:?}");
            }
        }
    }

    /// Against plain sums over the expanded weight: one vector, a few, many; widths that blocks fill and do not; more than a tile.
    #[test]
    fn both_products_are_those_of_the_expanded_weight() {
        for shape in [[40, 192], [33, 50], [3, 7], [700, 1024]] {
            for (dtype, form) in [
                (DType::F32, FrozenForm::Stored),
                (DType::BF16, FrozenForm::Stored),
                (DType::F16, FrozenForm::Stored),
                (DType::F32, FrozenForm::Int8),
                (DType::BF16, FrozenForm::Nf4),
            ] {
                let weight = stored(shape, dtype).into_form(form);
                let [d_output, d_input] = shape;
                let w: Vec<f32> = weight.to_data().try_into_vec().expect("f32");
                for n in [1, 5, 20] {
                    let (x, gradient) = (matrix([n, d_input], 2), matrix([n, d_output], 3));
                    let dense = |values: &[f32], shape: [usize; 2]| {
                        Tensor::<1>::from_floats(values, &Default::default()).reshape(shape)
                    };
                    let (x_tensor, w_tensor) = (dense(&x, [n, d_input]), dense(&w, shape));
                    let expected = x_tensor.matmul(w_tensor.clone().transpose());
                    let y = dense(&product(&x, &weight), [n, d_output]);
                    let off = (y - expected).abs().max().into_scalar::<f32>();
                    assert!(off < 1e-3, "{shape:?} {dtype:?} {form:?} {n}: {off}");
                    let expected = dense(&gradient, [n, d_output]).matmul(w_tensor);
                    let grad_x = dense(&input_gradient(&gradient, &weight), [n, d_input]);
                    let off = (grad_x - expected).abs().max().into_scalar::<f32>();
                    assert!(off < 1e-3, "gradient of {shape:?} {dtype:?} {form:?} {n}: {off}");
                }
            }
        }
    }
}
