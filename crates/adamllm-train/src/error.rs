use std::path::PathBuf;

use adamllm_core::CoreError;

/// What can go wrong with a training run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A file or record is at fault.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A setting cannot be used.
    #[error("training setting `{field}`: expected {expected}, got {got}")]
    Config {
        /// The setting.
        field: &'static str,
        /// What is allowed.
        expected: String,
        /// What was found.
        got: String,
    },
    /// A task belongs to none of the pairs.
    #[error("task {task} names the pair {pair}, which is not among the pairs")]
    UnknownPair {
        /// The task's id.
        task: String,
        /// The pair's id.
        pair: String,
    },
    /// A batch could not be made.
    #[error("batch of examples {examples:?}: {source}")]
    Batch {
        /// The examples' numbers.
        examples: Vec<usize>,
        /// What went wrong.
        source: adamllm_core::BoxError,
    },
    /// No token of an optimizer step counts for the loss.
    #[error("step {step}: none of the examples {examples:?} has a target token")]
    NoTargets {
        /// The step, from 1.
        step: usize,
        /// The examples' numbers.
        examples: Vec<usize>,
    },
    /// The loss or the gradient is NaN or infinite.
    #[error("step {step}: loss {loss}, gradient norm {gradient_norm}, in examples {examples:?}")]
    NonFinite {
        /// The step, from 1.
        step: usize,
        /// The step's loss.
        loss: f64,
        /// The global gradient norm.
        gradient_norm: f64,
        /// The examples of the step.
        examples: Vec<usize>,
    },
    /// The output folder holds a run, and neither resuming nor overwriting was asked for.
    #[error("{folder} already holds a run: resume it, overwrite it, or choose another folder", folder = folder.display())]
    RunExists {
        /// The folder.
        folder: PathBuf,
    },
    /// The backend failed in the middle of a forward and backward pass: most often, the device has no memory left.
    #[error(
        "step {step}, the pass over examples {examples:?} ({tokens} tokens, {targets} targets, {images} images): {detail}. If memory ran \
         out: a smaller micro_batch_size or micro_batch_budget, gradient_checkpointing = \"blocks\", a smaller loss_chunk, fewer max_tokens"
    )]
    Backend {
        /// The step, from 1.
        step: usize,
        /// The examples' numbers.
        examples: Vec<usize>,
        /// Tokens of the pass, padding left out.
        tokens: usize,
        /// Its target tokens.
        targets: usize,
        /// Its images.
        images: usize,
        /// What the backend said.
        detail: String,
    },
    /// A process of a data parallel run cannot be reached, or does not do what the others do.
    #[error("rank {rank} of {size}: {detail}")]
    Collective {
        /// Which process says so.
        rank: usize,
        /// How many there are.
        size: usize,
        /// What went wrong.
        detail: String,
    },
    /// The model's device records no operations for a backward pass.
    #[error(
        "the model lives on a device without autodiff, so nothing would be trained: load it onto `device.autodiff()`"
    )]
    NoAutodiff,
    /// Every parameter is frozen.
    #[error(
        "no parameter would be trained: of {n_parameters} parameters the settings' groups freeze {by_group}, the model itself \
         {by_model}"
    )]
    NothingTrained {
        /// Parameters of the model.
        n_parameters: usize,
        /// Those that a frozen [`ParameterGroup`](crate::ParameterGroup) matches.
        by_group: usize,
        /// The others, which the model itself has frozen, such as the weights beside an adapter.
        by_model: usize,
    },
    /// No parameter's name begins with a group's prefix.
    #[error("parameter group `{prefix}` matches no parameter: {hint}")]
    UnmatchedGroup {
        /// The group's prefix.
        prefix: String,
        /// The prefix that was probably meant, or those that there are.
        hint: String,
    },
    /// A group can never act: the last group that matches a parameter counts, and for each of this group's parameters that is
    /// another one.
    #[error("parameter group `{prefix}` never acts: all of its parameters belong to the later `{by}`")]
    ShadowedGroup {
        /// The group's prefix.
        prefix: String,
        /// The prefixes of the groups that act instead.
        by: String,
    },
    /// Trained parameters got no gradient although the step's batches use them
    /// ([`Objective::uses`](adamllm_nn::Objective::uses)).
    #[error(
        "step {step}: no gradient reaches {names}, which should be trained: detached from the loss, or read by no forward pass. \
         Freeze what is not to be trained, or let the model's `uses` say which batches use it",
        names = names(parameters)
    )]
    NoGradient {
        /// The step, from 1.
        step: usize,
        /// The parameters' names.
        parameters: Vec<String>,
    },
    /// A checkpoint does not belong to this model or configuration.
    #[error("checkpoint {path}: {detail}", path = path.display())]
    Checkpoint {
        /// The checkpoint's folder.
        path: PathBuf,
        /// What does not fit.
        detail: String,
    },
}

/// Why a run of [`Trainer::fit`](crate::Trainer::fit) failed, and its model. Turns into the [`TrainError`] alone where `?` asks
/// for one.
#[non_exhaustive]
pub struct FitError<M> {
    /// What went wrong.
    pub error: TrainError,
    /// The model as the last whole step left it, frozen as the settings say. `None` only where a checkpoint's weights, or those
    /// of another rank, could not be read to their end: a part of them is in no model.
    pub model: Option<Box<M>>,
}

impl<M> std::fmt::Debug for FitError<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FitError").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<M> std::fmt::Display for FitError<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl<M> std::error::Error for FitError<M> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl<M> From<FitError<M>> for TrainError {
    fn from(failed: FitError<M>) -> Self {
        failed.error
    }
}

/// The first names, and how many more there are.
fn names(all: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = all[..all.len().min(SHOWN)].join(", ");
    if all.len() > SHOWN { format!("{shown} and {} more parameters", all.len() - SHOWN) } else { shown }
}
