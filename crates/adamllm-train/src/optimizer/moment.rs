//! A moment of a parameter, in the form in which it is kept between steps.

use adamllm_nn::{DynamicTable, StoredTensor, cast_to, stored_dtype};
use burn::tensor::{DType, Device, Tensor, TensorData, bf16};
use safetensors::Dtype;

use super::adamw::{AdamW, update};
use crate::MomentDtype;

/// Values that share a scale, as in bitsandbytes' block-wise optimizers.
const BLOCK: usize = 256;
/// Blocks of a task for one core.
const TASK: usize = 128;

/// One moment of a parameter.
#[derive(Clone, Debug)]
pub(crate) enum Moment {
    /// `[n]` on the parameter's device.
    Float(Tensor<1>),
    /// In 8 bits, in the host's memory whatever the device.
    EightBit(EightBit),
}

/// 8 bits: `x ~ value(code) * scale`, `scale = max |x|` of the block (Dettmers et al., 2022, arXiv 2110.02861).
#[derive(Clone, Debug)]
pub(crate) struct EightBit {
    codes: Vec<u8>,
    /// Of each block.
    scales: Vec<f32>,
    kind: MomentKind,
}

/// What a moment estimates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MomentKind {
    /// The mean: both signs.
    First,
    /// The mean of squares: never negative. One that is not zero stays so, since the update divides by its root.
    Second,
}

impl MomentKind {
    fn table(self) -> &'static DynamicTable {
        match self {
            Self::First => DynamicTable::signed(),
            Self::Second => DynamicTable::unsigned(),
        }
    }
}

impl Moment {
    /// In the form that the settings ask for, from f32.
    pub(super) fn keep(values: Tensor<1>, dtype: MomentDtype, kind: MomentKind) -> Self {
        match dtype {
            MomentDtype::F32 => Self::Float(values),
            MomentDtype::Bf16 => Self::Float(cast_to(values, DType::BF16)),
            MomentDtype::Int8 if is_small(&values) => Self::Float(values),
            MomentDtype::Int8 => {
                let values: Vec<f32> = values.into_data().try_into_vec().expect("moments are computed in f32");
                let mut kept = EightBit::zeros(values.len(), kind);
                let blocks = kept.codes.chunks_mut(BLOCK).zip(&mut kept.scales);
                for (values, (codes, scale)) in values.chunks(BLOCK).zip(blocks) {
                    quantise(values, codes, scale, kind);
                }
                Self::EightBit(kept)
            }
        }
    }

    /// In f32 on a device.
    pub(super) fn into_f32(self, device: &Device) -> Tensor<1> {
        match self {
            Self::Float(tensor) => cast_to(tensor, DType::F32),
            Self::EightBit(kept) => Tensor::from_data(kept.to_data(), (device, DType::F32)),
        }
    }

    /// The tensors that hold it in a file, by the ends of their names: values, or codes and scales.
    pub(crate) fn stored(&self) -> Vec<(&'static str, StoredTensor<'_>)> {
        match self {
            Self::Float(tensor) => vec![("", stored_float(tensor.clone()))],
            Self::EightBit(EightBit { codes, scales, .. }) => {
                let scales_as_data = || TensorData::new(scales.clone(), [scales.len()]);
                vec![
                    ("_codes", StoredTensor::from_bytes(Dtype::U8, vec![codes.len()], codes.as_slice())),
                    ("_scales", StoredTensor::from_read(Dtype::F32, vec![scales.len()], scales_as_data)),
                ]
            }
        }
    }

    /// From the codes and scales of a file; `None` where they do not fit each other.
    pub(crate) fn from_codes(codes: Vec<u8>, scales: Vec<f32>, kind: MomentKind) -> Option<Self> {
        let fits = codes.len().div_ceil(BLOCK) == scales.len();
        fits.then_some(Self::EightBit(EightBit { codes, scales, kind }))
    }
}

