use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

use crate::Lora;
use crate::tensors::cast_to;

/// The sizes of a [`Linear`].
#[derive(Config, Debug)]
pub struct LinearConfig {
    /// Width of the input.
    pub d_input: usize,
    /// Width of the output.
    pub d_output: usize,
    /// Whether a bias is added.
    #[config(default = false)]
    pub bias: bool,
    /// Standard deviation of the initial weights (the `initializer_range` of Hugging Face configs).
    #[config(default = 0.02)]
    pub std: f64,
}

/// `y = x W^T + b`, with the weight as `[d_output, d_input]`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[d_output, d_input]`.
    pub weight: Param<Tensor<2>>,
    /// `[d_output]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// A low-rank adapter beside the weight.
    pub lora: Option<Lora>,
}

impl LinearConfig {
    /// A layer with normally distributed weights and a zero bias, made when first used.
    pub fn init(&self, device: &Device) -> Linear {
        let normal = Initializer::Normal { mean: 0.0, std: self.std };
        Linear {
            weight: normal.init([self.d_output, self.d_input], device),
            bias: self.bias.then(|| Initializer::Zeros.init([self.d_output], device)),
            lora: None,
        }
    }
}

impl Linear {
    /// # Shapes
    /// - input: `[..., d_input]`
    /// - output: `[..., d_output]`
    ///
    /// # Panics
    /// If the last axis of `x` is not `d_input`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        // One large product of rank 2: a product for each batch element, with the weight broadcast, is half as fast.
        let shape = x.dims();
        let rows: usize = shape[..D - 1].iter().product();
        let x = x.reshape([rows, shape[D - 1]]);
        let adapted = self.lora.as_ref().map(|lora| lora.forward(x.clone()));
        let y = linear(x, self.weight.val(), self.bias.as_ref().map(Param::val));
        let y = adapted.into_iter().fold(y, Tensor::add);
        let mut shape = shape;
        shape[D - 1] = y.dims()[1];
        y.reshape(shape)
    }

    /// Adds the adapter's product to the weight and drops the adapter. The sum has no history: it can be trained on.
    pub fn merge_lora(self) -> Self {
        let Some(lora) = self.lora else { return self };
        let weight = self.weight.val();
        let product = cast_to(lora.product(), weight.dtype());
        let merged = (weight + product).detach();
        let id = self.weight.id;
        Self { weight: self.weight.transform_for_load(merged, id), lora: None, ..self }
    }
}

/// `x W^T + b` for a weight in the layout of Hugging Face files, such as an embedding that serves as the head.
///
/// # Shapes
/// - `x`: `[n, d_input]`
/// - `weight`: `[d_output, d_input]`
/// - output: `[n, d_output]`
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    // A single input vector is a product of a matrix and a vector, which burn does as well.
    #[cfg(feature = "flex")]
    if x.dims()[0] > 1 && crate::fused::applies(&x.device(), x.dtype()) && weight.dtype() == x.dtype() {
        let y = crate::fused::linear(x, weight);
        return bias.into_iter().fold(y, |y, bias| y + bias.unsqueeze());
    }
    burn::tensor::module::linear(x, weight.transpose(), bias)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LoraConfig;
    use crate::testing::random;

    #[test]
    fn merging_an_adapter_changes_nothing_but_the_weight() {
        let device = Device::flex();
        let config = LoraConfig::new(2, 4.0);
        let mut linear = LinearConfig::new(5, 3).with_bias(true).init(&device);
        let x = random([4, 5], 1.0, 1);
        let plain = linear.forward(x.clone());
        linear.lora = Some(Lora::init(5, 3, &config, &device));
        assert!((linear.forward(x.clone()) - plain.clone()).abs().max().into_scalar::<f32>() < 1e-6, "B is zero");
        let b = random([3, 2], 1.0, 2);
        linear.lora.as_mut().expect("just set").b = Param::from_tensor(b);
        let adapted = linear.forward(x.clone());
        assert!((adapted.clone() - plain).abs().max().into_scalar::<f32>() > 1e-3);
        let merged = linear.merge_lora().forward(x);
        assert!((merged - adapted).abs().max().into_scalar::<f32>() < 1e-5);
    }
}
