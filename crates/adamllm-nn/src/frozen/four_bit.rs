//! 4 bits: `x ~ table[code] * scale`, `scale = max |x|` of the block, and the scales in 8 bits again (double quantisation):
//! `scale ~ dynamic[code] * nested + offset`, where `offset` is the mean of all scales and `nested` the largest distance from it
//! in 256 of them.
//!
//! - The first of two codes is in a byte's upper half. Blocks run over the rows as if they were one.
//! - A product with one vector takes the codes as they are: a table of sixteen values is one register of AVX-512, two of AVX2.

use std::ops::Range;

use super::{BLOCK, InputVector, SharedBytes};
use crate::DynamicTable;

/// The levels of the 4-bit NormalFloat: quantiles of the normal distribution, scaled to -1 to 1 (Dettmers et al., 2023, appendix E).
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Scales that are quantised together.
const NESTED_BLOCK: usize = 256;

/// Weights in 4 bits.
#[derive(Clone, Debug)]
pub struct FourBit {
    codes: SharedBytes,
    table: [f32; 16],
    block: usize,
    scales: BlockScales,
}

/// The scale of each block of 4-bit weights.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BlockScales {
    /// In f32.
    Plain(Vec<f32>),
    /// In 8 bits: `table[code] * nested[i / nested_block] + offset` for block `i`.
    Double {
        /// One for each block.
        codes: Vec<u8>,
        /// The values of the codes.
        table: Box<[f32; 256]>,
        /// The scales of the scales.
        nested: Vec<f32>,
        /// Blocks that share one of them.
        nested_block: usize,
        /// What is added to each.
        offset: f32,
    },
}

impl BlockScales {
    #[inline(always)]
    fn get(&self, block: usize) -> f32 {
        match self {
            Self::Plain(scales) => scales[block],
            Self::Double { codes, table, nested, nested_block, offset } => {
                table[usize::from(codes[block])] * nested[block / nested_block] + offset
            }
        }
    }

    fn check(&self, n_blocks: usize) -> Result<(), String> {
        let fits = match self {
            Self::Plain(scales) => scales.len() == n_blocks,
            Self::Double { codes, nested, nested_block, .. } => {
                codes.len() == n_blocks && *nested_block > 0 && nested.len() == n_blocks.div_ceil(*nested_block)
            }
        };
        if fits { Ok(()) } else { Err(format!("expected scales for {n_blocks} blocks, got another number")) }
    }

    fn n_bytes(&self) -> usize {
        match self {
            Self::Plain(scales) => 4 * scales.len(),
            Self::Double { codes, nested, .. } => codes.len() + 4 * (nested.len() + 257),
        }
    }

    /// Quantises scales in turn.
    fn double(scales: &[f32]) -> Self {
        let offset = (scales.iter().map(|&scale| f64::from(scale)).sum::<f64>() / scales.len().max(1) as f64) as f32;
        let table = DynamicTable::signed();
        let (mut codes, mut nested) = (Vec::with_capacity(scales.len()), Vec::new());
        for block in scales.chunks(NESTED_BLOCK) {
            let largest = block.iter().fold(0.0f32, |largest, scale| largest.max((scale - offset).abs()));
            let inverse = 1.0 / largest.max(1e-38);
            codes.extend(block.iter().map(|scale| table.nearest(((scale - offset) * inverse).clamp(-1.0, 1.0))));
            nested.push(largest);
        }
        Self::Double { codes, table: Box::new(*table.values()), nested, nested_block: NESTED_BLOCK, offset }
    }
}

impl FourBit {
    /// Weights as they were quantised elsewhere: two `codes` in a byte, the values of the sixteen codes, and the weights of a block.
    pub fn new(codes: SharedBytes, table: [f32; 16], block: usize, scales: BlockScales) -> Self {
        Self { codes, table, block, scales }
    }

