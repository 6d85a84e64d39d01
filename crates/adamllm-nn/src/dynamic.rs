//! The dynamic 8-bit data type of scales of 4-bit blocks and of optimizer moments (Dettmers, 2016, arXiv 1511.04561; Dettmers et
//! al., 2022, arXiv 2110.02861, section 2).

use std::sync::LazyLock;

/// 256 values in ascending order, from -1 or 0 to 1 and denser near 0: zero, one, and for each power of ten from 1e-6 to 1 the
/// middles of equal parts of the span from a tenth of it to itself; 2^i parts in the i-th with both signs, twice as many without.
#[derive(Debug)]
pub struct DynamicTable {
    values: [f32; 256],
    /// A number has code `i` where it is above `bounds[i]` and not above `bounds[i + 1]`.
    bounds: [f32; 257],
    /// The code at the smaller end of each bucket of numbers that share sign, exponent and eight bits after it.
    codes: Vec<u8>,
}

/// Bits of a float that tell no bucket from the next.
const SHIFT: u32 = 15;
/// Below 2^-24 every number is nearest to 0.
const FIRST: u32 = (127 - 24) << (23 - SHIFT);
/// Buckets of one sign, from there to 1.
const N_BUCKETS: u32 = (24 << (23 - SHIFT)) + 1;

impl DynamicTable {
    /// Values of both signs.
    pub fn signed() -> &'static Self {
        static TABLE: LazyLock<DynamicTable> = LazyLock::new(|| DynamicTable::new(true));
        &TABLE
    }

    /// Values from 0 to 1, twice as dense.
    pub fn unsigned() -> &'static Self {
        static TABLE: LazyLock<DynamicTable> = LazyLock::new(|| DynamicTable::new(false));
        &TABLE
    }

    fn new(signed: bool) -> Self {
        let mut values = vec![0.0f32, 1.0];
        for i in 0..7 {
            let parts = if signed { 1u32 << i } else { 2 << i };
            let bound = |j: u32| 0.1f32 + 0.9 * (j as f32 / parts as f32);
            let power = 10f64.powi(i - 6) as f32;
            for j in 0..parts {
                let middle = power * ((bound(j) + bound(j + 1)) / 2.0);
                values.push(middle);
                if signed {
                    values.push(-middle);
                }
            }
        }
        values.sort_by(f32::total_cmp);
        let values: [f32; 256] = values.try_into().expect("256 values");

        let bounds = std::array::from_fn(|i| match i {
            0 => f32::NEG_INFINITY,
            256 => f32::INFINITY,
            _ => (values[i - 1] + values[i]) / 2.0,
        });
        let smaller_end = |bucket: u32| match bucket {
            0 => 0.0,
            _ => f32::from_bits((FIRST + bucket) << SHIFT),
        };
        let code = |x: f32| u8::try_from(bounds[1..256].partition_point(|bound| *bound < x)).expect("at most 255");
        let codes = (0..2 * N_BUCKETS).map(|bucket| match bucket.checked_sub(N_BUCKETS) {
            None => code(smaller_end(bucket)),
            Some(bucket) => code(-smaller_end(bucket)),
        });
        Self { values, bounds, codes: codes.collect() }
    }

    /// The values of the codes, ascending.
    pub fn values(&self) -> &[f32; 256] {
        &self.values
    }

    /// The value of a code.
    #[inline]
    pub fn value(&self, code: u8) -> f32 {
        self.values[usize::from(code)]
    }

    /// The code of the value that is nearest to a number from -1 to 1; the lower one in the middle of two.
    #[inline]
    pub fn nearest(&self, x: f32) -> u8 {
        // A bucket holds at most one bound, so its first code is at most one away.
        let bits = x.to_bits();
        let bucket = ((bits & 0x7fff_ffff) >> SHIFT).saturating_sub(FIRST).min(N_BUCKETS - 1);
        let code = self.codes[(bucket + (bits >> 31) * N_BUCKETS) as usize];
        let (below, above) = (self.bounds[usize::from(code)], self.bounds[usize::from(code) + 1]);
        code + u8::from(x > above) - u8::from(x <= below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_value_is_found_for_every_number() {
        for table in [DynamicTable::signed(), DynamicTable::unsigned()] {
            let values = table.values();
            assert!(values.is_sorted() && values[255] == 1.0 && values.contains(&0.0));
            // Around every value and every bound, and what lies between.
            let bounds = (1..256).map(|i| (values[i - 1] + values[i]) / 2.0);
            let near = values.iter().copied().chain(bounds).flat_map(|x| {
                let step = |by: i64| f32::from_bits((i64::from(x.to_bits()) + by).clamp(0, i64::from(u32::MAX)) as u32);
                if x == 0.0 { vec![0.0, 1e-9, 1e-30] } else { vec![step(-2), step(-1), x, step(1), step(2), 0.7 * x] }
            });
            for x in near.filter(|x| x.abs() <= 1.0) {
                let expected = values.windows(2).filter(|pair| (pair[0] + pair[1]) / 2.0 < x).count();
                assert_eq!(usize::from(table.nearest(x)), expected, "{x}");
            }
        }
    }

    #[test]
    fn values_lie_densest_near_zero() {
        let [signed, unsigned] = [DynamicTable::signed(), DynamicTable::unsigned()];
        assert_eq!((signed.value(0), unsigned.value(0)), (-0.992_968_74, 0.0));
        let smallest =
            |table: &DynamicTable| table.values().iter().copied().find(|x| *x > 0.0).expect("positive values");
        assert!((smallest(signed) - 5.5e-7).abs() < 1e-12 && (smallest(unsigned) - 3.25e-7).abs() < 1e-12);
        assert_eq!((signed.nearest(-1.0), signed.nearest(1.0), unsigned.nearest(-0.3)), (0, 255, 0));
    }
}
