use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::TensorData;

type Primitive = FloatTensor<Flex>;

/// The values of a tensor of rank 4 whose last axis is dense.
#[derive(Clone, Copy)]
pub(super) struct View4<'a> {
    values: &'a [f32],
    pub(super) dims: [usize; 4],
    strides: [usize; 3],
}

impl<'a> View4<'a> {
    /// # Panics
    /// If the tensor is not of rank 4, or not as [`dense_rows`] leaves it.
    pub(super) fn of(tensor: &'a Primitive) -> Self {
        let layout = tensor.layout();
        let dims: [usize; 4] = std::array::from_fn(|i| layout.shape()[i]);
        let strides = layout.strides();
        let strides = std::array::from_fn(|i| usize::try_from(strides[i]).expect("views run forward"));
        Self { values: &tensor.storage::<f32>()[layout.start_offset()..], dims, strides }
    }

    /// The offset in [`View4::values`] of a row of the last axis.
    fn offset(&self, i: usize, j: usize, k: usize) -> usize {
        i * self.strides[0] + j * self.strides[1] + k * self.strides[2]
    }

    /// One row of the last axis.
    pub(super) fn row(&self, i: usize, j: usize, k: usize) -> &'a [f32] {
        let offset = self.offset(i, j, k);
        &self.values[offset..offset + self.dims[3]]
    }

    /// The rows from `k` on as a matrix: where it begins, and how far its rows are apart.
    pub(super) fn matrix(&self, i: usize, j: usize, k: usize) -> (*const f32, isize) {
        (self.values[self.offset(i, j, k)..].as_ptr(), self.strides[2] as isize)
    }
}

/// The tensor itself where its last axis is dense and no axis runs backward; a copy otherwise.
pub(super) fn dense_rows(tensor: Primitive) -> Primitive {
    let layout = tensor.layout();
    let forward = layout.strides().iter().all(|&stride| stride >= 0);
    if forward && layout.strides().last() == Some(&1) { tensor } else { dense(tensor) }
}

/// The tensor itself where it is dense; a copy otherwise.
pub(super) fn dense(tensor: Primitive) -> Primitive {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// All values of a dense tensor.
pub(super) fn values(tensor: &Primitive) -> &[f32] {
    let layout = tensor.layout();
    let start = layout.start_offset();
    &tensor.storage::<f32>()[start..start + layout.num_elements()]
}

pub(super) fn dims(tensor: &Primitive) -> Vec<usize> {
    tensor.layout().shape().as_slice().to_vec()
}

pub(super) fn tensor(values: Vec<f32>, dims: &[usize]) -> Primitive {
    Flex::float_from_data(TensorData::new(values, dims.to_vec()), &Default::default())
}

/// A buffer whose every element is written before it is read.
pub(super) fn buffer(n: usize) -> Vec<f32> {
    // Zeroed pages come from the system for free where the allocator knows them to be fresh.
    vec![0.0; n]
}

/// Splits `n` rows of `width` values into pieces that are worth a task of their own.
pub(super) fn rows_per_task(n: usize, width: usize) -> usize {
    const ELEMENTS: usize = 1 << 14;
    ELEMENTS.div_ceil(width.max(1)).clamp(1, n.max(1))
}
