use std::fmt;
use std::path::Path;
use std::sync::Arc;

use adamllm_nn::{ExampleSize, ImageLayout, PassSegment, TrainedParameters};
use adamllm_vision::preprocess::ImageProcessor;
use burn::tensor::Device;

use crate::{AutoVisionEncoder, ModelError};

/// The vision side of a model folder, as far as it is known without its weights. A family makes one from `config.json`; whoever
/// puts an encoder of their own before a folder's decoder brings their own ([`ModelFolder::with_vision`](crate::ModelFolder::with_vision)).
pub trait VisionConfig: fmt::Debug + Send + Sync {
    /// The image processor with the folder's settings. Settings that the vision encoder contradicts are errors.
    ///
    /// # Errors
    /// [`ModelError::FileMissing`], [`ModelError::ConfigField`].
    fn image_processor(&self, folder: &Path) -> Result<Arc<dyn ImageProcessor>, ModelError>;

    /// The encoder's blocks.
    fn n_blocks(&self) -> usize;

    /// Operations of the forward pass of encoder and connector on an example's images.
    fn forward_flops(&self, size: &ExampleSize) -> f64;

    /// What a training pass of encoder and connector holds for a batch's images, piece by piece in the order of the forward pass, where
    /// that is known: a plan then says how much memory a run takes. Parameters have the names that they have in the model
    /// (`vision.blocks.0.norm1.weight`). `None`, for encoders that do not say it: the plan then says that it is not known.
    fn pass_segments(&self, _size: &ExampleSize, _trained: &TrainedParameters) -> Option<Vec<PassSegment>> {
        None
    }

    /// Features that the decoder adds after its first layers, beside those in place of placeholders
    /// ([`ImageFeatures::layer_features`](adamllm_nn::ImageFeatures::layer_features)).
    fn n_layer_features(&self) -> usize {
        0
    }

    /// The encoder with random weights, made when first used. `None` for one that is not among the [`AutoVisionEncoder`]s: its
    /// weights are read by [`ModelFolder::load_into`](crate::ModelFolder::load_into).
    fn init(&self, _device: &Device) -> Option<AutoVisionEncoder> {
        None
    }

    /// How the family's prompts show images.
    fn image_prompt(&self) -> ImagePrompt {
        ImagePrompt::default()
    }

    /// What stands in a prompt for an image: its placeholders, as many as the layout says, and what the family writes between
    /// and around them. No token of it counts for the loss.
    fn image_pieces(&self, layout: &ImageLayout) -> Vec<ImagePiece> {
        vec![ImagePiece::Placeholders(layout.n_placeholders)]
    }

    /// Whether tokens attend to image features in cross-attention layers, instead of finding them among the embeddings.
    fn is_cross_attended(&self) -> bool {
        false
    }

    /// Whether images keep their own shape, and need as many tokens as their size asks for.
    fn keeps_image_shape(&self) -> bool {
        false
    }

    /// Whether the encoder's own configuration stands in a subfolder, as `config.json`.
    fn has_encoder_folder(&self) -> bool {
        false
    }

    /// The axes of the patch embedding's kernel in files after the first, `[channels, (frames,) patch, patch]`, where files have
    /// it as a convolution; empty otherwise.
    fn patch_kernel(&self) -> Vec<usize> {
        Vec::new()
    }
}

/// How prompts show images, where a family departs from its folder's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImagePrompt {
    /// The chat template of folders that bring none for images.
    pub template: Option<&'static str>,
    /// The placeholder of folders whose `config.json` names none.
    pub placeholder: Option<&'static str>,
    /// The placeholder after which a processor writes the begin-of-text token itself where the text has none.
    pub begin_after: Option<&'static str>,
    /// Tokens that the text around placeholders needs: a tokenizer without one of them is an error.
    pub needs: &'static [&'static str],
}

/// A piece of what stands in a prompt for one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImagePiece {
    /// Text with its special tokens, which is tokenised by itself.
    Text(String),
    /// So many placeholders.
    Placeholders(usize),
}
