use std::path::PathBuf;

use adamllm_core::CoreError;
use adamllm_eval::EvalError;

use crate::settings::SettingsError;

/// What can end a job. What is wrong with one record does not: that stands in the job's ledger.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// A setting.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A file.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A benchmark, or the answers to it.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A model's folder, or a conversation that it cannot encode.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Model(#[from] adamllm_model::ModelError),
    /// Synthesis.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Synth(#[from] adamllm_synth::SynthError),
    /// Training.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Train(#[from] adamllm_train::TrainError),
    /// A source of training data of which nothing can be used.
    #[error("{place}: no record is left to train on; {cause}")]
    NoRecordLeft {
        /// The file.
        place: String,
        /// Why, by count.
        cause: String,
    },
    /// No image at a place where images are looked for.
    #[error("{place}: no image is there; expected files that are called .jpg, .png, .tif and the like", place = place.display())]
    NoImages {
        /// The folder or archive.
        place: PathBuf,
    },
    /// A job needs a model that it was not given.
    #[error("variant {variant} needs a {role}")]
    ModelWanted {
        /// The variant.
        variant: &'static str,
        /// What the model would do.
        role: &'static str,
    },
    /// A run that shall go on was started with another setting.
    #[error("the run was started with {key} = {before}, got {now}; go on with the settings in {file}", file = file.display())]
    OtherSettings {
        /// The file in the run's folder that has what it was started with.
        file: PathBuf,
        /// The setting.
        key: String,
        /// Its value then.
        before: String,
        /// Its value now.
        now: String,
    },
    /// A training run was stopped from outside.
    #[error("stopped after step {step} with a checkpoint; --resume (`resume`) goes on from there")]
    Stopped {
        /// Steps done.
        step: usize,
    },
    /// A stage that has ended has lost its checkpoint.
    #[error("{folder}: the stage has ended, but its checkpoint is gone", folder = folder.display())]
    NoCheckpoint {
        /// The stage's folder.
        folder: PathBuf,
    },
    /// What was written differs from the base model in more than its weights.
    #[error("{folder} differs from its base in {n} things, first: {first}", folder = folder.display())]
    Altered {
        /// The written folder.
        folder: PathBuf,
        /// How many differences there are.
        n: usize,
        /// The first of them.
        first: String,
    },
    /// The benchmarks that were named have no data, or nothing was named.
    #[error("{0}")]
    Benchmarks(String),
    /// A benchmark whose images shall be kept out of the training data cannot be compared with it.
    #[error("benchmark {file}: {cause}", file = file.display())]
    LeakCheck {
        /// Its description.
        file: PathBuf,
        /// Why no example of it can be read.
        cause: String,
    },
    /// A judge gave no answer at all.
    #[error("the judge failed on all of {n} open answers ({ledger}), first: {detail}", ledger = ledger.display())]
    JudgeFailed {
        /// Answers to judge.
        n: usize,
        /// Why each failed.
        ledger: PathBuf,
        /// Why the first failed.
        detail: String,
    },
    /// Two runs that shall be compared have nothing in common.
    #[error("{0}")]
    NotComparable(String),
    /// The threads that prepare batches cannot be started.
    #[error("threads: {0}")]
    Threads(String),
}

/// A job's folder has its last checkpoint, so the model is let go.
#[cfg(feature = "train")]
impl<M> From<adamllm_train::FitError<M>> for RecipeError {
    fn from(failed: adamllm_train::FitError<M>) -> Self {
        Self::Train(failed.error)
    }
}

/// An error of the file system, with what was being done to which file.
#[cfg(feature = "train")]
pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> RecipeError {
    let fault = CoreError::io(action, path);
    move |source| fault(source).into()
}
