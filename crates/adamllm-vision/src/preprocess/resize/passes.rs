//! The two convolutions over interleaved 8-bit RGB. Plain loops over fixed blocks, which compilers turn into vector
//! code; on x86-64 they are compiled a second time for AVX2, chosen at run time. Integers: both give the same bytes.

use super::weights::{FilterWeights, PRECISION_BITS};

const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Bytes of a row that the vertical pass sums at once.
const BLOCK: usize = 64;

/// Rows that the horizontal pass convolves at once.
const LANES: usize = 8;

/// Convolves every column. `width` in pixels.
pub(super) fn vertical(pixels: &[u8], width: u32, weights: &FilterWeights) -> Vec<u8> {
    dispatch(pixels, width as usize * 3, weights, vertical_pass, vertical_avx2)
}

/// Convolves every row. `width` in pixels, before the pass.
pub(super) fn horizontal(pixels: &[u8], width: u32, weights: &FilterWeights) -> Vec<u8> {
    dispatch(pixels, width as usize * 3, weights, horizontal_pass, horizontal_avx2)
}

type Pass = fn(&[u8], usize, &FilterWeights) -> Vec<u8>;

#[cfg(target_arch = "x86_64")]
fn dispatch(
    pixels: &[u8],
    stride: usize,
    weights: &FilterWeights,
    plain: Pass,
    avx2: unsafe fn(&[u8], usize, &FilterWeights) -> Vec<u8>,
) -> Vec<u8> {
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: `vertical_avx2` and `horizontal_avx2`, all that is ever passed, are unsafe for `target_feature(enable = "avx2")`
        // alone, and the processor was just found to have AVX2.
        return unsafe { avx2(pixels, stride, weights) };
    }
    plain(pixels, stride, weights)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn vertical_avx2(pixels: &[u8], stride: usize, weights: &FilterWeights) -> Vec<u8> {
    vertical_pass(pixels, stride, weights)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn horizontal_avx2(pixels: &[u8], stride: usize, weights: &FilterWeights) -> Vec<u8> {
    horizontal_pass(pixels, stride, weights)
}

#[cfg(not(target_arch = "x86_64"))]
fn dispatch(pixels: &[u8], stride: usize, weights: &FilterWeights, plain: Pass, _: Pass) -> Vec<u8> {
    plain(pixels, stride, weights)
}

#[cfg(not(target_arch = "x86_64"))]
use {horizontal_pass as horizontal_avx2, vertical_pass as vertical_avx2};

#[inline(always)]
fn vertical_pass(pixels: &[u8], stride: usize, weights: &FilterWeights) -> Vec<u8> {
    let mut output = vec![0; weights.n_outputs() * stride];
    for ((first, taps), row) in weights.iter().zip(output.chunks_exact_mut(stride)) {
        let mut blocks = row.chunks_exact_mut(BLOCK);
        let mut x = first * stride;
        for block in &mut blocks {
            // Half a unit first, as in Pillow: cutting off the fractional bits then rounds.
            let mut sums = [HALF; BLOCK];
            let mut offset = x;
            for &tap in taps {
                let input: &[u8; BLOCK] = pixels[offset..offset + BLOCK].try_into().expect("BLOCK bytes");
                for (sum, &value) in sums.iter_mut().zip(input) {
                    *sum += i32::from(value) * tap;
                }
                offset += stride;
            }

            for (value, sum) in block.iter_mut().zip(sums) {
                *value = clipped(sum);
            }

            x += BLOCK;
        }

        // What is left of the row, fewer bytes than a block.
        for (i, value) in blocks.into_remainder().iter_mut().enumerate() {
            let inputs = pixels[x + i..].iter().step_by(stride);
            *value = clipped(taps.iter().zip(inputs).fold(HALF, |sum, (tap, &input)| sum + tap * i32::from(input)));
        }
    }

    output
}

/// A block of rows is stored column by column, so that the same byte of all its rows is summed at once.
#[inline(always)]
fn horizontal_pass(pixels: &[u8], stride: usize, weights: &FilterWeights) -> Vec<u8> {
    let n_rows = pixels.len() / stride;
    let stride_out = weights.n_outputs() * 3;
    let mut output = vec![0; n_rows * stride_out];

    let mut columns = vec![[0_u8; LANES]; stride];
    let mut results = vec![[0_u8; LANES]; stride_out];
    for (input, output) in pixels.chunks(stride * LANES).zip(output.chunks_mut(stride_out * LANES)) {
        gather(input, stride, &mut columns);

        for ((first, taps), result) in weights.iter().zip(results.chunks_exact_mut(3)) {
            let mut sums = [[HALF; LANES]; 3];
            let inputs = columns[first * 3..].as_chunks::<3>().0;
            for (&tap, pixel) in taps.iter().zip(inputs) {
                for (sums, values) in sums.iter_mut().zip(pixel) {
                    for (sum, &value) in sums.iter_mut().zip(values) {
                        *sum += i32::from(value) * tap;
                    }
                }
            }
            for (result, sums) in result.iter_mut().zip(sums) {
                *result = sums.map(clipped);
            }
        }

        // The last rows may be fewer than lanes: what the other lanes hold is copied nowhere.
        for (lane, row) in output.chunks_exact_mut(stride_out).enumerate() {
            for (value, column) in row.iter_mut().zip(&results) {
                *value = column[lane];
            }
        }
    }

    output
}

/// Rows to columns; missing rows of the last block leave what was there.
#[inline(always)]
fn gather(rows: &[u8], stride: usize, columns: &mut [[u8; LANES]]) {
    if rows.len() == stride * LANES {
        let rows: [&[u8]; LANES] = std::array::from_fn(|lane| &rows[lane * stride..][..stride]);
        for (i, column) in columns.iter_mut().enumerate() {
            *column = rows.map(|row| row[i]);
        }
        return;
    }
    for (lane, row) in rows.chunks_exact(stride).enumerate() {
        for (column, &value) in columns.iter_mut().zip(row) {
            column[lane] = value;
        }
    }
}

#[inline(always)]
fn clipped(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}
