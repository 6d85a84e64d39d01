use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::tensors::cast_to;

/// What low-rank adapters look like, in PEFT's terms (Hu et al., 2021, arXiv 2106.09685).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Width between the two factors.
    pub rank: usize,
    /// The product is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Names of the linear layers that get a pair, such as `query` or `value`: the last part of the path of field names. Left
    /// out, all linear layers of the decoder's blocks, as PEFT's `all-linear`.
    #[serde(default = "all_linear")]
    pub targets: Vec<String>,
}

/// Every linear layer of a block, by the last part of the path of field names.
fn all_linear() -> Vec<String> {
    ["query", "key", "value", "output", "gate", "up", "down"].map(String::from).to_vec()
}

/// The pair of factors beside a linear layer: `(x A^T) B^T * scale` is added to its output, and the product of the factors
/// is never formed.
#[derive(Module, Debug)]
pub struct Lora {
    /// `[rank, d_input]`.
    pub a: Param<Tensor<2>>,
    /// `[d_output, rank]`; zero at first, so that a new adapter changes nothing.
    pub b: Param<Tensor<2>>,
    /// `alpha / rank`.
    pub scale: f64,
}

impl Lora {
    /// A new pair: `A` as PEFT initialises it (uniform within `1 / sqrt(d_input)`), `B` zero.
    pub fn init(d_input: usize, d_output: usize, config: &LoraConfig, device: &Device) -> Self {
        let bound = (d_input as f64).powf(-0.5);
        Self {
            a: Initializer::Uniform { min: -bound, max: bound }.init([config.rank, d_input], device),
            b: Initializer::Zeros.init([d_output, config.rank], device),
            scale: config.alpha / config.rank as f64,
        }
    }

    /// What is added to the layer's output.
    ///
    /// # Shapes
    /// - input: `[n, d_input]`
    /// - output: `[n, d_output]`
    ///
    /// The factors may have another dtype than the layer, as PEFT keeps those of a half-precision model in f32: the product is
    /// computed in theirs and given in the layer's.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let dtype = x.dtype();
        let a = self.a.val();
        let x = cast_to(x, a.dtype());
        cast_to(x.matmul(a.transpose()).matmul(self.b.val().transpose()) * self.scale, dtype)
    }

    /// What is added to the layer's weight when the adapter is merged: `[d_output, d_input]`.
    pub fn product(&self) -> Tensor<2> {
        self.b.val().matmul(self.a.val()) * self.scale
    }
}
