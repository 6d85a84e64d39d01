//! What is particular to Hugging Face folders: `config.json`, key names, safetensors files.

pub(crate) mod config;
pub(crate) mod keys;
mod presets;
mod vision_config;
pub(crate) mod weights;
