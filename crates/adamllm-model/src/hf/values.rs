//! Values of a tensor as they stand in a file, checked and converted on all processors in one pass over memory.

use burn::tensor::{DType, TensorData};
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

/// Values that one task reads: small enough for a processor's cache.
const CHUNK: usize = 1 << 16;

/// The values in `dtype`.
///
/// # Errors
/// The index of the first value that is infinite or not a number.
pub(super) fn read(bytes: &[u8], shape: Vec<usize>, source: DType, dtype: DType) -> Result<TensorData, usize> {
    let width = source.size();
    if source == dtype {
        let mut copy = vec![0; bytes.len()];
        each_chunk(bytes, &mut copy, width, width, |from, to| to.copy_from_slice(from), source)?;
        return Ok(TensorData::from_bytes_vec(copy, shape, dtype));
    }
    match (source, dtype) {
        (DType::BF16 | DType::F16, DType::F32) => {
            let mut values = vec![0f32; bytes.len() / width];
            let convert = if source == DType::BF16 { from_bf16 } else { from_f16 };
            each_chunk(bytes, &mut values, width, 1, convert, source)?;
            Ok(TensorData::new(values, shape))
        }
        // Rarer pairs, in burn's own conversion.
        _ => {
            let data = read(bytes, shape, source, source)?;
            Ok(data.convert_dtype(dtype))
        }
    }
}

/// Whether the values are finite.
///
/// # Errors
/// As [`read`].
pub(super) fn check(bytes: &[u8], source: DType) -> Result<(), usize> {
    let chunks = bytes.par_chunks(CHUNK * source.size()).enumerate();
    first_fault(chunks.filter_map(|(i, chunk)| fault(i, chunk, source)))
}

/// Checks and converts chunk by chunk; `width_in` bytes become `width_out` elements.
fn each_chunk<T: Send>(
    bytes: &[u8],
    out: &mut [T],
    width_in: usize,
    width_out: usize,
    convert: impl Fn(&[u8], &mut [T]) + Sync,
    source: DType,
) -> Result<(), usize> {
    let chunks = bytes.par_chunks(CHUNK * width_in).zip(out.par_chunks_mut(CHUNK * width_out)).enumerate();
    first_fault(chunks.filter_map(|(i, (from, to))| {
        convert(from, to);
        fault(i, from, source)
    }))
}

/// The index, in the whole tensor, of the first value of chunk `i` that is not finite.
fn fault(i: usize, chunk: &[u8], dtype: DType) -> Option<usize> {
    (!all_finite(chunk, dtype)).then(|| i * CHUNK + first_not_finite(chunk, dtype))
}

fn first_fault(faults: impl ParallelIterator<Item = usize>) -> Result<(), usize> {
    faults.min().map_or(Ok(()), Err)
}

fn from_bf16(from: &[u8], to: &mut [f32]) {
    for (value, bytes) in to.iter_mut().zip(from.chunks_exact(2)) {
        *value = f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16);
    }
}

fn from_f16(from: &[u8], to: &mut [f32]) {
    let halves: Vec<f16> = from.chunks_exact(2).map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]])).collect();
    halves.convert_to_f32_slice(to);
}

/// Whether no value is infinite or not a number, which all have every bit of their exponent set. Every value is looked at, so
/// that the loop becomes vector instructions.
fn all_finite(bytes: &[u8], dtype: DType) -> bool {
    let halves = |exponent: u16| {
        let set = |half: &[u8]| u16::from_le_bytes([half[0], half[1]]) & exponent == exponent;
        !bytes.chunks_exact(2).fold(false, |any, half| any | set(half))
    };
    match dtype {
        DType::F16 => halves(0x7c00),
        DType::BF16 => halves(0x7f80),
        DType::F64 => {
            bytes.chunks_exact(8).all(|eight| f64::from_le_bytes(eight.try_into().expect("eight")).is_finite())
        }
        _ => {
            const EXPONENT: u32 = 0x7f80_0000;
            let set = |word: &[u8]| u32::from_le_bytes([word[0], word[1], word[2], word[3]]) & EXPONENT == EXPONENT;
            !bytes.chunks_exact(4).fold(false, |any, word| any | set(word))
        }
    }
}

/// The index of the first value that [`all_finite`] stumbles over.
fn first_not_finite(bytes: &[u8], dtype: DType) -> usize {
    let width = dtype.size();
    let mut values = bytes.chunks_exact(width);
    values.position(|value| !all_finite(value, dtype)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    /// Two chunks and a bit, against the conversions of `half`.
    #[test]
    fn every_pair_converts_and_is_checked() {
        let n = 2 * CHUNK + 77;
        let number = |i: usize| ((i * 2_654_435_761 % 10_007) as f32 - 5000.0) / 37.0;
        let bf: Vec<u8> = (0..n).flat_map(|i| bf16::from_f32(number(i)).to_le_bytes()).collect();
        let f: Vec<u8> = (0..n).flat_map(|i| f16::from_f32(number(i)).to_le_bytes()).collect();
        let full: Vec<u8> = (0..n).flat_map(|i| number(i).to_le_bytes()).collect();
        let values = |bytes: &[u8], source| -> Vec<f32> {
            read(bytes, vec![n], source, DType::F32).expect("finite").try_into_vec().expect("f32")
        };
        assert!(values(&bf, DType::BF16).iter().enumerate().all(|(i, &v)| v == bf16::from_f32(number(i)).to_f32()));
        assert!(values(&f, DType::F16).iter().enumerate().all(|(i, &v)| v == f16::from_f32(number(i)).to_f32()));
        assert!(values(&full, DType::F32).iter().enumerate().all(|(i, &v)| v == number(i)));
        let narrowed = read(&full, vec![n], DType::F32, DType::BF16).expect("finite");
        assert_eq!((narrowed.dtype(), narrowed.as_bytes()), (DType::BF16, bf.as_slice()));

        for (mut bytes, source, width) in [(bf, DType::BF16, 2), (f, DType::F16, 2), (full, DType::F32, 4)] {
            for at in [n - 1, CHUNK + 5] {
                bytes[at * width..(at + 1) * width].fill(0xff);
                assert_eq!(read(&bytes, vec![n], source, DType::F32).expect_err("not a number"), at);
            }
        }
    }
}
