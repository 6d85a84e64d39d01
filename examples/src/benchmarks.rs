//! Benchmarks as a command line names them.

use std::path::PathBuf;

use adamllm::eval::BenchmarkDescription;
use adamllm::recipes::RecipeError;
use adamllm::recipes::benchmarks::{BenchmarkSettings, OpenedBenchmarks};
use clap::Args;

/// Which benchmarks, and where their data are.
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

impl Choice {
    /// The same as settings.
    pub fn settings(&self) -> BenchmarkSettings {
        BenchmarkSettings {
            domain: self.domain.clone(),
            tasks: self.task.clone(),
            descriptions: self.benchmark.clone(),
            data: self.data.clone(),
        }
    }

    /// Opens what was named; with the feature `hub`, data that are not on disk are downloaded.
    ///
    /// # Errors
    /// As [`BenchmarkSettings::open`].
    pub fn open(&self) -> Result<OpenedBenchmarks, RecipeError> {
        let settings = self.settings();
        if settings.is_empty() {
            return Err(RecipeError::Benchmarks("name something to ask: --domain, --task or --benchmark".into()));
        }
        settings.open(published)
    }
}

/// A task's data on the Hugging Face Hub, downloaded into Python's cache.
#[cfg(feature = "hub")]
fn published(task: &BenchmarkDescription) -> Result<PathBuf, String> {
    use adamllm::data::hub::{HubRepo, Selection};
    let hub = task.hub.as_ref().ok_or_else(|| format!("{} is not on the Hub", task.name))?;
    let repo = hub.dataset.parse::<HubRepo>().map_err(|error| error.to_string())?.dataset();
    let wanted = Selection::Matching(vec![format!("{}/*", hub.folder)]);
    let folder = crate::hub::download(&repo, &wanted).map_err(|error| error.to_string())?;
    Ok(folder.join(&hub.folder))
}

#[cfg(not(feature = "hub"))]
fn published(task: &BenchmarkDescription) -> Result<PathBuf, String> {
    let name = &task.name;
    Err(format!("where are the data of {name}? Give --data DIR, or build with `--features hub` to download them"))
}
