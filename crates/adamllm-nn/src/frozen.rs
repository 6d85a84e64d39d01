//! Weights that are not trained, in the form in which they take the least memory.
//!
//! | form | bytes per weight | what it is |
//! |---|---|---|
//! | [`FrozenForm::Stored`] | as in the file | bf16, f16 or f32, read from the mapped file whenever it is used: nothing is copied |
//! | [`FrozenForm::Int8`] | 1.06 | blocks of 64, each divided by its largest absolute value: codes from -127 to 127 |
//! | [`FrozenForm::Nf4`] | 0.52 | blocks of 64 in the sixteen levels of the 4-bit NormalFloat, with double quantisation of the blocks' scales (Dettmers et al., 2023, arXiv 2305.14314, sections 3 and 4) |
//!
//! Products expand a tile of rows at a time; the whole matrix is never there in a wider type.

mod dot;
mod four_bit;
mod int8;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use burn::module::{Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor};
use burn::tensor::{DType, Device, Tensor, TensorData};
use half::f16;
use serde::{Deserialize, Serialize};

pub use self::four_bit::{BlockScales, FourBit};
use self::int8::Int8;

/// Weights in a block of [`FrozenForm::Int8`] and [`FrozenForm::Nf4`], which share a scale.
pub const BLOCK: usize = 64;

/// How a weight that is not trained is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FrozenForm {
    /// As in the file.
    Stored,
    /// 8 bits: blocks of 64 with their largest absolute value.
    Int8,
    /// 4 bits: NormalFloat in blocks of 64, doubly quantised.
    Nf4,
}

impl FrozenForm {
    /// The bytes that `n` weights take, which stand in a file as `stored`: known before any is read.
    pub fn n_bytes(self, n: usize, stored: DType) -> usize {
        match self {
            Self::Stored => n * stored.size(),
            Self::Int8 => Int8::n_bytes_of(n),
            Self::Nf4 => FourBit::nf4_bytes_of(n),
        }
    }
}

/// Bytes that somebody owns, such as a part of a mapped file.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl SharedBytes {
    /// A part of what `owner` holds; `None` where it holds less.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) -> Option<Self> {
        (*owner).as_ref().get(range.clone())?;
        Some(Self { owner, range })
    }

    /// The bytes.
    ///
    /// # Panics
    /// If the owner holds less than it did at first.
    pub fn as_slice(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { owner: Arc::new(bytes), range }
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.range.len())
    }
}

/// A vector, and its even and odd elements apart, as the halves of packed weights are.
pub(crate) struct InputVector {
    plain: Vec<f32>,
    even: Vec<f32>,
    odd: Vec<f32>,
}

impl InputVector {
    #[cfg_attr(not(feature = "flex"), expect(dead_code, reason = "the CPU backend's"))]
    pub(crate) fn of(x: &[f32]) -> Self {
        let half = |first: usize| x.iter().skip(first).step_by(2).copied().collect();
        Self { plain: x.to_vec(), even: half(0), odd: half(1) }
    }
}

/// The weight of a linear layer, `[d_output, d_input]`, that is not trained. A clone shares the values.
#[derive(Clone)]
pub struct FrozenWeight {
    shape: [usize; 2],
    storage: Arc<Storage>,
}

enum Storage {
    /// Little-endian values of this dtype.
    Float(DType, SharedBytes),
    Int8(Int8),
    FourBit(FourBit),
}

