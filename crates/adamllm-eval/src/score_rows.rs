use std::collections::BTreeMap;
use std::path::Path;

use adamllm_core::RowSource;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde::{Deserialize, Serialize};

use crate::score_answer;
use crate::{AnswerType, Benchmark, BenchmarkDescription, DescribedBenchmark, EvalError, JsonRows, LabelMetric};

/// The column that holds an answer made elsewhere.
pub const ANSWER_COLUMN: &str = "pred";

/// Rows that held their answers, scored.
#[derive(Debug)]
pub struct ScoredRows {
    /// The sums.
    pub summary: ScoreSummary,
    /// One per row that could be scored, in the rows' order.
    pub rows: Vec<RowScore>,
    /// What was wrong with the others.
    pub rejected: Vec<EvalError>,
}

/// Both scorings of a file: the mean of each score over its rows, by the names that the reference's summaries use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreSummary {
    /// The task.
    pub task: String,
    /// Rows in the scores.
    pub n: usize,
    /// The reference's scores. A group without rows is absent.
    pub paper: BTreeMap<String, f64>,
    /// What the scores should mean.
    pub strict: BTreeMap<String, f64>,
    /// Rows that the strict scoring could not read (counted as wrong).
    pub unparsed: usize,
    /// Rows for which the paper scoring drew an option at random.
    pub random: usize,
    /// Rows that could not be scored at all; they are in no number.
    #[serde(default)]
    pub rejected: usize,
}

/// One row's scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowScore {
    /// The row's position in its file, from 0.
    pub row: usize,
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

/// [`score_rows`] of a JSON or JSON Lines file.
///
/// # Errors
/// The file, and as [`score_rows`].
pub fn score_file(task: &BenchmarkDescription, path: impl AsRef<Path>) -> Result<ScoredRows, EvalError> {
    let mut columns = task.scoring_columns();
    columns.push(ANSWER_COLUMN.to_owned());
    score_rows(task, Box::new(JsonRows::read_columns(path, &columns)?))
}

/// Scores rows that hold inputs and an answer each (column `pred`), such as the reference writes.
///
/// # Errors
/// [`EvalError::OtherTask`] where the rows are another task's. A row that cannot be scored is in
/// [`ScoredRows::rejected`]; where that is every row, the first one's error is the file's.
pub fn score_rows(task: &BenchmarkDescription, rows: Box<dyn RowSource>) -> Result<ScoredRows, EvalError> {
    let benchmark = DescribedBenchmark::new(task.clone(), rows)?;
    let (mut scored, mut rejected) = (Vec::new(), Vec::new());
    let n = benchmark.len();
    let scores: Vec<_> = (0..n).into_par_iter().map(|row| score_row(&benchmark, row)).collect();
    for score in scores {
        match score {
            Ok(score) => scored.push(score),
            Err(error) if error.is_row() => rejected.push(error),
            Err(error) => return Err(error),
        }
    }
    if scored.is_empty() && !rejected.is_empty() {
        return Err(rejected.swap_remove(0));
    }
    let summary = ScoreSummary {
        task: task.name.clone(),
        n: scored.len(),
        paper: means(task, &scored, |row| row.paper),
        strict: means(task, &scored, |row| Some(row.strict)),
        unparsed: scored.iter().filter(|row| row.unparsed).count(),
        random: scored.iter().filter(|row| row.random).count(),
        rejected: rejected.len(),
    };
    Ok(ScoredRows { summary, rows: scored, rejected })
}

fn score_row(benchmark: &DescribedBenchmark, row: usize) -> Result<RowScore, EvalError> {
    let (expected, guess_seed, answer) = benchmark.scoring_row(row, ANSWER_COLUMN)?;
    let score = score_answer(&expected, guess_seed, &answer);
    Ok(RowScore {
        row,
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
    rows: &[RowScore],
    score: impl Fn(&RowScore) -> Option<f64>,
) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<AnswerType, (f64, usize)> = BTreeMap::new();
    for row in rows {
        if let Some(score) = score(row) {
            let (sum, n) = sums.entry(row.answer_type).or_default();
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
