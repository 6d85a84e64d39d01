//! Llama 3.2 Vision (arXiv 2407.21783, section 7; model card meta-llama/Llama-3.2-11B-Vision-Instruct): the image processor and
//! the vision encoder.

mod encoder;
mod image_processor;
mod processor;
mod vision;

pub use encoder::{MllamaEncoder, MllamaEncoderConfig, TileEmbedding, TilePositions};
pub use image_processor::{MllamaImageConfig, TileGrid};
pub use processor::MllamaImageProcessor;
pub use vision::{MllamaVision, MllamaVisionConfig};
