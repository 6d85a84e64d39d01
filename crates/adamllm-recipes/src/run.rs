use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use adamllm_train::{Collective, SingleProcess};

/// Where a training job writes, and what steers it from outside.
#[derive(Clone, Default)]
pub struct RunOptions<'a> {
    /// Everything is written below this folder.
    pub out: PathBuf,
    /// Goes on with what an earlier run has left there, and ends with the same bits.
    pub resume: bool,
    /// Set from outside (a signal handler): training writes a checkpoint and the job ends with
    /// [`RecipeError::Stopped`](crate::RecipeError::Stopped).
    pub stop: Option<&'a AtomicBool>,
    /// The ranks that train together; only rank 0 writes. One process alone where there is none.
    pub collective: Option<&'a dyn Collective>,
}

impl RunOptions<'_> {
    /// A run of one process that starts in a folder.
    pub fn new(out: impl Into<PathBuf>) -> Self {
        Self { out: out.into(), ..Self::default() }
    }

    pub(crate) fn collective(&self) -> &dyn Collective {
        self.collective.unwrap_or(&SingleProcess)
    }
}

impl std::fmt::Debug for RunOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunOptions").field("out", &self.out).field("resume", &self.resume).finish_non_exhaustive()
    }
}
