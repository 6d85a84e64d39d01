//! `exp` and what is made of it, for the loops of the other kernels: no state, no threads, nothing kept.
//!
//! ```text
//! x   = n ln 2 + r,   n an integer, |r| <= ln 2 / 2
//! e^x = 2^n * (1 + r + r^2 * p(r))
//! ```
//!
//! `p` is Cephes' polynomial of degree 5 (Moshier, `expf.c`), and ln 2 is split in two as there (Cody and Waite). `2^n` is written
//! into the bits of the exponent.

/// `e^x` within two units in the last place for `x` in [-87, 88], clamped there: without branches or calls, so that the loop
/// around it becomes vector code.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, the first short enough that its multiples are exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding this rounds to an integer, whose bits then stand at the end of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(power)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `tanh x` from [`exp`].
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    2.0 * sigmoid(2.0 * x) - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_library() {
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let (got, expected) = (exp(x), x.exp());
            assert!((got - expected).abs() <= 3e-7 * expected, "{x}: {got} {expected}");
        }
        assert_eq!(exp(-1e30), exp(-87.0));
        assert!((sigmoid(2.0) - 0.880_797).abs() < 1e-6 && (tanh(0.5) - 0.462_117_16).abs() < 1e-6);
    }
}
