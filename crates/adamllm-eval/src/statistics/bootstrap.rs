use std::collections::HashMap;

use adamllm_core::random::named_stream;
use rand::Rng;

use super::{BootstrapConfig, Estimate, Interval};

/// Which cluster each example belongs to.
pub(crate) struct Clusters {
    of_example: Vec<u32>,
    n: usize,
}

/// Sum and number of one scoring's scores in each cluster.
pub(crate) struct ClusterSums(Vec<(f64, u32)>);

impl Clusters {
    pub(crate) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut ids = HashMap::new();
        let mut id = |name: &'a str| {
            let next = ids.len() as u32;
            *ids.entry(name).or_insert(next)
        };
        let of_example: Vec<u32> = names.into_iter().map(&mut id).collect();
        Self { of_example, n: ids.len() }
    }

    pub(crate) fn len(&self) -> usize {
        self.n
    }

    /// One score per example, in their order.
    pub(crate) fn sums(&self, scores: impl Iterator<Item = Option<f64>>) -> ClusterSums {
        let mut sums = vec![(0.0, 0); self.n];
        for (&cluster, score) in self.of_example.iter().zip(scores) {
            if let Some(score) = score {
                let (sum, n) = &mut sums[cluster as usize];
                *sum += score;
                *n += 1;
            }
        }
        ClusterSums(sums)
    }
}

impl ClusterSums {
    pub(crate) fn n(&self) -> usize {
        self.0.iter().map(|&(_, n)| n as usize).sum()
    }

    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().map(|&(sum, _)| sum).sum::<f64>() / self.n() as f64
    }

    /// The square root of the clustered variance of a mean, with the factor G / (G - 1).
    fn standard_error(&self, mean: f64) -> f64 {
        let n_clusters = self.0.iter().filter(|&&(_, n)| n > 0).count() as f64;
        let squares: f64 = self.0.iter().map(|&(sum, n)| (sum - f64::from(n) * mean).powi(2)).sum();
        (squares * n_clusters / (n_clusters - 1.0)).sqrt() / self.n() as f64
    }
}

/// Means of bootstrap samples.
pub(crate) struct Bootstrap {
    sorted: Vec<f64>,
}

impl Bootstrap {
    /// Estimates of several scorings of the same examples, from the same samples of clusters. `None` where a scoring has no
    /// score.
    pub(crate) fn draw(scorings: &[ClusterSums], resampling: &BootstrapConfig) -> Vec<Option<Estimate>> {
        let distributions = sample_means(scorings, resampling);
        let estimate = |(sums, bootstrap): (&ClusterSums, Bootstrap)| {
            if sums.n() == 0 {
                return None;
            }
            let mean = sums.mean();
            let several = sums.0.iter().filter(|&&(_, n)| n > 0).count() > 1;
            Some(Estimate {
                mean,
                standard_error: several.then(|| sums.standard_error(mean)),
                interval: if several { bootstrap.interval(resampling.confidence) } else { None },
            })
        };
        scorings.iter().zip(distributions).map(estimate).collect()
    }

    /// The middle `confidence` of the means, with linear interpolation between them.
    pub(crate) fn interval(&self, confidence: f64) -> Option<Interval> {
        let outside = (1.0 - confidence) / 2.0;
        Some(Interval { low: self.quantile(outside)?, high: self.quantile(1.0 - outside)? })
    }

    fn quantile(&self, share: f64) -> Option<f64> {
        let position = share.clamp(0.0, 1.0) * self.sorted.len().checked_sub(1)? as f64;
        let (below, above) = (self.sorted[position.floor() as usize], self.sorted[position.ceil() as usize]);
        Some(below + (above - below) * position.fract())
    }

    /// Share of the means on the other side of zero than most, twice: a two-sided p-value for "the mean is zero", at
    /// least 1 / samples.
    pub(crate) fn p_value_of_zero(&self) -> f64 {
        let n = self.sorted.len() as f64;
        let at_most = self.sorted.iter().filter(|&&mean| mean <= 0.0).count() as f64;
        let at_least = self.sorted.iter().filter(|&&mean| mean >= 0.0).count() as f64;
        (2.0 * at_most.min(at_least).max(0.5) / n).min(1.0)
    }
}

/// For each scoring, the means of the same bootstrap samples.
pub(crate) fn sample_means(scorings: &[ClusterSums], resampling: &BootstrapConfig) -> Vec<Bootstrap> {
    let n_clusters = scorings.first().map_or(0, |sums| sums.0.len());
    let mut random = named_stream(resampling.seed, "bootstrap", "");
    let mut means = vec![Vec::with_capacity(resampling.n_resamples); scorings.len()];
    let mut drawn = vec![0u32; n_clusters];
    for _ in 0..resampling.n_resamples {
        for cluster in &mut drawn {
            // Multiply and shift: a bias below n_clusters / 2^32.
            *cluster = ((u64::from(random.next_u32()) * n_clusters as u64) >> 32) as u32;
        }
        for (sums, means) in scorings.iter().zip(&mut means) {
            let add = |(sum, n): (f64, u64), &cluster: &u32| {
                let (more, count) = sums.0[cluster as usize];
                (sum + more, n + u64::from(count))
            };
            let (sum, n) = drawn.iter().fold((0.0, 0), add);
            if n > 0 {
                means.push(sum / n as f64);
            }
        }
    }
    let sorted = |mut means: Vec<f64>| {
        means.sort_by(f64::total_cmp);
        Bootstrap { sorted: means }
    };
    means.into_iter().map(sorted).collect()
}