/// A tensor that leaves the device when it is written.
pub(crate) fn stored_float(tensor: Tensor<1>) -> StoredTensor<'static> {
    let dtype = stored_dtype(tensor.dtype()).unwrap_or(Dtype::F32);
    StoredTensor::from_read(dtype, tensor.shape().as_slice().to_vec(), move || tensor.clone().into_data())
}

impl EightBit {
    fn zeros(n: usize, kind: MomentKind) -> Self {
        Self { codes: vec![kind.table().nearest(0.0); n], scales: vec![0.0; n.div_ceil(BLOCK)], kind }
    }

    fn to_data(&self) -> TensorData {
        let mut values = vec![0.0; self.codes.len()];
        for ((values, codes), scale) in values.chunks_mut(BLOCK).zip(self.codes.chunks(BLOCK)).zip(&self.scales) {
            expand(codes, *scale, self.kind, values);
        }
        TensorData::new(values, [self.codes.len()])
    }
}

/// Whether a parameter's moments stay in f32 where others have 8 bits.
fn is_small(values: &Tensor<1>) -> bool {
    (values.shape().num_elements() as u64) < MomentDtype::MIN_8_BIT_VALUES
}

#[inline(always)]
fn expand(codes: &[u8], scale: f32, kind: MomentKind, out: &mut [f32]) {
    let table = kind.table();
    out.iter_mut().zip(codes).for_each(|(value, &code)| *value = table.value(code) * scale);
}

#[inline(always)]
fn quantise(values: &[f32], codes: &mut [u8], scale: &mut f32, kind: MomentKind) {
    let table = kind.table();
    *scale = values.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let inverse = if *scale > 0.0 { 1.0 / *scale } else { 0.0 };
    for (code, &x) in codes.iter_mut().zip(values) {
        *code = table.nearest(x * inverse);
        // bitsandbytes lets it become zero: the first moment, divided by epsilon alone, is then a jump.
        if kind == MomentKind::Second && x > 0.0 {
            *code = (*code).max(1);
        }
    }
}

/// A parameter, its gradient and both moments, of one task.
struct Part<'a> {
    parameter: &'a mut [f32],
    /// From its first value on.
    gradient: Gradient<'a>,
    first: (&'a mut [u8], &'a mut [f32]),
    second: (&'a mut [u8], &'a mut [f32]),
}

/// A gradient's values, which are expanded a block at a time, as the moments are.
#[derive(Clone, Copy)]
pub(super) enum Gradient<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

impl<'a> Gradient<'a> {
    fn from(self, first: usize) -> Gradient<'a> {
        match self {
            Self::F32(values) => Self::F32(&values[first..]),
            Self::Bf16(values) => Self::Bf16(&values[first..]),
        }
    }

    /// The values from `first` on.
    #[inline(always)]
    fn read(self, first: usize, out: &mut [f32]) {
        match self {
            Self::F32(values) => out.copy_from_slice(&values[first..first + out.len()]),
            Self::Bf16(values) => out.iter_mut().zip(&values[first..]).for_each(|(out, value)| *out = value.to_f32()),
        }
    }
}

