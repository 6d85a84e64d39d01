//! Domain benchmarks scored twice: `paper` reproduces the reference evaluation number by number, quirks included;
//! `strict` is what the score should mean. Both always stand side by side, with n, intervals, and the counts of answers
//! that nobody could read or that were drawn at random. No tensors here: a model is anything that implements
//! [`Generate`](adamllm_core::Generate), or a `predictions.jsonl` made elsewhere.
//!
//! | | |
//! |---|---|
//! | [`metrics`] | the formulas, as plain functions |
//! | [`Benchmark`], [`Example`] | questions with right answers |
//! | [`DescribedBenchmark`] | a benchmark made of a TOML or JSON description and records, without code |
//! | [`tasks`] | the paper's twelve benchmarks, described |
//! | [`predict()`] | a model answers; a run that was killed goes on |
//! | [`evaluate()`], [`evaluate_answers`] | both, with everything on disk; for a model, and for answers made elsewhere |
//! | [`score()`], [`Outcome`], [`Report`] | both scorings, example by example and summed up |
//! | [`AnswerJudge`], [`JudgeReport`] | a language model judges open answers, in a column of its own |
//! | [`read_log`], [`write_logs`] | logs of lm-evaluation-harness and lmms-eval |
//! | [`score_file`], [`score_examples()`] | examples that hold their answers already: a file made elsewhere |
//! | [`BootstrapConfig`], [`Estimate`], [`compare()`] | how sure a number is, and whether two runs differ |
//! | [`Corruption`], [`SampledBenchmark`] | images and words corrupted on purpose; some questions only |
//! | [`report_table`], [`comparison_table`] | Markdown |
//! | [`html_report()`] | `report.html`: bars, numbers, and a browser of examples |
//! | [`paper_tables()`], [`tables_beside`], [`Grid`] | the paper's tables with a user's runs beside them: Markdown, CSV, HTML |
//!
//! ```
//! use adamllm_eval::{BenchmarkDescription, DescribedBenchmark, JsonExamples, Prediction, score};
//!
//! let description = BenchmarkDescription::from_toml("name = \"lungs\"\nanswer = \"closed\"")?;
//! let records = [serde_json::json!({"id": "1", "question": "Is the left lung clear?", "label": "no"})];
//! let records = JsonExamples::from_records("lungs", records.into_iter().filter_map(|record| record.as_object().cloned()));
//! let benchmark = DescribedBenchmark::new(description, Box::new(records))?;
//!
//! let answer = Prediction::new(adamllm_core::RecordId::given("1"), "The lung is normal.");
//! let report = score(&benchmark, &[answer])?;
//! // "normal" contains "no": right for the reference, unreadable in truth.
//! assert_eq!(report.overall.paper.map(|score| score.mean), Some(100.0));
//! assert_eq!(report.overall.strict.map(|score| score.mean), Some(0.0));
//! assert_eq!(report.overall.unparsed, 1);
//! # Ok::<(), adamllm_eval::EvalError>(())
//! ```

mod benchmark;
mod corruption;
mod described;
mod error;
mod evaluate;
mod example;
mod grid;
mod html;
mod json_examples;
mod judge;
mod lm_eval;
mod markdown;
pub mod metrics;
mod outcome;
mod paper_tables;
mod predict;
mod prediction;
mod python_text;
mod report;
mod sample;
mod score;
mod score_examples;
mod scoring;
mod statistics;
mod survey;
pub mod tasks;
mod word_hash;

pub use adamllm_core::{JsonObject, RecordSource};
pub use benchmark::Benchmark;
pub use corruption::{CorruptedBenchmark, CorruptedImages, Corruption, shuffle_words};
pub use described::{AnswerKind, BenchmarkDescription, ColumnNames, DescribedBenchmark, HubDataset, ImageUse};
pub use error::EvalError;
pub use evaluate::{evaluate, evaluate_answers, files, read_outcomes, read_predictions, read_report, write_scores};
pub use example::{AnswerType, Example, Expected, LabelMetric, OptionSet};
pub use grid::Grid;
pub use html::{HtmlOptions, HtmlRun, HtmlSection, html_report, html_scores, image_data_url};
pub use json_examples::JsonExamples;
pub use judge::{
    Agreement, AnswerJudge, JUDGE_PROMPT, JudgeConfig, JudgeForm, JudgeReport, JudgedAnswer, read_verdict,
};
pub use lm_eval::{LogFormat, LoggedTask, find_logs, is_log, read_log, reported_scores, write_logs};
pub use markdown::{comparison_table, report_table};
pub use outcome::Outcome;
pub use paper_tables::{PaperColumn, PaperRow, PaperTable, TableRun, paper_table, paper_tables, tables_beside};
pub use predict::{PredictOptions, predict};
pub use prediction::Prediction;
pub use report::{GroupScore, REPORT_VERSION, Report, RunInfo};
pub use sample::SampledBenchmark;
pub use score::{Rejected, Scored, score, score_all};
pub use score_examples::{ANSWER_COLUMN, ExampleScore, ScoreSummary, ScoredExamples, score_examples, score_file};
pub use scoring::{AnswerScore, score_answer};
pub use statistics::{
    BootstrapConfig, Comparison, Estimate, Interval, McNemar, PairedGroup, PairedScore, compare, estimate,
};

/// The README's example is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
