use std::collections::{BTreeMap, HashMap};

use adamllm_core::RecordId;
use serde::{Deserialize, Serialize};

use crate::proportion::Proportion;
use crate::{Judged, Verdict};

/// What one threshold would keep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SweepPoint {
    /// The least probability of yes that is kept.
    pub threshold: f64,
    /// Triplets kept, of all that were scored.
    pub kept: u64,
    /// `kept` as a share of all that were scored: the yield.
    pub kept_share: f64,
    /// Of the labelled triplets kept, those that people call consistent.
    pub precision: Proportion,
    /// Of the labelled triplets that people call consistent, those kept.
    pub recall: Proportion,
    /// Of all labelled triplets, those that filter and people treat alike (kept and consistent, or neither).
    pub agreement: Proportion,
    /// The same share, 0 to 1, with each label weighted by how many triplets of its verdict it stands for: an audit sample
    /// holds equally many of each verdict, the data do not.
    pub weighted_agreement: f64,
}

/// Yield against agreement with people, over thresholds from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Sweep {
    /// Triplets with probabilities.
    pub n_scored: u64,
    /// Those of them that people labelled.
    pub n_labelled: u64,
    /// One point for each hundredth.
    pub points: Vec<SweepPoint>,
    /// The threshold of the best weighted agreement (the middle one, where several in succession agree equally); `None` where nothing is
    /// labelled.
    pub suggested: Option<f64>,
}

const N_STEPS: u32 = 100;

impl Sweep {
    /// Counts what each threshold would keep. `labels` holds what people said, by triplet id; triplets without probabilities
    /// (a judge that wrote) are passed over.
    pub fn over(judged: impl IntoIterator<Item = Judged>, labels: &HashMap<RecordId, Verdict>) -> Self {
        let (mut all, mut labelled) = (Vec::new(), Vec::new());
        // By verdict: all triplets, and those with a label.
        let mut strata: BTreeMap<Verdict, [f64; 2]> = BTreeMap::new();
        for example in judged {
            let Some(p_yes) = example.p_yes else { continue };
            all.push(p_yes);
            let [n, n_labelled] = strata.entry(example.verdict).or_default();
            *n += 1.0;
            if let Some(label) = labels.get(&example.triplet.id) {
                *n_labelled += 1.0;
                let is_consistent = *label == Verdict::Consistent;
                labelled.push(Labelled { p_yes, is_consistent, verdict: example.verdict, weight: 1.0 });
            }
        }
        for example in &mut labelled {
            let [n, n_labelled] = strata[&example.verdict];
            example.weight = n / n_labelled;
        }
        let point = |step| sweep_point(f64::from(step) / f64::from(N_STEPS), &all, &labelled);
        let points: Vec<_> = (0..=N_STEPS).map(point).collect();
        let suggested = if labelled.is_empty() { None } else { middle_of_best(&points) };
        Self { n_scored: all.len() as u64, n_labelled: labelled.len() as u64, points, suggested }
    }

    /// The lowest threshold whose precision is at least `precision` with 97.5 % confidence (the interval's lower end), for
    /// those who want clean examples more than many.
    pub fn for_precision(&self, precision: f64) -> Option<f64> {
        self.points.iter().find(|point| point.precision.low >= precision).map(|point| point.threshold)
    }
}

/// A triplet that people labelled.
struct Labelled {
    p_yes: f64,
    is_consistent: bool,
    verdict: Verdict,
    /// How many triplets it stands for.
    weight: f64,
}

fn sweep_point(threshold: f64, all: &[f64], labelled: &[Labelled]) -> SweepPoint {
    let count = |holds: &dyn Fn(bool, bool) -> bool| {
        labelled.iter().filter(|example| holds(example.p_yes >= threshold, example.is_consistent)).count() as u64
    };
    let weight = |examples: &mut dyn Iterator<Item = &Labelled>| examples.map(|example| example.weight).sum::<f64>();
    let agreed = weight(&mut labelled.iter().filter(|example| (example.p_yes >= threshold) == example.is_consistent));
    let whole = weight(&mut labelled.iter());
    let kept = all.iter().filter(|p_yes| **p_yes >= threshold).count() as u64;
    let kept_consistent = count(&|kept, consistent| kept && consistent);
    SweepPoint {
        threshold,
        kept,
        kept_share: if all.is_empty() { 0.0 } else { kept as f64 / all.len() as f64 },
        precision: Proportion::wilson(kept_consistent, count(&|kept, _| kept)),
        recall: Proportion::wilson(kept_consistent, count(&|_, consistent| consistent)),
        agreement: Proportion::wilson(count(&|kept, consistent| kept == consistent), labelled.len() as u64),
        // Rounded, so that thresholds that agree equally are equal.
        weighted_agreement: if labelled.is_empty() { 0.0 } else { (agreed / whole * 1e9).round() / 1e9 },
    }
}

