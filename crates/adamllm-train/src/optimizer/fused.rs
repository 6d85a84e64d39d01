//! The update and the norm in one pass over memory on burn's CPU backend, in place where nobody else holds the values.

use std::sync::{Arc, Mutex};

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchDevice, Flex, backend_extension};
use burn::tensor::{DType, Tensor, TensorData, bf16};
use rayon::prelude::*;

use super::adamw::{AdamW, AdamWState, update};
use super::moment::{EightBit, Gradient, step_values};

const TASK: usize = 1 << 15;

#[backend_extension(Flex)]
pub(crate) trait FusedUpdate: Backend {
    /// The parameter and its moments after the update.
    fn fused_adamw(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        numbers: AdamW,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The parameter after the update, moved in place where nobody else holds it; the moments are moved where they are.
    fn fused_adamw_in_8_bits(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        moments: SharedMoments,
        numbers: AdamW,
    ) -> FloatTensor<Self>;

    /// The sum of the squares of values in f32 or bf16, `[1]`.
    fn fused_square_sum(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `a + b`, in place of `a`.
    fn fused_add(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `a + b`, in place of `a`, for a `b` in bf16: it is in f32 nowhere.
    fn fused_add_bf16(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
}

type Primitive = FloatTensor<Flex>;

/// Both moments on their way through an operation, which takes what is no tensor by value.
type SharedMoments = Arc<Mutex<[EightBit; 2]>>;

/// The same values, dense from the first byte on.
fn dense(tensor: Primitive) -> Primitive {
    let whole = tensor.is_contiguous() && tensor.layout().start_offset() == 0;
    let whole = whole && tensor.bytes().len() == tensor.layout().num_elements() * tensor.dtype().size();
    if whole { tensor } else { Primitive::from_data(tensor.into_data()) }
}

impl FusedUpdate for Flex {
    fn fused_adamw(
        parameter: Primitive,
        gradient: Primitive,
        first: Primitive,
        second: Primitive,
        numbers: AdamW,
    ) -> (Primitive, Primitive, Primitive) {
        let [mut parameter, gradient, mut first, mut second] = [parameter, gradient, first, second].map(dense);
        let arch = pulp::Arch::new();
        let moments = first.storage_mut::<f32>().par_chunks_mut(TASK).zip(second.storage_mut().par_chunks_mut(TASK));
        let values = parameter.storage_mut::<f32>().par_chunks_mut(TASK).zip(gradient.storage().par_chunks(TASK));
        values.zip(moments).for_each(|((parameter, gradient), (first, second))| {
            arch.dispatch(|| update(&numbers, parameter, gradient, first, second));
        });
        (parameter, first, second)
    }

    fn fused_adamw_in_8_bits(
        parameter: Primitive,
        gradient: Primitive,
        moments: SharedMoments,
        numbers: AdamW,
    ) -> Primitive {
        let [mut parameter, gradient] = [parameter, gradient].map(dense);
        let gradient = match gradient.dtype() {
            DType::BF16 => Gradient::Bf16(gradient.storage()),
            _ => Gradient::F32(gradient.storage()),
        };
        let mut moments = moments.lock().expect("nobody else holds them");
        step_values(&numbers, parameter.storage_mut(), gradient, moments.each_mut());
        parameter
    }

    fn fused_square_sum(x: Primitive) -> Primitive {
        let x = dense(x);
        let arch = pulp::Arch::new();
        // Collected first: the order of the sum must not depend on the threads.
        let parts: Vec<f64> = match x.dtype() {
            DType::BF16 => {
                let parts = x.storage::<bf16>().par_chunks(TASK);
                parts.map(|part| arch.dispatch(|| square_sum(part, bf16::to_f32))).collect()
            }
            _ => x.storage::<f32>().par_chunks(TASK).map(|part| arch.dispatch(|| square_sum(part, |x| x))).collect(),
        };
        Primitive::from_data(TensorData::new(vec![parts.iter().sum::<f64>() as f32], [1]))
    }

    fn fused_add(a: Primitive, b: Primitive) -> Primitive {
        let [mut a, b] = [a, b].map(dense);
        let arch = pulp::Arch::new();
        let parts = a.storage_mut::<f32>().par_chunks_mut(TASK).zip(b.storage::<f32>().par_chunks(TASK));
        parts.for_each(|(a, b)| arch.dispatch(|| a.iter_mut().zip(b).for_each(|(a, b)| *a += b)));
        a
    }

    fn fused_add_bf16(a: Primitive, b: Primitive) -> Primitive {
        let [mut a, b] = [a, b].map(dense);
        let arch = pulp::Arch::new();
        let parts = a.storage_mut::<f32>().par_chunks_mut(TASK).zip(b.storage::<bf16>().par_chunks(TASK));
        parts.for_each(|(a, b)| arch.dispatch(|| a.iter_mut().zip(b).for_each(|(a, b)| *a += b.to_f32())));
        a
    }
}

#[inline(always)]
fn square_sum<T: Copy>(values: &[T], to_f32: impl Fn(T) -> f32) -> f64 {
    let mut lanes = [0.0f32; 16];
    let chunks = values.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().map(|&x| to_f32(x) * to_f32(x)).sum();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += to_f32(x) * to_f32(x);
        }
    }
    lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>() + f64::from(rest)
}

/// Whether a tensor (without autodiff) takes the fused form.
pub(crate) fn applies<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.dtype() == DType::F32 && is_on_cpu(tensor)
}

/// Whether a tensor is on burn's CPU backend, without autodiff.
pub(crate) fn is_on_cpu<const D: usize>(tensor: &Tensor<D>) -> bool {
    matches!(tensor.device().as_dispatch(), DispatchDevice::Flex(_))
}

pub(super) fn step(numbers: &AdamW, state: AdamWState, gradient: Tensor<1>) -> AdamWState {
    let AdamWState { parameter, first, second } = state;
    let [parameter, gradient, first, second] = [parameter, gradient, first, second].map(Tensor::into_dispatch);
    let (parameter, first, second) =
        <Dispatch as FusedUpdate>::fused_adamw(parameter, gradient, first, second, *numbers);
    let [parameter, first, second] = [parameter, first, second].map(Tensor::from_dispatch);
    AdamWState { parameter, first, second }
}

/// AdamW with moments in 8 bits; the parameter is in f32, the gradient in f32 or bf16.
pub(super) fn step_in_8_bits(
    numbers: &AdamW,
    parameter: Tensor<1>,
    gradient: Tensor<1>,
    moments: [EightBit; 2],
) -> (Tensor<1>, [EightBit; 2]) {
    let moments = Arc::new(Mutex::new(moments));
    let [parameter, gradient] = [parameter, gradient].map(Tensor::into_dispatch);
    let parameter =
        <Dispatch as FusedUpdate>::fused_adamw_in_8_bits(parameter, gradient, Arc::clone(&moments), *numbers);
    let moments = Arc::into_inner(moments).expect("the operation is done").into_inner();
    (Tensor::from_dispatch(parameter), moments.expect("not poisoned"))
}

pub(crate) fn square_sum_of<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as FusedUpdate>::fused_square_sum(x.into_dispatch()))
}

pub(crate) fn add<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as FusedUpdate>::fused_add(a.into_dispatch(), b.into_dispatch()))
}

/// `a + b` in f32, where `b` is in bf16.
pub(crate) fn add_bf16<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as FusedUpdate>::fused_add_bf16(a.into_dispatch(), b.into_dispatch()))
}
