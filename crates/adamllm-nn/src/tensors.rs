use burn::module::Param;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// The tensor in another dtype; itself where it has that dtype already.
pub fn cast_to<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}

/// A branch times the tanh of its gate `[1]`, as Llama 3.2 Vision has them: a gate that starts at 0 leaves the branch out.
pub fn tanh_gated<const D: usize>(x: Tensor<D>, gate: &Param<Tensor<1>>) -> Tensor<D> {
    x * gate.val().tanh().unsqueeze::<D>()
}

/// Indices of the host on a device, for [`Tensor::select`]: `[indices.len()]`.
pub fn index_tensor(indices: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let n = indices.len();
    Tensor::from_data(TensorData::new(indices, [n]), device)
}
