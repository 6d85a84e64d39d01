use serde::{Deserialize, Serialize};

/// McNemar's exact test (1947): of the questions that exactly one of two runs answered rightly, is the split other than a
/// fair coin's?
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct McNemar {
    /// Questions that only the first run answered rightly.
    pub only_first: u64,
    /// Questions that only the second run answered rightly.
    pub only_second: u64,
    /// Two-sided p-value of the exact binomial test; 1 where the runs never differ.
    pub p_value: f64,
}

impl McNemar {
    /// The test of two counts of discordant pairs.
    pub fn new(only_first: u64, only_second: u64) -> Self {
        let n = only_first + only_second;
        let tail: f64 = (0..=only_first.min(only_second)).map(|k| coin_probability(n, k)).sum();
        Self { only_first, only_second, p_value: (2.0 * tail).min(1.0) }
    }
}

/// `C(n, k) / 2^n`, through logarithms of factorials.
fn coin_probability(n: u64, k: u64) -> f64 {
    (ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k) - n as f64 * std::f64::consts::LN_2).exp()
}

/// Exact sums for small numbers, Stirling's series (error below 1e-12) for large ones.
fn ln_factorial(n: u64) -> f64 {
    if n < 64 {
        return (2..=n).map(|i| (i as f64).ln()).sum();
    }
    let x = n as f64 + 1.0;
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1260.0 * x.powi(5));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden values: `2 * sum(math.comb(n, k) for k in range(m + 1)) / 2**n`, at most 1, with CPython's integers.
    #[test]
    fn equals_the_binomial_sum() {
        let near = |first, second, expected: f64| {
            let p = McNemar::new(first, second).p_value;
            assert!((p - expected).abs() < 1e-11 * expected.max(1e-3), "{first} {second}: {p}");
        };
        near(0, 0, 1.0);
        near(1, 9, 0.021_484_375);
        near(5, 5, 1.0);
        near(40, 70, P_40_70);
        near(400, 500, P_400_500);
    }

    const P_40_70: f64 = 0.005_447_429_511_444_482;
    const P_400_500: f64 = 0.000_956_444_136_918_946_1;
}
