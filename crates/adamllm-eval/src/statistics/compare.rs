use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::bootstrap::{Clusters, sample_means};
use super::{BootstrapConfig, Interval, McNemar};
use crate::{AnswerType, Outcome};

/// Two runs on the same questions, question by question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Comparison {
    /// All questions that both runs answered.
    pub overall: PairedGroup,
    /// The same, by answer type.
    pub by_type: BTreeMap<AnswerType, PairedGroup>,
    /// Questions that only the first run answered; they are in no number.
    pub only_first: usize,
    /// Questions that only the second run answered; they are in no number.
    pub only_second: usize,
    /// How the intervals were computed.
    pub resampling: BootstrapConfig,
}

/// Both scorings of one group of questions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PairedGroup {
    /// Questions.
    pub n: usize,
    /// The reference's scoring; absent where an example has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paper: Option<PairedScore>,
    /// What the score should mean; absent where there is no question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<PairedScore>,
}

/// The difference of two means over the same questions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PairedScore {
    /// The first run's mean.
    pub first: f64,
    /// The second run's mean.
    pub second: f64,
    /// Second minus first.
    pub difference: f64,
    /// Paired bootstrap interval of the difference, over clusters; `None` where there is one cluster only.
    pub interval: Option<Interval>,
    /// Two-sided bootstrap p-value for "no difference", at least 1 / resamples; `None` where there is one cluster only.
    pub p_value: Option<f64>,
    /// McNemar's test, where every question is right or wrong (accuracies). It takes questions for independent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcnemar: Option<McNemar>,
}

impl PairedScore {
    /// Whether the second run is worse by more than chance: the whole interval lies below zero.
    pub fn is_regression(&self) -> bool {
        self.interval.is_some_and(|interval| interval.high < 0.0)
    }

    /// Whether the second run is better by more than chance: the whole interval lies above zero.
    pub fn is_gain(&self) -> bool {
        self.interval.is_some_and(|interval| interval.low > 0.0)
    }

    /// The difference with its interval, where it has one: `+6.1 (-1.1 to +13.9)`.
    pub fn shown_difference(&self) -> String {
        let interval = self.interval.map_or(String::new(), |interval| format!(" ({})", interval.signed()));
        format!("{:+.1}{interval}", self.difference)
    }
}

impl Comparison {
    /// The groups in which the second run's strict score is worse by more than chance; `None` stands for all questions.
    pub fn regressions(&self) -> Vec<Option<AnswerType>> {
        let groups =
            std::iter::once((None, &self.overall)).chain(self.by_type.iter().map(|(&t, group)| (Some(t), group)));
        groups.filter(|(_, group)| group.strict.is_some_and(|s| s.is_regression())).map(|(t, _)| t).collect()
    }
}

/// Compares two runs by the outcomes' ids.
pub fn compare(first: &[Outcome], second: &[Outcome], resampling: &BootstrapConfig) -> Comparison {
    let of_second: HashMap<_, _> = second.iter().map(|outcome| (&outcome.id, outcome)).collect();
    let pairs: Vec<(&Outcome, &Outcome)> = first.iter().filter_map(|a| of_second.get(&a.id).map(|&b| (a, b))).collect();
    let mut by_type: BTreeMap<AnswerType, Vec<_>> = BTreeMap::new();
    for &(a, b) in &pairs {
        by_type.entry(a.answer_type).or_default().push((a, b));
    }
    Comparison {
        overall: PairedGroup::new(&pairs, resampling),
        by_type: by_type.into_iter().map(|(t, pairs)| (t, PairedGroup::new(&pairs, resampling))).collect(),
        only_first: first.len() - pairs.len(),
        only_second: second.len().saturating_sub(pairs.len()),
        resampling: resampling.clone(),
    }
}

impl PairedGroup {
    fn new(pairs: &[(&Outcome, &Outcome)], resampling: &BootstrapConfig) -> Self {
        let paper: Option<Vec<_>> = pairs.iter().map(|(a, b)| Some((a.paper?, b.paper?))).collect();
        let strict: Vec<_> = pairs.iter().map(|(a, b)| (a.strict, b.strict)).collect();
        let clusters = Clusters::new(pairs.iter().map(|(a, _)| a.cluster.as_str()));
        let binary = pairs.iter().all(|(a, _)| a.answer_type.is_accuracy());
        let paired = |scores: Vec<(f64, f64)>| PairedScore::new(&scores, &clusters, binary, resampling);
        Self { n: pairs.len(), paper: paper.and_then(paired), strict: paired(strict) }
    }
}

