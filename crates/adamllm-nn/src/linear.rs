use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

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
}

impl LinearConfig {
    /// A layer with normally distributed weights and a zero bias, made when first used.
    pub fn init(&self, device: &Device) -> Linear {
        let normal = Initializer::Normal { mean: 0.0, std: self.std };
        Linear {
            weight: normal.init([self.d_output, self.d_input], device),
            bias: self.bias.then(|| Initializer::Zeros.init([self.d_output], device)),
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
        // One large product of rank 2: a product for each row of the batch, with the weight broadcast, is half as fast.
        let shape = x.dims();
        let rows: usize = shape[..D - 1].iter().product();
        let weight = self.weight.val().transpose();
        let x = x.reshape([rows, shape[D - 1]]);
        let y = burn::tensor::module::linear(x, weight, self.bias.as_ref().map(Param::val));
        let mut shape = shape;
        shape[D - 1] = y.dims()[1];
        y.reshape(shape)
    }
}
