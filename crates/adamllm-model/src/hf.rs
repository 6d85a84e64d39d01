//! What is particular to Hugging Face folders: `config.json`, key names, safetensors files.

pub(crate) mod config;
pub(crate) mod keys;
pub(crate) mod weights;