    /// Quantises `n` values, which are read a part at a time, on all cores.
    pub(super) fn nf4(n: usize, read: impl Fn(Range<usize>, &mut [f32]) + Sync) -> Self {
        // Even, so that no two parts share a byte.
        const PART: usize = 1024 * BLOCK;
        let midpoints: [f32; 15] = std::array::from_fn(|i| (NF4[i] + NF4[i + 1]) / 2.0);
        let part = |start: usize| {
            let mut values = vec![0.0; PART.min(n - start)];
            read(start..start + values.len(), &mut values);
            let mut scales = Vec::with_capacity(values.len().div_ceil(BLOCK));
            for block in values.chunks_mut(BLOCK) {
                let largest = block.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
                scales.push(largest);
                let inverse = 1.0 / largest.max(1e-38);
                block.iter_mut().for_each(|x| *x = (*x * inverse).clamp(-1.0, 1.0));
            }
            // The number of midpoints below: a sum without branches.
            let code = |x: f32| midpoints.iter().map(|&midpoint| u8::from(midpoint < x)).sum::<u8>();
            let packed = values.chunks(2).map(|pair| code(pair[0]) << 4 | pair.get(1).map_or(code(0.0), |&x| code(x)));
            (packed.collect::<Vec<u8>>(), scales)
        };
        let starts: Vec<usize> = (0..n).step_by(PART).collect();
        #[cfg(feature = "flex")]
        let parts: Vec<_> = {
            use rayon::prelude::*;
            starts.into_par_iter().map(part).collect()
        };
        #[cfg(not(feature = "flex"))]
        let parts: Vec<_> = starts.into_iter().map(part).collect();

        let (mut codes, mut scales) = (Vec::with_capacity(n.div_ceil(2)), Vec::with_capacity(n.div_ceil(BLOCK)));
        for (packed, of_blocks) in parts {
            codes.extend(packed);
            scales.extend(of_blocks);
        }
        Self { codes: codes.into(), table: NF4, block: BLOCK, scales: BlockScales::double(&scales) }
    }

    pub(super) fn check(&self, n: usize) -> Result<(), String> {
        let (expected, got) = (n.div_ceil(2), self.codes.as_slice().len());
        if expected != got {
            return Err(format!("expected {expected} bytes of 4-bit codes, got {got}"));
        }
        // An odd block would begin in the middle of a byte.
        if self.block == 0 || self.block % 2 == 1 {
            return Err(format!("expected an even number of weights in a block, got {}", self.block));
        }
        self.scales.check(n.div_ceil(self.block))
    }

    /// The bytes of `n` values as [`FourBit::nf4`] keeps them: half a byte each, and the doubly quantised scales of the blocks.
    pub(super) fn nf4_bytes_of(n: usize) -> usize {
        let n_blocks = n.div_ceil(BLOCK);
        n.div_ceil(2) + n_blocks + 4 * (n_blocks.div_ceil(NESTED_BLOCK) + 257)
    }

    pub(super) fn n_bytes(&self) -> usize {
        self.codes.as_slice().len() + self.scales.n_bytes()
    }

    #[inline(always)]
    pub(super) fn expand(&self, elements: Range<usize>, out: &mut [f32]) {
        let codes = self.codes.as_slice();
        let mut done = 0;
        while done < out.len() {
            let at = elements.start + done;
            let end = (at + self.block - at % self.block).min(elements.end);
            let scale = self.scales.get(at / self.block);
            let scaled = self.table.map(|level| level * scale);
            let of = |code: u8| scaled[usize::from(code & 15)];
            let out = &mut out[done..done + end - at];
            // Whole bytes where the part begins with one.
            if at.is_multiple_of(2) {
                let bytes = &codes[at / 2..end.div_ceil(2)];
                let (pairs, rest) = out.as_chunks_mut::<2>();
                for (pair, &byte) in pairs.iter_mut().zip(bytes) {
                    *pair = [of(byte >> 4), of(byte)];
                }
                if let Some(last) = rest.first_mut() {
                    *last = of(bytes[bytes.len() - 1] >> 4);
                }
            } else {
                for (i, value) in (at..end).zip(out) {
                    *value = of(if i % 2 == 0 { codes[i / 2] >> 4 } else { codes[i / 2] });
                }
            }
            done += end - at;
        }
    }

