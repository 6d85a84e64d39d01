use std::sync::Arc;

use adamllm_core::{
    Conversation, CoreError, IMAGE_MARKER, ImageRef, ImageStore, Prompt, RecordId, RgbImage, Supervision,
};
use adamllm_nn::ImageLayout;
use adamllm_vision::preprocess::{ImageProcessor, PixelRange, PreprocessError};

use crate::draft::{Draft, Sequence, TokenKinds};
use crate::text::{FolderKind, TextCodec};
use crate::{
    Encoded, EncodedImage, Encoder, Encoding, ImagePiece, ModelConfig, ModelError, ModelFolder, RopeMode, Segment,
    VisionConfig,
};

/// Text and images to tokens and pixels: nowhere else does the one become the other.
#[derive(Debug)]
pub struct Processor {
    text: TextCodec,
    images: Option<Images>,
    /// The placeholder's text.
    placeholder: Option<String>,
    config: ModelConfig,
    pixels: PixelRange,
}

#[derive(Debug)]
struct Images {
    processor: Arc<dyn ImageProcessor>,
    token: u32,
}

/// The text of one conversation before tokenising: for showing what a model reads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rendered {
    /// With one placeholder for each image.
    pub text: String,
}

/// The folder's image processor with the bounds that the folder was opened with.
fn with_pixel_range(
    processor: Arc<dyn ImageProcessor>,
    folder: &ModelFolder,
) -> Result<Arc<dyn ImageProcessor>, ModelError> {
    let range = folder.pixel_range();
    if range.is_empty() {
        return Ok(processor);
    }
    let (field, got) = match (range.min_pixels, range.max_pixels) {
        (Some(min), _) => ("min_pixels", min),
        (None, max) => ("max_pixels", max.unwrap_or_default()),
    };
    let family = folder.config().family.as_str();
    let none = || {
        let expected = format!("none: {family} cuts every image into tiles of one size");
        ModelError::config(folder.path(), field, expected, got)
    };
    let processor = processor.with_pixel_range(range).ok_or_else(none)?;
    processor.map_err(|error| ModelError::config(folder.path(), field, "bounds that an image can keep", error))
}

impl Processor {
    /// Reads the folder's tokenizer, template and image processor files.
    ///
    /// # Errors
    /// [`ModelError`]: files that are missing or do not parse, and special tokens that the tokenizer lacks.
    pub fn read(folder: &ModelFolder) -> Result<Self, ModelError> {
        let config = folder.config().clone();
        let prompt = config.vision.as_ref().map(|vision| vision.image_prompt()).unwrap_or_default();
        let (builtin, begin_after) = (prompt.template, prompt.begin_after);
        let kind = FolderKind { processor: config.vision.is_some() && !folder.adds_vision(), builtin, begin_after };
        let n_embeddings = config.decoder.vocab_size + config.decoder.n_extra_embeddings;
        let text = TextCodec::read_as(folder.path(), kind)?.with_embeddings(n_embeddings);
        let vocabulary = text.model_vocab_size();
        if vocabulary > n_embeddings {
            let all = text.vocab_size();
            let expected = format!("at least the tokenizer's {vocabulary} tokens ({all} with added ones)");
            return Err(ModelError::config(&folder.path().join("config.json"), "vocab_size", expected, n_embeddings));
        }
        let images = match &config.vision {
            None if !folder.pixel_range().is_empty() => {
                let (record, family) = (folder.path().display().to_string(), config.family.as_str());
                return Err(ModelError::NoVision { record, images: 0, family });
            }
            None => None,
            Some(vision) => {
                let token = placeholder(&text, &config, &**vision, folder)?;
                prompt.needs.iter().try_for_each(|token| text.required_token(token).map(drop))?;
                Some(Images { processor: with_pixel_range(vision.image_processor(folder.path())?, folder)?, token })
            }
        };
        let placeholder = images.as_ref().and_then(|images| text.token_text(images.token));
        // A text-only folder's template knows no images.
        let text = match &placeholder {
            Some(placeholder) if folder.adds_vision() => text.with_image_text(placeholder),
            _ => text,
        };
        Ok(Self { text, images, placeholder, config, pixels: folder.pixel_range() })
    }

    /// The tokenizer and template.
    pub fn text(&self) -> &TextCodec {
        &self.text
    }

    /// What `config.json` says.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The placeholder's id, where the family reads images.
    pub fn image_token(&self) -> Option<u32> {
        self.images.as_ref().map(|images| images.token)
    }

    /// The bounds of an image's pixels that the folder was opened with in place of its own.
    pub fn pixel_range(&self) -> PixelRange {
        self.pixels
    }

