//! The dynamic 8-bit data type in which the scales of 4-bit blocks are quantised once more (Dettmers, 2016, arXiv 1511.04561).

/// Its 256 values, in ascending order: zero, one, and for each power of ten from 1e-6 to 1 the middles of 2^i equal parts of the
/// span from a tenth of it to itself, both signs.
pub(super) fn dynamic_table() -> Box<[f32; 256]> {
    let mut values = vec![0.0f32, 1.0];
    for i in 0..7 {
        let parts = 1u32 << i;
        let bound = |j: u32| 0.1f32 + 0.9 * (j as f32 / parts as f32);
        let power = 10f64.powi(i - 6) as f32;
        for j in 0..parts {
            let middle = (bound(j) + bound(j + 1)) / 2.0;
            values.extend([power * middle, -power * middle]);
        }
    }
    values.sort_by(f32::total_cmp);
    values.try_into().expect("256 values")
}

/// The index of the value of an ascending table that is nearest; the lower one in the middle of two.
pub(super) fn nearest(table: &[f32], x: f32) -> u8 {
    // The number of middles below `x`, by halving.
    let is_below = |i: usize| (table[i] + table[i + 1]) / 2.0 < x;
    let (mut from, mut to) = (0, table.len() - 1);
    while from < to {
        let middle = usize::midpoint(from, to);
        if is_below(middle) { from = middle + 1 } else { to = middle }
    }
    u8::try_from(from).expect("at most 256 values")
}
