use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adamllm_core::CoreError;
use serde_json::Value;

use crate::EvalError;

/// What the name of a log says: `samples_TASK_DATE.jsonl` (lm-eval) or `DATE_samples_TASK.jsonl` (lmms-eval).
struct LogName<'a> {
    task: &'a str,
    /// The name of the file of scores that was written beside it.
    results: String,
}

impl<'a> LogName<'a> {
    fn of(path: &'a Path) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".jsonl")?;
        if let Some((task, date)) = stem.strip_prefix("samples_").and_then(|rest| rest.rsplit_once('_')) {
            return Some(Self { task, results: format!("results_{date}.json") });
        }
        let (date, task) = stem.split_once("_samples_")?;
        Some(Self { task, results: format!("{date}_results.json") })
    }
}

/// A task's logs in a folder and in the folders inside it (the tools write one for each model): those that are called as the task,
/// whatever its case and marks, or all of them where `only` says that no other task is asked for.
///
/// # Errors
/// [`CoreError::Io`]; [`CoreError::Layout`] where a task has logs of several runs: the answers of which one are meant is not known.
pub fn find_logs(folder: &Path, task: &str, only: bool) -> Result<Vec<PathBuf>, EvalError> {
    let mut logs = logs_in(folder)?;
    for inner in entries(folder)?.into_iter().filter(|entry| entry.is_dir()) {
        logs.extend(logs_in(&inner)?);
    }

    let is_task = |path: &PathBuf| LogName::of(path).is_some_and(|name| bare(name.task) == bare(task));
    if logs.iter().any(is_task) {
        logs.retain(is_task);
    } else if !only {
        logs.clear();
    }

    if logs.len() > 1 {
        let names: Vec<_> = logs.iter().map(|path| path.display().to_string()).collect();
        return Err(EvalError::Core(CoreError::Layout {
            path: folder.to_owned(),
            expected: format!("one log of {task}"),
            got: format!("{}; name the one that is meant", names.join(", ")),
        }));
    }

    Ok(logs)
}

fn logs_in(folder: &Path) -> Result<Vec<PathBuf>, EvalError> {
    let mut logs = entries(folder)?;
    logs.retain(|path| path.is_file() && LogName::of(path).is_some());
    Ok(logs)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, EvalError> {
    let entries = std::fs::read_dir(folder).map_err(CoreError::io("list", folder))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    Ok(paths)
}

fn bare(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The scores of a log's task by the tool that wrote it, such as `acc,none` (metric, filter): from the `results.json` of the same
/// date beside the log. Empty where there is none.
///
/// # Errors
/// [`CoreError::Io`], [`CoreError::Json`].
pub fn reported_scores(log: &Path) -> Result<BTreeMap<String, f64>, EvalError> {
    let Some(name) = LogName::of(log) else { return Ok(BTreeMap::new()) };
    let path = log.with_file_name(&name.results);
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let text = std::fs::read(&path).map_err(CoreError::io("read", &path))?;
    let results = adamllm_core::json::parse(&text).map_err(|source| CoreError::Json { path, number: 1, source })?;
    let scores = results.get("results").and_then(|results| results.get(name.task)).and_then(Value::as_object);
    let score = |(metric, value): (&String, &Value)| {
        Some((metric.clone(), value.as_f64()?)).filter(|_| metric.contains(',') && !metric.contains("_stderr"))
    };
    Ok(scores.into_iter().flatten().filter_map(score).collect())
}

/// The latest date in the names of the files of scores that a folder holds; a name is prefix, date and suffix.
pub(super) fn date_in(folder: &Path, prefix: &str, suffix: &str) -> Result<Option<String>, EvalError> {
    if !folder.is_dir() {
        return Ok(None);
    }
    let mut dates = entries(folder)?.into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        Some(name.strip_prefix(prefix)?.strip_suffix(suffix)?.to_owned())
    });
    Ok(dates.next_back())
}
