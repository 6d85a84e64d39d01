//! Single-stage post-training (paper, section 3.3): captions and synthetic tasks mixed into one conversation per image,
//! and the loop that fits a model to them.
//!
//! ```text
//! ImageCaption + InstructionTask --SingleStage::compose--> Conversation --(model)--> batch --Trainer::fit--> Checkpoint
//! ```
//!
//! The trainer knows nothing of pictures or text: it drives anything that is an [`Objective`](adamllm_nn::Objective).
//! Losses are summed over targets and divided once by the targets of the whole accumulation window; the gradient norm is
//! clipped over all parameters together; batch order is a pure function of `(seed, epoch)`; a resumed run equals an
//! undisturbed one bit for bit.
//!
//! ```
//! use adamllm_core::{ImageCaption, InstructionTask};
//! use adamllm_train::SingleStage;
//!
//! let pair = ImageCaption::new("dish.png", "Two tomatoes on a white plate.");
//! let task = InstructionTask::new(pair.id.clone(), pair.image.clone(), "How many tomatoes?", "Two.");
//! let conversations = SingleStage::default().compose(&[pair], &[task])?;
//! assert_eq!(conversations.len(), 1);
//! assert_eq!(conversations[0].messages.len(), 4); // the captioning exchange and the task, in random order
//! assert!(conversations[0].messages[0].content.starts_with("<image>\n"));
//! # Ok::<(), adamllm_train::TrainError>(())
//! ```

mod backward;
mod checkpoint;
mod config;
mod curve;
mod error;
mod fitting;
mod metrics;
mod micro_batches;
mod mixture;
mod optimizer;
mod order;
mod plan;
mod replicas;
mod schedule;
mod single_stage;
mod source;
mod spikes;
mod tensorboard;
mod trainable;
mod trainer;
mod validation;
mod windows;

pub use checkpoint::Checkpoint;
pub use config::{
    DecayRule, LastWindow, MicroBatchBudget, MomentDtype, NonFinite, Normalisation, OptimizerKind, ParameterGroup,
    Recompute, RowOrder, TrainConfig,
};
pub use curve::draw_training;
pub use error::TrainError;
pub use metrics::{GroupLoss, StepMetrics};
pub use micro_batches::micro_batches;
pub use mixture::{SourceShare, WeightedSources};
pub use order::BatchOrder;
pub use plan::{PlannedBatch, RunPlan};
#[cfg(feature = "mpi")]
pub use replicas::MpiReplicas;
pub use replicas::{Alone, DeviceReplicas, Exchange, Replicas, ThreadReplicas, on_each_device};
pub use schedule::{Schedule, ScheduleKind};
pub use single_stage::{CaptionPlace, Mixture, SingleStage};
pub use source::{BatchSource, RowBatches, RowSize};
pub use trainer::{FitOutcome, FitReport, Rehearsal, Run, Trainer};
pub use validation::{Validation, ValidationMetrics};
