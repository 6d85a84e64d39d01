//! Qwen3-VL (arXiv 2511.21631; model card Qwen/Qwen3-VL-4B-Instruct): the vision encoder. Its image processor is Qwen2-VL's.

mod encoder;
mod position_table;

pub use encoder::{Qwen3VlEncoder, Qwen3VlEncoderConfig};
