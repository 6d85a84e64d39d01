use adamllm_language::Decoder;
use adamllm_nn::{
    AttentionMask, BackboneInput, BlockExecutor, CrossAttentionView, Eager, ImageFeatures, LanguageBackbone,
    PixelValues, Positions, VisionEncoder, cast_to, index_tensor,
};
use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::hf::config::ModelConfig;
use crate::{AutoVisionEncoder, EncodedImage, ModelError};

/// A vision encoder (where the model reads images) before a language backbone.
///
/// Without parameters it is what [`ModelFolder::load`](crate::ModelFolder::load) gives: any supported family, chosen by
/// `config.json`. With an encoder or a backbone of one's own, everything that takes a model works the same: collation, training,
/// adapters, generation, files.
#[derive(Module, Debug)]
pub struct VisionLanguageModel<V: VisionEncoder = AutoVisionEncoder, L: LanguageBackbone = Decoder> {
    /// Images to image features; `None` for text-only models.
    pub vision: Option<V>,
    /// Embeddings to tokens.
    pub language: L,
}

/// Tokens and images of a batch, padded, on the host.
#[derive(Clone, Debug)]
pub struct ModelInput<'a> {
    /// `batch * seq` token ids, padding included.
    pub tokens: &'a [u32],
    /// `[batch, seq]`.
    pub dims: [usize; 2],
    /// `batch * seq` positions.
    pub positions: &'a Positions,
    /// Images, each once.
    pub images: &'a [EncodedImage],
    /// How image features reach the backbone.
    pub injection: &'a ImageInjection,
}

/// How image features reach the backbone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageInjection {
    /// Among the embeddings, instead of their placeholders: for each, `[index among the batch's tokens, index among all images'
    /// features]`.
    Embedded(Vec<[usize; 2]>),
    /// Through cross-attention layers.
    CrossAttended {
        /// For each batch element, which of the batch's images stand in its slots.
        slots: Vec<Vec<usize>>,
        /// Which tokens attend to them.
        view: CrossAttentionView,
    },
}

/// A batch before the backbone.
#[derive(Debug)]
#[non_exhaustive]
pub struct Embedded {
    /// Embeddings of text and images, `[batch, seq, d_model]`.
    pub embeddings: Tensor<3>,
    /// What the backbone adds after its first layers, `[batch, seq, d_model]` each; empty for most encoders.
    pub layer_features: Vec<Tensor<3>>,
    /// For cross-attention layers: the image features, `[batch, n_slots * n_features, d_model]`, and who attends to them.
    pub images: Option<(Tensor<3>, CrossAttentionView)>,
}

impl VisionLanguageModel {
    /// A model of a built-in family with random weights, made when first used.
    ///
    /// # Panics
    /// If the vision encoder is none of the built-in ones; see [`VisionLanguageModel::try_init`].
    pub fn init(config: &ModelConfig, device: &Device) -> Self {
        Self::try_init(config, device).expect("a built-in vision encoder")
    }

    /// As [`VisionLanguageModel::init`].
    ///
    /// # Errors
    /// [`ModelError::OwnVisionEncoder`] where the configuration asks for an encoder that is not built in.
    pub fn try_init(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        let own = || ModelError::OwnVisionEncoder { family: config.family.as_str() };
        let vision = config.vision.as_ref().map(|vision| vision.init(device).ok_or_else(own)).transpose()?;
        Ok(Self { vision, language: config.decoder.init(device) })
    }
}

impl<V: VisionEncoder, L: LanguageBackbone> VisionLanguageModel<V, L> {
    /// Joins an encoder, whose features have the backbone's width, and a backbone.
    pub fn new(vision: Option<V>, language: L) -> Self {
        Self { vision, language }
    }

    /// The device that the weights are on.
    pub fn device(&self) -> Device {
        self.language.device()
    }

    /// The dtype of the weights.
    pub fn dtype(&self) -> DType {
        self.language.dtype()
    }

    /// The features of all images, one image after the other.
    ///
    /// # Panics
    /// If the model reads no images, or `images` is empty.
    pub fn encode_images(&self, images: &[EncodedImage]) -> ImageFeatures {
        self.encode_images_with(images, &mut Eager)
    }

