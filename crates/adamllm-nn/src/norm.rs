use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{DType, Device, Tensor};

use crate::tensors::cast_to;

/// The sizes of an [`RmsNorm`].
#[derive(Config, Debug)]
pub struct RmsNormConfig {
    /// Width of the input.
    pub d_model: usize,
    /// Added to the mean square.
    #[config(default = 1e-6)]
    pub epsilon: f64,
}

/// Root mean square norm (Zhang and Sennrich, 2019), as Llama and Qwen2 apply it: normalised in f32, cast back, then
/// scaled.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[d_model]`.
    pub weight: Param<Tensor<1>>,
    /// Added to the mean square.
    pub epsilon: f64,
}

impl RmsNormConfig {
    /// A norm with unit weights.
    pub fn init(&self, device: &Device) -> RmsNorm {
        RmsNorm { weight: Initializer::Ones.init([self.d_model], device), epsilon: self.epsilon }
    }
}

impl RmsNorm {
    /// # Shapes
    /// - input and output: `[..., d_model]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        #[cfg(feature = "flex")]
        if crate::fused::applies(&x.device(), x.dtype()) {
            return crate::fused::norm(x, self.weight.val(), crate::fused::NormKind::Rms, self.epsilon);
        }
        self.forward_plainly(x)
    }

    fn forward_plainly<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        let x = to_f32(x);
        let mean_square = x.clone().square().mean_dim(D - 1);
        let normalised = x / (mean_square + self.epsilon).sqrt();
        cast_to(normalised, dtype) * self.weight.val().unsqueeze()
    }
}

/// The sizes of a [`LayerNorm`].
#[derive(Config, Debug)]
pub struct LayerNormConfig {
    /// Width of the input.
    pub d_model: usize,
    /// Added to the variance.
    #[config(default = 1e-6)]
    pub epsilon: f64,
}

/// Layer norm with scale and shift, normalised in f32.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[d_model]`.
    pub weight: Param<Tensor<1>>,
    /// `[d_model]`.
    pub bias: Param<Tensor<1>>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl LayerNormConfig {
    /// A norm with unit scale and no shift.
    pub fn init(&self, device: &Device) -> LayerNorm {
        LayerNorm {
            weight: Initializer::Ones.init([self.d_model], device),
            bias: Initializer::Zeros.init([self.d_model], device),
            epsilon: self.epsilon,
        }
    }
}

impl LayerNorm {
    /// # Shapes
    /// - input and output: `[..., d_model]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        #[cfg(feature = "flex")]
        if crate::fused::applies(&x.device(), x.dtype()) {
            return crate::fused::norm(x, self.weight.val(), crate::fused::NormKind::Layer, self.epsilon)
                + self.bias.val().unsqueeze();
        }
        self.forward_plainly(x)
    }

    fn forward_plainly<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        let x = to_f32(x);
        let centred = x.clone() - x.mean_dim(D - 1);
        let variance = centred.clone().square().mean_dim(D - 1);
        let normalised = centred / (variance + self.epsilon).sqrt();
        cast_to(normalised, dtype) * self.weight.val().unsqueeze() + self.bias.val().unsqueeze()
    }
}

/// The tensor in f32; a cast that changes nothing is left out.
pub(crate) fn to_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    cast_to(x, DType::F32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(norm: impl Fn(Tensor<2>) -> Tensor<2>) -> Vec<f32> {
        let x = Tensor::<2>::from_floats([[1.0, 2.0, 3.0, 6.0]], &Device::flex());
        norm(x).into_data().try_to_vec().expect("f32")
    }

    /// `[1, 2, 3, 6] / sqrt(12.5)`.
    #[test]
    fn rms_norm_divides_by_the_root_mean_square() {
        let norm = RmsNormConfig::new(4).with_epsilon(1e-9).init(&Device::flex());
        let expected = [0.282_842_7, 0.565_685_4, 0.848_528_1, 1.697_056_3];
        assert!(row(|x| norm.forward(x)).iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    /// Mean 3, variance 3.5.
    #[test]
    fn layer_norm_centres_and_scales() {
        let norm = LayerNormConfig::new(4).with_epsilon(1e-9).init(&Device::flex());
        let expected = [-1.069_045, -0.534_522_5, 0.0, 1.603_567_5];
        assert!(row(|x| norm.forward(x)).iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
