//! Learned position embeddings of a square grid, resampled to the grid of an image: bilinear, corners on corners.

use adamllm_nn::{cast_to, index_tensor};
use burn::tensor::{DType, Tensor, TensorData};

/// The embedding of each patch.
///
/// # Shapes
/// - `table`: `[n, d_vision]`, whose first `side^2` rows are the grid, where `side` is the whole part of `n`'s root
/// - output: `[1, n_patches, d_vision]`, for `patches` (`[row, column]` each) of a grid of `size` rows and columns
pub(super) fn resampled(table: Tensor<2>, patches: &[[usize; 2]], size: [usize; 2]) -> Tensor<3> {
    let [n, d_vision] = table.dims();
    let (device, dtype) = (table.device(), table.dtype());
    let side = n.isqrt();
    let axes = size.map(|length| (0..length).map(|i| taps(i, length, side)).collect::<Vec<_>>());

    let (mut indices, mut weights) = (Vec::new(), Vec::new());
    for &[row, column] in patches {
        for (i, weight) in axes[0][row] {
            for (j, other) in axes[1][column] {
                indices.push((i * side + j) as i32);
                weights.push(weight * other);
            }
        }
    }
    let n_patches = patches.len();
    let chosen = table.select(0, index_tensor(indices, &device)).reshape([n_patches, 4, d_vision]);
    let weights = Tensor::<3>::from_data(TensorData::new(weights, [n_patches, 4, 1]), (&device, DType::F32));
    let sums = (cast_to(chosen, DType::F32) * weights).sum_dim(1);
    cast_to(sums.reshape([1, n_patches, d_vision]), dtype)
}

/// The two grid points around position `i` of `length` on an axis of `side` points, each with its weight.
fn taps(i: usize, length: usize, side: usize) -> [(usize, f32); 2] {
    let position = (i * (side - 1)) as f32 / (length - 1).max(1) as f32;
    let first = position.floor();
    let second = (first as usize + 1).min(side - 1);
    [(first as usize, 1.0 - (position - first)), (second, position - first)]
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Three points `0, 1, 2` on each axis; the value of a point is `10 * row + column`, which bilinear weights keep linear.
    #[test]
    fn corners_stand_on_corners() {
        let device = Device::flex();
        let values: Vec<f32> = (0..9).map(|i| (i / 3 * 10 + i % 3) as f32).collect();
        let table = Tensor::<2>::from_data(TensorData::new(values, [9, 1]), &device);
        let patches = [[0, 0], [0, 4], [1, 1], [3, 4]];
        let got: Vec<f32> = resampled(table, &patches, [4, 5]).into_data().try_to_vec().expect("f32");
        let expected = [0.0, 2.0, 20.0 / 3.0 + 0.5, 22.0];
        assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?}");
    }

    #[test]
    fn one_patch_stands_on_the_first_point() {
        let table = Tensor::<2>::from_floats([[3.0], [4.0], [5.0], [6.0]], &Device::flex());
        let got: Vec<f32> = resampled(table, &[[0, 0]], [1, 1]).into_data().try_to_vec().expect("f32");
        assert_eq!(got, [3.0]);
    }
}