fn middle_of_best(points: &[SweepPoint]) -> Option<f64> {
    let best = points.iter().map(|point| point.weighted_agreement).max_by(f64::total_cmp)?;
    let start = points.iter().position(|point| point.weighted_agreement == best)?;
    let length = points[start..].iter().take_while(|point| point.weighted_agreement == best).count();
    Some(points[start + (length - 1) / 2].threshold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Opinion, TaskTriplet, decide};

    fn judged(name: &str, p_yes: f64) -> Judged {
        let triplet = TaskTriplet::new(RecordId::given(name), "a.png".into(), name, "long", "short");
        decide(triplet, &Opinion::Probabilities([p_yes, 1.0 - p_yes, 0.0]), 0.5)
    }

    #[test]
    fn suggests_the_threshold_between_the_labels() {
        let examples =
            [("a", 0.1), ("b", 0.3), ("c", 0.42), ("d", 0.81), ("e", 0.9), ("f", 0.95)].map(|(n, p)| judged(n, p));
        let label = |example: &Judged| match example.p_yes {
            Some(p_yes) if p_yes > 0.5 => (example.triplet.id.clone(), Verdict::Consistent),
            _ => (example.triplet.id.clone(), Verdict::Open),
        };
        let labels: HashMap<_, _> = examples.iter().take(5).map(label).collect();
        let sweep = Sweep::over(examples, &labels);
        assert_eq!((sweep.n_scored, sweep.n_labelled), (6, 5));
        assert_eq!(sweep.suggested, Some(0.62), "the middle between 0.42 and 0.81");
        assert_eq!((sweep.points[0].kept, sweep.points[50].kept, sweep.points[100].kept), (6, 3, 0));
        let at_half = sweep.points[50];
        assert_eq!((at_half.precision.value, at_half.recall.value, at_half.agreement.value), (1.0, 1.0, 1.0));
        assert_eq!(sweep.points[0].precision.value, 0.4);
        assert_eq!(sweep.for_precision(0.3), Some(0.43));
        assert_eq!(sweep.for_precision(0.99), None, "two labels cannot show that");
    }

    #[test]
    fn labels_stand_for_their_whole_verdict() {
        // One label for 50 triplets at 0.4 (people: consistent), three for three at 0.6 (people: not).
        let many = (0..50).map(|i| judged(&format!("low {i}"), 0.4));
        let examples: Vec<_> = many.chain((0..3).map(|i| judged(&format!("high {i}"), 0.6))).collect();
        let mut labels = HashMap::from([(examples[0].triplet.id.clone(), Verdict::Consistent)]);
        labels.extend(examples[50..].iter().map(|example| (example.triplet.id.clone(), Verdict::Inconsistent)));
        let sweep = Sweep::over(examples, &labels);
        let [low, high] = [sweep.points[30], sweep.points[80]];
        assert_eq!((low.agreement.successes, high.agreement.successes), (1, 3), "of four labels");
        assert!(
            (low.weighted_agreement - 50.0 / 53.0).abs() < 1e-8 && (high.weighted_agreement - 3.0 / 53.0).abs() < 1e-8
        );
        assert_eq!(sweep.suggested, Some(0.2), "the middle of 0 to 0.4");
    }

    #[test]
    fn nothing_labelled_suggests_nothing() {
        assert_eq!(Sweep::over([judged("a", 0.5)], &HashMap::new()).suggested, None);
    }
    #[test]
    fn the_yield_is_the_share_of_all_scored() {
        let examples = [("a", 0.1), ("b", 0.3), ("c", 0.5), ("d", 0.9)].map(|(name, p)| judged(name, p));
        let sweep = Sweep::over(examples, &HashMap::new());
        let kept: Vec<_> = [0, 20, 50, 51, 100].map(|i| (sweep.points[i].kept, sweep.points[i].kept_share)).into();
        assert_eq!(kept, [(4, 1.0), (3, 0.75), (2, 0.5), (1, 0.25), (0, 0.0)], "a score at the threshold is kept");
        let nothing = Sweep::over([], &HashMap::new());
        assert_eq!((nothing.n_scored, nothing.points[0].kept_share, nothing.points.len()), (0, 0.0, 101));
    }
}