/// AdamW with moments in 8 bits: a block of 256 is expanded, moved and quantised again at a time. On the host, whatever the
/// parameter's device; from another than the CPU the values travel once in each direction. The parameter is in f32.
pub(super) fn step_in_8_bits(
    numbers: &AdamW,
    parameter: Tensor<1>,
    gradient: Tensor<1>,
    moments: Option<[Moment; 2]>,
) -> (Tensor<1>, [Moment; 2]) {
    let [mut first, mut second] = match moments {
        Some([Moment::EightBit(first), Moment::EightBit(second)]) => [first, second],
        None if !is_small(&parameter) => {
            let n = parameter.shape().num_elements();
            [MomentKind::First, MomentKind::Second].map(|kind| EightBit::zeros(n, kind))
        }
        of_few => return numbers.step_in_floats(parameter, gradient, of_few, MomentDtype::F32),
    };

    #[cfg(feature = "flex")]
    if super::fused::applies(&parameter) && [DType::F32, DType::BF16].contains(&gradient.dtype()) {
        let (parameter, moments) = super::fused::step_in_8_bits(numbers, parameter, gradient, [first, second]);
        return (parameter, moments.map(Moment::EightBit));
    }

    let device = parameter.device();
    let mut parameter = parameter.into_data();
    let gradient = cast_to(gradient, DType::F32).into_data();
    let values = parameter.as_mut_slice().expect("parameters are moved in f32");
    let gradient = Gradient::F32(gradient.as_slice().expect("just cast"));
    step_values(numbers, values, gradient, [&mut first, &mut second]);
    let parameter = Tensor::from_data(parameter, (&device, DType::F32));
    (parameter, [first, second].map(Moment::EightBit))
}

/// One update of a parameter's values, in place.
pub(super) fn step_values(
    numbers: &AdamW,
    values: &mut [f32],
    gradient: Gradient,
    [first, second]: [&mut EightBit; 2],
) {
    let values = values.chunks_mut(TASK * BLOCK).enumerate();
    let firsts = first.codes.chunks_mut(TASK * BLOCK).zip(first.scales.chunks_mut(TASK));
    let seconds = second.codes.chunks_mut(TASK * BLOCK).zip(second.scales.chunks_mut(TASK));
    let parts = values.zip(firsts.zip(seconds)).map(|((task, parameter), (first, second))| Part {
        parameter,
        gradient: gradient.from(task * TASK * BLOCK),
        first,
        second,
    });
    each(parts.collect(), |part| part.step(numbers));
}

#[cfg(feature = "flex")]
fn each<T: Send>(items: Vec<T>, of: impl Fn(T) + Sync) {
    use rayon::prelude::*;
    let arch = pulp::Arch::new();
    items.into_par_iter().for_each(|item| arch.dispatch(|| of(item)));
}

#[cfg(not(feature = "flex"))]
fn each<T>(items: Vec<T>, of: impl Fn(T)) {
    items.into_iter().for_each(of);
}

