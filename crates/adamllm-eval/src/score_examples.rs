use std::collections::BTreeMap;
use std::path::Path;

use adamllm_core::RecordSource;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde::{Deserialize, Serialize};

use crate::lm_eval::{LoggedRecords, is_log};
use crate::score_answer;
use crate::{AnswerType, Benchmark, BenchmarkDescription, DescribedBenchmark, EvalError, JsonExamples, LabelMetric};

/// The column that holds an answer made elsewhere.
pub const ANSWER_COLUMN: &str = "pred";

/// Examples that held their answers, scored.
#[derive(Debug)]
#[non_exhaustive]
pub struct ScoredExamples {
    /// The sums.
    pub summary: ScoreSummary,
    /// One per example that could be scored, in their order.
    pub examples: Vec<ExampleScore>,
    /// What was wrong with the others.
    pub rejected: Vec<EvalError>,
}

/// Both scorings of a file: the mean of each score over its examples, by the names that the reference's summaries use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScoreSummary {
    /// The task.
    pub task: String,
    /// Examples in the scores.
    pub n: usize,
    /// The reference's scores. A group without examples is absent.
    pub paper: BTreeMap<String, f64>,
    /// What the scores should mean.
    pub strict: BTreeMap<String, f64>,
    /// Examples that the strict scoring could not read (counted as wrong).
    pub unparsed: usize,
    /// Examples for which the paper scoring drew an option at random.
    pub random: usize,
    /// Examples that could not be scored at all; they are in no number.
    #[serde(default)]
    pub rejected: usize,
}

/// One example's scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExampleScore {
    /// The example's index in its file, from 0.
    #[serde(alias = "example")]
    pub index: usize,
    /// How it was scored.
    pub answer_type: AnswerType,
    /// The reference's score, 0 to 100.
    pub paper: Option<f64>,
    /// What the score should mean.
    pub strict: f64,
    /// The strict scoring could not read the answer.
    pub unparsed: bool,
    /// The paper scoring drew an option at random.
    pub random: bool,
    /// What the paper scoring understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paper_read: Option<String>,
    /// What the strict scoring understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict_read: Option<String>,
}

/// [`score_examples`] of a JSON or JSON Lines file, or of a log of lm-eval, which holds the questions' records and the answers.
///
/// # Errors
/// The file, and as [`score_examples`].
pub fn score_file(task: &BenchmarkDescription, path: impl AsRef<Path>) -> Result<ScoredExamples, EvalError> {
    let path = path.as_ref();
    if is_log(path)? {
        return score_examples(task, Box::new(LoggedRecords::read(path)?));
    }
    let mut columns = task.scoring_columns();
    columns.push(ANSWER_COLUMN.to_owned());
    score_examples(task, Box::new(JsonExamples::read_columns(path, &columns)?))
}

/// Scores examples that hold inputs and an answer each (column `pred`), such as the reference writes.
///
/// # Errors
/// [`EvalError::OtherTask`] where the examples are another task's. An example that cannot be scored is in
/// [`ScoredExamples::rejected`]; where that is every example, the first one's error is the file's.
pub fn score_examples(
    task: &BenchmarkDescription,
    records: Box<dyn RecordSource>,
) -> Result<ScoredExamples, EvalError> {
    let benchmark = DescribedBenchmark::new(task.clone(), records)?;
    let (mut scored, mut rejected) = (Vec::new(), Vec::new());

    // In parallel, and collected in the examples' order.
    let n = benchmark.len();
    let scores: Vec<_> = (0..n).into_par_iter().map(|index| score_example(&benchmark, index)).collect();

    for score in scores {
        match score {
            Ok(score) => scored.push(score),
            Err(error) if error.is_example_error() => rejected.push(error),
            Err(error) => return Err(error),
        }
    }

    if scored.is_empty() && !rejected.is_empty() {
        return Err(rejected.swap_remove(0));
    }

    let summary = ScoreSummary {
        task: task.name.clone(),
        n: scored.len(),
        paper: means(task, &scored, |example| example.paper),
        strict: means(task, &scored, |example| Some(example.strict)),
        unparsed: scored.iter().filter(|example| example.unparsed).count(),
        random: scored.iter().filter(|example| example.random).count(),
        rejected: rejected.len(),
    };

    Ok(ScoredExamples { summary, examples: scored, rejected })
}

fn score_example(benchmark: &DescribedBenchmark, index: usize) -> Result<ExampleScore, EvalError> {
    let (expected, guess_seed, answer) = benchmark.scoring_record(index, ANSWER_COLUMN)?;
    let score = score_answer(&expected, guess_seed, &answer);
    Ok(ExampleScore {
        index,
        answer_type: expected.answer_type(),
        paper: score.paper,
        strict: score.strict,
        unparsed: score.unparsed,
        random: score.random,
        paper_read: score.paper_read,
        strict_read: score.strict_read,
    })
}

fn means(
    task: &BenchmarkDescription,
    examples: &[ExampleScore],
    score: impl Fn(&ExampleScore) -> Option<f64>,
) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<AnswerType, (f64, usize)> = BTreeMap::new();
    for example in examples {
        if let Some(score) = score(example) {
            let (sum, n) = sums.entry(example.answer_type).or_default();
            *sum += score;
            *n += 1;
        }
    }
    sums.into_iter().map(|(t, (sum, n))| (score_name(t, task.label_metric).to_owned(), sum / n as f64)).collect()
}

/// The names in the reference's summaries.
fn score_name(answer_type: AnswerType, labels: LabelMetric) -> &'static str {
    match (answer_type, labels) {
        (AnswerType::Open, _) => "OPEN recall",
        (AnswerType::Closed, _) => "CLOSED yes/no accuracy",
        (AnswerType::Text, _) => "rl",
        (AnswerType::Labels, LabelMetric::Recall) => "recall",
        (AnswerType::Labels, LabelMetric::F1) => "f1",
        (AnswerType::Choice | AnswerType::Category | AnswerType::Short, _) => "acc",
    }
}
