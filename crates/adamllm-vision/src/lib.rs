//! Pixels to patch features: image preprocessing that needs no model, and vision encoders.
//!
//! | encoder | families |
//! |---|---|
//! | [`Qwen2VlEncoder`] | Qwen2-VL |
//! | [`Qwen2_5VlEncoder`] | Qwen2.5-VL: windows |
//! | [`ClipEncoder`] | LLaVA-NeXT |
//! | [`MllamaEncoder`] | Llama 3.2 Vision: tiles read together, global layers |
//!
//! [`preprocess`] is plain arithmetic on images and sizes: usable without any tensor. An encoder reads what it makes:
//!
//! ```
//! use adamllm_vision::preprocess::Qwen2VlImageConfig;
//! use adamllm_vision::{PatchesRef, Qwen2VlEncoderConfig};
//! use burn::tensor::{DType, Device};
//!
//! let image = image::RgbImage::from_pixel(70, 56, image::Rgb([200, 30, 30]));
//! let patches = Qwen2VlImageConfig::default().patches(&image)?;
//! let grid = [patches.grid.t, patches.grid.h, patches.grid.w].map(|n| n as usize);
//!
//! let config = Qwen2VlEncoderConfig::tiny();
//! let device = Device::flex();
//! let encoder = config.init(&device);
//! let features = encoder.encode(&[PatchesRef { values: &patches.pixels, grid }], DType::F32, &device);
//! assert_eq!(features.dims(), [config.n_rows(grid), config.d_model]);
//! # Ok::<(), adamllm_vision::preprocess::PreprocessError>(())
//! ```

mod block;
mod llava_next;
mod mllama;
mod patches;
pub mod preprocess;
mod qwen2_5_vl;
mod qwen2_vl;
mod tile_patches;

pub use block::{EncoderAttention, EncoderBlock, EncoderBlockConfig};
pub use llava_next::{ClipEncoder, ClipEncoderConfig};
pub use mllama::{MllamaEncoder, MllamaEncoderConfig, TileEmbedding, TilePositions, TiledImage};
pub use patches::PatchesRef;
pub use qwen2_5_vl::{Qwen2_5VlEncoder, Qwen2_5VlEncoderConfig, RmsPatchMerger, WindowBlock};
pub use qwen2_vl::{PatchMerger, Qwen2VlEncoder, Qwen2VlEncoderConfig, VisionBlock};
pub use tile_patches::TilesRef;