    fn encode_images_with<'a>(&'a self, images: &[EncodedImage], blocks: &mut dyn BlockExecutor<'a>) -> ImageFeatures {
        let vision = self.vision.as_ref().expect("images for a text-only model");
        let pixels: Vec<&PixelValues> = images.iter().map(|image| &image.pixels).collect();
        vision.encode_with_layers(&pixels, blocks)
    }

    /// Embeds the tokens, and puts the image features where their placeholders are or into their slots.
    ///
    /// # Panics
    /// If there are images and the model reads none.
    pub fn embed(&self, input: &ModelInput) -> Embedded {
        let images = (!input.images.is_empty()).then(|| self.encode_images(input.images));
        self.embed_with(input, images)
    }

    /// As [`VisionLanguageModel::embed`], with the features of all the input's images at hand.
    pub fn embed_with(&self, input: &ModelInput, images: Option<ImageFeatures>) -> Embedded {
        let device = self.device();
        let ids: Vec<i32> = input.tokens.iter().map(|&t| t as i32).collect();
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, input.dims), &device);
        let text = self.language.embed(tokens);
        let Some(ImageFeatures { features, layer_features }) = images else {
            return Embedded { embeddings: text, layer_features: Vec::new(), images: None };
        };
        match input.injection {
            ImageInjection::Embedded(indices) => {
                // What is added to a layer's hidden states is 0 where a token is no placeholder.
                let in_layer = |features| replace_placeholders(text.zeros_like(), features, indices, &device);
                Embedded {
                    layer_features: layer_features.into_iter().map(in_layer).collect(),
                    embeddings: replace_placeholders(text, features, indices, &device),
                    images: None,
                }
            }
            ImageInjection::CrossAttended { slots, view } => {
                assert!(
                    layer_features.is_empty(),
                    "features for the decoder's layers need placeholders among its tokens"
                );
                let features = fill_slots(features, slots, view, &device);
                Embedded { embeddings: text, layer_features: Vec::new(), images: Some((features, view.clone())) }
            }
        }
    }

    /// Tokens and images to hidden states after the final norm, with a causal mask over `padding` on the left.
    ///
    /// # Shapes
    /// - output: `[batch, seq, d_model]`
    ///
    /// # Panics
    /// If there are images and the model reads none.
    pub fn hidden(&self, input: &ModelInput, padding: &[usize]) -> Tensor<3> {
        let mask = AttentionMask::causal(padding, 0, input.dims[1], &self.device());
        self.hidden_with(input, mask, &mut Eager)
    }

    /// As [`VisionLanguageModel::hidden`], under the given mask; `blocks` runs the blocks of encoder and backbone.
    pub fn hidden_with<'a>(
        &'a self,
        input: &ModelInput,
        mask: Option<AttentionMask>,
        blocks: &mut dyn BlockExecutor<'a>,
    ) -> Tensor<3> {
        let images = (!input.images.is_empty()).then(|| self.encode_images_with(input.images, blocks));
        let Embedded { embeddings, layer_features, images } = self.embed_with(input, images);
        let (seq, device) = (input.dims[1], self.device());
        let cross = images.map(|(features, view)| view.input(Some(features), 0..seq, self.dtype(), &device));
        let input = BackboneInput { embeddings, positions: input.positions, mask, cross, layer_features };
        self.language.forward(input, blocks)
    }
}

/// One gather from [text embeddings; image features]: each placeholder takes its own feature.
fn replace_placeholders(text: Tensor<3>, features: Tensor<2>, indices: &[[usize; 2]], device: &Device) -> Tensor<3> {
    let [batch, seq, d_model] = text.dims();
    let mut source: Vec<i32> = (0..(batch * seq) as i32).collect();
    for [token, feature] in indices {
        source[*token] = (batch * seq + feature) as i32;
    }
    // An encoder of one's own may compute in another dtype.
    let features = cast_to(features, text.dtype());
    let all = Tensor::cat(vec![text.reshape([batch * seq, d_model]), features], 0);
    all.select(0, index_tensor(source, device)).reshape([batch, seq, d_model])
}

/// The features of each batch element's images, slot by slot. Slots that stay empty hold the first image, which nobody attends
/// to there.
fn fill_slots(features: Tensor<2>, slots: &[Vec<usize>], view: &CrossAttentionView, device: &Device) -> Tensor<3> {
    let [_, d_model] = features.dims();
    let (n_slots, n_features) = (view.n_slots(), view.n_features);
    let in_slot = |images: &Vec<usize>, i: usize| images.get(i).copied().unwrap_or(0);
    let chosen = slots.iter().flat_map(|images| (0..n_slots).map(move |i| in_slot(images, i)));
    let source = chosen.flat_map(|image| image * n_features..(image + 1) * n_features).map(|i| i as i32).collect();
    features.select(0, index_tensor(source, device)).reshape([slots.len(), n_slots * n_features, d_model])
}
