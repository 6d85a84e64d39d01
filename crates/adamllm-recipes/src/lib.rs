//! Whole jobs, each from one settings struct: what one would otherwise write by hand over the other crates.
//!
//! | recipe | from | to |
//! |---|---|---|
//! | [`adapt()`] | image-caption pairs, a base, a synthesizer, a judge | a better domain model, compared with its base (the paper's whole path) |
//! | [`tune_synthesizer()`] | seed files, a base | a synthesizer |
//! | [`synthesize()`] | image-caption pairs, a synthesizer, a judge | filtered tasks, and conversations to train on |
//! | [`post_train()`] | a settings file, a base | a post-trained Hugging Face folder, or an adapter |
//! | [`evaluate()`] | benchmarks, a model | both scorings, a page, the paper's tables |
//! | [`compare`] | two evaluations | their differences, with intervals |
//!
//! Each recipe is a function, and a struct with its parts for those who want to step in between: [`PostTraining`](post_train::PostTraining)
//! plans and tries before it trains, [`Evaluation`](evaluate::Evaluation) tells of each task. Settings are serde structs with the
//! paper's defaults; [`settings`] reads them from TOML and names the likely key where one is unknown. [`TrainingSet`] turns
//! conversations into batches for a trainer of one's own.
//!
//! Nothing here makes a device, prints, or chooses where a model comes from: devices, opened folders and models are arguments;
//! progress goes through [`Progress`](adamllm_core::Progress). A record that cannot be used stands in a ledger with the reason of its own
//! error and ends nothing.
//!
//! Everything that trains, or writes what is trained on, is behind the feature `train` (on by default); without it no tensor library is
//! compiled.

#[cfg(feature = "train")]
pub mod adapt;
#[cfg(feature = "train")]
mod base;
pub mod benchmarks;
mod captions;
#[cfg(feature = "train")]
pub mod cards;
pub mod compare;
mod dtype;
mod error;
pub mod evaluate;
mod files;
mod kept;
mod page;
#[cfg(feature = "train")]
pub mod post_train;
#[cfg(feature = "train")]
mod run;
pub mod settings;
#[cfg(feature = "train")]
pub mod synthesize;
#[cfg(feature = "train")]
pub mod training_set;
#[cfg(feature = "train")]
pub mod tune_synthesizer;

#[cfg(feature = "train")]
pub use adamllm_nn::ExampleSize;
#[cfg(feature = "train")]
pub use adapt::{AdaptReport, AdaptSettings, adapt};
pub use captions::{CaptionRecords, caption_records};
pub use dtype::Dtype;
pub use error::RecipeError;
pub use evaluate::{EvaluationReport, EvaluationSettings, evaluate};
pub use files::write_json;
pub use kept::Kept;
#[cfg(feature = "train")]
pub use post_train::{PostTrainReport, PostTrainSettings, post_train};
#[cfg(feature = "train")]
pub use run::RunOptions;
#[cfg(feature = "train")]
pub use synthesize::{SynthesisReport, SynthesisSettings, synthesize};
#[cfg(feature = "train")]
pub use training_set::{RecordCounts, SourceSettings, TrainingSet, TrainingSetReader};
#[cfg(feature = "train")]
pub use tune_synthesizer::{TuneSynthesizerReport, TuneSynthesizerSettings, tune_synthesizer};

/// The README's example is compiled with the documentation's.
#[cfg(all(doctest, feature = "train"))]
#[doc = include_str!("../README.md")]
struct Readme;
