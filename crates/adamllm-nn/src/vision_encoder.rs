use burn::module::{Module, ModuleDisplay};
use burn::tensor::Tensor;

use crate::{BlockExecutor, Linear, LinearLayers, Mlp, ParameterKind, PixelValues, prefixed_layers};

/// What an encoder gives for some images, one image after the other.
#[derive(Clone, Debug)]
pub struct ImageFeatures {
    /// Features that replace placeholders, or that cross-attention layers read: `[sum of n_features, d_model]`.
    pub features: Tensor<2>,
    /// As many features again for each of the first layers of the decoder, which adds them after the layer
    /// ([`BackboneInput::layer_features`](crate::BackboneInput::layer_features)); empty for most encoders.
    pub layer_features: Vec<Tensor<2>>,
}

impl From<Tensor<2>> for ImageFeatures {
    fn from(features: Tensor<2>) -> Self {
        Self { features, layer_features: Vec::new() }
    }
}

impl ImageFeatures {
    /// The features of several calls of one encoder, one after the other.
    ///
    /// # Panics
    /// If there are none.
    pub fn cat(parts: Vec<Self>) -> Self {
        let n_layers = parts[0].layer_features.len();
        let layer = |i: usize| parts.iter().map(|part| part.layer_features[i].clone()).collect();
        Self {
            layer_features: (0..n_layers).map(|i| Tensor::cat(layer(i), 0)).collect(),
            features: Tensor::cat(parts.into_iter().map(|part| part.features).collect(), 0),
        }
    }

    /// The same change of every tensor: features that are chosen or put into another order.
    pub fn map(self, change: impl Fn(Tensor<2>) -> Tensor<2>) -> Self {
        let layer_features = self.layer_features.into_iter().map(&change).collect();
        Self { features: change(self.features), layer_features }
    }
}

/// Images to features of the decoder's width. What joins the encoder to the decoder is inside, or a [`Connector`] of its own
/// ([`ConnectedEncoder`]).
///
/// ```
/// use adamllm_nn::{BlockExecutor, Eager, ImageLayout, Linear, LinearConfig, PixelValues, VisionEncoder};
/// use burn::module::Module;
/// use burn::tensor::{Device, Tensor, TensorData};
///
/// /// One feature for each color of an image.
/// #[derive(Module, Debug)]
/// struct Colors {
///     layer: Linear,
/// }
///
/// impl VisionEncoder for Colors {
///     fn encode<'a>(&'a self, images: &[&PixelValues], _: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
///         let values: Vec<f32> = images.iter().flat_map(|image| image.values.iter().copied()).collect();
///         let n = values.len() / 3;
///         self.layer.forward(Tensor::from_data(TensorData::new(values, [n, 3]), &self.layer.weight.val().device()))
///     }
/// }
///
/// let encoder = Colors { layer: LinearConfig::new(3, 8).init(&Device::flex()) };
/// let image = PixelValues::new(vec![0.5; 6], ImageLayout::embedded(2, vec![2, 3]));
/// assert_eq!(encoder.encode(&[&image, &image], &mut Eager).dims(), [4, 8]);
/// ```
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

    /// As [`VisionEncoder::encode`], with the features for the decoder's first layers beside, where the encoder has any.
    fn encode_with_layers<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> ImageFeatures {
        self.encode(images, blocks).into()
    }

    /// Every linear layer that may get a low-rank adapter, those of a connector inside included, under its path of field names
    /// (`blocks.0.qkv`). The patch embedding is none: checkpoints have it as a convolution. An encoder that names none gets no
    /// adapters.
    fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        Vec::new()
    }

    /// Whether a forward pass reads a parameter, by its name inside the encoder.
    fn uses(&self, _parameter: &str) -> bool {
        true
    }

    /// What a parameter is to the encoder, by its name inside the encoder
    /// ([`Objective::parameter_kind`](crate::Objective::parameter_kind)).
    fn parameter_kind(&self, _parameter: &str) -> ParameterKind {
        ParameterKind::Hidden
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

    /// Every linear layer that may get a low-rank adapter, under its path of field names (`fc1`); empty for a connector that
    /// is a linear layer itself. A connector that names none gets no adapters.
    fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        Vec::new()
    }
}

impl Connector for Linear {
    fn connect(&self, features: Tensor<2>, _images: &[&PixelValues]) -> Tensor<2> {
        self.forward(features)
    }

    fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        vec![(String::new(), self)]
    }
}

/// The projector of LLaVA-1.5 (Liu et al., 2023, arXiv 2310.03744).
impl Connector for Mlp {
    fn connect(&self, features: Tensor<2>, _images: &[&PixelValues]) -> Tensor<2> {
        self.forward(features)
    }

    fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        self.linear_layers_mut()
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

    /// The connector is for the encoder's main features; those for the decoder's layers have its width already.
    fn encode_with_layers<'a>(&'a self, images: &[&PixelValues], blocks: &mut dyn BlockExecutor<'a>) -> ImageFeatures {
        let ImageFeatures { features, layer_features } = self.encoder.encode_with_layers(images, blocks);
        ImageFeatures { features: self.connector.connect(features, images), layer_features }
    }

    fn linear_layers_mut(&mut self) -> LinearLayers<'_> {
        let mut layers = prefixed_layers("encoder", self.encoder.linear_layers_mut());
        layers.extend(self.connector.linear_layers_mut().into_iter().map(|(name, layer)| {
            let dot = if name.is_empty() { "" } else { "." };
            (format!("connector{dot}{name}"), layer)
        }));
        layers
    }

    fn uses(&self, parameter: &str) -> bool {
        parameter.strip_prefix("encoder.").is_none_or(|parameter| self.encoder.uses(parameter))
    }

    fn parameter_kind(&self, parameter: &str) -> ParameterKind {
        let of_encoder = parameter.strip_prefix("encoder.");
        of_encoder.map_or(ParameterKind::Hidden, |parameter| self.encoder.parameter_kind(parameter))
    }
}
