//! Pixels to patch features: image preprocessing that needs no model, and vision towers.
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

pub mod preprocess;
mod qwen2_vl;

pub use qwen2_vl::{PatchMerger, PatchesRef, Qwen2VlTower, Qwen2VlTowerConfig, VisionBlock};
