use std::collections::{HashMap, HashSet};

use adamllm_core::RecordId;

use crate::{Benchmark, EvalError, Outcome, Prediction, Report};

/// A benchmark's outcomes, their sum, and what was left out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Scored {
    /// Both scorings with their uncertainty.
    pub report: Report,
    /// One per example that has a prediction, in the benchmark's order.
    pub outcomes: Vec<Outcome>,
    /// Examples without a prediction.
    pub unanswered: Vec<RecordId>,
    /// Examples and predictions that could not be used, and why.
    pub rejected: Vec<Rejected>,
}

/// An example or a prediction that is in no score.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected {
    /// The example's or prediction's id, or the record's location where it has none.
    pub id: RecordId,
    /// Why.
    pub detail: String,
}

/// [`score_all`], the report alone.
///
/// # Errors
/// As [`score_all`].
pub fn score(benchmark: &dyn Benchmark, predictions: &[Prediction]) -> Result<Report, EvalError> {
    score_all(benchmark, predictions).map(|scored| scored.report)
}

/// Scores predictions. A prediction for an unknown id, a second one for the same id and an example that cannot be read
/// cost themselves only, and are counted in the report.
///
/// # Errors
/// A benchmark that fails as a whole ([`EvalError::is_example_error`] does not hold).
pub fn score_all(benchmark: &dyn Benchmark, predictions: &[Prediction]) -> Result<Scored, EvalError> {
    score_in_clusters(benchmark, predictions, &HashMap::new())
}

/// [`score_all`] with clusters that are better known than by the images' names.
pub(crate) fn score_in_clusters(
    benchmark: &dyn Benchmark,
    predictions: &[Prediction],
    clusters: &HashMap<RecordId, String>,
) -> Result<Scored, EvalError> {
    let mut rejected = Vec::new();
    let mut reject = |id: &RecordId, detail: String| rejected.push(Rejected { id: id.clone(), detail });

    let mut answers: HashMap<&RecordId, &str> = HashMap::new();
    for prediction in predictions {
        if answers.contains_key(&prediction.id) {
            reject(&prediction.id, "a second prediction for this id; the first one counts".into());
        } else {
            answers.insert(&prediction.id, &prediction.answer);
        }
    }

    let (mut outcomes, mut unanswered, mut ids) = (Vec::new(), Vec::new(), HashSet::new());
    for index in 0..benchmark.len() {
        let example = match benchmark.example(index) {
            Ok(example) => example,
            Err(error) if error.is_example_error() => {
                reject(&RecordId::given(format!("{}:{}", benchmark.name(), index + 1)), error.to_string());
                continue;
            }
            Err(error) => return Err(error),
        };

        if !ids.insert(example.id.clone()) {
            reject(&example.id, "a second example with this id; the first one counts".into());
            continue;
        }

        match answers.get(&example.id) {
            Some(answer) => {
                let mut outcome = benchmark.score(&example, answer);
                if let Some(cluster) = clusters.get(&example.id) {
                    outcome.cluster.clone_from(cluster);
                }
                outcomes.push(outcome);
            }
            None => unanswered.push(example.id),
        }
    }

    for prediction in predictions.iter().filter(|p| !ids.contains(&p.id)) {
        reject(&prediction.id, "a prediction for an unknown id".into());
    }

    let mut report = benchmark.summarize(&outcomes);
    report.unanswered = unanswered.len();
    report.rejected = rejected.len();
    Ok(Scored { report, outcomes, unanswered, rejected })
}