impl FrozenWeight {
    /// Values as they stand in a file, in bf16, f16 or f32 and little-endian.
    ///
    /// # Errors
    /// What is wrong: another dtype, or another number of bytes than the shape needs.
    pub fn stored(shape: [usize; 2], dtype: DType, bytes: SharedBytes) -> Result<Self, String> {
        if !matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
            return Err(format!("expected F32, F16 or BF16, got {dtype:?}"));
        }
        let (expected, got) = (shape[0] * shape[1] * dtype.size(), bytes.as_slice().len());
        if expected != got {
            return Err(format!("expected {expected} bytes for {shape:?} in {dtype:?}, got {got}"));
        }
        Ok(Self { shape, storage: Arc::new(Storage::Float(dtype, bytes)) })
    }

    /// Weights in 4 bits, such as those of a bitsandbytes checkpoint.
    ///
    /// # Errors
    /// Another number of codes or scales than the shape needs.
    pub fn four_bit(shape: [usize; 2], weights: FourBit) -> Result<Self, String> {
        weights.check(shape[0] * shape[1])?;
        Ok(Self { shape, storage: Arc::new(Storage::FourBit(weights)) })
    }

    /// The same weight in another form. What is quantised already is expanded first.
    #[must_use]
    pub fn into_form(self, form: FrozenForm) -> Self {
        let same = matches!(
            (form, &*self.storage),
            (FrozenForm::Stored, _) | (FrozenForm::Int8, Storage::Int8(_)) | (FrozenForm::Nf4, Storage::FourBit(_))
        );
        if same {
            return self;
        }
        let read = |elements: Range<usize>, out: &mut [f32]| self.expand(elements, out);
        let n = self.n_elements();
        let storage = match form {
            FrozenForm::Int8 => Storage::Int8(Int8::quantise(n, read)),
            _ => Storage::FourBit(FourBit::nf4(n, read)),
        };
        Self { shape: self.shape, storage: Arc::new(storage) }
    }

    /// `[d_output, d_input]`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The memory that the values take, or the part of the file that is mapped for them, in bytes.
    pub fn n_bytes(&self) -> usize {
        match &*self.storage {
            Storage::Float(_, bytes) => bytes.as_slice().len(),
            Storage::Int8(weights) => weights.n_bytes(),
            Storage::FourBit(weights) => weights.n_bytes(),
        }
    }

    fn n_elements(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// Rows of the matrix in f32.
    ///
    /// # Panics
    /// If `out` has not as many values as the rows, or a row is not there.
    #[inline(always)]
    pub fn expand_rows(&self, rows: Range<usize>, out: &mut [f32]) {
        let width = self.shape[1];
        self.expand(rows.start * width..rows.end * width, out);
    }

    /// Elements in the order of the rows, in f32. Inlined, as all that it calls, into code for the processor's widest registers.
    #[inline(always)]
    fn expand(&self, elements: Range<usize>, out: &mut [f32]) {
        assert_eq!(elements.len(), out.len(), "room for the elements");
        match &*self.storage {
            Storage::Float(dtype, bytes) => {
                let width = dtype.size();
                expand_float(*dtype, &bytes.as_slice()[elements.start * width..elements.end * width], out);
            }
            Storage::Int8(weights) => weights.expand(elements, out),
            Storage::FourBit(weights) => weights.expand(elements, out),
        }
    }

    /// The product of rows and a vector in f32, where there is a way without expanding the rows: `out[i] = row i . x`. Returns
    /// whether there is.
    #[cfg_attr(not(feature = "flex"), expect(dead_code, reason = "the CPU backend's"))]
    pub(crate) fn rows_times_vector(&self, rows: Range<usize>, x: &InputVector, out: &mut [f32]) -> bool {
        let elements = rows.start * self.shape[1]..rows.end * self.shape[1];
        match &*self.storage {
            Storage::Float(DType::BF16, bytes) => {
                dot::rows_of_bf16(&bytes.as_slice()[2 * elements.start..2 * elements.end], x, out)
            }
            Storage::Float(..) => false,
            Storage::Int8(weights) => weights.rows_times_vector(elements, x, out),
            Storage::FourBit(weights) => weights.rows_times_vector(rows, self.shape[1], x, out),
        }
    }

    /// The whole matrix in f32.
    pub fn to_data(&self) -> TensorData {
        let mut values = vec![0.0; self.n_elements()];
        self.expand(0..values.len(), &mut values);
        TensorData::new(values, self.shape)
    }

    /// The whole matrix on a device: for one layer at a time, and for devices that cannot multiply with the narrow form. It
    /// has no gradient.
    pub fn to_tensor(&self, dtype: DType, device: &Device) -> Tensor<2> {
        Tensor::from_data(self.to_data(), (device, dtype))
    }
}

/// Little-endian values in f32.
#[inline(always)]
fn expand_float(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        DType::BF16 => {
            for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *value = f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16);
            }
        }
        DType::F16 => {
            for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *value = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
            }
        }
        _ => {
            for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
    }
}

impl fmt::Debug for FrozenWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for FrozenWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match &*self.storage {
            Storage::Float(dtype, _) => format!("{dtype:?}"),
            Storage::Int8(_) => "Int8".to_owned(),
            Storage::FourBit(_) => "4 bits".to_owned(),
        };
        write!(f, "frozen {:?} in {form}", self.shape)
    }
}

/// A frozen weight is no parameter: nobody visits, trains, moves or saves it with the others.
impl Module for FrozenWeight {
    fn visit<V: ModuleVisitor>(&self, _: &mut V) {}

    fn map<M: ModuleMapper>(self, _: &mut M) -> Self {
        self
    }

    fn to_device(self, _: &Device) -> Self {
        self
    }

    fn fork(self, _: &Device) -> Self {
        self
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        devices
    }

    fn materialize(self) -> Self {
        self
    }

    fn valid(&self) -> Self {
        self.clone()
    }

    fn train(self) -> Self {
        self
    }
}

impl ModuleDisplayDefault for FrozenWeight {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&self.to_string()).optional()
    }
}

impl ModuleDisplay for FrozenWeight {}
