//! How sure a mean is: standard errors, bootstrap intervals, paired tests. All of them respect clusters: several questions
//! about one image are not independent.

mod bootstrap;
mod compare;
mod mcnemar;

use serde::{Deserialize, Serialize};

pub(crate) use bootstrap::{Bootstrap, Clusters};
pub use compare::{Comparison, PairedGroup, PairedScore, compare};
pub use mcnemar::McNemar;

/// How intervals are computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BootstrapConfig {
    /// Bootstrap samples.
    pub n_resamples: usize,
    /// Share of the samples inside the interval.
    pub confidence: f64,
    /// Seeds the samples: the same outcomes always have the same interval.
    pub seed: u64,
}

impl Default for BootstrapConfig {
    fn default() -> Self {
        Self { n_resamples: 1000, confidence: 0.95, seed: 0 }
    }
}

/// A mean and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Estimate {
    /// The mean, 0 to 100.
    pub mean: f64,
    /// Its standard error over clusters; `None` where there is one cluster only.
    pub standard_error: Option<f64>,
    /// The interval's ends; `None` where there is one cluster only.
    pub interval: Option<Interval>,
}

/// The middle part of the bootstrap distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The mean with its interval, where it has one: `34.4 (29.4–39.5)`.
impl std::fmt::Display for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1}", self.mean)?;
        self.interval.map_or(Ok(()), |interval| write!(f, " ({:.1}–{:.1})", interval.low, interval.high))
    }
}

impl Interval {
    /// Both ends with their signs, as a difference's: `-1.1 to +13.9`.
    pub fn signed(&self) -> String {
        format!("{:+.1} to {:+.1}", self.low, self.high)
    }
}

/// Mean, clustered standard error and percentile interval of scores.
///
/// `clusters[i]` names the cluster of `scores[i]`. `None` where there is no score.
pub fn estimate<'a>(
    scores: &[f64],
    clusters: impl IntoIterator<Item = &'a str>,
    resampling: &BootstrapConfig,
) -> Option<Estimate> {
    let clusters = Clusters::new(clusters);
    let bootstrap = Bootstrap::draw(&[clusters.sums(scores.iter().map(|&s| Some(s)))], resampling);
    bootstrap.into_iter().next().flatten()
}
