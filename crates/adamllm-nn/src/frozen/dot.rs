//! Products of rows in bf16 or in 8 bits and a vector in f32, in the processor's registers: AVX-512, or AVX2 with FMA.

use super::{BLOCK, InputVector};

/// `out[i] = row i . x` for rows of bf16 values, little-endian; `false` where the processor has no way or the rows are no multiple of 32
/// wide.
#[cfg(target_arch = "x86_64")]
pub(super) fn rows_of_bf16(rows: &[u8], x: &InputVector, out: &mut [f32]) -> bool {
    let width = x.plain.len();
    if width == 0 || !width.is_multiple_of(32) {
        return false;
    }
    assert!(rows.len() == 2 * width * out.len() && x.even.len() == width / 2 && x.odd.len() == width / 2, "whole rows");
    let Some(is_wide) = registers() else { return false };
    for (row, out) in rows.chunks_exact(2 * width).zip(out) {
        // SAFETY: the processor has the instructions, asked just now. A row has `2 * width` bytes, the halves of `x` half as many values
        // as the row, and `width` is a multiple of 32, checked above.
        *out = unsafe { if is_wide { x86::bf16_avx512(row, x) } else { x86::bf16_avx2(row, x) } };
    }
    true
}

/// The same for rows of codes in 8 bits, in blocks of [`BLOCK`] that have a scale each.
#[cfg(target_arch = "x86_64")]
pub(super) fn rows_of_int8(codes: &[i8], scales: &[f32], x: &InputVector, out: &mut [f32]) -> bool {
    let width = x.plain.len();
    if width == 0 || !width.is_multiple_of(BLOCK) {
        return false;
    }
    let whole = codes.len() == width * out.len() && scales.len() == width / BLOCK * out.len();
    assert!(whole, "whole rows");
    let Some(is_wide) = registers() else { return false };
    let rows = codes.chunks_exact(width).zip(scales.chunks_exact(width / BLOCK));
    for ((codes, scales), out) in rows.zip(out) {
        // SAFETY: as above; a row has `width` codes, a multiple of the block, and a scale for each block.
        *out = unsafe {
            if is_wide { x86::int8_avx512(codes, scales, &x.plain) } else { x86::int8_avx2(codes, scales, &x.plain) }
        };
    }
    true
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn rows_of_bf16(_: &[u8], _: &InputVector, _: &mut [f32]) -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn rows_of_int8(_: &[i8], _: &[f32], _: &InputVector, _: &mut [f32]) -> bool {
    false
}

/// Whether the registers are of 512 bits; `None` without AVX2.
#[cfg(target_arch = "x86_64")]
pub(super) fn registers() -> Option<bool> {
    let is_wide = is_x86_feature_detected!("avx512f");
    (is_wide || (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"))).then_some(is_wide)
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::{
        __m256, __m256i, __m512i, _mm_loadl_epi64, _mm_loadu_si128, _mm256_and_si256, _mm256_castsi256_ps,
        _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
        _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32, _mm256_storeu_ps, _mm512_add_ps,
        _mm512_and_si512, _mm512_castsi512_ps, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_loadu_si512, _mm512_reduce_add_ps, _mm512_set1_epi32, _mm512_set1_ps,
        _mm512_setzero_ps, _mm512_slli_epi32,
    };

    use super::{BLOCK, InputVector};

    /// The upper half of each pair of bf16 values, which is the odd one, is a float as it stands; the lower one is after a shift.
    const UPPER: i32 = 0xffff_0000_u32.cast_signed();

    /// # Safety
    /// The processor has AVX-512 F. `row` has 4 bytes for each value of a half of `x`; a half has a multiple of 16 values.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn bf16_avx512(row: &[u8], x: &InputVector) -> f32 {
        let upper = _mm512_set1_epi32(UPPER);
        // Two sums, so that an addition does not wait for the one before.
        let (mut of_even, mut of_odd) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        for at in (0..x.even.len()).step_by(16) {
            // SAFETY: 16 values, and the 64 bytes of as many pairs, from an index that is as far from the end.
            let (pairs, even, odd): (__m512i, _, _) = unsafe {
                (
                    _mm512_loadu_si512(row.as_ptr().add(4 * at).cast()),
                    _mm512_loadu_ps(x.even.as_ptr().add(at)),
                    _mm512_loadu_ps(x.odd.as_ptr().add(at)),
                )
            };
            of_even = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), even, of_even);
            of_odd = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(pairs, upper)), odd, of_odd);
        }
        _mm512_reduce_add_ps(_mm512_add_ps(of_even, of_odd))
    }

    /// # Safety
    /// The processor has AVX2 and FMA; lengths as of [`bf16_avx512`].
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn bf16_avx2(row: &[u8], x: &InputVector) -> f32 {
        let upper = _mm256_set1_epi32(UPPER);
        let (mut of_even, mut of_odd) = (_mm256_setzero_ps(), _mm256_setzero_ps());
        for at in (0..x.even.len()).step_by(8) {
            // SAFETY: 8 values, and the 32 bytes of as many pairs, from an index that is as far from the end.
            let (pairs, even, odd): (__m256i, _, _) = unsafe {
                (
                    _mm256_loadu_si256(row.as_ptr().add(4 * at).cast()),
                    _mm256_loadu_ps(x.even.as_ptr().add(at)),
                    _mm256_loadu_ps(x.odd.as_ptr().add(at)),
                )
            };
            of_even = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)), even, of_even);
            of_odd = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_and_si256(pairs, upper)), odd, of_odd);
        }
        sum_of(of_even) + sum_of(of_odd)
    }

    /// # Safety
    /// The processor has AVX-512 F. `codes` and `x` are of one length, a multiple of [`BLOCK`], with a scale for each block.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn int8_avx512(codes: &[i8], scales: &[f32], x: &[f32]) -> f32 {
        let mut total = _mm512_setzero_ps();
        for (block, scale) in scales.iter().enumerate() {
            let mut sum = _mm512_setzero_ps();
            for at in (block * BLOCK..(block + 1) * BLOCK).step_by(16) {
                // SAFETY: 16 codes and 16 values from an index inside a whole block.
                let (codes, x) =
                    unsafe { (_mm_loadu_si128(codes.as_ptr().add(at).cast()), _mm512_loadu_ps(x.as_ptr().add(at))) };
                sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)), x, sum);
            }
            total = _mm512_fmadd_ps(sum, _mm512_set1_ps(*scale), total);
        }
        _mm512_reduce_add_ps(total)
    }

    /// # Safety
    /// The processor has AVX2 and FMA; lengths as of [`int8_avx512`].
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn int8_avx2(codes: &[i8], scales: &[f32], x: &[f32]) -> f32 {
        let mut total = _mm256_setzero_ps();
        for (block, scale) in scales.iter().enumerate() {
            let mut sum = _mm256_setzero_ps();
            for at in (block * BLOCK..(block + 1) * BLOCK).step_by(8) {
                // SAFETY: 8 codes and 8 values from an index inside a whole block.
                let (codes, x) =
                    unsafe { (_mm_loadl_epi64(codes.as_ptr().add(at).cast()), _mm256_loadu_ps(x.as_ptr().add(at))) };
                sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)), x, sum);
            }
            total = _mm256_fmadd_ps(sum, _mm256_set1_ps(*scale), total);
        }
        sum_of(total)
    }

    #[target_feature(enable = "avx2")]
    pub(in crate::frozen) fn sum_of(lanes: __m256) -> f32 {
        let mut values = [0.0f32; 8];
        // SAFETY: room for eight values.
        unsafe { _mm256_storeu_ps(values.as_mut_ptr(), lanes) };
        values.iter().sum()
    }

    #[cfg(test)]
    mod tests {
        use half::bf16;

        use super::*;

        #[test]
        fn each_instruction_set_multiplies_as_plain_sums() {
            let n = 5 * BLOCK;
            let x: Vec<f32> = (0..n).map(|i| ((i * 31 % 67) as f32 - 30.0) * 0.05).collect();
            let codes: Vec<i8> = (0..n).map(|i| ((i * 89 % 255) as i16 - 127) as i8).collect();
            let scales: Vec<f32> = (0..n / BLOCK).map(|block| 0.01 + 0.003 * block as f32).collect();
            let halves: Vec<bf16> = (0..n).map(|i| bf16::from_f32((i * 53 % 101) as f32 * 0.07 - 3.0)).collect();
            let row: Vec<u8> = halves.iter().flat_map(|value| value.to_le_bytes()).collect();

            let sum = |value: &dyn Fn(usize) -> f64| (0..n).map(|i| f64::from(x[i]) * value(i)).sum::<f64>();
            let of_bf16 = sum(&|i| f64::from(halves[i].to_f32()));
            let of_int8 = sum(&|i| f64::from(codes[i]) * f64::from(scales[i / BLOCK]));
            let vector = InputVector::of(&x);
            let mut found = Vec::new();
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: asked for, and the lengths are whole blocks.
                let got = unsafe { [bf16_avx512(&row, &vector), int8_avx512(&codes, &scales, &x)] };
                found.push(got);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: as above.
                let got = unsafe { [bf16_avx2(&row, &vector), int8_avx2(&codes, &scales, &x)] };
                found.push(got);
            }
            for [bf16, int8] in found {
                assert!((f64::from(bf16) - of_bf16).abs() < 1e-4 * of_bf16.abs().max(1.0), "{bf16}, not {of_bf16}");
                assert!((f64::from(int8) - of_int8).abs() < 1e-4 * of_int8.abs().max(1.0), "{int8}, not {of_int8}");
            }
        }
    }
}
