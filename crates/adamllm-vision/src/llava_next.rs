//! LLaVA-NeXT (Liu et al. 2024): the image processor, and the CLIP vision encoder with its own.

mod clip;
mod clip_image_processor;
mod image_processor;
mod processor;
mod vision;

pub use clip::{ClipEncoder, ClipEncoderConfig};
pub use clip_image_processor::ClipImageConfig;
pub use image_processor::{AnyresLayout, LlavaNextImageConfig};
pub use processor::LlavaNextImageProcessor;
pub use vision::{LlavaNextVision, LlavaNextVisionConfig};
