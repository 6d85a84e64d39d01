use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use adamllm_core::{CoreError, Generate, Ledger, Progress, RecordId, RecordSource, jsonl, write_atomically};

use crate::lm_eval::{is_log, read_log, reported_scores};
use crate::predict::predict_all;
use crate::score::score_in_clusters;
use crate::survey::Survey;
use crate::{
    Benchmark, EvalError, JsonExamples, Outcome, PredictOptions, Prediction, REPORT_VERSION, Rejected, Report, RunInfo,
    Scored,
};

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
    /// Finished verdicts of a judge, appended and synced.
    pub const JUDGE_JOURNAL: &str = "judge-journal.jsonl";
    /// [`JudgedAnswer`](crate::JudgedAnswer)s in the benchmark's order.
    pub const JUDGED: &str = "judged.jsonl";
    /// Answers without a verdict that could be read.
    pub const JUDGE_LEDGER: &str = "judge-ledger.jsonl";
    /// The [`Report`](crate::Report).
    pub const REPORT: &str = "report.json";
}

/// One benchmark from questions to `report.json`: [`predict`](crate::predict()), [`score_all`](crate::score_all), and everything on disk in
/// `folder` (see [`files`]) before it returns, so that a suite of benchmarks loses none of its scores when a later one
/// fails. Run again with the same folder, it asks only what has no answer yet.
///
/// Where images are at hand, intervals take questions about one image for one cluster, whatever the image's names.
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
    let start = Instant::now();
    std::fs::create_dir_all(folder).map_err(CoreError::io("create", folder))?;

    let options = PredictOptions {
        journal: Some(folder.join(files::JOURNAL)),
        predictions: Some(folder.join(files::PREDICTIONS)),
        ..options.clone()
    };

    let mut ledger = Ledger::create(folder.join(files::LEDGER))?;
    let predicted = predict_all(model, benchmark, &options, &mut ledger, progress)?;
    jsonl::write(folder.join(files::PREDICTIONS), &predicted.predictions)?;

    // The predictions are on the disk before scoring, which can fail, and can be done again without the model.
    let mut scored = score_in_clusters(benchmark, &predicted.predictions, &predicted.survey.clusters)?;
    scored.report = scored.report.with_run(RunInfo {
        decoding: Some(options.decoding.clone().unwrap_or_else(|| benchmark.decoding())),
        generate_seconds: Some(predicted.generate_seconds),
        n_asked: Some(predicted.n_asked),
        n_new_tokens: Some(predicted.n_new_tokens),
        seconds: Some(start.elapsed().as_secs_f64()),
        software: with_this_crate(&options.software),
        ..RunInfo::of_survey(model.identity(), predicted.survey)
    });

    write_scores(folder, &scored.outcomes, &scored.report)?;
    Ok(scored)
}

/// [`evaluate`] of answers that were made elsewhere, or in parts (one file for each shard): `name` stands for the model.
///
/// A file may also be a log of lm-eval or lmms-eval ([`read_log`](crate::read_log)); what the tool scored stands in the report.
///
/// Lines and predictions that cannot be used cost themselves only; they are in [`Scored::rejected`] and counted in the
/// report.
///
/// # Errors
/// The files; a benchmark that fails as a whole.
pub fn evaluate_answers(
    name: &str,
    benchmark: &dyn Benchmark,
    answers: &[impl AsRef<Path>],
    folder: &Path,
) -> Result<Scored, EvalError> {
    let start = Instant::now();
    std::fs::create_dir_all(folder).map_err(CoreError::io("create", folder))?;

    let (mut predictions, mut lost, mut reported) = (Vec::new(), Vec::new(), BTreeMap::new());
    for file in answers.iter().map(AsRef::as_ref) {
        let (read, rejected) = if is_log(file)? {
            reported.extend(reported_scores(file)?);
            read_log(file, benchmark)?
        } else {
            read_predictions(file)?
        };
        predictions.extend(read);
        lost.extend(rejected);
    }

    let survey = Survey::whole(benchmark)?;
    let mut scored = score_in_clusters(benchmark, &predictions, &survey.clusters)?;
    jsonl::write(folder.join(files::PREDICTIONS), &predictions)?;

    // Lines that were no predictions come before predictions that could not be scored.
    scored.report.rejected += lost.len();
    scored.rejected.splice(0..0, lost);

    scored.report = scored.report.with_run(RunInfo {
        seconds: Some(start.elapsed().as_secs_f64()),
        software: with_this_crate(&BTreeMap::new()),
        reported_scores: reported,
        ..RunInfo::of_survey(name, survey)
    });

    write_scores(folder, &scored.outcomes, &scored.report)?;
    Ok(scored)
}

fn with_this_crate(others: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut software = others.clone();
    software.insert(env!("CARGO_PKG_NAME").to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    software.insert("platform".to_owned(), format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS));
    software
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

/// Reads predictions: JSON Lines or a JSON array, read as [`JsonExamples`] reads them. A record that is none (not JSON, not UTF-8,
/// without an answer) costs itself only.
///
/// # Errors
/// As [`JsonExamples::read`].
pub fn read_predictions(path: impl AsRef<Path>) -> Result<(Vec<Prediction>, Vec<Rejected>), EvalError> {
    let (mut predictions, mut rejected) = (Vec::new(), Vec::new());
    let records = JsonExamples::read(path)?;
    for index in 0..records.len() {
        let prediction = match records.record(index) {
            Ok(record) => Prediction::try_from(record.into_owned())
                .map_err(|problem| format!("{}: {problem}", records.location(index))),
            Err(error @ (CoreError::Json { .. } | CoreError::Field { .. })) => Err(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        match prediction {
            Ok(prediction) => predictions.push(prediction),
            Err(detail) => rejected.push(Rejected { id: RecordId::given(records.location(index)), detail }),
        }
    }
    Ok((predictions, rejected))
}

/// Reads outcomes that were written before.
///
/// # Errors
/// [`CoreError::Io`], [`CoreError::Json`].
pub fn read_outcomes(path: impl AsRef<Path>) -> Result<Vec<Outcome>, EvalError> {
    Ok(jsonl::read_all(path)?)
}

/// Reads a report that was written before, of this version of the schema or an older one.
///
/// # Errors
/// [`CoreError::Io`], [`CoreError::Json`], and [`CoreError::Field`] for a newer version.
pub fn read_report(path: impl AsRef<Path>) -> Result<Report, EvalError> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(CoreError::io("read", path))?;
    let invalid = |source| CoreError::Json { path: path.to_path_buf(), number: 1, source };
    let report: Report = serde_json::from_slice(&bytes).map_err(invalid)?;
    if report.version > REPORT_VERSION {
        return Err(EvalError::Core(CoreError::Field {
            record: path.display().to_string(),
            field: "version",
            expected: format!("at most {REPORT_VERSION}"),
            got: report.version.to_string(),
        }));
    }
    Ok(report)
}
