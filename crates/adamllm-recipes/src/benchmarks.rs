//! Benchmarks by name: the paper's tasks over a data set in any form, and descriptions of one's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adamllm_core::ImageStore;
use adamllm_data::{FirstOf, LocalDataset, images_at};
use adamllm_eval::{BenchmarkDescription, DescribedBenchmark, EvalError, tasks};
use serde::{Deserialize, Serialize};

use crate::RecipeError;

/// The split that benchmarks are asked from.
const SPLIT: &str = "test";

/// Which benchmarks, and where their data are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BenchmarkSettings {
    /// The paper's tasks of a domain: `biomed`, `food`, `remote-sensing`.
    pub domain: Option<String>,
    /// Single tasks of the paper, by name.
    pub tasks: Vec<String>,
    /// Descriptions (TOML or JSON) of benchmarks of one's own.
    pub descriptions: Vec<PathBuf>,
    /// Where the tasks' data are: a folder with a folder or file for each task, or the data of the only task.
    pub data: Option<PathBuf>,
}

/// A benchmark and its images, for the model to look at.
#[non_exhaustive]
pub struct OpenedBenchmark {
    /// Questions with right answers.
    pub benchmark: DescribedBenchmark,
    /// The images, by the names that the questions use.
    pub images: Arc<dyn ImageStore>,
}

impl std::fmt::Debug for OpenedBenchmark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedBenchmark").field("benchmark", &self.benchmark).finish_non_exhaustive()
    }
}

/// Benchmarks that were opened, and the tasks of a domain that have no data.
#[derive(Debug, Default)]
pub struct OpenedBenchmarks {
    /// In the order in which they were named.
    pub opened: Vec<OpenedBenchmark>,
    /// Tasks of the domain without data.
    pub missing: Vec<String>,
}

impl BenchmarkSettings {
    /// Whether nothing was named.
    pub fn is_empty(&self) -> bool {
        self.domain.is_none() && self.tasks.is_empty() && self.descriptions.is_empty()
    }

    /// Opens what was named. Where `data` is not set, `fetch` is asked for the folder of a task's published data, or says why there
    /// is none.
    ///
    /// # Errors
    /// Unknown names, data that cannot be read or belong to another task, and data for none of the tasks.
    pub fn open(
        &self,
        fetch: impl Fn(&BenchmarkDescription) -> Result<PathBuf, String>,
    ) -> Result<OpenedBenchmarks, RecipeError> {
        if self.is_empty() {
            return Err(RecipeError::Benchmarks("name something to ask: a domain, a task or a benchmark".into()));
        }
        let mut named: Vec<&BenchmarkDescription> =
            self.tasks.iter().map(|name| tasks::named(name)).collect::<Result<_, _>>()?;
        let n_named = named.len();
        if let Some(domain) = &self.domain {
            named.extend(tasks::of_domain(domain)?);
        }

        let mut found = OpenedBenchmarks::default();
        for (i, task) in named.iter().enumerate() {
            let place = match &self.data {
                Some(root) => place_in(root, task, named.len() == 1)?,
                None => Some(fetch(task).map_err(RecipeError::Benchmarks)?),
            };
            match place {
                Some(place) => found.opened.push(open_task(task, &place)?),
                None if i < n_named => return Err(self.no_data(&task.name)),
                None => found.missing.push(task.name.clone()),
            }
        }
        for description in &self.descriptions {
            found.opened.push(open_description(description)?);
        }
        match found.opened.is_empty() {
            true => Err(self.no_data(&found.missing.join(", "))),
            false => Ok(found),
        }
    }

    fn no_data(&self, names: &str) -> RecipeError {
        let place = self.data.as_deref().unwrap_or(Path::new("")).display();
        let expected = "expected a folder or file (.arrow, .parquet, .json, .jsonl) of its name";
        RecipeError::Benchmarks(format!("no data for {names} in {place}: {expected}"))
    }
}

/// Where a task's data lie; a single task may be what the folder itself holds.
fn place_in(root: &Path, task: &BenchmarkDescription, alone: bool) -> Result<Option<PathBuf>, RecipeError> {
    if root.is_file() {
        return Ok(alone.then(|| root.to_owned()));
    }
    let found = tasks::find(task, root)?;
    Ok(found.or_else(|| (alone && LocalDataset::open(root, SPLIT).is_ok()).then(|| root.to_owned())))
}

/// A task of the paper over a data set on disk.
///
/// # Errors
/// Data that cannot be read, or that belong to another task.
pub fn open_task(task: &BenchmarkDescription, place: &Path) -> Result<OpenedBenchmark, RecipeError> {
    let set = LocalDataset::open(place, SPLIT)?;
    Ok(joined(task.clone(), &set, set.images())?)
}

/// A benchmark of one's own: the description names the records, in any form, and the images' folder or zip.
///
/// # Errors
/// As [`open_task`], and a description that does not parse.
pub fn open_description(path: &Path) -> Result<OpenedBenchmark, RecipeError> {
    let description = BenchmarkDescription::read(path)?;
    let set = LocalDataset::open(description.examples_path(), SPLIT)?;
    let beside = description.images_path();
    let images: Arc<dyn ImageStore> = match beside.exists() {
        true => Arc::new(FirstOf::new(vec![images_at(beside)?, Box::new(set.images())])),
        false => set.images(),
    };
    Ok(joined(description, &set, images)?)
}

fn joined(
    description: BenchmarkDescription,
    set: &LocalDataset,
    images: Arc<dyn ImageStore>,
) -> Result<OpenedBenchmark, EvalError> {
    let benchmark = DescribedBenchmark::new(description, Box::new(set.records()))?.with_images(images.clone());
    Ok(OpenedBenchmark { benchmark, images })
}
