//! Single operations of burn against the CPU's: where a family fails, these say which operation may be at fault.

use adamllm::burn::tensor::{DType, Int, Tensor, TensorData, activation, module, ops::AttentionModuleOptions};
use adamllm::nn::cross_entropy;
use adamllm::prelude::*;

use super::Checked;
use crate::cases::{Case, Found};
use crate::compare::relative;

/// One operation on a device, in a dtype: its values on the host.
type Operation = fn(&Device, DType) -> Vec<f32>;

const OPERATIONS: [(&str, Operation); 15] = [
    ("product of matrices", |device, dtype| {
        host(values([37, 64], 1, device, dtype).matmul(values([64, 96], 2, device, dtype)))
    }),
    ("product of many matrices", |device, dtype| {
        let [a, b] = [3, 4].map(|seed| values([2, 3, 40, 16], seed, device, dtype));
        host(a.matmul(b.transpose()))
    }),
    ("large product of matrices", |device, dtype| {
        host(values([512, 640], 5, device, dtype).matmul(values([640, 384], 6, device, dtype)))
    }),
    ("product with a vector", |device, dtype| {
        host(values([1, 256], 7, device, dtype).matmul(values([256, 384], 8, device, dtype)))
    }),
    ("softmax", |device, dtype| host(activation::softmax(values([4, 5, 77], 9, device, dtype), 2))),
    ("sum and mean", |device, dtype| {
        let x = values([6, 50, 33], 10, device, dtype);
        host(Tensor::cat(vec![x.clone().mean_dim(1), x.clone().sum_dim(1) * 0.1, x.square().mean_dim(1)], 1))
    }),
    ("rows by index", |device, dtype| host(values([40, 24], 11, device, dtype).select(0, indices(17, 40, device)))),
    ("gradient of rows by index", |device, dtype| {
        let x = values([40, 24], 12, &device.clone().autodiff(), dtype).require_grad();
        let y = x.clone().select(0, indices(60, 40, &device.clone().autodiff()));
        let gradients = (y.clone() * y).sum().backward();
        x.grad(&gradients).map(host).unwrap_or_default()
    }),
    ("heads to rows", |device, dtype| {
        let x = values([2, 9, 4, 8], 13, device, dtype);
        host(x.swap_dims(1, 2).narrow(2, 1, 6).repeat_dim(1, 2).reshape([2, 48 * 8]))
    }),
    ("greatest", |device, dtype| {
        // The values, since any of several equal ones may be found.
        let x = values([9, 300], 14, device, dtype);
        host(x.clone().gather(1, x.argmax(1)))
    }),
    ("to f32 and back", |device, dtype| host(values([30, 30], 15, device, dtype).cast(DType::F32).exp().cast(dtype))),
    ("one element of many", |device, dtype| {
        vec![values([64, 64], 16, device, dtype).cast(DType::F32).square().sum().into_scalar()]
    }),
    ("attention of burn", |device, dtype| {
        let [q, k, v] = [17, 18, 19].map(|seed| values([2, 4, 33, 16], seed, device, dtype));
        let masked = |i: usize| if i % 33 > (i / 33) % 33 { -1e30 } else { 0.0 };
        let bias = TensorData::new((0..2 * 33 * 33).map(masked).collect::<Vec<f32>>(), [2, 1, 33, 33]);
        let bias = Tensor::<4>::from_data(bias, (device, DType::F32)).cast(dtype);
        host(module::attention(q, k, v, None, Some(bias), AttentionModuleOptions::default()))
    }),
    ("attention of burn, no mask", |device, dtype| {
        let [q, k, v] = [21, 22, 23].map(|seed| values([2, 4, 256, 64], seed, device, dtype));
        host(module::attention(q, k, v, None, None, AttentionModuleOptions::default()))
    }),
    ("cross-entropy and its gradient", |device, dtype| {
        let x = values([21, 130], 20, &device.clone().autodiff(), dtype).require_grad();
        let targets: Vec<u32> = (0..21).map(|i| i * 5 % 130).collect();
        let losses = cross_entropy(x.clone(), &targets);
        let gradients = losses.clone().sum().backward();
        let mut found = host(losses);
        found.extend(x.grad(&gradients).map(host).unwrap_or_default());
        found
    }),
];

/// A case for each operation.
pub(super) fn cases(checked: &Checked) -> Vec<Case<'_>> {
    let case = |(name, operation): &(&str, Operation)| {
        let (name, operation) = (format!("operations/{name}"), *operation);
        Case::new(name, move || {
            let got = operation(&checked.device, checked.dtype);
            let expected = operation(&Device::flex(), checked.dtype);
            if expected.is_empty() {
                return Err("the CPU gave nothing".into());
            }
            Ok(Found::new(relative(&got, &expected), checked.limits.logits, format!("{} values", got.len())))
        })
    };
    OPERATIONS.iter().map(case).collect()
}

/// Values between -1 and 1 that repeat in every process.
fn values<const D: usize>(shape: [usize; D], seed: u32, device: &Device, dtype: DType) -> Tensor<D> {
    let n: usize = shape.iter().product();
    let value = |i: u32| {
        (i.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503)) >> 8) as f32 / 8_388_608.0 - 1.0
    };
    let data = TensorData::new((0..n as u32).map(|i| value(i * 7 + seed)).collect::<Vec<f32>>(), shape);
    Tensor::from_data(data.convert_dtype(dtype), (device, dtype))
}

/// `n` indices below `below`, some of them several times.
fn indices(n: usize, below: usize, device: &Device) -> Tensor<1, Int> {
    let ids: Vec<i32> = (0..n).map(|i| (i * i * 7 % below) as i32).collect();
    Tensor::from_data(TensorData::new(ids, [n]), device)
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
