use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// The tensor in another dtype; itself where it has that dtype already.
pub fn cast_to<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}

/// Indices of the host on a device, for [`Tensor::select`]: `[indices.len()]`.
pub fn index_tensor(indices: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let n = indices.len();
    Tensor::from_data(TensorData::new(indices, [n]), device)
}
