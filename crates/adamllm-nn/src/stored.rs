//! Tensors as safetensors files hold them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use safetensors::{Dtype, SafeTensorError, View};

use crate::Snapshot;

/// The dtype of float tensors in a file, as burn calls it; `None` for integers and for floats of 8 bits or fewer.
pub fn float_dtype(stored: Dtype) -> Option<DType> {
    match stored {
        Dtype::F64 => Some(DType::F64),
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}

/// The other way round, for the dtypes that weights are written in: f32, f16 and bf16.
pub fn stored_dtype(dtype: DType) -> Option<Dtype> {
    match dtype {
        DType::F32 => Some(Dtype::F32),
        DType::F16 => Some(Dtype::F16),
        DType::BF16 => Some(Dtype::BF16),
        _ => None,
    }
}

/// A tensor that is to be written. Its values leave the device when its turn comes.
pub struct StoredTensor<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    values: Values<'a>,
}

enum Values<'a> {
    /// Bytes as they are to stand in the file.
    Bytes(Cow<'a, [u8]>),
    /// To be converted, where the file's dtype is another one.
    Read(Box<dyn Fn() -> TensorData + 'a>),
}

impl<'a> StoredTensor<'a> {
    /// A tensor of `shape` whose bytes are at hand, little-endian and in the order of the axes.
    pub fn from_bytes(dtype: Dtype, shape: Vec<usize>, bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { dtype, shape, values: Values::Bytes(bytes.into()) }
    }

    /// A tensor whose values are read, and converted to `dtype`, when they are written. `shape` has as many elements as they have.
    pub fn from_read(dtype: Dtype, shape: Vec<usize>, read: impl Fn() -> TensorData + 'a) -> Self {
        Self { dtype, shape, values: Values::Read(Box::new(read)) }
    }

    /// A parameter in the dtype that it has; in f32 where files do not have that one.
    pub fn from_snapshot(snapshot: Snapshot) -> StoredTensor<'static> {
        let dtype = snapshot.info.dtype.and_then(stored_dtype).unwrap_or(Dtype::F32);
        StoredTensor::from_read(dtype, snapshot.info.shape.clone(), move || snapshot.read())
    }

    /// Values on the host, in the dtype that they have; in f32 where files do not have that one.
    pub fn from_data(data: TensorData) -> StoredTensor<'static> {
        let dtype = stored_dtype(data.dtype()).unwrap_or(Dtype::F32);
        StoredTensor::from_read(dtype, data.shape().as_slice().to_vec(), move || data.clone())
    }
}

impl std::fmt::Debug for StoredTensor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredTensor").field("dtype", &self.dtype).field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl View for StoredTensor<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.values {
            Values::Bytes(bytes) => Cow::Borrowed(bytes),
            Values::Read(read) => {
                let dtype = float_dtype(self.dtype).unwrap_or(DType::F32);
                let data = read();
                let data = if data.dtype() == dtype { data } else { data.convert_dtype(dtype) };
                Cow::Owned(data.as_bytes().to_vec())
            }
        }
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Writes a safetensors file, one tensor in flight at a time, and syncs it. A file that was there is replaced once the new one is
/// whole.
///
/// # Errors
/// [`SafeTensorError::IoError`] where the file cannot be written; the others where a tensor's bytes are not as many as its shape
/// says.
pub fn write_safetensors<'a>(
    tensors: impl IntoIterator<Item = (String, StoredTensor<'a>)>,
    metadata: Option<HashMap<String, String>>,
    path: &Path,
) -> Result<(), SafeTensorError> {
    // safetensors writes beside the file and renames. An ordinary file is made first: its permissions follow the user's umask,
    // those of a temporary file do not.
    let permissions = File::options().create(true).append(true).open(path)?.metadata()?.permissions();
    safetensors::serialize_to_file(tensors, metadata, path)?;

    let file = File::open(path)?;
    file.set_permissions(permissions)?;
    Ok(file.sync_all()?)
}
