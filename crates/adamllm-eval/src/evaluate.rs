use std::path::Path;

use adamllm_core::{CoreError, Generate, Ledger, Progress, jsonl, write_atomically};

use crate::predict::predict_all;
use crate::score::score_in_clusters;
use crate::{Benchmark, EvalError, Outcome, PredictOptions, Prediction, Rejected, Report, RunInfo, Scored};

/// The files of one run in its folder.
pub mod files {
    /// Finished answers, appended and synced: what a killed run goes on from.
    pub const JOURNAL: &str = "journal.jsonl";
    /// [`Prediction`](crate::Prediction)s in the benchmark's order.
    pub const PREDICTIONS: &str = "predictions.jsonl";
    /// Examples that could not be asked or answered.
    pub const LEDGER: &str = "ledger.jsonl";
    /// [`Outcome`](crate::Outcome)s: both scores of every answer.
    pub const OUTCOMES: &str = "outcomes.jsonl";
    /// The [`Report`](crate::Report).
    pub const REPORT: &str = "report.json";
}

/// One benchmark from questions to `report.json`: [`predict`](crate::predict()), [`score_all`](crate::score_all), and everything on disk in
/// `folder` (see [`files`]) before it returns, so that a suite of benchmarks loses none of its scores when a later one
/// fails. Run again with the same folder, it asks only what has no answer yet.
///
/// Where pictures are at hand, intervals take questions about one picture for one cluster, whatever the picture's names.
///
/// `options.journal` and `options.predictions` are replaced by the folder's.
///
/// # Errors
/// The folder's files; a benchmark that fails as a whole.
pub fn evaluate<G: Generate>(
    model: &G,
    benchmark: &dyn Benchmark,
    folder: &Path,
    options: &PredictOptions,
    progress: &mut dyn Progress,
) -> Result<Scored, EvalError> {
    std::fs::create_dir_all(folder).map_err(CoreError::io("create", folder))?;
    let options = PredictOptions {
        journal: Some(folder.join(files::JOURNAL)),
        predictions: Some(folder.join(files::PREDICTIONS)),
        ..options.clone()
    };
    let mut ledger = Ledger::create(folder.join(files::LEDGER))?;
    let predicted = predict_all(model, benchmark, &options, &mut ledger, progress)?;
    jsonl::write(folder.join(files::PREDICTIONS), &predicted.predictions)?;
    let mut scored = score_in_clusters(benchmark, &predicted.predictions, &predicted.clusters)?;
    let decoding = options.decoding.clone().unwrap_or_else(|| benchmark.decoding());
    scored.report = scored.report.with_run(RunInfo {
        dataset: Some(predicted.dataset.to_string()),
        images: predicted.images.map(|id| id.to_string()),
        prompt: predicted.first_prompt,
        decoding: Some(decoding),
        generate_seconds: Some(predicted.generate_seconds),
        n_new_tokens: Some(predicted.n_new_tokens),
        ..RunInfo::of_model(model.identity())
    });
    write_scores(folder, &scored.outcomes, &scored.report)?;
    Ok(scored)
}

/// Writes `outcomes.jsonl` and `report.json`.
///
/// # Errors
/// The files.
pub fn write_scores(folder: &Path, outcomes: &[Outcome], report: &Report) -> Result<(), EvalError> {
    jsonl::write(folder.join(files::OUTCOMES), outcomes)?;
    let json = serde_json::to_vec_pretty(report).expect("a report has string keys and finite numbers");
    Ok(write_atomically(folder.join(files::REPORT), json)?)
}

/// Reads predictions. A line that is none (not JSON, not UTF-8, without an answer) costs itself only.
///
/// # Errors
/// [`CoreError::Io`].
pub fn read_predictions(path: impl AsRef<Path>) -> Result<(Vec<Prediction>, Vec<Rejected>), EvalError> {
    let (mut predictions, mut rejected) = (Vec::new(), Vec::new());
    for (row, line) in (1..).zip(jsonl::read(&path)?) {
        match line {
            Ok(prediction) => predictions.push(prediction),
            Err(error @ CoreError::Json { .. }) => {
                let id = adamllm_core::RecordId::given(format!("{} row {row}", path.as_ref().display()));
                rejected.push(Rejected { id, detail: error.to_string() });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((predictions, rejected))
}

/// Reads a report that was written before, of this version of the schema or an older one.
///
/// # Errors
/// [`CoreError::Io`], [`CoreError::Json`].
pub fn read_report(path: impl AsRef<Path>) -> Result<Report, EvalError> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(CoreError::io("read", path))?;
    let invalid = |source| CoreError::Json { path: path.to_path_buf(), row: 1, source };
    Ok(serde_json::from_slice(&bytes).map_err(invalid)?)
}
