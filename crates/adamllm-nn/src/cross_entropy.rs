use std::sync::Arc;

use burn::tensor::{DType, Int, Tensor, TensorData, activation};

use crate::norm::cast_to;

/// The negative log-probability of each target, in nats and in f32: `log(sum(exp(logits))) - logits[target]`.
///
/// # Shapes
/// - `logits`: `[n, n_classes]`
/// - output: `[n]`
///
/// # Panics
/// If there is not one target for each row of logits, or a target is no class.
pub fn cross_entropy(logits: Tensor<2>, targets: &[u32]) -> Tensor<1> {
    let [n, n_classes] = logits.dims();
    assert_eq!(targets.len(), n, "one target for each row");
    assert!(targets.iter().all(|&target| (target as usize) < n_classes), "targets are below {n_classes}");
    let targets = Arc::new(targets.to_vec());
    #[cfg(feature = "flex")]
    if crate::fused::applies(&logits.device(), logits.dtype()) {
        return crate::fused::cross_entropy(logits, targets);
    }
    plainly(logits, &targets)
}

fn plainly(logits: Tensor<2>, targets: &Arc<Vec<u32>>) -> Tensor<1> {
    let values: Vec<i32> = targets.iter().map(|&target| target as i32).collect();
    let n = values.len();
    let targets = Tensor::<2, Int>::from_data(TensorData::new(values, [n, 1]), &logits.device());
    let logits = cast_to(logits, DType::F32);
    activation::log_softmax(logits, 1).gather(1, targets).flatten::<1>(0, 1).neg()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn the_fused_form_equals_the_plain_one_with_its_gradient() {
        let device = Device::flex().autodiff();
        let logits = Tensor::<2>::random([7, 101], Distribution::Normal(0.0, 4.0), &device).into_data();
        let targets = Arc::new(vec![0, 100, 3, 50, 7, 99, 16]);
        let of = |form: fn(Tensor<2>, &Arc<Vec<u32>>) -> Tensor<1>| {
            let x = Tensor::<2>::from_data(logits.clone(), &device).require_grad();
            let losses = form(x.clone(), &targets);
            let weights = Tensor::<1>::from_floats([1.0, 2.0, -1.0, 0.5, 0.0, 3.0, 1.0], &device);
            let gradients = (losses.clone() * weights).sum().backward();
            (losses.without_autodiff(), x.grad(&gradients).expect("tracked"))
        };
        let (losses, grads) = of(|x, t| cross_entropy(x, t));
        let (expected, expected_grads) = of(plainly);
        assert!((losses - expected).abs().max().into_scalar::<f32>() < 1e-5);
        assert!((grads - expected_grads).abs().max().into_scalar::<f32>() < 1e-6);
    }
}
