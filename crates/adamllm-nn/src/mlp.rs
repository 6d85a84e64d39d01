use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};
use serde::{Deserialize, Serialize};

use crate::{Linear, LinearConfig};

/// Activation functions, by their Hugging Face names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * Phi(x)`, with the error function.
    Gelu,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// Gelu's tanh approximation.
    GeluPytorchTanh,
}

impl Activation {
    /// Element by element; the shape stays.
    pub fn apply<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        #[cfg(feature = "flex")]
        if crate::fused::applies(&x.device(), x.dtype()) {
            return crate::fused::activation(x, self);
        }
        self.apply_plainly(x)
    }

    fn apply_plainly<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Silu => activation::silu(x),
            Self::Gelu => activation::gelu(x),
            Self::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
            Self::GeluPytorchTanh => activation::gelu_approximate(x),
        }
    }
}

/// The sizes of a [`GatedMlp`].
#[derive(Config, Debug)]
pub struct GatedMlpConfig {
    /// Width of input and output.
    pub d_model: usize,
    /// Width between.
    pub d_hidden: usize,
    /// Whether all three layers have a bias.
    #[config(default = false)]
    pub bias: bool,
}

/// SwiGLU (Shazeer, 2020): `down(silu(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub struct GatedMlp {
    /// `[d_hidden, d_model]`.
    pub gate: Linear,
    /// `[d_hidden, d_model]`.
    pub up: Linear,
    /// `[d_model, d_hidden]`.
    pub down: Linear,
}

impl GatedMlpConfig {
    /// Freshly initialised layers.
    pub fn init(&self, device: &Device) -> GatedMlp {
        let linear = |d_in, d_out| LinearConfig::new(d_in, d_out).with_bias(self.bias).init(device);
        GatedMlp {
            gate: linear(self.d_model, self.d_hidden),
            up: linear(self.d_model, self.d_hidden),
            down: linear(self.d_hidden, self.d_model),
        }
    }
}

impl GatedMlp {
    /// # Shapes
    /// - input and output: `[..., d_model]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let (gate, up) = (self.gate.forward(x.clone()), self.up.forward(x));
        #[cfg(feature = "flex")]
        if crate::fused::applies(&gate.device(), gate.dtype()) {
            return self.down.forward(crate::fused::gate(gate, up));
        }
        self.down.forward(Activation::Silu.apply(gate) * up)
    }
}

/// The sizes of an [`Mlp`].
#[derive(Config, Debug)]
pub struct MlpConfig {
    /// Width of the input.
    pub d_input: usize,
    /// Width between.
    pub d_hidden: usize,
    /// Width of the output.
    pub d_output: usize,
    /// Between the layers.
    pub activation: Activation,
}

/// Two linear layers with biases and an activation between: `fc2(act(fc1(x)))`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[d_hidden, d_input]`.
    pub fc1: Linear,
    /// `[d_output, d_hidden]`.
    pub fc2: Linear,
    /// Between the layers.
    #[module(skip)]
    pub activation: Activation,
}

impl MlpConfig {
    /// Freshly initialised layers.
    pub fn init(&self, device: &Device) -> Mlp {
        Mlp {
            fc1: LinearConfig::new(self.d_input, self.d_hidden).with_bias(true).init(device),
            fc2: LinearConfig::new(self.d_hidden, self.d_output).with_bias(true).init(device),
            activation: self.activation,
        }
    }
}

impl Mlp {
    /// # Shapes
    /// - input: `[..., d_input]`
    /// - output: `[..., d_output]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.fc2.forward(self.activation.apply(self.fc1.forward(x)))
    }
}
