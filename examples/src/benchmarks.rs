//! Benchmarks as a command line names them: the paper's tasks over a data set in any form, and descriptions of one's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adamllm::core::ImageStore;
use adamllm::data::{FirstOf, LocalDataset, images_at};
use adamllm::eval::{BenchmarkDescription, DescribedBenchmark, EvalError, tasks};
use clap::Args;

/// The split that benchmarks are asked from.
const SPLIT: &str = "test";

/// Which benchmarks, and where their rows are.
#[derive(Args, Clone, Debug)]
pub struct Choice {
    /// The paper's tasks of a domain: biomed, food, remote-sensing
    #[arg(long)]
    pub domain: Option<String>,
    /// Single tasks of the paper, by name
    #[arg(long, num_args = 1..)]
    pub task: Vec<String>,
    /// Descriptions (TOML or JSON) of benchmarks of your own
    #[arg(long, num_args = 1..)]
    pub benchmark: Vec<PathBuf>,
    /// Where the tasks' data are: a folder with a folder or file for each task, or the data of the only task
    #[arg(long)]
    pub data: Option<PathBuf>,
}

/// A benchmark and its images, for the model to look at.
#[derive(Debug)]
pub struct Opened {
    /// Questions with right answers.
    pub benchmark: DescribedBenchmark,
    /// The images, by the names that the questions use.
    pub images: Pictures,
}

/// A store that can be printed.
#[derive(Clone)]
pub struct Pictures(pub Arc<dyn ImageStore>);

impl std::fmt::Debug for Pictures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pictures(...)")
    }
}

impl Choice {
    /// Whether anything was named.
    pub fn is_empty(&self) -> bool {
        self.domain.is_none() && self.task.is_empty() && self.benchmark.is_empty()
    }

    /// Opens what was named, and says which of a domain's tasks have no data.
    ///
    /// # Errors
    /// Unknown names, data that cannot be read or belong to another task, and data for none of the tasks.
    pub fn open(&self) -> Result<(Vec<Opened>, Vec<String>), Box<dyn std::error::Error>> {
        if self.is_empty() {
            return Err("name something to ask: --domain, --task or --benchmark".into());
        }
        let mut named: Vec<&BenchmarkDescription> =
            self.task.iter().map(|name| tasks::named(name)).collect::<Result<_, _>>()?;
        let n_named = named.len();
        if let Some(domain) = &self.domain {
            named.extend(tasks::of_domain(domain)?);
        }
        let (mut opened, mut missing) = (Vec::new(), Vec::new());
        for (i, task) in named.iter().enumerate() {
            match self.place_of(task, named.len() == 1)? {
                Some(place) => opened.push(open_task(task, &place)?),
                None if i < n_named => return Err(self.no_data(&task.name).into()),
                None => missing.push(task.name.clone()),
            }
        }
        for description in &self.benchmark {
            opened.push(open_description(description)?);
        }
        if opened.is_empty() {
            return Err(self.no_data(&missing.join(", ")).into());
        }
        Ok((opened, missing))
    }

    fn no_data(&self, names: &str) -> String {
        let place = self.data.as_deref().unwrap_or(Path::new("")).display();
        format!(
            "no data for {names} in {place}: expected a folder or file (.arrow, .parquet, .json, .jsonl) of its name"
        )
    }

    /// Where a task's data lie; a single task may be what `--data` itself holds.
    fn place_of(
        &self,
        task: &BenchmarkDescription,
        alone: bool,
    ) -> Result<Option<PathBuf>, Box<dyn std::error::Error>> {
        let Some(root) = &self.data else { return published(task).map(Some) };
        if root.is_file() {
            return Ok(alone.then(|| root.clone()));
        }
        let found = tasks::find(task, root)?;
        Ok(found.or_else(|| (alone && LocalDataset::open(root, SPLIT).is_ok()).then(|| root.clone())))
    }
}

/// A task's data on the Hugging Face Hub, downloaded into Python's cache.
#[cfg(feature = "hub")]
fn published(task: &BenchmarkDescription) -> Result<PathBuf, Box<dyn std::error::Error>> {
    use adamllm::data::hub::{HubRepo, Selection};
    let hub = task.hub.as_ref().ok_or_else(|| format!("{} is not on the Hub", task.name))?;
    let repo = hub.dataset.parse::<HubRepo>()?.dataset();
    let folder = crate::cli::download(&repo, &Selection::Matching(vec![format!("{}/*", hub.folder)]))?;
    Ok(folder.join(&hub.folder))
}

#[cfg(not(feature = "hub"))]
fn published(task: &BenchmarkDescription) -> Result<PathBuf, Box<dyn std::error::Error>> {
    Err(format!(
        "where are the data of {}? Give --data DIR, or build with `--features hub` to download them",
        task.name
    )
    .into())
}

/// A task of the paper over a data set on disk.
///
/// # Errors
/// Data that cannot be read, or that belong to another task.
pub fn open_task(task: &BenchmarkDescription, place: &Path) -> Result<Opened, Box<dyn std::error::Error>> {
    let set = LocalDataset::open(place, SPLIT)?;
    joined(task.clone(), &set, set.images()).map_err(Into::into)
}

/// A benchmark of one's own: the description names the rows, in any form, and the images' folder or zip.
///
/// # Errors
/// As [`open_task`], and a description that does not parse.
pub fn open_description(path: &Path) -> Result<Opened, Box<dyn std::error::Error>> {
    let description = BenchmarkDescription::read(path)?;
    let set = LocalDataset::open(description.examples_path(), SPLIT)?;
    let beside = description.images_path();
    let images: Arc<dyn ImageStore> = match beside.exists() {
        true => Arc::new(FirstOf::new(vec![images_at(beside)?, Box::new(set.images())])),
        false => set.images(),
    };
    joined(description, &set, images).map_err(Into::into)
}

fn joined(
    description: BenchmarkDescription,
    set: &LocalDataset,
    images: Arc<dyn ImageStore>,
) -> Result<Opened, EvalError> {
    let benchmark = DescribedBenchmark::new(description, Box::new(set.records()))?.with_images(images.clone());
    Ok(Opened { benchmark, images: Pictures(images) })
}
