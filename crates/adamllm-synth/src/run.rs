//! A whole run over files: captions in, tasks and ledger out, surviving `kill -9`.
//!
//! Two kinds of files. Journals (in `work/`) hold what the models said, appended and synced batch by batch. Everything else
//! is a pure function of the captions and the journals, and is written anew in each run, in the captions' order, beside its
//! final place and then renamed. So a run that was killed repeats no finished batch, and ends with the same files.

use std::path::PathBuf;

use adamllm_core::{ImageStore, Shard};
use serde::{Deserialize, Serialize};

use crate::SynthError;

mod ordered_file;
mod row;
mod stages;
mod summary;

pub use row::InputRow;
pub use summary::RunSummary;

/// How a run goes about its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Rows that are given to a model, and synced to disk, at once: what a killed run loses at most.
    pub batch_size: usize,
    /// Seeds the choice of templates.
    pub seed: u64,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self { batch_size: 64, seed: 0 }
    }
}

impl RunConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SynthError::Config`].
    pub fn validate(&self) -> Result<(), SynthError> {
        match self.batch_size {
            0 => Err(SynthError::Config { field: "batch_size", expected: "at least 1", got: "0".into() }),
            _ => Ok(()),
        }
    }
}

/// Captions to tasks, in a folder of its own: see [`SynthesisRun::run`].
pub struct SynthesisRun<'a> {
    config: RunConfig,
    folder: PathBuf,
    images: &'a dyn ImageStore,
    shard: Shard,
    resume: bool,
}

impl std::fmt::Debug for SynthesisRun<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SynthesisRun")
            .field("config", &self.config)
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl<'a> SynthesisRun<'a> {
    /// A run that writes into `folder` (made if it is not there). `images` is where the models' images come from: their
    /// bytes are part of the cache key.
    pub fn new(folder: impl Into<PathBuf>, images: &'a dyn ImageStore) -> Self {
        let config = RunConfig::default();
        Self { config, folder: folder.into(), images, shard: Shard::WHOLE, resume: false }
    }

    /// With settings of its own.
    ///
    /// # Errors
    /// [`SynthError::Config`].
    pub fn with_config(mut self, config: RunConfig) -> Result<Self, SynthError> {
        config.validate()?;
        self.config = config;
        Ok(self)
    }

    /// Only the rows of one shard; the others are neither read in nor counted.
    pub fn with_shard(mut self, shard: Shard) -> Self {
        self.shard = shard;
        self
    }

    /// Whether to use what an earlier run in this folder finished (`false`: start anew, forget it).
    pub fn resuming(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }
}
