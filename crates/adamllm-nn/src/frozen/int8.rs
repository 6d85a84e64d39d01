//! 8 bits: `x ~ code * scale`, `scale = max |x| / 127` of the block, codes from -127 to 127.

use std::ops::Range;

use super::{BLOCK, InputVector, dot};

pub(super) struct Int8 {
    codes: Vec<i8>,
    /// Of each block.
    scales: Vec<f32>,
}

impl Int8 {
    /// Quantises `n` values, which are read a block at a time.
    pub(super) fn quantise(n: usize, read: impl Fn(Range<usize>, &mut [f32])) -> Self {
        let (mut codes, mut scales) = (Vec::with_capacity(n), Vec::with_capacity(n.div_ceil(BLOCK)));
        let mut block = [0.0; BLOCK];
        for start in (0..n).step_by(BLOCK) {
            let block = &mut block[..BLOCK.min(n - start)];
            read(start..start + block.len(), block);
            let largest = block.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let scale = largest / 127.0;
            scales.push(scale);
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            codes.extend(block.iter().map(|x| (x * inverse).round().clamp(-127.0, 127.0) as i8));
        }
        Self { codes, scales }
    }

    /// The bytes of `n` values: a code each, and a scale for each block.
    pub(super) fn n_bytes_of(n: usize) -> usize {
        n + 4 * n.div_ceil(BLOCK)
    }

    pub(super) fn n_bytes(&self) -> usize {
        self.codes.len() + 4 * self.scales.len()
    }

    /// `out[i] = row i . x` for the rows that `elements` are, where rows are whole blocks and the processor has the registers; `false`
    /// elsewhere.
    pub(super) fn rows_times_vector(&self, elements: Range<usize>, x: &InputVector, out: &mut [f32]) -> bool {
        if !elements.start.is_multiple_of(BLOCK) || !elements.end.is_multiple_of(BLOCK) {
            return false;
        }
        let scales = &self.scales[elements.start / BLOCK..elements.end / BLOCK];
        dot::rows_of_int8(&self.codes[elements], scales, x, out)
    }

    #[inline(always)]
    pub(super) fn expand(&self, elements: Range<usize>, out: &mut [f32]) {
        let mut done = 0;
        while done < out.len() {
            let at = elements.start + done;
            let end = (at + BLOCK - at % BLOCK).min(elements.end);
            let scale = self.scales[at / BLOCK];
            for (value, &code) in out[done..].iter_mut().zip(&self.codes[at..end]) {
                *value = f32::from(code) * scale;
            }
            done += end - at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_off_by_more_than_half_a_step() {
        let n = 3 * BLOCK + 10;
        let values: Vec<f32> =
            (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) * if i < BLOCK { 0.0 } else { 0.3 }).collect();
        let weights = Int8::quantise(n, |range, out| out.copy_from_slice(&values[range]));
        let mut expanded = vec![0.0; n];
        weights.expand(0..n, &mut expanded);
        for (start, block) in values.chunks(BLOCK).enumerate() {
            let step = block.iter().fold(0.0f32, |largest, x| largest.max(x.abs())) / 127.0;
            for (x, y) in block.iter().zip(&expanded[start * BLOCK..]) {
                assert!((x - y).abs() <= 0.5001 * step, "{x} became {y}");
            }
        }
        // A part that begins in the middle of a block is the same.
        let mut part = vec![0.0; 100];
        weights.expand(50..150, &mut part);
        assert_eq!(part, expanded[50..150]);
        assert_eq!(weights.n_bytes(), n + 4 * 4);
    }
}