    /// The image processor with its settings, where the family reads images.
    pub fn image_processor(&self) -> Option<&dyn ImageProcessor> {
        self.images.as_ref().map(|images| &*images.processor)
    }

    /// A training example by the folder's chat template, whole, whatever its length: [`Encoder`] with the default
    /// [`Encoding`].
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode(
        &self,
        conversation: &Conversation,
        supervision: Supervision,
        store: &dyn ImageStore,
    ) -> Result<Encoded, ModelError> {
        let encoding = Encoding { supervision, ..Encoding::default() };
        Encoder::new(self, encoding)?.encode(conversation, store)
    }

    /// The conversation in pieces by the folder's chat template.
    pub(crate) fn segments(
        &self,
        conversation: &Conversation,
        supervision: Supervision,
    ) -> Result<Vec<Segment>, ModelError> {
        self.template()?.segments(conversation, supervision, self.text.special_tokens())
    }

    /// A prompt, with the header of the turn that the model writes.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_prompt(&self, prompt: &Prompt, store: &dyn ImageStore) -> Result<Encoded, ModelError> {
        self.encode_prompt_with(prompt, |image| self.encode_image(image, store))
    }

    /// As [`Processor::encode_prompt`], with images from `open`.
    pub(crate) fn encode_prompt_with(
        &self,
        prompt: &Prompt,
        open: impl FnMut(&ImageRef) -> Result<EncodedImage, ModelError>,
    ) -> Result<Encoded, ModelError> {
        let mut draft = Draft::default();
        match prompt {
            Prompt::Text(text) => {
                draft.push(self.text.encode(text, true)?, None, false);
                self.finish(RecordId::of("text-prompt", [text.as_str()]), draft, &[], open)
            }
            Prompt::Chat { conversation, .. } => {
                self.check(conversation)?;
                let text = self.render(prompt)?.text;
                draft.push(self.text.encode_chat(&text)?, None, false);
                self.finish(conversation.id.clone(), draft, &conversation.images, open)
            }
        }
    }

    /// A plain text in spans, each with whether it counts for the loss: how a base model is trained. Every span is tokenised
    /// by itself.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn encode_spans(&self, spans: &[(&str, bool)]) -> Result<Encoded, ModelError> {
        let mut draft = Draft::default();
        for (n, (text, counts)) in spans.iter().enumerate() {
            draft.push(self.text.encode(text, n == 0)?, None, *counts);
        }
        let id = RecordId::of("text", spans.iter().map(|(text, _)| *text));
        self.finish(id, draft, &[], |image| unreachable!("a text without images, got {image}"))
    }

    /// The prompt's text, one placeholder for each image.
    ///
    /// # Errors
    /// [`ModelError::Template`].
    pub fn render(&self, prompt: &Prompt) -> Result<Rendered, ModelError> {
        let text = match prompt {
            Prompt::Text(text) => text.clone(),
            Prompt::Chat { conversation, open } => self.template()?.render_open(&conversation.messages, *open)?,
        };
        Ok(Rendered { text })
    }

    /// How an image of this size is cut: from the header alone.
    ///
    /// # Errors
    /// [`ModelError::Image`] for a shape that cannot be cut; [`ModelError::NoVision`].
    pub fn layout(&self, image: &ImageRef, size: (u32, u32)) -> Result<ImageLayout, ModelError> {
        layout_of(self.processor_for(image)?, image, size)
    }

    /// Decodes, resizes, normalises and cuts one image.
    ///
    /// # Errors
    /// [`ModelError::Core`] for an image that does not open, [`ModelError::Image`] for one that cannot be cut.
    pub fn encode_image(&self, image: &ImageRef, store: &dyn ImageStore) -> Result<EncodedImage, ModelError> {
        let processor = self.processor_for(image)?;
        process(processor, image, &store.open(image)?)
    }

    /// The tokens that stand for an image: its placeholders, and what the family writes between and around them.
    pub(crate) fn image_tokens(&self, layout: &ImageLayout) -> Result<Vec<u32>, ModelError> {
        let (Some(token), Some(vision)) = (self.image_token(), &self.config.vision) else { return Ok(Vec::new()) };
        let mut tokens = Vec::with_capacity(layout.n_placeholders);
        for piece in vision.image_pieces(layout) {
            match piece {
                ImagePiece::Text(text) => tokens.extend(self.text.encode(&text, false)?),
                ImagePiece::Placeholders(n) => tokens.extend(std::iter::repeat_n(token, n)),
            }
        }
        Ok(tokens)
    }

    pub(crate) fn processor_for(&self, image: &ImageRef) -> Result<&dyn ImageProcessor, ModelError> {
        let family = self.config.family.as_str();
        self.image_processor().ok_or_else(|| ModelError::NoVision { record: image.to_string(), images: 1, family })
    }

    fn template(&self) -> Result<&crate::ChatTemplate, ModelError> {
        let none = || ModelError::Template { source: "the model folder has no chat template".into() };
        self.text.template().ok_or_else(none)
    }

    /// What must hold before a template gets the conversation.
    pub(crate) fn check(&self, conversation: &Conversation) -> Result<(), ModelError> {
        conversation.validate()?;
        let record = || conversation.id.to_string();
        if self.images.is_none() && !conversation.images.is_empty() {
            let family = self.config.family.as_str();
            return Err(ModelError::NoVision { record: record(), images: conversation.images.len(), family });
        }
        for (i, message) in conversation.messages.iter().enumerate() {
            if let Some(token) = self.text.special_token_in(&message.content) {
                return Err(ModelError::SpecialTokenInText { record: record(), message: i + 1, token: token.into() });
            }
            // A placeholder in a message would be read as an image, also where the tokenizer does not call it special.
            let words = message.content.replace(IMAGE_MARKER, " ");
            if let Some(token) = self.placeholder.as_ref().filter(|token| words.contains(token.as_str())) {
                return Err(ModelError::SpecialTokenInText { record: record(), message: i + 1, token: token.clone() });
            }
        }
        Ok(())
    }

    /// Opens the images and expands their placeholders.
    fn finish(
        &self,
        id: RecordId,
        draft: Draft,
        images: &[ImageRef],
        open: impl FnMut(&ImageRef) -> Result<EncodedImage, ModelError>,
    ) -> Result<Encoded, ModelError> {
        if draft.runs.is_empty() {
            return Err(ModelError::EmptyPrompt { record: id.to_string() });
        }

        // Before images are opened, which is the slow part.
        let markers = draft.n_images(self);
        if markers != images.len() {
            return Err(CoreError::ImageCount { record: id.to_string(), markers, images: images.len() }.into());
        }

        let images: Vec<EncodedImage> = images.iter().map(open).collect::<Result<_, _>>()?;
        let expanded = images.iter().map(|image| self.image_tokens(image.layout()));
        let expanded: Vec<Vec<u32>> = expanded.collect::<Result<_, _>>()?;

        let Sequence { tokens, targets, spans, image_starts } = draft.expand(&expanded, self);
        let (source, tasks, rope) = (None, vec![], RopeMode::default());
        Ok(Encoded { id, tokens, targets, spans, images, image_starts, source, tasks, rope })
    }
}

