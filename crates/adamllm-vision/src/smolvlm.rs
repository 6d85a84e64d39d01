//! SmolVLM (Marafioti et al. 2025, arXiv 2504.05299) and Idefics3 (Laurençon et al. 2024, arXiv 2408.12637): the image
//! processor, and the SigLIP vision encoder with a pixel shuffle after it.

mod image_processor;
mod positions;
mod processor;
mod siglip;
mod vision;

pub use image_processor::{SmolVlmImageConfig, SplitGrid};
pub use processor::SmolVlmImageProcessor;
pub use siglip::{SiglipEncoder, SiglipEncoderConfig};
pub use vision::{SmolVlmVision, SmolVlmVisionConfig};
