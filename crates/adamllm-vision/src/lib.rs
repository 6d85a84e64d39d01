//! Pixels to patch features: image preprocessing that needs no model, and vision encoders.
//!
//! | vision encoder | families |
//! |---|---|
//! | [`Qwen2VlEncoder`] | Qwen2-VL |
//! | [`Qwen2_5VlEncoder`] | Qwen2.5-VL: windows |
//! | [`Qwen3VlEncoder`] | Qwen3-VL: learned positions, features of several blocks |
//! | [`ClipEncoder`], in [`LlavaNextVision`] | LLaVA-NeXT |
//! | [`SiglipEncoder`], in [`SmolVlmVision`] | SmolVLM, Idefics3 |
//! | [`MllamaEncoder`], in [`MllamaVision`] | Llama 3.2 Vision: tiles read together, global layers |
//!
//! All are [`VisionEncoder`](adamllm_nn::VisionEncoder)s; each family's folder also holds its image processor and what joins the
//! encoder to a decoder. [`preprocess`] is plain arithmetic on images and sizes, usable without any tensor. An encoder reads
//! what an [`ImageProcessor`](preprocess::ImageProcessor) makes:
//!
//! ```
//! use adamllm_nn::{Eager, VisionEncoder};
//! use adamllm_vision::Qwen2VlEncoderConfig;
//! use adamllm_vision::preprocess::{ImageProcessor, Qwen2VlImageConfig};
//! use burn::tensor::Device;
//!
//! let image = image::RgbImage::from_pixel(70, 56, image::Rgb([200, 30, 30]));
//! let pixels = Qwen2VlImageConfig::default().process(&image)?;
//!
//! let config = Qwen2VlEncoderConfig::tiny();
//! let encoder = config.init(&Device::flex());
//! let features = encoder.encode(&[&pixels], &mut Eager);
//! assert_eq!(features.dims(), [pixels.layout.n_features, config.d_model]);
//! # Ok::<(), adamllm_vision::preprocess::PreprocessError>(())
//! ```

mod block;
mod llava_next;
mod mllama;
mod parameter_kind;
mod patches;
pub mod preprocess;
mod qwen2_5_vl;
mod qwen2_vl;
mod qwen3_vl;
mod smolvlm;
mod tile_patches;

pub use block::{EncoderAttention, EncoderBlock, EncoderBlockConfig};
pub use burn;
pub use llava_next::{ClipEncoder, ClipEncoderConfig, LlavaNextVision, LlavaNextVisionConfig};
pub use mllama::{MllamaEncoder, MllamaEncoderConfig, MllamaVision, MllamaVisionConfig, TileEmbedding, TilePositions};
pub use qwen2_5_vl::{Qwen2_5VlEncoder, Qwen2_5VlEncoderConfig, RmsPatchMerger, WindowBlock};
pub use qwen2_vl::{PatchMerger, Qwen2VlEncoder, Qwen2VlEncoderConfig, VisionBlock};
pub use qwen3_vl::{Qwen3VlEncoder, Qwen3VlEncoderConfig};
pub use smolvlm::{SiglipEncoder, SiglipEncoderConfig, SmolVlmVision, SmolVlmVisionConfig};

/// The README's example is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
