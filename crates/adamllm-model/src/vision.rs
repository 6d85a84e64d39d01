//! The vision side of each family: an encoder and what joins it to the decoder.

use adamllm_nn::{BlockExecutor, Eager};
use adamllm_vision::{Qwen2_5VlEncoder, Qwen2_5VlEncoderConfig, Qwen2VlEncoder, Qwen2VlEncoderConfig};
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};

use crate::EncodedImage;
use crate::llava_next::{LlavaNextVision, LlavaNextVisionConfig};
use crate::mllama::{MllamaVision, MllamaVisionConfig};

/// The sizes of a [`VisionSide`].
#[derive(Clone, Debug, PartialEq)]
pub enum VisionConfig {
    /// Qwen2-VL.
    Qwen2Vl(Qwen2VlEncoderConfig),
    /// Qwen2.5-VL.
    Qwen2_5Vl(Qwen2_5VlEncoderConfig),
    /// LLaVA-NeXT.
    LlavaNext(LlavaNextVisionConfig),
    /// Llama 3.2 Vision.
    Mllama(MllamaVisionConfig),
}

/// Images to rows of the decoder's width. Parameter names do not show the variant.
#[derive(Module, Debug)]
pub enum VisionSide {
    /// Qwen2-VL.
    Qwen2Vl(Qwen2VlEncoder),
    /// Qwen2.5-VL.
    Qwen2_5Vl(Qwen2_5VlEncoder),
    /// LLaVA-NeXT.
    LlavaNext(LlavaNextVision),
    /// Llama 3.2 Vision.
    Mllama(MllamaVision),
}

impl VisionConfig {
    /// Random weights, made when first used.
    pub fn init(&self, device: &Device) -> VisionSide {
        match self {
            Self::Qwen2Vl(config) => VisionSide::Qwen2Vl(config.init(device)),
            Self::Qwen2_5Vl(config) => VisionSide::Qwen2_5Vl(config.init(device)),
            Self::LlavaNext(config) => VisionSide::LlavaNext(config.init(device)),
            Self::Mllama(config) => VisionSide::Mllama(config.init(device)),
        }
    }

    /// The shape of the patch embedding's kernel in files, `[d_vision, channels, (frames,) patch, patch]`.
    pub(crate) fn kernel(&self) -> Vec<usize> {
        match self {
            Self::Qwen2Vl(c) => vec![c.d_vision, c.n_channels, c.temporal_patch_size, c.patch_size, c.patch_size],
            Self::Qwen2_5Vl(c) => vec![c.d_vision, c.n_channels, c.temporal_patch_size, c.patch_size, c.patch_size],
            Self::LlavaNext(c) => {
                vec![c.encoder.d_vision, c.encoder.n_channels, c.encoder.patch_size, c.encoder.patch_size]
            }
            Self::Mllama(c) => {
                vec![c.encoder.d_vision, c.encoder.n_channels, c.encoder.patch_size, c.encoder.patch_size]
            }
        }
    }

    /// The encoder's blocks.
    pub(crate) fn n_blocks(&self) -> usize {
        match self {
            Self::Qwen2Vl(c) => c.n_layers,
            Self::Qwen2_5Vl(c) => c.n_layers,
            Self::LlavaNext(c) => c.encoder.n_layers,
            Self::Mllama(c) => c.encoder.n_layers + c.encoder.n_global_layers,
        }
    }

    /// Whether tokens attend to the images' rows in cross-attention layers, instead of finding them in their sequence.
    pub fn is_cross_attended(&self) -> bool {
        matches!(self, Self::Mllama(_))
    }
}

impl VisionSide {
    /// Whether a forward pass reads a parameter, by its name inside the vision side.
    pub fn uses(&self, parameter: &str) -> bool {
        match self {
            Self::LlavaNext(vision) => vision.uses(parameter),
            Self::Qwen2Vl(_) | Self::Qwen2_5Vl(_) | Self::Mllama(_) => true,
        }
    }

    /// The rows of all images, one image after the other.
    ///
    /// # Shapes
    /// - output: `[sum of n_rows, d_model]`
    ///
    /// # Panics
    /// If an image was cut for another family, or `images` is empty.
    pub fn encode(&self, images: &[EncodedImage], dtype: DType, device: &Device) -> Tensor<2> {
        self.encode_in_blocks(images, dtype, device, &mut Eager)
    }

    /// As [`VisionSide::encode`]; `blocks` runs the encoder's blocks.
    ///
    /// # Panics
    /// As [`VisionSide::encode`].
    pub fn encode_in_blocks<'a>(
        &'a self,
        images: &[EncodedImage],
        dtype: DType,
        device: &Device,
        blocks: &mut dyn BlockExecutor<'a>,
    ) -> Tensor<2> {
        match self {
            Self::Qwen2Vl(encoder) => {
                let patches: Vec<_> = images.iter().map(EncodedImage::patches).collect();
                encoder.encode_in_blocks(&patches, dtype, device, blocks)
            }
            Self::Qwen2_5Vl(encoder) => {
                let patches: Vec<_> = images.iter().map(EncodedImage::patches).collect();
                encoder.encode_in_blocks(&patches, dtype, device, blocks)
            }
            Self::LlavaNext(vision) => vision.encode_in_blocks(images, dtype, device, blocks),
            Self::Mllama(vision) => vision.encode_in_blocks(images, dtype, device, blocks),
        }
    }
}
