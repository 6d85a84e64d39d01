use serde::{Deserialize, Serialize};

/// A share that was counted in a sample, with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Proportion {
    /// Examples that have the property.
    pub successes: u64,
    /// Examples looked at.
    pub n: u64,
    /// `successes / n`; 0 where nothing was looked at.
    pub value: f64,
    /// Lower end of the interval, 0 to 1.
    pub low: f64,
    /// Upper end of the interval, 0 to 1.
    pub high: f64,
}

/// The normal distribution's 97.5 % quantile.
const Z: f64 = 1.959_963_984_540_054;

impl Proportion {
    /// The share with its score interval (E. B. Wilson, "Probable inference, the law of succession, and statistical
    /// inference", 1927). Nothing looked at: everything is possible.
    pub fn wilson(successes: u64, n: u64) -> Self {
        if n == 0 {
            return Self { successes, n, value: 0.0, low: 0.0, high: 1.0 };
        }
        let (total, value) = (n as f64, successes as f64 / n as f64);
        let shrink = 1.0 + Z * Z / total;
        let centre = (value + Z * Z / (2.0 * total)) / shrink;
        let half_width = Z * (value * (1.0 - value) / total + Z * Z / (4.0 * total * total)).sqrt() / shrink;
        Self { successes, n, value, low: (centre - half_width).max(0.0), high: (centre + half_width).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `statsmodels.stats.proportion.proportion_confint(successes, n, method="wilson")`, version 0.15.0.
    #[test]
    fn equals_statsmodels() {
        for (successes, n, low, high) in EXPECTED {
            let interval = Proportion::wilson(successes, n);
            assert!((interval.low - low).abs() < 1e-9 && (interval.high - high).abs() < 1e-9, "{successes} of {n}");
        }
        let nothing = Proportion::wilson(0, 0);
        assert_eq!((nothing.low, nothing.high), (0.0, 1.0));
    }

    const EXPECTED: [(u64, u64, f64, f64); 5] = [
        (0, 10, 0.0, 0.277_532_799_862_889),
        (5, 10, 0.236_593_090_512_564, 0.763_406_909_487_436),
        (92, 100, 0.850_018_922_990_513, 0.958_906_538_515_620),
        (100, 100, 0.963_006_501_793_014, 1.0),
        (1, 3, 0.061_491_944_720_396, 0.792_340_399_197_952),
    ];
}
