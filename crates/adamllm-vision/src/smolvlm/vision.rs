//! The vision side of SmolVLM (arXiv 2504.05299) and Idefics3 (arXiv 2408.12637, section 2.2): SigLIP features of every tile, each
//! square of patches put into one feature (pixel shuffle, Shi et al. 2016, arXiv 1609.05158, read backwards), projected.

use adamllm_nn::{
    BlockExecutor, Linear, LinearConfig, LinearLayers, ParameterKind, PixelValues, VisionEncoder, prefixed_layers,
};
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{SiglipEncoder, SiglipEncoderConfig};
use crate::parameter_kind::embedding_or_hidden;

/// The sizes of a [`SmolVlmVision`].
#[derive(Clone, Debug, PartialEq)]
pub struct SmolVlmVisionConfig {
    /// The encoder.
    pub encoder: SiglipEncoderConfig,
    /// Patches along the side of a square that becomes one feature.
    pub scale_factor: usize,
    /// Width of the decoder.
    pub d_model: usize,
}

/// Encoder and projector.
#[derive(Module, Debug)]
pub struct SmolVlmVision {
    /// Tiles to features.
    pub encoder: SiglipEncoder,
    /// Squares of features to the decoder's width: `[d_model, scale_factor * scale_factor * d_vision]`.
    pub projector: Linear,
    /// Patches along the side of a square.
    pub scale_factor: usize,
}

impl SmolVlmVisionConfig {
    /// Random weights, made when first used.
    pub fn init(&self, device: &Device) -> SmolVlmVision {
        SmolVlmVision {
            encoder: self.encoder.init(device),
            projector: LinearConfig::new(self.d_square(), self.d_model).init(device),
            scale_factor: self.scale_factor,
        }
    }

    /// Width of a square of features.
    pub fn d_square(&self) -> usize {
        self.encoder.d_vision * self.scale_factor * self.scale_factor
    }
}

impl VisionEncoder for SmolVlmVision {
    fn encode<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        let features = self.encoder.encode_tiles(images, blocks);
        self.projector.forward(squares(features, self.scale_factor))
    }

    fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        let mut layers = prefixed_layers("encoder", self.encoder.linear_layers_mut());
        layers.push(("projector".into(), &mut self.projector));
        layers
    }

    fn parameter_kind(&self, parameter: &str) -> ParameterKind {
        embedding_or_hidden(parameter, &["encoder.patch_embedding", "encoder.position_embedding"])
    }
}

/// Each square of `scale` by `scale` patches as one feature, its patches in reading order.
///
/// # Shapes
/// - input: `[n_tiles, side * side, d_vision]`
/// - output: `[n_tiles * (side / scale)^2, scale * scale * d_vision]`
///
/// # Panics
/// If `scale` does not divide the side.
fn squares(features: Tensor<3>, scale: usize) -> Tensor<2> {
    let [n_tiles, n_patches, d_vision] = features.dims();
    let n = n_patches.isqrt() / scale;
    let lines = features.reshape([n_tiles, n, scale, n, scale * d_vision]);
    lines.permute([0, 1, 3, 2, 4]).reshape([n_tiles * n * n, scale * scale * d_vision])
}

#[cfg(test)]
mod tests {
    use adamllm_nn::{Eager, ImageLayout};
    use burn::tensor::TensorData;

    use super::*;

    /// A tile of four by four patches, numbered line by line.
    #[test]
    fn squares_hold_their_patches_in_reading_order() {
        let values: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let features = Tensor::<3>::from_data(TensorData::new(values, [1, 16, 1]), &Device::flex());
        let got: Vec<f32> = squares(features, 2).into_data().try_to_vec().expect("f32");
        assert_eq!(got, [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15].map(|i| i as f32));
    }

    #[test]
    fn tiles_do_not_attend_to_each_other() {
        let device = Device::flex();
        let config = SmolVlmVisionConfig { encoder: SiglipEncoderConfig::tiny(), scale_factor: 2, d_model: 8 };
        let vision = config.init(&device);
        // Two pixels more than four patches.
        let tile = |phase: f32| -> Vec<f32> { (0..3 * 18 * 18).map(|i| (i as f32 * 0.11 + phase).sin()).collect() };
        let image = |tiles: Vec<Vec<f32>>| {
            let layout = ImageLayout::embedded(tiles.len() * 4, vec![tiles.len(), 3, 18, 18]);
            PixelValues::new(tiles.concat(), layout)
        };
        let together = vision.encode(&[&image(vec![tile(0.0), tile(1.0)])], &mut Eager);
        assert_eq!(together.dims(), [8, 8]);
        let alone = vision.encode(&[&image(vec![tile(1.0)])], &mut Eager);
        let difference = (together.narrow(0, 4, 4) - alone).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    }
}
