//! Differences between neighbours, undone after unpacking.

use super::layout::Layout;
use super::packing::Packing;
use super::unsupported;
use crate::DecodeError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Predictor {
    None,
    /// Each sample less its left neighbour's.
    Horizontal,
    /// Bytes of floats, sorted by weight, each less its left neighbour.
    Float,
}

impl Predictor {
    /// Packings that know no predictor ignore the field, as libtiff does.
    pub(super) fn of(code: u64, packing: Packing, layout: &Layout) -> Result<Self, DecodeError> {
        let wrong = || Err(unsupported(format!("predictor {code} of {} bits", layout.bits)));
        match (code, layout.bits) {
            _ if !packing.predicts() => Ok(Self::None),
            (1, _) => Ok(Self::None),
            (2, 8 | 16 | 32) => Ok(Self::Horizontal),
            (3, 32) => Ok(Self::Float),
            _ => wrong(),
        }
    }

    /// Undoes the differences in one row; `n_samples` are interleaved, of `bits` each. Leaves the bytes in the file's
    /// order.
    pub(super) fn undo(self, row: &mut [u8], n_samples: usize, bits: usize, big_endian: bool) {
        let size = bits / 8;
        let step = n_samples * size;

        match (self, size) {
            (Self::None, _) => {}
            (Self::Horizontal, 1) => {
                for i in step..row.len() {
                    row[i] = row[i].wrapping_add(row[i - step]);
                }
            }
            (Self::Horizontal, _) => {
                for i in (step..row.len().saturating_sub(size - 1)).step_by(size) {
                    add(row, i - step, i, size, big_endian);
                }
            }
            (Self::Float, _) => {
                for i in n_samples..row.len() {
                    row[i] = row[i].wrapping_add(row[i - n_samples]);
                }

                // All highest bytes come first, then all next ones, in either byte order (TIFF technical note 3).
                let sorted = row.to_vec();
                let n = row.len() / size;
                for (i, value) in row.chunks_exact_mut(size).enumerate() {
                    for (byte, out) in value.iter_mut().enumerate() {
                        let weight = if big_endian { byte } else { size - 1 - byte };
                        *out = sorted[weight * n + i];
                    }
                }
            }
        }
    }
}

/// Adds the number of `size` bytes at `from` to that at `to`.
fn add(row: &mut [u8], from: usize, to: usize, size: usize, big_endian: bool) {
    let mut carry = 0;
    for i in 0..size {
        let byte = if big_endian { size - 1 - i } else { i };
        let sum = u16::from(row[from + byte]) + u16::from(row[to + byte]) + carry;
        row[to + byte] = sum as u8;
        carry = sum >> 8;
    }
}
