//! Single-stage post-training (paper, section 3.3): captions and synthetic tasks mixed into one conversation per image,
//! and the loop that fits a model to them.
//!
//! ```text
//! ImageCaption + InstructionTask --SingleStage::compose--> Conversation --(model)--> batch --Trainer::fit--> Checkpoint
//! ```
//!
//! The trainer knows nothing of images or text: it drives anything that is an [`Objective`](adamllm_nn::Objective).
//! Losses are summed over targets and divided once by the targets of the whole optimizer step; the gradient norm is
//! clipped over all parameters together; batch order is a pure function of `(seed, epoch)`; a resumed run equals an
//! undisturbed one bit for bit.
//!
//! | item | what it is |
//! |---|---|
//! | [`SingleStage`], [`Mixture`], [`WeightedSources`] | captions and tasks to conversations; several sources in exact shares |
//! | [`BatchSource`], [`ExampleBatches`], [`BatchOrder`] | where batches come from, and in which order |
//! | [`Trainer`], [`TrainConfig`], [`FitOptions`], [`FitReport`], [`FitError`] | the loop, its settings, what a run is given and gives back |
//! | [`RunPlan`], [`RunMemory`], [`DryRun`] | what a run will read, the memory that it will take, and whether it fits, beforehand |
//! | [`Checkpoint`], [`Validation`] | what a run leaves to go on from; losses on held-out examples |
//! | [`Collective`], [`on_each_device`] | several devices or processes |
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
mod collective;
mod config;
mod error;
mod loss_chart;
mod memory;
mod metrics;
mod micro_batches;
mod mixture;
mod optimizer;
mod order;
mod plan;
mod schedule;
mod single_stage;
mod source;
mod spikes;
mod step_batches;
mod tensorboard;
mod train_loop;
mod trainable;
mod trainer;
mod validation;

pub use adamllm_nn::ExampleSize;
pub use burn;
pub use checkpoint::Checkpoint;
#[cfg(feature = "mpi")]
pub use collective::MpiCollective;
pub use collective::{Collective, DeviceCollective, SingleProcess, ThreadCollective, Transport, on_each_device};
pub use config::{
    DecayRule, ExampleOrder, GradientCheckpointing, GradientDtype, LastBatch, LossNormalization, MicroBatchBudget,
    MomentDtype, NonFinite, OptimizerKind, ParameterGroup, TrainConfig,
};
pub use error::{FitError, TrainError};
pub use loss_chart::{draw_training, training_summary};
pub use memory::{RunMemory, WeightBytes};
pub use metrics::{GroupLoss, StepMetrics, resident_bytes};
pub use micro_batches::micro_batches;
pub use mixture::{SourceShare, WeightedSources};
pub use order::BatchOrder;
pub use plan::{PlannedBatch, RunPlan};
pub use schedule::{Schedule, ScheduleKind};
pub use single_stage::{CaptionPosition, Mixture, SingleStage};
pub use source::{BatchSource, ExampleBatches};
pub use trainer::{DryRun, FitOptions, FitOutcome, FitReport, Trainer};
pub use validation::{Validation, ValidationMetrics};

/// The README's example is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
