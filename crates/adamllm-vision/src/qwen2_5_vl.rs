//! Qwen2.5-VL (arXiv 2502.13923; model card Qwen/Qwen2.5-VL-3B-Instruct): the vision encoder. Its image processor is Qwen2-VL's.

mod encoder;
mod windows;

pub use encoder::{Qwen2_5VlEncoder, Qwen2_5VlEncoderConfig, RmsPatchMerger, WindowBlock};
