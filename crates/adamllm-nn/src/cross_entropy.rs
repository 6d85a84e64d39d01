use std::sync::Arc;

use burn::tensor::{DType, Int, Tensor, TensorData, activation};

use crate::tensors::cast_to;

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
    use burn::tensor::Device;

    use super::*;
    use crate::testing::random;

    const TARGETS: [u32; 7] = [0, 100, 3, 50, 7, 99, 16];
    const WEIGHTS: [f32; 7] = [1.0, 2.0, -1.0, 0.5, 0.0, 3.0, 1.0];

    /// The losses, and the gradient of their weighted sum.
    fn with_gradient(form: fn(Tensor<2>, &Arc<Vec<u32>>) -> Tensor<1>, logits: &Tensor<2>) -> (Vec<f32>, Vec<f32>) {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_data(logits.clone().into_data(), &device).require_grad();
        let losses = form(x.clone(), &Arc::new(TARGETS.to_vec()));
        let gradients = (losses.clone() * Tensor::<1>::from_floats(WEIGHTS, &device)).sum().backward();
        let values = |data: TensorData| data.iter::<f32>().collect();
        (values(losses.into_data()), values(x.grad(&gradients).expect("tracked").into_data()))
    }

    /// The same by the formula in f64.
    fn exactly(logits: &Tensor<2>) -> (Vec<f64>, Vec<f64>) {
        let values: Vec<f64> = logits.clone().into_data().iter::<f64>().collect();
        let (mut losses, mut grads) = (vec![], vec![]);
        for ((row, target), weight) in values.chunks(101).zip(TARGETS).zip(WEIGHTS) {
            let lse = row.iter().map(|x| x.exp()).sum::<f64>().ln();
            losses.push(lse - row[target as usize]);
            let one_hot = |class: usize| f64::from(u8::from(class == target as usize));
            grads.extend((0..row.len()).map(|class| f64::from(weight) * ((row[class] - lse).exp() - one_hot(class))));
        }
        (losses, grads)
    }

    fn apart(a: &[f32], b: &[f64]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max)
    }

    /// Each form against f64. Both subtract the log-sum-exp (up to 16 here, in steps of 1e-6) before `exp`, so that a probability
    /// is known to about 1e-6 of itself, and a gradient to that times its weight.
    #[test]
    fn both_forms_equal_the_formula_with_its_gradient() {
        for seed in 0..100 {
            let logits = random([7, 101], 4.0, seed);
            let (losses, grads) = exactly(&logits);
            for form in [|x, t: &Arc<Vec<u32>>| cross_entropy(x, t), plainly] {
                let (found_losses, found_grads) = with_gradient(form, &logits);
                assert!(apart(&found_losses, &losses) < 4e-6, "{}", apart(&found_losses, &losses));
                assert!(apart(&found_grads, &grads) < 4e-6, "{}", apart(&found_grads, &grads));
            }
        }
    }
}