    /// `out[i] = row i . x`, where rows are whole blocks of [`BLOCK`] and the processor has the registers; `false` elsewhere.
    pub(super) fn rows_times_vector(&self, rows: Range<usize>, width: usize, x: &InputVector, out: &mut [f32]) -> bool {
        assert!(x.even.len() == width.div_ceil(2) && x.odd.len() == width / 2 && out.len() == rows.len(), "sizes");
        if self.block != BLOCK || !width.is_multiple_of(BLOCK) {
            return false;
        }
        let codes = &self.codes.as_slice()[rows.start * width / 2..rows.end * width / 2];
        let blocks_per_row = width / BLOCK;
        let of_row = |row: usize| (rows.start + row) * blocks_per_row;
        let scales = |row: usize, block: usize| self.scales.get(of_row(row) + block);
        dot::rows(codes, &self.table, scales, x, out)
    }
}

/// Products of 4-bit rows and a vector in the processor's registers.
mod dot {
    use super::{BLOCK, InputVector};
    #[cfg(target_arch = "x86_64")]
    use crate::frozen::dot::{registers, x86::sum_of};

    /// Whether there was a way: AVX-512, or AVX2 with FMA.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn rows(
        codes: &[u8],
        table: &[f32; 16],
        scale: impl Fn(usize, usize) -> f32,
        x: &InputVector,
        out: &mut [f32],
    ) -> bool {
        let bytes_per_row = x.even.len();
        assert!(codes.len() == out.len() * bytes_per_row && x.odd.len() == bytes_per_row, "whole rows");
        assert!(bytes_per_row.is_multiple_of(BLOCK / 2), "whole blocks");
        let Some(is_wide) = registers() else { return false };
        for (row, (codes, out)) in codes.chunks_exact(bytes_per_row).zip(out).enumerate() {
            // SAFETY: the processor has the instructions, asked just now. A row's codes and both halves of `x` are
            // `bytes_per_row` long, a multiple of the block's 32 bytes, checked above.
            *out = unsafe {
                if is_wide {
                    row_avx512(codes, table, |block| scale(row, block), x)
                } else {
                    row_avx2(codes, table, |block| scale(row, block), x)
                }
            };
        }
        true
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn rows(
        _: &[u8],
        _: &[f32; 16],
        _: impl Fn(usize, usize) -> f32,
        _: &InputVector,
        _: &mut [f32],
    ) -> bool {
        false
    }

    /// # Safety
    /// The processor has AVX-512 F. `codes` and both halves of `x` are of one length, a multiple of 32.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn row_avx512(codes: &[u8], table: &[f32; 16], scale: impl Fn(usize) -> f32, x: &InputVector) -> f32 {
        use std::arch::x86_64::{
            _mm_loadu_si128, _mm512_cvtepu8_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_permutexvar_ps,
            _mm512_reduce_add_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_srli_epi32,
        };

        // SAFETY: every load is of 16 bytes or 16 values from an index that is at least that far from the end, by the lengths that
        // the caller vouches for.
        unsafe {
            let levels = _mm512_loadu_ps(table.as_ptr());
            let mut total = _mm512_setzero_ps();
            for block in 0..codes.len() / (BLOCK / 2) {
                let mut sum = _mm512_setzero_ps();
                for at in [block * 32, block * 32 + 16] {
                    // The lower four bits of an index are looked at, which are the odd element's code.
                    let odd = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.as_ptr().add(at).cast()));
                    let even = _mm512_srli_epi32::<4>(odd);
                    let (even, odd) = (_mm512_permutexvar_ps(even, levels), _mm512_permutexvar_ps(odd, levels));
                    sum = _mm512_fmadd_ps(even, _mm512_loadu_ps(x.even.as_ptr().add(at)), sum);
                    sum = _mm512_fmadd_ps(odd, _mm512_loadu_ps(x.odd.as_ptr().add(at)), sum);
                }
                total = _mm512_fmadd_ps(sum, _mm512_set1_ps(scale(block)), total);
            }
            _mm512_reduce_add_ps(total)
        }
    }

    /// # Safety
    /// The processor has AVX2 and FMA. `codes` and both halves of `x` are of one length, a multiple of 32.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn row_avx2(codes: &[u8], table: &[f32; 16], scale: impl Fn(usize) -> f32, x: &InputVector) -> f32 {
        use std::arch::x86_64::{
            __m256, __m256i, _mm_loadl_epi64, _mm256_blendv_ps, _mm256_castsi256_ps, _mm256_cvtepu8_epi32,
            _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_permutevar8x32_ps, _mm256_set1_ps, _mm256_setzero_ps,
            _mm256_slli_epi32, _mm256_srli_epi32,
        };

        // SAFETY: every load is of 8 bytes or 8 values from an index that is at least that far from the end, by the lengths that the
        // caller vouches for.
        unsafe {
            let (low, high) = (_mm256_loadu_ps(table.as_ptr()), _mm256_loadu_ps(table.as_ptr().add(8)));
            // The lower three bits choose in each half of the table, the fourth between the halves: as a sign, which the blend asks
            // for.
            let level = |code: __m256i| -> __m256 {
                let (below, above) = (_mm256_permutevar8x32_ps(low, code), _mm256_permutevar8x32_ps(high, code));
                _mm256_blendv_ps(below, above, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(code)))
            };
            let mut total = _mm256_setzero_ps();
            for block in 0..codes.len() / (BLOCK / 2) {
                let mut sum = _mm256_setzero_ps();
                for at in (block * 32..block * 32 + 32).step_by(8) {
                    let odd = _mm256_cvtepu8_epi32(_mm_loadl_epi64(codes.as_ptr().add(at).cast()));
                    let even = _mm256_srli_epi32::<4>(odd);
                    sum = _mm256_fmadd_ps(level(even), _mm256_loadu_ps(x.even.as_ptr().add(at)), sum);
                    sum = _mm256_fmadd_ps(level(odd), _mm256_loadu_ps(x.odd.as_ptr().add(at)), sum);
                }
                total = _mm256_fmadd_ps(sum, _mm256_set1_ps(scale(block)), total);
            }
            sum_of(total)
        }
    }

    #[cfg(all(test, target_arch = "x86_64"))]
    mod tests {
        use super::*;

        #[test]
        fn each_instruction_set_multiplies_as_the_expanded_row() {
            let n = 6 * BLOCK;
            let codes: Vec<u8> = (0..n / 2).map(|i| (i * 89 % 251) as u8).collect();
            let table: [f32; 16] = std::array::from_fn(|i| (i as f32 - 7.3) * 0.21);
            let x: Vec<f32> = (0..n).map(|i| ((i * 31 % 67) as f32 - 30.0) * 0.05).collect();
            let scale = |block: usize| 0.3 + block as f32;
            let code = |i: usize| if i.is_multiple_of(2) { codes[i / 2] >> 4 } else { codes[i / 2] & 15 };
            let value = |i: usize| f64::from(table[usize::from(code(i))]) * f64::from(scale(i / BLOCK));
            let expected: f64 = x.iter().enumerate().map(|(i, x)| f64::from(*x) * value(i)).sum();
            let halves = InputVector::of(&x);
            let mut found = Vec::new();
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: asked for, and the lengths are whole blocks.
                found.push(unsafe { row_avx512(&codes, &table, scale, &halves) });
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: as above.
                found.push(unsafe { row_avx2(&codes, &table, scale, &halves) });
            }
            for got in found {
                assert!((f64::from(got) - expected).abs() < 1e-4 * expected.abs().max(1.0), "{got} against {expected}");
            }
        }
    }
}
