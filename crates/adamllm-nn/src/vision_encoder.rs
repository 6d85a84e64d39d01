use burn::module::{Module, ModuleDisplay};
use burn::tensor::Tensor;

use crate::{BlockExecutor, Linear, Mlp, PixelValues};

/// Images to features of the decoder's width. What joins the encoder to the decoder is inside, or a [`Connector`] of its own
/// ([`ConnectedEncoder`]).
pub trait VisionEncoder: Module + ModuleDisplay {
    /// The features of all images, one image after the other, each as many as its layout says. No image may depend on another.
    /// `blocks` runs the encoder's blocks ([`run_block`](crate::run_block)): an encoder that calls its blocks itself works, but its
    /// activations cannot be checkpointed.
    ///
    /// # Shapes
    /// - output: `[sum of n_features, d_model]`
    ///
    /// # Panics
    /// If an image was cut for another encoder, or `images` is empty.
    fn encode<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2>;

    /// Whether a forward pass reads a parameter, by its name inside the encoder.
    fn uses(&self, _parameter: &str) -> bool {
        true
    }
}

/// Features of the encoder's width to features of the decoder's: the projector of LLaVA, the merger of Qwen2-VL.
pub trait Connector: Module + ModuleDisplay {
    /// The decoder's features of all images, one image after the other.
    ///
    /// # Shapes
    /// - `features`: `[n, d_vision]`, as the encoder gives them
    /// - output: `[sum of n_features, d_model]`
    fn connect(&self, features: Tensor<2>, images: &[&PixelValues]) -> Tensor<2>;
}

impl Connector for Linear {
    fn connect(&self, features: Tensor<2>, _images: &[&PixelValues]) -> Tensor<2> {
        self.forward(features)
    }
}

/// The projector of LLaVA-1.5 (Liu et al., 2023, arXiv 2310.03744).
impl Connector for Mlp {
    fn connect(&self, features: Tensor<2>, _images: &[&PixelValues]) -> Tensor<2> {
        self.forward(features)
    }
}

/// A vision encoder, and the connector after it.
#[derive(Module, Debug)]
pub struct ConnectedEncoder<E: VisionEncoder, C: Connector> {
    /// Images to features of its own width.
    pub encoder: E,
    /// To the decoder's width.
    pub connector: C,
}

impl<E: VisionEncoder, C: Connector> VisionEncoder for ConnectedEncoder<E, C> {
    fn encode<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        self.connector.connect(self.encoder.encode(images, blocks), images)
    }

    fn uses(&self, parameter: &str) -> bool {
        parameter.strip_prefix("encoder.").is_none_or(|parameter| self.encoder.uses(parameter))
    }
}
