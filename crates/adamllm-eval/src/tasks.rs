//! The twelve benchmarks of the paper (arXiv 2411.19930, tables 13 and 14), described like any user's own. Columns are those
//! of the data sets that its authors published: `image`, `input` (the whole prompt), `label`, `answer_type`, `A` to `D`.
//! Where records have a `question` and no `input`, the paper's prompt templates are used.
//!
//! How the paper scores remote sensing is not published beyond "accuracy" and "Rouge-L": there, `paper` follows the code of
//! the other domains (names as in Food101, short answers as its closed questions).

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use adamllm_core::{CoreError, RecordSource};

use crate::{BenchmarkDescription, DescribedBenchmark, EvalError};

/// The paper's domains.
pub const DOMAINS: [&str; 3] = ["biomed", "food", "remote-sensing"];

const FOOD101: &str = include_str!("../data/food101_classes.txt");
const FOODSEG103: &str = include_str!("../data/foodseg103_classes.txt");
const NUTRITION5K: &str = include_str!("../data/nutrition5k_ingredients.txt");
const CLRS: &str = include_str!("../data/clrs_classes.txt");
const UCM: &str = include_str!("../data/ucm_classes.txt");

/// Description and shared names.
const SOURCES: [(&str, Option<&str>); 12] = [
    (include_str!("../data/tasks/slake.toml"), None),
    (include_str!("../data/tasks/vqa_rad.toml"), None),
    (include_str!("../data/tasks/pathvqa.toml"), None),
    (include_str!("../data/tasks/pmc_vqa.toml"), None),
    (include_str!("../data/tasks/recipe1m.toml"), None),
    (include_str!("../data/tasks/nutrition5k.toml"), Some(NUTRITION5K)),
    (include_str!("../data/tasks/food101.toml"), Some(FOOD101)),
    (include_str!("../data/tasks/foodseg103.toml"), Some(FOODSEG103)),
    (include_str!("../data/tasks/clrs.toml"), Some(CLRS)),
    (include_str!("../data/tasks/ucm.toml"), Some(UCM)),
    (include_str!("../data/tasks/floodnet.toml"), None),
    (include_str!("../data/tasks/nwpu_captions.toml"), None),
];

static TASKS: LazyLock<Vec<BenchmarkDescription>> = LazyLock::new(|| {
    let read = |(toml, names): &(&str, Option<&str>)| {
        let mut task = BenchmarkDescription::from_toml(toml).expect("the built-in descriptions are tested");
        task.names = names.map(|names| names.lines().map(str::to_owned).collect());
        task
    };
    SOURCES.iter().map(read).collect()
});

/// All twelve, in the order of the paper's tables.
pub fn all() -> &'static [BenchmarkDescription] {
    &TASKS
}

/// The tasks of one of the [`DOMAINS`].
///
/// # Errors
/// [`EvalError::Unknown`].
pub fn of_domain(domain: &str) -> Result<Vec<&'static BenchmarkDescription>, EvalError> {
    let tasks: Vec<_> = all().iter().filter(|task| task.domain.as_deref() == Some(domain)).collect();
    if tasks.is_empty() {
        return Err(EvalError::Unknown { what: "domain", got: domain.into(), expected: DOMAINS.join(", ") });
    }
    Ok(tasks)
}

/// One task by its name, whatever its case and marks (`PMC-VQA`, `pmc_vqa`).
///
/// # Errors
/// [`EvalError::Unknown`].
pub fn named(name: &str) -> Result<&'static BenchmarkDescription, EvalError> {
    let wanted = bare(name);
    let names = || all().iter().map(|task| task.name.as_str()).collect::<Vec<_>>().join(", ");
    all().iter().find(|task| bare(&task.name) == wanted).ok_or_else(|| EvalError::Unknown {
        what: "task",
        got: name.into(),
        expected: names(),
    })
}

/// Where a task's data set is below a folder: a folder or file (`.arrow`, `.parquet`, `.json`, `.jsonl`) that is called as the task,
/// or as the folder in which it was published, whatever its case and marks. `None` where there is none.
///
/// # Errors
/// [`CoreError::Io`] where the folder cannot be listed.
pub fn find(task: &BenchmarkDescription, root: &Path) -> Result<Option<PathBuf>, EvalError> {
    let wanted: Vec<String> = [Some(task.name.as_str()), task.hub.as_ref().map(|hub| hub.folder.as_str())]
        .into_iter()
        .flatten()
        .map(bare)
        .collect();
    let is_task = |path: &PathBuf| {
        let known =
            path.extension().is_some_and(|e| ["arrow", "parquet", "json", "jsonl"].iter().any(|known| e == *known));
        let name = if path.is_dir() { path.file_name() } else { path.file_stem().filter(|_| known) };
        name.and_then(|name| name.to_str()).is_some_and(|name| wanted.contains(&bare(name)))
    };
    let entries = std::fs::read_dir(root).map_err(CoreError::io("list", root))?;
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_task).collect();
    found.sort();
    Ok(found.into_iter().next())
}

/// A name without case and marks.
fn bare(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
}

/// A task over records.
///
/// # Errors
/// [`EvalError::Unknown`], [`EvalError::OtherTask`].
pub fn open(name: &str, records: Box<dyn RecordSource>) -> Result<DescribedBenchmark, EvalError> {
    DescribedBenchmark::new(named(name)?.clone(), records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_lies_where_it_was_published_or_under_the_tasks_name() {
        let root = tempfile::tempdir().expect("a temporary folder");
        for folder in ["pmc_vqa", "nutrition50k", "vqa-rad.txt"] {
            std::fs::create_dir(root.path().join(folder)).expect("made");
        }
        for file in ["Food-101.parquet", "slake.txt"] {
            std::fs::write(root.path().join(file), "").expect("written");
        }
        let found = |name| find(named(name).expect("a task"), root.path()).expect("lists");
        let file = |name: &str| Some(root.path().join(name));
        assert_eq!(found("PMC_VQA"), file("pmc_vqa"));
        assert_eq!(found("Nutrition5K"), file("nutrition50k"));
        assert_eq!(found("Food101"), file("Food-101.parquet"));
        assert_eq!((found("SLAKE"), found("VQA_RAD")), (None, None));
        assert!(find(named("UCM").expect("a task"), Path::new("no/such/folder")).is_err());
    }

    #[test]
    fn twelve_tasks_in_three_domains() {
        let n_names = |name| named(name).expect("a task").names.as_ref().map_or(0, Vec::len);
        assert_eq!(DOMAINS.map(|domain| of_domain(domain).expect("a domain").len()), [4, 4, 4]);
        assert_eq!(["Food101", "foodseg103", "Nutrition5K", "CLRS", "UCM"].map(n_names), [101, 102, 555, 25, 21]);
        assert_eq!(named("PMC-VQA").expect("a task").name, "PMC_VQA");
        assert!(matches!(named("VQA"), Err(EvalError::Unknown { what: "task", .. })));
        // Table 13
        let n: usize = all().iter().filter_map(|task| task.n_examples).sum();
        assert_eq!(n, 1061 + 451 + 6719 + 2000 + 1000 + 507 + 25250 + 2135);
    }
}
