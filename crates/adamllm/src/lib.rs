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
//! | `remote` | models of servers or batch files | no |
//! | [`vision`], [`language`], [`nn`] | vision encoders, decoders, and what they share | yes |
//! | [`model`] | joins them; Hugging Face folders in and out | yes |
//! | [`train`] | the single-stage mixture and the training loop | yes |
//! | [`recipes`] | whole jobs, each from one settings struct | those that train |
//!
//! The whole adaptation, from image-caption pairs to a better domain model and its scores:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use adamllm::eval::report_table;
//! use adamllm::prelude::*;
//! use adamllm::recipes::{AdaptSettings, RunOptions, adapt};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let settings = AdaptSettings {
//!         captions: "pairs.json".into(),
//!         images: "photos".into(),
//!         benchmark: Some("benchmark.toml".into()),
//!         ..AdaptSettings::default() // the paper's
//!     };
//!     let device = Device::flex();
//!     let base = ModelFolder::open("Qwen2-VL-2B-Instruct")?;
//!     let images = Arc::new(FolderImages::new("photos"));
//!     let open = |folder: &str| LocalModel::load(&ModelFolder::open(folder)?, DType::F32, &device, images.clone());
//!     let models = (open("my-synthesizer")?, open("Meta-Llama-3-8B")?);
//!     let report = adapt(&settings, &base, models, &device, &RunOptions::new("runs/mine"), &mut ())?;
//!     println!("{} conversations, loss {:?} -> {:?}", report.encoded, report.loss_first, report.loss_last);
//!     if let (Some(before), Some(after)) = (&report.base, &report.post_trained) {
//!         println!("{}", report_table(&[("base", before), ("post-trained", after)]));
//!     }
//!     println!("the model: {}", report.model.display());
//!     Ok(())
//! }
//! ```
//!
//! A stage can run alone; what one writes, the next reads:
//!
//! ```
//! use adamllm::prelude::*;
//!
//! let pair = ImageCaption::new("slide.png", "Three round cells with two nuclei.");
//! let task = InstructionTask::new(pair.id.clone(), pair.image.clone(), "How many cells are there?", "Three.");
//! let conversations = SingleStage::default().compose(&[pair], &[task])?;
//! assert_eq!(conversations[0].images.len(), 1);
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
#[cfg(feature = "recipes")]
pub use adamllm_recipes as recipes;
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

/// The README's example is compiled with the documentation's.
#[cfg(all(doctest, feature = "flex", feature = "model", feature = "recipes", feature = "train"))]
#[doc = include_str!("../README.md")]
struct Readme;
