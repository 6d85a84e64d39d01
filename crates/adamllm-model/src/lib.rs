//! Vision-language models: joined from an encoder and a decoder, read from and written to ordinary Hugging Face folders.
//!
//! This is the only crate in which conversations and images become the batches that a model takes:
//!
//! ```text
//! ModelFolder --load--> VisionLanguageModel --+--> LocalModel: Generate
//!     |                                       |
//!     +--Processor::read--> Processor --------+
//!                               |
//!                               +--Encoder::new--> Encoder
//!
//! training: Conversation --Encoder::encode-----> Encoded --VlmBatch::collate, pack--> VlmBatch --Objective--> the trainer
//! answers:  Prompt --Processor::encode_prompt--> Encoded --VlmBatch::collate--------> VlmBatch --decode-----> Completion
//! ```
//!
//! Encoders and image processors come from `adamllm-vision`, the decoder and its decode loop from `adamllm-language`, the layers and
//! contracts of both from `adamllm-nn`, conversations, prompts and images from `adamllm-core`. The trainer (`adamllm-train`) and this
//! crate do not know each other: they meet in `adamllm-nn`'s `Objective` and `Batch`.
//!
//! | item | what it is |
//! |---|---|
//! | [`ModelFolder`], [`ModelConfig`], [`Families`] | a folder on disk, what its `config.json` says, and the families that are read ([`family`]: one of your own) |
//! | [`VisionLanguageModel`], [`AutoVisionEncoder`] | the model, of any encoder and decoder; the encoder that a folder names |
//! | [`Processor`], [`TextCodec`], [`ChatTemplate`] | tokenizer, chat template and image processor of a folder |
//! | [`Encoder`], [`Encoding`], [`Encoded`] | conversations to tokens, targets and pixels, by the preset of a training tool |
//! | [`VlmBatch`], [`Padding`] | encoded examples together, padded or packed |
//! | [`LocalModel`], [`BatchLimits`] | the model and its processor as a `Generate` |
//! | [`Flops`], [`PlannedWeights`], [`ModelPart`] | operations of a pass; what weights will take; the parts that settings name |
//!
//! ```no_run
//! use std::sync::Arc;
//! use adamllm_core::{Decoding, Generate, MemoryImages, Prompt};
//! use adamllm_model::{LocalModel, ModelFolder};
//! use burn::tensor::{DType, Device};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let device = Device::default();
//! let folder = ModelFolder::open("Qwen2-VL-2B-Instruct")?;
//! let model = LocalModel::load(&folder, DType::F32, &device, Arc::new(MemoryImages::new()))?;
//! let answers = model.generate(&[Prompt::Text("Once".into())], &Decoding::greedy(16));
//! println!("{}", answers[0].as_ref().map_err(|e| e.to_string())?.text);
//! # Ok(())
//! # }
//! ```

mod adapter;
mod batch;
mod draft;
mod encoded;
mod encoder;
mod encoding;
mod error;
mod families;
mod flops;
mod folder;
mod generation;
mod hf;
mod image_cache;
mod image_limit;
mod image_processor;
mod local;
mod memory;
mod model;
mod part;
mod processor;
mod span;
mod template;
mod text;
mod training_formats;
mod truncation;
mod verify;
mod vision;

pub use adamllm_vision::preprocess::PixelRange;
pub use batch::{Padding, VlmBatch};
pub use burn;
pub use encoded::{Encoded, EncodedImage};
pub use encoder::Encoder;
pub use encoding::{Encoding, Preset, Truncation};
pub use error::ModelError;
pub use families::{AutoVisionEncoder, Families, Family};
pub use flops::Flops;
pub use folder::{FrozenLayers, ModelFolder, PlannedWeights};
pub use generation::GenerationDefaults;
pub use hf::config::ModelConfig;
pub use hf::keys::KeyLayout;
pub use image_limit::ImageLimit;
pub use local::{BatchLimits, LocalModel};
pub use model::{Embedded, ImageInjection, ModelInput, VisionLanguageModel};
pub use part::ModelPart;
pub use processor::{Processor, Rendered};
pub use span::{RopeMode, Span, SpanKind};
pub use template::{ChatTemplate, Segment, TemplateTokens};
pub use text::TextCodec;
pub use verify::Difference;
pub use vision::{ImagePiece, ImagePrompt, VisionConfig};

/// What a model family is made of, for families from outside: see `docs/guides/new-family.md`.
pub mod family {
    pub use crate::families::{ModelFamily, text};
    pub use crate::hf::config::ConfigFile;
    pub use crate::hf::fields::Fields;
    pub use crate::hf::keys::{PartKeys, Renames};
}

/// The README's example is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
