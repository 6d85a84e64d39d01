use burn::tensor::{Device, Tensor, TensorData};

use crate::norm::to_f32;
use crate::tensors::cast_to;

/// Cosines and sines of rotary angles (Su et al., 2021) for the positions of one forward pass, made on the host in f32.
///
/// Each position holds `d_head` angles in the "rotate half" layout: the second half repeats the first. How the angles come
/// about (plain, three axes, a 2-D patch grid) is the caller's business; applying them is the same everywhere.
#[derive(Clone, Debug)]
pub struct RotaryTable {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl RotaryTable {
    /// `half_angles` holds `batch * seq * d_head / 2` angles, position by position.
    ///
    /// # Panics
    /// If the number of angles is not `batch * seq * d_head / 2`.
    pub fn new(half_angles: &[f32], [batch, seq]: [usize; 2], d_head: usize, device: &Device) -> Self {
        assert_eq!(half_angles.len(), batch * seq * d_head / 2, "one angle for each pair of channels");
        let table = |f: fn(f32) -> f32| {
            let positions = half_angles.chunks(d_head / 2);
            let values: Vec<f32> = positions.flat_map(|angles| angles.iter().chain(angles).map(|&a| f(a))).collect();
            Tensor::<4>::from_data(TensorData::new(values, [batch, 1, seq, d_head]), device)
        };
        Self { cos: table(f32::cos), sin: table(f32::sin) }
    }
}

/// Rotates queries or keys.
///
/// # Shapes
/// - `x` and output: `[batch, n_heads, seq, d_head]`
pub fn apply_rotary(x: Tensor<4>, table: &RotaryTable) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if crate::fused::applies(&x.device(), x.dtype()) {
        return crate::fused::rotary(x, table.cos.clone(), table.sin.clone());
    }
    apply_plainly(x, table)
}

fn apply_plainly(x: Tensor<4>, table: &RotaryTable) -> Tensor<4> {
    let dtype = x.dtype();
    let half = x.dims()[3] / 2;
    let x = to_f32(x);
    let first = x.clone().narrow(3, 0, half);
    let second = x.clone().narrow(3, half, half);
    let rotated = Tensor::cat(vec![second.neg(), first], 3);
    cast_to(x * table.cos.clone() + rotated * table.sin.clone(), dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_turn_swaps_the_halves() {
        let device = Device::flex();
        let table = RotaryTable::new(&[std::f32::consts::FRAC_PI_2, 0.0], [1, 1], 4, &device);
        let x = Tensor::<4>::from_floats([[[[1.0, 2.0, 3.0, 4.0]]]], &device);
        let y: Vec<f32> = apply_rotary(x, &table).into_data().try_to_vec().expect("f32");
        assert!(y.iter().zip([-3.0, 2.0, 1.0, 4.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{y:?}");
    }
}
