//! Adapts general multimodal language models to a domain by post-training, after the paper "On Domain-Adaptive
//! Post-Training for Multimodal Large Language Models" (AdaMLLM, arXiv 2411.19930).
//!
//! This crate holds no logic: it re-exports the parts, chosen by features of the same names, and chooses burn's backends.
//!
//! | module | part | tensors |
//! |---|---|---|
//! | [`core`] | the records that flow, and the text-level contract of a model | no |
//! | [`data`] | image-caption pairs, conversations and images in | no |
//! | [`synth`] | image-caption pairs to filtered instruction tasks | no |
//! | [`eval`] | domain benchmarks, metrics, reports | no |
//! | [`vision`], [`language`], [`nn`] | vision encoders, decoders, and what they share | yes |
//! | [`model`] | joins them; Hugging Face folders in and out | yes |
//! | [`train`] | the single-stage mixture and the training loop | yes |
//!
//! A stage can run alone; what one writes, the next reads:
//!
//! ```
//! use adamllm::prelude::*;
//!
//! let pair = ImageCaption::new("slide.png", "Three round cells with two nuclei.");
//! let task = InstructionTask::new(pair.id.clone(), pair.image.clone(), "How many cells are there?", "Three.");
//! let rows = SingleStage::default().compose(&[pair], &[task])?;
//! assert_eq!(rows[0].images.len(), 1);
//! # Ok::<(), adamllm::train::TrainError>(())
//! ```

pub use adamllm_core as core;
#[cfg(feature = "data")]
pub use adamllm_data as data;
#[cfg(feature = "eval")]
pub use adamllm_eval as eval;
#[cfg(feature = "language")]
pub use adamllm_language as language;
#[cfg(feature = "model")]
pub use adamllm_model as model;
#[cfg(any(feature = "language", feature = "vision", feature = "train"))]
pub use adamllm_nn as nn;
#[cfg(feature = "remote")]
pub use adamllm_remote as remote;
#[cfg(feature = "synth")]
pub use adamllm_synth as synth;
#[cfg(feature = "train")]
pub use adamllm_train as train;
#[cfg(feature = "vision")]
pub use adamllm_vision as vision;
#[cfg(any(feature = "language", feature = "vision", feature = "train"))]
pub use burn;

/// What most programs need.
pub mod prelude {
    pub use adamllm_core::{
        Conversation, Decoding, Generate, ImageCaption, ImageRef, ImageStore, InstructionTask, Message, Progress,
        Prompt, Role,
    };
    #[cfg(feature = "data")]
    pub use adamllm_data::FolderImages;
    #[cfg(feature = "model")]
    pub use adamllm_model::{LocalModel, ModelFolder, Processor};
    #[cfg(feature = "synth")]
    pub use adamllm_synth::{ConsistencyFilter, Synthesizer, TaskTriplet};
    #[cfg(feature = "train")]
    pub use adamllm_train::{SingleStage, TrainConfig, Trainer};
    #[cfg(any(feature = "language", feature = "vision", feature = "train"))]
    pub use burn::tensor::{DType, Device};
}
