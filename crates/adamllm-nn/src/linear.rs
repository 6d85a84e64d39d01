use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::tensors::cast_to;
use crate::{FrozenWeight, Lora};

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

/// The weight of a [`Linear`], `[d_output, d_input]`.
#[derive(Module, Debug)]
pub enum LinearWeight {
    /// A parameter, in the dtype that the model computes in.
    Parameter(Param<Tensor<2>>),
    /// A weight in a smaller form, which is not trained and no parameter of the module.
    Frozen(FrozenWeight),
}

impl LinearWeight {
    /// The parameter; `None` for a frozen weight.
    pub fn parameter(&self) -> Option<&Param<Tensor<2>>> {
        match self {
            Self::Parameter(weight) => Some(weight),
            Self::Frozen(_) => None,
        }
    }

    /// The parameter's tensor.
    ///
    /// # Panics
    /// If the weight is frozen, and no tensor.
    pub fn val(&self) -> Tensor<2> {
        self.parameter().expect("a weight that is a parameter").val()
    }

    /// `x W^T + b`.
    ///
    /// # Shapes
    /// - `x`: `[n, d_input]`
    /// - output: `[n, d_output]`
    pub fn product(&self, x: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
        match self {
            Self::Parameter(weight) => linear(x, weight.val(), bias),
            Self::Frozen(weight) => frozen_linear(x, weight, bias),
        }
    }

    /// The rows of these indices, as an embedding. Those of a frozen weight come to `device` in `dtype`, without a gradient.
    ///
    /// # Shapes
    /// - `indices`: `[batch, seq]`
    /// - output: `[batch, seq, d_input]`
    ///
    /// # Panics
    /// If there is no row of an index.
    pub fn lookup(&self, indices: Tensor<2, Int>, dtype: DType, device: &Device) -> Tensor<3> {
        match self {
            Self::Parameter(weight) => burn::tensor::module::embedding(weight.val(), indices),
            Self::Frozen(weight) => {
                let ([batch, seq], width) = (indices.dims(), weight.shape()[1]);
                let mut values = vec![0.0; batch * seq * width];
                let rows = indices.into_data();
                for (row, out) in rows.iter::<i64>().zip(values.chunks_exact_mut(width)) {
                    let row = usize::try_from(row).expect("indices are not negative");
                    weight.expand_rows(row..row + 1, out);
                }
                Tensor::from_data(TensorData::new(values, [batch, seq, width]), (device, dtype))
            }
        }
    }

    /// `[d_output, d_input]`. Nothing is initialised for it.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Parameter(weight) => weight.lazy_shape().dims(),
            Self::Frozen(weight) => weight.shape(),
        }
    }
}

impl From<Param<Tensor<2>>> for LinearWeight {
    fn from(weight: Param<Tensor<2>>) -> Self {
        Self::Parameter(weight)
    }
}

/// `y = x W^T + b`, with the weight as `[d_output, d_input]`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[d_output, d_input]`.
    pub weight: LinearWeight,
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
            weight: LinearWeight::Parameter(normal.init([self.d_output, self.d_input], device)),
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
        let bias = self.bias.as_ref().map(Param::val);
        let y = adapted.into_iter().fold(self.weight.product(x, bias), Tensor::add);
        let mut shape = shape;
        shape[D - 1] = y.dims()[1];
        y.reshape(shape)
    }

    /// Adds the adapter's product to the weight and drops the adapter. The sum has no history: it can be trained on. A frozen weight
    /// becomes a parameter by it, in the dtype of the adapter.
    pub fn merge_lora(self) -> Self {
        let Some(lora) = self.lora else { return self };
        let product = lora.product();
        let weight = match self.weight {
            LinearWeight::Parameter(weight) => {
                let merged = (weight.val() + cast_to(product, weight.val().dtype())).detach();
                let id = weight.id;
                weight.transform_for_load(merged, id)
            }
            LinearWeight::Frozen(weight) => {
                let weight = weight.to_tensor(product.dtype(), &product.device());
                Param::from_tensor((weight + product).detach())
            }
        };
        Self { weight: weight.into(), lora: None, ..self }
    }
}

/// `x W^T + b` for a weight in the layout of Hugging Face files.
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

/// As [`linear`], with a weight that is not trained: the gradient goes to `x` alone.
///
/// On the CPU in f32, tiles of the weight are expanded in turn, forward and backward; elsewhere the whole weight is, each time.
fn frozen_linear(x: Tensor<2>, weight: &FrozenWeight, bias: Option<Tensor<1>>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if crate::fused::applies(&x.device(), x.dtype()) {
        let y = crate::fused::frozen_linear(x, weight.clone());
        return bias.into_iter().fold(y, |y, bias| y + bias.unsqueeze());
    }
    let weight = weight.to_tensor(x.dtype(), &x.device());
    linear(x, weight, bias)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LoraConfig;
    use crate::testing::random;

    #[test]
    fn a_frozen_table_is_looked_up_as_a_parameter() {
        let device = Device::flex();
        let table = random([7, 6], 1.0, 3);
        let bytes: Vec<u8> = table.to_data().iter::<f32>().flat_map(f32::to_le_bytes).collect();
        let frozen = FrozenWeight::stored([7, 6], DType::F32, bytes.into()).expect("fits");
        let indices = Tensor::<2, Int>::from_ints([[0, 6, 3], [3, 2, 6]], &device);
        let [parameter, frozen] = [LinearWeight::Parameter(Param::from_tensor(table)), LinearWeight::Frozen(frozen)]
            .map(|weight| weight.lookup(indices.clone(), DType::F32, &device));
        assert_eq!(frozen.dims(), [2, 3, 6]);
        assert_eq!(frozen.into_data(), parameter.into_data());
    }

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
