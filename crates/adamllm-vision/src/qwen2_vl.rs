//! Qwen2-VL (arXiv 2409.12191; model card Qwen/Qwen2-VL-2B-Instruct): the image processor, which Qwen2.5-VL and Qwen3-VL
//! share, and the vision encoder.

mod encoder;
mod image_processor;
mod merger;
mod processor;
mod smart_resize;

pub use encoder::{Qwen2VlEncoder, Qwen2VlEncoderConfig, VisionBlock};
pub use image_processor::{PatchGrid, Patches, Qwen2VlImageConfig};
pub use merger::PatchMerger;
pub use smart_resize::{MAX_ASPECT_RATIO, smart_resize};
