//! The vision side of Llama 3.2 Vision (arXiv 2407.21783, section 7; model card meta-llama/Llama-3.2-11B-Vision-Instruct),
//! and which tokens see which image.

use adamllm_language::ImageSpan;
use adamllm_nn::{BlockExecutor, Linear, LinearConfig};
use adamllm_vision::{MllamaEncoder, MllamaEncoderConfig};
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};

use crate::EncodedImage;

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

impl MllamaVision {
    /// As [`VisionSide::encode_in_blocks`](crate::VisionSide::encode_in_blocks).
    pub(crate) fn encode_in_blocks<'a>(
        &'a self,
        images: &[EncodedImage],
        dtype: DType,
        device: &Device,
        blocks: &mut dyn BlockExecutor<'a>,
    ) -> Tensor<2> {
        let pictures: Vec<_> = images.iter().map(EncodedImage::tiled).collect();
        self.projector.forward(self.encoder.encode_in_blocks(&pictures, dtype, device, blocks)).flatten(0, 1)
    }
}

/// Which tokens see which image of a row of `n_tokens`: an image is seen from its placeholder to the next image's, the
/// last one to the end; images that stand side by side share what follows them. `images` has, for each image, the place
/// of its placeholder and how many of its rows are open.
pub fn picture_spans(images: &[(usize, usize)], n_tokens: usize) -> Vec<ImageSpan> {
    let mut spans: Vec<ImageSpan> = Vec::with_capacity(images.len());
    let mut end_of_next = n_tokens;
    let mut next = n_tokens;
    for (i, &(first, n_open)) in images.iter().enumerate().rev() {
        let side_by_side = i + 1 < images.len() && first + 1 == next;
        let end = if side_by_side { end_of_next } else { next };
        spans.push(ImageSpan { first, end, n_open });
        (next, end_of_next) = (first, end);
    }
    spans.reverse();
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_side_by_side_share_what_follows() {
        let spans = picture_spans(&[(1, 5), (2, 5), (6, 5)], 9);
        let ends: Vec<_> = spans.iter().map(|span| (span.first, span.end)).collect();
        assert_eq!(ends, [(1, 6), (2, 6), (6, 9)]);
    }
}
