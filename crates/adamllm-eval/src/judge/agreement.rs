use serde::{Deserialize, Serialize};

/// How often a judge and a lexical scoring say the same of an answer. An answer is right by a scoring where its score is full.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Agreement {
    /// Answers with a verdict and a score.
    pub n: usize,
    /// Answers of which both say the same, in per cent.
    pub percent: f64,
    /// Cohen's kappa: 1 for full agreement, 0 for what chance would give (Cohen, 1960). `None` where chance alone would agree always: both
    /// call all answers right, or all wrong.
    pub kappa: Option<f64>,
}

impl Agreement {
    /// Of pairs (judge, scoring): whether each calls an answer right. `None` where there is no pair.
    pub fn of(pairs: &[(bool, bool)]) -> Option<Self> {
        if pairs.is_empty() {
            return None;
        }
        let n = pairs.len() as f64;
        let share = |holds: fn(&(bool, bool)) -> bool| pairs.iter().filter(|pair| holds(pair)).count() as f64 / n;
        let (observed, judge, scoring) = (share(|(a, b)| a == b), share(|(a, _)| *a), share(|(_, b)| *b));
        let by_chance = judge * scoring + (1.0 - judge) * (1.0 - scoring);
        let kappa = (by_chance < 1.0).then(|| (observed - by_chance) / (1.0 - by_chance));
        Some(Self { n: pairs.len(), percent: observed * 100.0, kappa })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of `sklearn.metrics.cohen_kappa_score` and of the worked example in Cohen's measure's usual presentation.
    #[test]
    fn kappa_of_known_tables() {
        let table = |both, judge, scoring, neither| -> Agreement {
            let pairs = [
                vec![(true, true); both],
                vec![(true, false); judge],
                vec![(false, true); scoring],
                vec![(false, false); neither],
            ];
            Agreement::of(&pairs.concat()).expect("pairs")
        };
        let usual = table(20, 5, 10, 15);
        assert_eq!((usual.n, usual.percent), (50, 70.0));
        assert!((usual.kappa.expect("both vary") - 0.4).abs() < 1e-12);
        assert!((table(45, 15, 25, 15).kappa.expect("both vary") - 0.130_434_782_608_695_65).abs() < 1e-12);
        assert_eq!(table(3, 0, 0, 2).kappa, Some(1.0));
        assert_eq!(table(3, 0, 0, 0).kappa, None);
        assert_eq!(table(0, 3, 0, 0), Agreement { n: 3, percent: 0.0, kappa: Some(0.0) });
        assert_eq!(Agreement::of(&[]), None);
    }
}
