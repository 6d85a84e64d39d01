use std::collections::HashMap;

use adamllm_core::RecordId;
use serde::{Deserialize, Serialize};

use crate::proportion::Proportion;
use crate::{Judged, Verdict};

/// What one threshold would keep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
}

/// Yield against agreement with people, over thresholds from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// Triplets with probabilities.
    pub n_scored: u64,
    /// Those of them that people labelled.
    pub n_labelled: u64,
    /// One point for each hundredth.
    pub points: Vec<SweepPoint>,
    /// The threshold of the best agreement (the middle one, where several in a row agree equally); `None` where nothing is
    /// labelled.
    pub suggested: Option<f64>,
}

const N_STEPS: u32 = 100;

impl Sweep {
    /// Counts what each threshold would keep. `labels` holds what people said, by triplet id; triplets without probabilities
    /// (a judge that wrote) are passed over.
    pub fn over(judged: impl IntoIterator<Item = Judged>, labels: &HashMap<RecordId, Verdict>) -> Self {
        let (mut all, mut labelled) = (Vec::new(), Vec::new());
        for row in judged {
            let Some(p_yes) = row.p_yes else { continue };
            all.push(p_yes);
            if let Some(label) = labels.get(&row.triplet.id) {
                labelled.push((p_yes, *label == Verdict::Consistent));
            }
        }
        let point = |step| sweep_point(f64::from(step) / f64::from(N_STEPS), &all, &labelled);
        let points: Vec<_> = (0..=N_STEPS).map(point).collect();
        let suggested = if labelled.is_empty() { None } else { middle_of_best(&points) };
        Self { n_scored: all.len() as u64, n_labelled: labelled.len() as u64, points, suggested }
    }

    /// The lowest threshold whose precision is at least `precision` with 97.5 % confidence (the interval's lower end), for
    /// those who want clean rows more than many.
    pub fn for_precision(&self, precision: f64) -> Option<f64> {
        self.points.iter().find(|point| point.precision.low >= precision).map(|point| point.threshold)
    }
}

fn sweep_point(threshold: f64, all: &[f64], labelled: &[(f64, bool)]) -> SweepPoint {
    let count = |holds: &dyn Fn(bool, bool) -> bool| {
        labelled.iter().filter(|(p_yes, consistent)| holds(*p_yes >= threshold, *consistent)).count() as u64
    };
    let kept = all.iter().filter(|p_yes| **p_yes >= threshold).count() as u64;
    let kept_consistent = count(&|kept, consistent| kept && consistent);
    SweepPoint {
        threshold,
        kept,
        kept_share: if all.is_empty() { 0.0 } else { kept as f64 / all.len() as f64 },
        precision: Proportion::wilson(kept_consistent, count(&|kept, _| kept)),
        recall: Proportion::wilson(kept_consistent, count(&|_, consistent| consistent)),
        agreement: Proportion::wilson(count(&|kept, consistent| kept == consistent), labelled.len() as u64),
    }
}

fn middle_of_best(points: &[SweepPoint]) -> Option<f64> {
    let best = points.iter().map(|point| point.agreement.successes).max()?;
    let start = points.iter().position(|point| point.agreement.successes == best)?;
    let length = points[start..].iter().take_while(|point| point.agreement.successes == best).count();
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
        let rows =
            [("a", 0.1), ("b", 0.3), ("c", 0.42), ("d", 0.81), ("e", 0.9), ("f", 0.95)].map(|(n, p)| judged(n, p));
        let label = |row: &Judged| match row.p_yes {
            Some(p_yes) if p_yes > 0.5 => (row.triplet.id.clone(), Verdict::Consistent),
            _ => (row.triplet.id.clone(), Verdict::Open),
        };
        let labels: HashMap<_, _> = rows.iter().take(5).map(label).collect();
        let sweep = Sweep::over(rows, &labels);
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
    fn nothing_labelled_suggests_nothing() {
        assert_eq!(Sweep::over([judged("a", 0.5)], &HashMap::new()).suggested, None);
    }
}
