//! Fields that every vision encoder has, checked.

use adamllm_nn::Activation;

use super::fields::{Fields, MOST};
use crate::ModelError;

/// Blocks.
pub(crate) fn n_layers(fields: &Fields, names: &[&str]) -> Result<usize, ModelError> {
    fields.count(names, 1..=1 << 16)
}

/// Heads; the width must be `multiple_of * n_heads * k` for some `k`.
pub(crate) fn n_heads(fields: &Fields, names: &[&str], d: usize, multiple_of: usize) -> Result<usize, ModelError> {
    let n_heads = fields.count(names, 1..=MOST)?;
    if d.is_multiple_of(multiple_of * n_heads) {
        return Ok(n_heads);
    }
    let expected = format!("{multiple_of} * {} to divide the encoder's width {d}", names[0]);
    Err(fields.fault(names[0], expected, n_heads))
}

/// Colour channels: an image that was decoded has three.
pub(crate) fn n_channels(fields: &Fields, names: &[&str]) -> Result<usize, ModelError> {
    fields.count(names, 3..=3)
}

/// Pixels on a patch's side.
pub(crate) fn patch_size(fields: &Fields) -> Result<usize, ModelError> {
    fields.count(&["patch_size"], 1..=1024)
}

/// Pixels on the side of a tile of whole patches.
pub(crate) fn tile(fields: &Fields, patch_size: usize) -> Result<usize, ModelError> {
    let tile = fields.count(&["image_size"], 1..=1 << 14)?;
    if tile.is_multiple_of(patch_size) {
        return Ok(tile);
    }
    Err(fields.fault("image_size", format!("a multiple of patch_size = {patch_size}"), tile))
}

/// The encoder's output must have the decoder's width.
pub(crate) fn joins(fields: &Fields, name: &str, d_model: usize) -> Result<(), ModelError> {
    match fields.size(name)? {
        d_output if d_output == d_model => Ok(()),
        other => Err(fields.fault(name, format!("the decoder's width {d_model}"), other)),
    }
}

/// The nonlinearity inside an MLP.
pub(crate) fn activation(fields: &Fields, name: &str, default: Activation) -> Result<Activation, ModelError> {
    match fields.word(name)? {
        None => Ok(default),
        Some("quick_gelu") => Ok(Activation::QuickGelu),
        Some("gelu") => Ok(Activation::Gelu),
        Some("gelu_pytorch_tanh" | "gelu_new") => Ok(Activation::GeluPytorchTanh),
        Some(other) => Err(fields.fault(name, "quick_gelu, gelu or gelu_pytorch_tanh", other)),
    }
}