impl PairedScore {
    fn new(scores: &[(f64, f64)], clusters: &Clusters, binary: bool, resampling: &BootstrapConfig) -> Option<Self> {
        if scores.is_empty() {
            return None;
        }
        let n = scores.len() as f64;
        let first = scores.iter().map(|(a, _)| a).sum::<f64>() / n;
        let second = scores.iter().map(|(_, b)| b).sum::<f64>() / n;
        let differences = clusters.sums(scores.iter().map(|(a, b)| Some(b - a)));
        let bootstrap = sample_means(&[differences], resampling).pop().filter(|_| clusters.len() > 1);
        let count =
            |wanted: (bool, bool)| scores.iter().filter(|(a, b)| (*a >= 100.0, *b >= 100.0) == wanted).count() as u64;
        Some(Self {
            first,
            second,
            difference: second - first,
            interval: bootstrap.as_ref().and_then(|b| b.interval(resampling.confidence)),
            p_value: bootstrap.as_ref().map(|b| b.p_value_of_zero()),
            mcnemar: binary.then(|| McNemar::new(count((true, false)), count((false, true)))),
        })
    }
}

#[cfg(test)]
mod tests {
    use adamllm_core::RecordId;

    use super::*;

    fn run(scores: impl Iterator<Item = f64>) -> Vec<Outcome> {
        let outcome = |(i, strict): (usize, f64)| Outcome {
            id: RecordId::given(i.to_string()),
            answer_type: AnswerType::Closed,
            cluster: i.to_string(),
            paper: Some(strict),
            strict,
            unparsed: false,
            random: false,
            expected: String::new(),
            strict_read: None,
            paper_read: None,
        };
        scores.enumerate().map(outcome).collect()
    }

    #[test]
    fn a_clear_loss_is_a_regression_and_noise_is_not() {
        let half = run((0..200).map(|i| if i % 2 == 0 { 100.0 } else { 0.0 }));
        let third = run((0..200).map(|i| if i % 3 == 0 { 100.0 } else { 0.0 }));
        let comparison = compare(&half, &third, &BootstrapConfig::default());
        let strict = comparison.overall.strict.expect("scores");
        assert_eq!(strict.mcnemar.map(|m| (m.only_first, m.only_second)), Some((66, 33)));
        assert!(strict.is_regression() && strict.p_value.expect("clusters") < 0.01);
        assert_eq!(comparison.regressions(), [None, Some(AnswerType::Closed)]);
        assert!(compare(&third, &half, &BootstrapConfig::default()).overall.strict.expect("scores").is_gain());

        let nearly = run((0..200).map(|i| if (i % 2 == 0) != (i == 7) { 100.0 } else { 0.0 }));
        assert!(compare(&half, &nearly, &BootstrapConfig::default()).regressions().is_empty());
    }

    #[test]
    fn only_shared_questions_count() {
        let comparison = compare(&run([0.0; 5].into_iter()), &run([100.0; 3].into_iter()), &BootstrapConfig::default());
        assert_eq!((comparison.overall.n, comparison.only_first, comparison.only_second), (3, 2, 0));
        let nothing = compare(&[], &run([1.0].into_iter()), &BootstrapConfig::default());
        assert_eq!(nothing.overall, PairedGroup::default());
    }
    #[test]
    fn a_difference_is_shown_with_its_sign() {
        let score = |difference, interval| PairedScore {
            first: 0.0,
            second: difference,
            difference,
            interval,
            p_value: None,
            mcnemar: None,
        };
        let interval = |low, high| Some(Interval { low, high });
        assert_eq!(score(6.4, interval(-1.1, 13.9)).shown_difference(), "+6.4 (-1.1 to +13.9)");
        assert_eq!(score(-2.0, None).shown_difference(), "-2.0");
        let clear = |low, high| {
            let score = score(0.0, interval(low, high));
            (score.is_gain(), score.is_regression())
        };
        assert_eq!([clear(0.1, 2.0), clear(0.0, 2.0)], [(true, false), (false, false)]);
        assert_eq!(
            [clear(-2.0, -0.1), clear(-2.0, 0.0), clear(-1.0, 1.0)],
            [(false, true), (false, false), (false, false)]
        );
        let estimate = crate::Estimate { mean: 34.43, standard_error: None, interval: interval(29.4, 39.5) };
        assert_eq!(estimate.to_string(), "34.4 (29.4–39.5)");
        assert_eq!(crate::Estimate { interval: None, ..estimate }.to_string(), "34.4");
    }

    #[test]
    fn a_comparison_holds_both_means() {
        let scores = |values: [f64; 4]| run(values.into_iter());
        let (a, b) = (scores([100.0, 0.0, 100.0, 0.0]), scores([100.0, 100.0, 100.0, 0.0]));
        let comparison = compare(&a, &b[..3], &BootstrapConfig::default());
        let strict = comparison.overall.strict.expect("scores");
        assert_eq!((comparison.overall.n, comparison.only_first, comparison.only_second), (3, 1, 0));
        assert!((strict.first - 200.0 / 3.0).abs() < 1e-9 && strict.second == 100.0);
        assert!((strict.difference - 100.0 / 3.0).abs() < 1e-9);
        assert_eq!(strict.mcnemar.map(|m| (m.only_first, m.only_second)), Some((0, 1)));
        let alone = compare(&a[..1], &b, &BootstrapConfig::default());
        assert_eq!((alone.only_first, alone.only_second), (0, 3));
        let strict = alone.overall.strict.expect("a score");
        assert_eq!((strict.interval, strict.p_value), (None, None), "one cluster");
    }
}
