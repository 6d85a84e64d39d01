//! What is particular to Hugging Face folders: `config.json`, key names, safetensors files.

pub(crate) mod config;
pub(crate) mod defaults;
pub(crate) mod fields;
mod frozen;
pub(crate) mod keys;
mod values;
pub(crate) mod vision;
pub(crate) mod weights;
