use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adamllm_core::{CoreError, RecordId, Sampling, jsonl, write_atomically};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::files::date_in;
use crate::{Benchmark, EvalError, Example, Outcome, Prediction, Report};

/// The software whose logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LogFormat {
    /// lm-evaluation-harness: `results_DATE.json`, and `samples_TASK_DATE.jsonl` with the questions' records.
    LmEval,
    /// lmms-eval: `DATE_results.json` and `DATE_samples_TASK.jsonl`.
    LmmsEval,
}

impl LogFormat {
    /// The name of the software, and of the folder that its logs are written to.
    pub fn name(self) -> &'static str {
        match self {
            Self::LmEval => "lm-eval",
            Self::LmmsEval => "lmms-eval",
        }
    }

    /// What stands before and after the date in the name of the file of scores.
    fn results_name(self) -> (&'static str, &'static str) {
        match self {
            Self::LmEval => ("results_", ".json"),
            Self::LmmsEval => ("", "_results.json"),
        }
    }

    fn samples_name(self, task: &str, date: &str) -> String {
        match self {
            Self::LmEval => format!("samples_{task}_{date}.jsonl"),
            Self::LmmsEval => format!("{date}_samples_{task}.jsonl"),
        }
    }
}

/// A task's answers and scores, to be logged.
#[derive(Clone, Copy)]
pub struct LoggedTask<'a> {
    /// The questions.
    pub benchmark: &'a dyn Benchmark,
    /// The answers.
    pub predictions: &'a [Prediction],
    /// Their scores.
    pub outcomes: &'a [Outcome],
    /// The sums.
    pub report: &'a Report,
}

impl std::fmt::Debug for LoggedTask<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoggedTask").field("benchmark", &self.benchmark.name()).finish_non_exhaustive()
    }
}

