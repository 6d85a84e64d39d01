//! Pixels to patch features: image preprocessing that needs no model, and vision towers.
//!
//! | tower | families |
//! |---|---|
//! | [`Qwen2VlTower`] | Qwen2-VL |
//! | [`Qwen2_5VlTower`] | Qwen2.5-VL: windows |
//! | [`ClipTower`] | LLaVA-NeXT |
//! | [`MllamaTower`] | Llama 3.2 Vision: tiles read together, global layers |
//!
//! [`preprocess`] is plain arithmetic on pictures and sizes: usable without any tensor. A tower reads what it makes:
//!
//! ```
//! use adamllm_vision::preprocess::Qwen2VlImageConfig;
//! use adamllm_vision::{PatchesRef, Qwen2VlTowerConfig};
//! use burn::tensor::{DType, Device};
//!
//! let picture = image::RgbImage::from_pixel(70, 56, image::Rgb([200, 30, 30]));
//! let patches = Qwen2VlImageConfig::default().patches(&picture)?;
//! let grid = [patches.grid.t, patches.grid.h, patches.grid.w].map(|n| n as usize);
//!
//! let config = Qwen2VlTowerConfig::tiny();
//! let device = Device::flex();
//! let tower = config.init(&device);
//! let rows = tower.encode(&[PatchesRef { values: &patches.pixels, grid }], DType::F32, &device);
//! assert_eq!(rows.dims(), [config.n_rows(grid), config.d_model]);
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

pub use block::{TowerAttention, TowerBlock, TowerBlockConfig};
pub use llava_next::{ClipTower, ClipTowerConfig};
pub use mllama::{MllamaTower, MllamaTowerConfig, TileEmbedding, TilePositions, TiledPicture};
pub use patches::PatchesRef;
pub use qwen2_5_vl::{Qwen2_5VlTower, Qwen2_5VlTowerConfig, RmsPatchMerger, WindowBlock};
pub use qwen2_vl::{PatchMerger, Qwen2VlTower, Qwen2VlTowerConfig, VisionBlock};
pub use tile_patches::TilesRef;