#[cfg(test)]
mod tests {
    use super::super::estimate;
    use super::*;

    #[test]
    fn clusters_widen_the_interval() {
        let scores: Vec<f64> = (0..400).map(|i| if i / 4 % 2 == 0 { 100.0 } else { 0.0 }).collect();
        let alone: Vec<String> = (0..400).map(|i| i.to_string()).collect();
        let fours: Vec<String> = (0..400).map(|i| (i / 4).to_string()).collect();
        let of = |names: &[String]| {
            estimate(&scores, names.iter().map(String::as_str), &BootstrapConfig::default()).expect("scores")
        };
        let (alone, fours) = (of(&alone), of(&fours));
        assert_eq!(alone.mean, 50.0);
        // 100 * sqrt(0.25 / 399) and 100 * sqrt(0.25 / 99)
        assert!((alone.standard_error.expect("several") - 2.503_130_87).abs() < 1e-6);
        assert!((fours.standard_error.expect("several") - 5.025_189_08).abs() < 1e-6);
        let width = |e: Estimate| e.interval.map(|i| i.high - i.low).expect("several");
        assert!((width(alone) / (2.0 * 1.96 * 2.5) - 1.0).abs() < 0.1);
        assert!((width(fours) / (2.0 * 1.96 * 5.0) - 1.0).abs() < 0.1);
    }

    #[test]
    fn nothing_and_one_have_no_interval() {
        assert_eq!(estimate(&[], [], &BootstrapConfig::default()), None);
        let one = estimate(&[40.0], ["a"], &BootstrapConfig::default()).expect("a score");
        assert_eq!(one, Estimate { mean: 40.0, standard_error: None, interval: None });
    }

    #[test]
    fn quantiles_interpolate() {
        let bootstrap = Bootstrap { sorted: vec![0.0, 1.0, 2.0, 3.0, 4.0] };
        assert_eq!(bootstrap.quantile(0.5), Some(2.0));
        assert_eq!(bootstrap.quantile(0.1), Some(0.4));
        assert_eq!(bootstrap.p_value_of_zero(), 0.4);
    }
    #[test]
    fn an_interval_cuts_both_ends_alike() {
        let bootstrap = Bootstrap { sorted: (0..=100).map(f64::from).collect() };
        let interval = bootstrap.interval(0.9).expect("samples");
        assert!((interval.low - 5.0).abs() < 1e-9 && (interval.high - 95.0).abs() < 1e-9, "{interval:?}");
        assert_eq!(bootstrap.quantile(2.0), Some(100.0));
        assert_eq!(Bootstrap { sorted: vec![] }.interval(0.9), None);
        // Twice the smaller side, at least one half of a sample, at most 1.
        let p = |sorted: Vec<f64>| Bootstrap { sorted }.p_value_of_zero();
        assert_eq!(p(vec![-3.0, -2.0, -1.0, 1.0]), 0.5);
        assert_eq!(p(vec![-1.0, 0.0, 0.0, 1.0]), 1.0);
        assert_eq!([p(vec![1.0; 10]), p(vec![-1.0; 10])], [0.1, 0.1]);
    }

    #[test]
    fn scores_of_uneven_clusters_weigh_alike() {
        // Means by example, not by cluster: three of four are 100. Residuals of the clusters: 25 * 3 and -75.
        let scores = [100.0, 100.0, 100.0, 0.0];
        let estimate = estimate(&scores, ["a", "a", "a", "b"], &BootstrapConfig::default()).expect("scores");
        assert_eq!(estimate.mean, 75.0);
        let expected = (2.0_f64 * (75.0 * 75.0 + 75.0 * 75.0)).sqrt() / 4.0;
        assert!((estimate.standard_error.expect("two") - expected).abs() < 1e-9);
        // An example without a score is in neither sum nor number.
        let clusters = Clusters::new(["a", "b", "a"]);
        let sums = clusters.sums([Some(30.0), None, Some(50.0)].into_iter());
        assert_eq!((clusters.len(), sums.n(), sums.mean()), (2, 2, 40.0));
        let drawn = Bootstrap::draw(&[sums], &BootstrapConfig::default()).remove(0).expect("scores");
        assert_eq!((drawn.standard_error, drawn.interval), (None, None), "one cluster with scores");
    }
}
