//! The vision side of LLaVA-NeXT (Liu et al. 2024; model card Lin-Chen/open-llava-next-llama3-8b): CLIP features of every
//! tile, projected, put together without the canvas's padding, and a learnt row at the end of each line.

use adamllm_nn::{Activation, BlockExecutor, Mlp, MlpConfig};
use adamllm_vision::preprocess::AnyresLayout;
use adamllm_vision::{ClipEncoder, ClipEncoderConfig};
use burn::module::{Initializer, Module, Param};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::EncodedImage;

/// The sizes of a [`LlavaNextVision`].
#[derive(Clone, Debug, PartialEq)]
pub struct LlavaNextVisionConfig {
    /// The encoder.
    pub encoder: ClipEncoderConfig,
    /// Width of the decoder.
    pub d_model: usize,
    /// Between the projector's layers.
    pub activation: Activation,
    /// The canvases to choose from, as `(height, width)` in pixels, where `config.json` has them.
    pub pinpoints: Option<Vec<(u32, u32)>>,
}

/// Encoder, projector, line ends.
#[derive(Module, Debug)]
pub struct LlavaNextVision {
    /// Tiles to features.
    pub encoder: ClipEncoder,
    /// Features to the decoder's width.
    pub projector: Mlp,
    /// `[d_model]`: stands behind each row of the canvas.
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
        Self {
            encoder: ClipEncoderConfig::vit_large_336(),
            d_model: 4096,
            activation: Activation::Gelu,
            pinpoints: None,
        }
    }
}

impl LlavaNextVision {
    /// As [`VisionSide::uses`](crate::VisionSide::uses).
    pub(crate) fn uses(&self, parameter: &str) -> bool {
        parameter.strip_prefix("encoder.").is_none_or(|parameter| self.encoder.uses(parameter))
    }

    /// As [`VisionSide::encode_in_blocks`](crate::VisionSide::encode_in_blocks).
    pub(crate) fn encode_in_blocks<'a>(
        &'a self,
        images: &[EncodedImage],
        dtype: DType,
        device: &Device,
        blocks: &mut dyn BlockExecutor<'a>,
    ) -> Tensor<2> {
        let (tiles, layouts): (Vec<_>, Vec<_>) = images.iter().map(EncodedImage::anyres).unzip();
        let rows = self.projector.forward(self.encoder.encode_in_blocks(&tiles, dtype, device, blocks));
        let [n_tiles, n_patches, d_model] = rows.dims();
        let newline = self.image_newline.val().reshape([1, d_model]);
        let rows = Tensor::cat(vec![rows.reshape([n_tiles * n_patches, d_model]), newline], 0);

        let newline = n_tiles * n_patches;
        let mut places = Vec::new();
        let mut first_tile = 0;
        for layout in layouts {
            push_places(&mut places, layout, first_tile, newline);
            first_tile += layout.n_tiles();
        }
        let n = places.len();
        rows.select(0, Tensor::<1, Int>::from_data(TensorData::new(places, [n]), device))
    }
}

/// Where each row of an image comes from: the whole image's tile in reading order, then the canvas line by line.
fn push_places(places: &mut Vec<i32>, layout: &AnyresLayout, first_tile: usize, newline: usize) {
    let (side, per_tile) = (layout.side, layout.side * layout.side);
    let whole = first_tile * per_tile;
    places.extend((whole..whole + per_tile).map(|place| place as i32));
    for row in layout.rows.clone() {
        for column in layout.columns.clone() {
            let tile = first_tile + 1 + (row / side) * layout.tile_columns + column / side;
            places.push((tile * per_tile + (row % side) * side + column % side) as i32);
        }
        places.push(newline as i32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tiles beside each other, of 2 x 2 features; the lowest line of the canvas is padding.
    #[test]
    fn lines_run_through_the_tiles_and_end_with_the_newline() {
        let layout = AnyresLayout { tile_rows: 1, tile_columns: 2, side: 2, rows: 0..1, columns: 0..4 };
        let mut places = Vec::new();
        push_places(&mut places, &layout, 0, 12);
        assert_eq!(places, [0, 1, 2, 3, 4, 5, 8, 9, 12]);
        assert_eq!(places.len(), layout.n_rows());
    }
}
