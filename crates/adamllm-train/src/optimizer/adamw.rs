//! AdamW (Loshchilov and Hutter, 2019), as torch and burn compute it: bias-corrected moments, epsilon outside the root, decay
//! decoupled from the gradient.

use adamllm_nn::cast_to;
use burn::tensor::{DType, Tensor};

use super::moment::{Moment, MomentKind};
use crate::MomentDtype;

/// The numbers of one update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamW {
    pub(crate) rate: f64,
    pub(crate) decay: f64,
    pub(crate) betas: [f64; 2],
    pub(crate) epsilon: f64,
    /// The gradient is multiplied with this first (clipping).
    pub(crate) scale: f64,
    /// Updates of this parameter, this one included.
    pub(crate) time: usize,
}

/// A parameter and its two moments, in f32.
pub(crate) struct AdamWState {
    pub(crate) parameter: Tensor<1>,
    pub(crate) first: Tensor<1>,
    pub(crate) second: Tensor<1>,
}

impl AdamW {
    /// What the first and the second moment are divided by.
    fn corrections(&self) -> [f64; 2] {
        self.betas.map(|beta| 1.0 - beta.powi(self.time as i32))
    }

    /// One update of a parameter in f32 with moments that are kept as floats; without any at first. The gradient has any float dtype.
    pub(super) fn step_in_floats(
        &self,
        parameter: Tensor<1>,
        gradient: Tensor<1>,
        moments: Option<[Moment; 2]>,
        kept: MomentDtype,
    ) -> (Tensor<1>, [Moment; 2]) {
        let (device, gradient) = (parameter.device(), cast_to(gradient, DType::F32));
        let zeros = || Tensor::zeros(parameter.shape(), (&device, DType::F32));
        let [first, second] = match moments {
            None => [zeros(), zeros()],
            Some(moments) => moments.map(|moment| moment.into_f32(&device)),
        };
        let AdamWState { parameter, first, second } = self.step(AdamWState { parameter, first, second }, gradient);
        let [first, second] = [(first, MomentKind::First), (second, MomentKind::Second)];
        (parameter, [first, second].map(|(moment, kind)| Moment::keep(moment, kept, kind)))
    }

    /// One update.
    pub(crate) fn step(&self, state: AdamWState, gradient: Tensor<1>) -> AdamWState {
        #[cfg(feature = "flex")]
        if super::fused::applies(&state.parameter) {
            return super::fused::step(self, state, gradient);
        }
        self.step_plainly(state, gradient)
    }

    fn step_plainly(&self, state: AdamWState, gradient: Tensor<1>) -> AdamWState {
        let AdamWState { parameter, first, second } = state;
        let [beta_1, beta_2] = self.betas;
        let [correction_1, correction_2] = self.corrections();
        let gradient = gradient * self.scale;
        let first = first * beta_1 + gradient.clone() * (1.0 - beta_1);
        let second = second * beta_2 + gradient.square() * (1.0 - beta_2);
        let delta = (first.clone() / correction_1) / ((second.clone() / correction_2).sqrt() + self.epsilon);
        let parameter = parameter * (1.0 - self.rate * self.decay) - delta * self.rate;
        AdamWState { parameter, first, second }
    }
}

/// A slice-wise update: what [`AdamW::step`] does to each element.
#[inline(always)]
pub(super) fn update(numbers: &AdamW, parameter: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
    let [beta_1, beta_2] = numbers.betas.map(|beta| beta as f32);
    let [rest_1, rest_2] = numbers.betas.map(|beta| (1.0 - beta) as f32);
    let [correction_1, correction_2] = numbers.corrections();
    let (rate, root) = ((numbers.rate / correction_1) as f32, (1.0 / correction_2).sqrt() as f32);
    let (keep, epsilon, scale) =
        ((1.0 - numbers.rate * numbers.decay) as f32, numbers.epsilon as f32, numbers.scale as f32);
    let moments = first.iter_mut().zip(second.iter_mut());
    for ((p, &g), (m, v)) in parameter.iter_mut().zip(gradient).zip(moments) {
        let g = g * scale;
        *m = *m * beta_1 + g * rest_1;
        *v = *v * beta_2 + g * g * rest_2;
        *p = *p * keep - rate * *m / (v.sqrt() * root + epsilon);
    }
}
