//! The vision side of Llama 3.2 Vision (arXiv 2407.21783, section 7; model card meta-llama/Llama-3.2-11B-Vision-Instruct).

use adamllm_nn::{
    BlockExecutor, Linear, LinearConfig, LinearLayers, ParameterKind, PixelValues, VisionEncoder, prefixed_layers,
};
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{MllamaEncoder, MllamaEncoderConfig};
use crate::parameter_kind::embedding_or_hidden;

/// The sizes of an [`MllamaVision`].
#[derive(Clone, Debug, PartialEq)]
pub struct MllamaVisionConfig {
    /// The encoder.
    pub encoder: MllamaEncoderConfig,
    /// Width of the decoder.
    pub d_model: usize,
}

/// Encoder and projector.
#[derive(Module, Debug)]
pub struct MllamaVision {
    /// Tiles to features.
    pub encoder: MllamaEncoder,
    /// Features to the decoder's width: `[d_model, d_output]`.
    pub projector: Linear,
}

impl MllamaVisionConfig {
    /// Random weights, made when first used.
    pub fn init(&self, device: &Device) -> MllamaVision {
        MllamaVision {
            encoder: self.encoder.init(device),
            projector: LinearConfig::new(self.encoder.d_output(), self.d_model).with_bias(true).init(device),
        }
    }

    /// The vision side of meta-llama/Llama-3.2-11B-Vision-Instruct.
    pub fn llama3_2_11b() -> Self {
        Self { encoder: MllamaEncoderConfig::llama3_2_11b(), d_model: 4096 }
    }
}

impl VisionEncoder for MllamaVision {
    fn encode<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        self.projector.forward(self.encoder.encode_tiles(images, blocks)).flatten(0, 1)
    }

    fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        let mut layers = prefixed_layers("encoder", self.encoder.linear_layers_mut());
        layers.push(("projector".into(), &mut self.projector));
        layers
    }

    fn parameter_kind(&self, parameter: &str) -> ParameterKind {
        embedding_or_hidden(
            parameter,
            &["encoder.patch_embedding", "encoder.positions", "encoder.pre_tile", "encoder.post_tile"],
        )
    }
}