/// Writes a run's answers and scores as the named software writes its own: below `folder`, in a folder that is called as the model.
/// Scores are 0 to 1 there: the metrics `strict` and `paper` of each answer, and in the results also those of each type of answer
/// (`strict_open`). Gives the files, the results first. A folder that holds logs already is written over: they keep their date.
///
/// # Errors
/// Files; a benchmark that fails as a whole.
pub fn write_logs(
    folder: &Path,
    format: LogFormat,
    model: &str,
    tasks: &[LoggedTask<'_>],
) -> Result<Vec<PathBuf>, EvalError> {
    let folder = folder.join(file_name(model));
    std::fs::create_dir_all(&folder).map_err(CoreError::io("create", &folder))?;
    let now = SystemTime::now();
    let (before, after) = format.results_name();
    let date = date_in(&folder, before, after)?.unwrap_or_else(|| date_text(now));

    let mut files = vec![folder.join(format!("{before}{date}{after}"))];
    for task in tasks {
        let path = folder.join(format.samples_name(&file_name(task.benchmark.name()), &date));
        jsonl::write(&path, &samples(format, task)?)?;
        files.push(path);
    }
    let mut results = results(model, tasks);
    if format == LogFormat::LmEval {
        // The other's pages take the date from the file's name where the file has none.
        results["date"] = json!(now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64());
    }
    write_atomically(&files[0], format!("{results:#}\n"))?;
    Ok(files)
}

/// `2026-11-26T05-22-17`: the second in UTC, without the colons that file systems refuse.
fn date_text(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string().replace(':', "-").trim_end_matches('Z').to_owned()
}

/// A name without what separates folders, as the tools write it.
fn file_name(name: &str) -> String {
    let separates = |c: char| "\"<>:/|\\?*[]".contains(c);
    let parts: Vec<_> =
        name.split(separates).filter(|part| !part.is_empty() && *part != ".." && *part != ".").collect();
    if parts.is_empty() { "model".into() } else { parts.join("__") }
}

fn samples(format: LogFormat, task: &LoggedTask<'_>) -> Result<Vec<Value>, EvalError> {
    let answers: HashMap<&RecordId, &Prediction> = task.predictions.iter().rev().map(|p| (&p.id, p)).collect();
    let outcomes: HashMap<&RecordId, &Outcome> = task.outcomes.iter().map(|outcome| (&outcome.id, outcome)).collect();
    let mut samples = Vec::new();
    for index in 0..task.benchmark.len() {
        let example = match task.benchmark.example(index) {
            Ok(example) => example,
            Err(error) if error.is_example_error() => continue,
            Err(error) => return Err(error),
        };
        if let (Some(prediction), Some(outcome)) = (answers.get(&example.id), outcomes.get(&example.id)) {
            samples.push(sample(format, index, &example, prediction, outcome, task));
        }
    }
    Ok(samples)
}

fn sample(
    format: LogFormat,
    index: usize,
    example: &Example,
    prediction: &Prediction,
    outcome: &Outcome,
    task: &LoggedTask<'_>,
) -> Value {
    let target = example.expected.describe();
    let images: Vec<_> = example.images.iter().map(|image| image.as_str()).collect();
    let doc = json!({
        "id": example.id, "question": example.question, "images": images, "label": target,
        "answer_type": example.expected.answer_type(),
    });
    let hash = |part: &str| RecordId::of("log", [part]).to_string();
    let doc_hash = hash(&doc.to_string());
    let mut sample = match format {
        LogFormat::LmEval => json!({
            "doc_id": index, "doc": doc, "target": target,
            "arguments": {"gen_args_0": {"arg_0": example.prompt, "arg_1": generation(task)}},
            "resps": [[prediction.answer]], "filtered_resps": [prediction.answer],
            "filter": "none", "metrics": ["strict", "paper"],
            "doc_hash": doc_hash, "prompt_hash": hash(&example.prompt), "target_hash": hash(&target),
        }),
        // Its own logs leave `resps` out where it says the same, and hold no record; ours are recognised by the id.
        LogFormat::LmmsEval => json!({
            "doc_id": index, "doc": {"id": example.id}, "target": target, "filtered_resps": prediction.answer,
            "token_counts": [(prediction.n_new_tokens > 0).then(|| json!({"output_tokens": prediction.n_new_tokens}))],
            "doc_hash": doc_hash,
            "input": example.prompt,
        }),
    };
    sample["strict"] = json!(outcome.strict / 100.0);
    sample["paper"] = json!(outcome.paper.map(|score| score / 100.0));
    sample
}

/// How the answers were decoded; null where they were made elsewhere.
fn generation(task: &LoggedTask<'_>) -> Value {
    let Some(decoding) = task.report.run.as_ref().and_then(|run| run.decoding.as_ref()) else { return Value::Null };
    json!({
        "until": decoding.stop, "max_gen_toks": decoding.max_new_tokens,
        "do_sample": !matches!(decoding.sampling, Sampling::Greedy),
    })
}

/// The file of scores, with what tables and pages of the tools need.
fn results(model: &str, tasks: &[LoggedTask<'_>]) -> Value {
    let by_task = |value: &dyn Fn(&LoggedTask<'_>) -> Value| -> Value {
        tasks.iter().map(|task| (file_name(task.benchmark.name()), value(task))).collect::<Map<_, _>>().into()
    };

    let seconds: f64 = tasks.iter().filter_map(|task| task.report.run.as_ref()?.seconds).sum();
    let better = json!({"strict": true, "paper": true});
    let metrics =
        ["strict", "paper"].map(|name| json!({"metric": name, "aggregation": "mean", "higher_is_better": true}));

    json!({
        "results": by_task(&|task| scores(task)),
        "group_subtasks": by_task(&|_| json!([])),
        "configs": by_task(&|task| json!({
            "task": file_name(task.benchmark.name()), "output_type": "generate_until", "metric_list": metrics,
            "generation_kwargs": generation(task), "repeats": 1, "num_fewshot": 0,
            "metadata": {"version": task.report.version, "benchmark": task.benchmark.name()},
        })),
        "versions": by_task(&|task| json!(task.report.version)),
        "n-shot": by_task(&|_| json!(0)),
        "higher_is_better": by_task(&|_| better.clone()),
        "n-samples": by_task(&|task| json!({"original": task.benchmark.len(), "effective": task.report.overall.n})),
        "config": {
            "model": env!("CARGO_PKG_NAME"), "model_args": format!("pretrained={model}"), "limit": null,
            "software": tasks.iter().find_map(|task| Some(json!(task.report.run.as_ref()?.software))),
        },
        "model_source": env!("CARGO_PKG_NAME"), "model_name": model, "model_name_sanitized": file_name(model),
        "total_evaluation_time_seconds": seconds.to_string(),
    })
}

/// `strict,none`, `strict_stderr,none` and the like, over all answers and by type.
fn scores(task: &LoggedTask<'_>) -> Value {
    let mut scores = Map::new();
    scores.insert("alias".into(), file_name(task.benchmark.name()).into());
    scores.insert("sample_len".into(), task.report.overall.n.into());
    let all = std::iter::once((String::new(), &task.report.overall));
    let by_type = task.report.by_type.iter().map(|(kind, group)| (format!("_{}", kind.as_str()), group));
    for (suffix, group) in all.chain(by_type) {
        for (name, estimate) in [("strict", group.strict), ("paper", group.paper)] {
            let Some(estimate) = estimate else { continue };
            let error = estimate.standard_error.map_or(json!("N/A"), |error| json!(error / 100.0));
            scores.insert(format!("{name}{suffix},none"), json!(estimate.mean / 100.0));
            scores.insert(format!("{name}{suffix}_stderr,none"), error);
        }
    }
    scores.into()
}
