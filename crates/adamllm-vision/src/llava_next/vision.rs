//! The vision side of LLaVA-NeXT (Liu et al. 2024; model card Lin-Chen/open-llava-next-llama3-8b): CLIP features of every
//! tile, projected, put together without the canvas's padding, and a trained feature at the end of each line.

use adamllm_nn::{
    Activation, BlockExecutor, LinearLayers, Mlp, MlpConfig, ParameterKind, PixelValues, VisionEncoder, index_tensor,
    prefixed_layers,
};
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

use super::{AnyresLayout, ClipEncoder, ClipEncoderConfig};
use crate::parameter_kind::embedding_or_hidden;

/// The sizes of a [`LlavaNextVision`].
#[derive(Clone, Debug, PartialEq)]
pub struct LlavaNextVisionConfig {
    /// The encoder.
    pub encoder: ClipEncoderConfig,
    /// Width of the decoder.
    pub d_model: usize,
    /// Between the projector's layers.
    pub activation: Activation,
}

/// Encoder, projector, line ends.
#[derive(Module, Debug)]
pub struct LlavaNextVision {
    /// Tiles to features.
    pub encoder: ClipEncoder,
    /// Features to the decoder's width.
    pub projector: Mlp,
    /// `[d_model]`: follows each row of the canvas.
    pub image_newline: Param<Tensor<1>>,
}

impl LlavaNextVisionConfig {
    /// Random weights, made when first used.
    pub fn init(&self, device: &Device) -> LlavaNextVision {
        LlavaNextVision {
            encoder: self.encoder.init(device),
            projector: MlpConfig::new(self.encoder.d_vision, self.d_model, self.d_model, self.activation).init(device),
            image_newline: Initializer::Normal { mean: 0.0, std: 0.02 }.init([self.d_model], device),
        }
    }

    /// The vision side of Lin-Chen/open-llava-next-llama3-8b.
    pub fn vit_large_336() -> Self {
        Self { encoder: ClipEncoderConfig::vit_large_336(), d_model: 4096, activation: Activation::Gelu }
    }
}

impl VisionEncoder for LlavaNextVision {
    fn encode<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        let features = self.projector.forward(self.encoder.encode_tiles(images, blocks));
        let [n_tiles, n_patches, d_model] = features.dims();
        let newline = self.image_newline.val().reshape([1, d_model]);
        let features = Tensor::cat(vec![features.reshape([n_tiles * n_patches, d_model]), newline], 0);

        // One gather puts every image's features into their order.
        let newline = n_tiles * n_patches;
        let mut indices = Vec::new();
        let mut first_tile = 0;
        for image in images {
            let layout = AnyresLayout::of(&image.layout);
            push_indices(&mut indices, &layout, first_tile, newline);
            first_tile += layout.n_tiles();
        }
        let device = features.device();
        features.select(0, index_tensor(indices, &device))
    }

    fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        let mut layers = prefixed_layers("encoder", self.encoder.linear_layers_mut());
        layers.extend(prefixed_layers("projector", self.projector.linear_layers_mut()));
        layers
    }

    fn uses(&self, parameter: &str) -> bool {
        parameter.strip_prefix("encoder.").is_none_or(|parameter| self.encoder.uses(parameter))
    }

    fn parameter_kind(&self, parameter: &str) -> ParameterKind {
        embedding_or_hidden(parameter, &["encoder.patch_embedding", "encoder.position_embedding"])
    }
}

/// Where each feature of an image comes from: the whole image's tile in reading order, then the canvas line by line.
fn push_indices(indices: &mut Vec<i32>, layout: &AnyresLayout, first_tile: usize, newline: usize) {
    let (side, per_tile) = (layout.side, layout.side * layout.side);
    let whole = first_tile * per_tile;
    indices.extend((whole..whole + per_tile).map(|index| index as i32));
    for row in layout.rows.clone() {
        for column in layout.columns.clone() {
            let tile = first_tile + 1 + (row / side) * layout.tile_columns + column / side;
            indices.push((tile * per_tile + (row % side) * side + column % side) as i32);
        }
        indices.push(newline as i32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tiles beside each other, of 2 x 2 features; the lowest line of the canvas is padding.
    #[test]
    fn lines_run_through_the_tiles_and_end_with_the_newline() {
        let layout = AnyresLayout { tile_rows: 1, tile_columns: 2, side: 2, rows: 0..1, columns: 0..4 };
        let mut indices = Vec::new();
        push_indices(&mut indices, &layout, 0, 12);
        assert_eq!(indices, [0, 1, 2, 3, 4, 5, 8, 9, 12]);
        assert_eq!(indices.len(), layout.n_features());
    }
}