impl Part<'_> {
    #[inline(always)]
    fn step(self, numbers: &AdamW) {
        let (mut g, mut m, mut v) = ([0.0; BLOCK], [0.0; BLOCK], [0.0; BLOCK]);
        let firsts = self.first.0.chunks_mut(BLOCK).zip(self.first.1);
        let seconds = self.second.0.chunks_mut(BLOCK).zip(self.second.1);
        let blocks = self.parameter.chunks_mut(BLOCK).enumerate();
        for ((i, parameter), (first, second)) in blocks.zip(firsts.zip(seconds)) {
            let n = parameter.len();
            let (g, m, v) = (&mut g[..n], &mut m[..n], &mut v[..n]);
            self.gradient.read(i * BLOCK, g);
            expand(first.0, *first.1, MomentKind::First, m);
            expand(second.0, *second.1, MomentKind::Second, v);
            update(numbers, parameter, g, m, v);
            quantise(m, first.0, first.1, MomentKind::First);
            quantise(v, second.0, second.1, MomentKind::Second);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: usize = 5 * 1024 + 100;

    /// Values over two powers of ten.
    fn values(seed: usize) -> Vec<f32> {
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0;
        (0..N).map(|i| value(i) * [1.0, 0.3, 0.1][i % 3]).collect()
    }

    fn tensor(values: Vec<f32>) -> Tensor<1> {
        Tensor::from_data(TensorData::new(values, [N]), &Device::flex())
    }

    fn host(tensor: Tensor<1>) -> Vec<f32> {
        tensor.into_data().try_into_vec().expect("f32")
    }

    #[test]
    fn a_moment_comes_back_within_a_step_of_its_table() {
        for kind in [MomentKind::First, MomentKind::Second] {
            let values: Vec<f32> =
                values(3).into_iter().map(|x| if kind == MomentKind::Second { x * x } else { x }).collect();
            let kept = Moment::keep(tensor(values.clone()), MomentDtype::Int8, kind);
            let back = host(kept.into_f32(&Device::flex()));
            for (values, back) in values.chunks(BLOCK).zip(back.chunks(BLOCK)) {
                let largest = values.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
                for (x, y) in values.iter().zip(back) {
                    // The distance to the table's next value away from zero.
                    let table = kind.table();
                    let code = table.nearest(y / largest);
                    let next = table.value(if *y < 0.0 { code.saturating_sub(1) } else { code.saturating_add(1) });
                    let step = (next - table.value(code)).abs() * largest;
                    assert!((x - y).abs() <= 0.51 * step.max(largest * 0.015), "{x} became {y} of {largest}");
                    assert!(*y != 0.0 || *x == 0.0 || kind == MomentKind::First, "{x} became zero");
                }
            }
        }
    }

    /// Twenty updates with gradients that are alike and twenty with others, beside moments in f32.
    #[test]
    fn parameters_move_as_with_moments_in_f32() {
        let numbers = |time| AdamW { rate: 1e-3, decay: 0.1, betas: [0.9, 0.999], epsilon: 1e-8, scale: 0.5, time };
        let start = values(1);
        let (mut narrow, mut wide) = (tensor(start.clone()), tensor(start.clone()));
        let (mut of_narrow, mut of_wide) = (None, None);
        for time in 1..=40 {
            let gradient: Vec<f32> = values(if time <= 20 { 11 } else { time }).iter().map(|x| x * 0.1).collect();
            let (moved, moments) = step_in_8_bits(&numbers(time), narrow, tensor(gradient.clone()), of_narrow.take());
            assert!(matches!(moments, [Moment::EightBit(_), Moment::EightBit(_)]));
            (narrow, of_narrow) = (moved, Some(moments));
            let (moved, moments) =
                numbers(time).step_in_floats(wide, tensor(gradient), of_wide.take(), MomentDtype::F32);
            (wide, of_wide) = (moved, Some(moments));
        }
        let (narrow, wide) = (host(narrow), host(wide));
        let moved =
            |values: &[f32]| -> Vec<f64> { values.iter().zip(&start).map(|(x, start)| f64::from(x - start)).collect() };
        let (narrow, wide) = (moved(&narrow), moved(&wide));
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let apart = norm(&mut narrow.iter().zip(&wide).map(|(a, b)| a - b)) / norm(&mut wide.iter().copied());
        assert!(apart < 0.05, "the moves differ by {apart} of their length");
        // No parameter jumps: AdamW's steps are about the rate.
        assert!(narrow.iter().all(|moved| moved.abs() < 40.0 * 2.5e-3), "a jump");
    }

    #[test]
    fn small_parameters_keep_f32() {
        let few = |x: f32| Tensor::<1>::from_data(TensorData::new(vec![x; 100], [100]), &Device::flex());
        assert!(matches!(Moment::keep(few(0.3), MomentDtype::Int8, MomentKind::First), Moment::Float(_)));
        let numbers = AdamW { rate: 1e-3, decay: 0.0, betas: [0.9, 0.999], epsilon: 1e-8, scale: 1.0, time: 1 };
        let (_, moments) = step_in_8_bits(&numbers, few(1.0), few(0.2), None);
        assert!(moments.iter().all(|moment| matches!(moment, Moment::Float(_))));
    }

    #[test]
    fn codes_without_their_scales_are_refused() {
        assert!(Moment::from_codes(vec![0; 600], vec![1.0; 3], MomentKind::First).is_some());
        assert!(Moment::from_codes(vec![0; 600], vec![1.0; 2], MomentKind::First).is_none());
    }
}