impl TokenKinds for Processor {
    fn is_image(&self, token: u32) -> bool {
        self.image_token() == Some(token)
    }

    fn is_special(&self, token: u32) -> bool {
        self.text.is_special(token)
    }
}

/// How an image of this size is cut.
pub(crate) fn layout_of(
    processor: &dyn ImageProcessor,
    image: &ImageRef,
    (width, height): (u32, u32),
) -> Result<ImageLayout, ModelError> {
    processor.layout(width, height).map_err(|error| unusable(image, error))
}

/// Resizes, normalises and cuts a decoded image.
pub(crate) fn process(
    processor: &dyn ImageProcessor,
    image: &ImageRef,
    decoded: &RgbImage,
) -> Result<EncodedImage, ModelError> {
    let pixels = processor.process(decoded).map_err(|error| unusable(image, error))?;
    Ok(EncodedImage { image: image.clone(), pixels })
}

/// An image that opens and that the model cannot read.
pub(crate) fn unusable(image: &ImageRef, error: PreprocessError) -> ModelError {
    ModelError::Image { image: image.to_string(), source: error.into() }
}

/// The placeholder's id: the configuration's, which the tokenizer must have, or that of the family's stand-in.
fn placeholder(
    text: &TextCodec,
    config: &ModelConfig,
    vision: &dyn VisionConfig,
    folder: &ModelFolder,
) -> Result<u32, ModelError> {
    let missing = |token: String| ModelError::TokenMissing { path: folder.path().join("tokenizer.json"), token };
    match config.image_token {
        Some(token) if text.token_text(token).is_some() => Ok(token),
        Some(token) => Err(missing(format!("id {token} (image_token_id)"))),
        None => match vision.image_prompt().placeholder {
            Some(token) => text.required_token(token).map_err(|_| missing(token.into())),
            None => Err(missing("of images (image_token_id)".into())),
        },
    }
}
