use std::path::Path;
use std::sync::Arc;

use adamllm_core::{Conversation, CoreError, ImageRef, ImageStore, Prompt, RecordId, Supervision};
use adamllm_vision::preprocess::Qwen2VlImageConfig;

use crate::text::{TextCodec, read_json};
use crate::{Encoded, EncodedImage, ModelConfig, ModelError, ModelFolder, TileLayout};

/// Text and pictures to tokens and pixels: the only place where the one becomes the other.
#[derive(Debug)]
pub struct Processor {
    text: TextCodec,
    images: Option<ImageProcessor>,
    config: ModelConfig,
}

#[derive(Debug)]
struct ImageProcessor {
    config: Qwen2VlImageConfig,
    token: u32,
}

/// The text of one conversation before tokenising: for showing what a model reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// With one placeholder for each image.
    pub text: String,
}

impl Processor {
    /// Reads the folder's tokenizer, template and image processor files.
    ///
    /// # Errors
    /// [`ModelError`]: files that are missing or do not parse, and special tokens that the tokenizer lacks.
    pub fn read(folder: &ModelFolder) -> Result<Self, ModelError> {
        let text = TextCodec::read(folder.path())?;
        let config = folder.config().clone();
        let images = match config.image_token {
            None => None,
            Some(token) => {
                if text.token_text(token).is_none() {
                    return Err(ModelError::TokenMissing {
                        path: folder.path().join("tokenizer.json"),
                        token: format!("id {token} (image_token_id)"),
                    });
                }
                Some(ImageProcessor { config: image_config(folder.path())?, token })
            }
        };
        if text.vocab_size() > config.decoder.vocab_size {
            let got = text.vocab_size();
            let expected = format!("at least the tokenizer's {got} tokens");
            let path = folder.path().join("config.json");
            return Err(ModelError::config(&path, "vocab_size", expected, config.decoder.vocab_size));
        }
        Ok(Self { text, images, config })
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

    /// The image processor's settings, where the family reads images.
    pub fn image_config(&self) -> Option<&Qwen2VlImageConfig> {
        self.images.as_ref().map(|images| &images.config)
    }

    /// A training row: ids and loss mask from one rendering.
    ///
    /// # Errors
    /// One row's faults: [`ModelError::Core`] (image count, a picture that is missing or broken),
    /// [`ModelError::ForgedToken`], [`ModelError::Template`], [`ModelError::NoVision`].
    pub fn encode(
        &self,
        conversation: &Conversation,
        supervision: Supervision,
        store: &dyn ImageStore,
    ) -> Result<Encoded, ModelError> {
        self.check(conversation)?;
        let no_markers = || ModelError::Template { detail: "no end-of-turn token between turns".into() };
        let markers = self.text.turn_markers().ok_or_else(no_markers)?;
        let segments = self.template()?.segments(conversation, supervision, markers)?;
        let mut draft = Draft::default();
        for segment in &segments {
            draft.push(&self.text.encode(&segment.text, false)?, segment.target);
        }
        if supervision == Supervision::AfterFirstExchange
            && let Some(end) = self.text.end_of_text()
        {
            draft.push(&[end], true);
        }
        self.finish(conversation.id.clone(), draft, &conversation.images, store)
    }

    /// A prompt, with the header of the turn that the model writes.
    ///
    /// # Errors
    /// As [`Processor::encode`].
    pub fn encode_prompt(&self, prompt: &Prompt, store: &dyn ImageStore) -> Result<Encoded, ModelError> {
        let mut draft = Draft::default();
        match prompt {
            Prompt::Text(text) => {
                draft.push(&self.text.encode(text, true)?, false);
                self.finish(RecordId::of("text-prompt", [text.as_str()]), draft, &[], store)
            }
            Prompt::Chat { conversation, .. } => {
                self.check(conversation)?;
                let text = self.render(prompt)?.text;
                draft.push(&self.text.encode(&text, false)?, false);
                self.finish(conversation.id.clone(), draft, &conversation.images, store)
            }
        }
    }

    /// A plain text in spans, each with whether it counts for the loss: how a base model learns. Every span is tokenised
    /// by itself.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn encode_spans(&self, spans: &[(&str, bool)]) -> Result<Encoded, ModelError> {
        let mut draft = Draft::default();
        for (n, (text, counts)) in spans.iter().enumerate() {
            draft.push(&self.text.encode(text, n == 0)?, *counts);
        }
        let id = RecordId::of("text", spans.iter().map(|(text, _)| *text));
        Ok(Encoded { id, tokens: draft.tokens, targets: draft.targets, images: vec![], image_starts: vec![] })
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
    pub fn layout(&self, image: &ImageRef, (width, height): (u32, u32)) -> Result<TileLayout, ModelError> {
        let processor = self.image_processor(image)?;
        let failed = |e: adamllm_vision::preprocess::PreprocessError| ModelError::Image {
            image: image.to_string(),
            detail: e.to_string(),
        };
        let grid = processor.config.grid_from_size(width, height).map_err(failed)?;
        Ok(tile_layout([grid.t, grid.h, grid.w], processor.config.merge_size))
    }

    /// Decodes, resizes, normalises and cuts one image.
    ///
    /// # Errors
    /// [`ModelError::Core`] for a picture that does not open, [`ModelError::Image`] for one that cannot be cut.
    pub fn encode_image(&self, image: &ImageRef, store: &dyn ImageStore) -> Result<EncodedImage, ModelError> {
        let processor = self.image_processor(image)?;
        let picture = store.open(image)?;
        let patches = processor
            .config
            .patches(&picture)
            .map_err(|e| ModelError::Image { image: image.to_string(), detail: e.to_string() })?;
        let layout = tile_layout([patches.grid.t, patches.grid.h, patches.grid.w], processor.config.merge_size);
        Ok(EncodedImage { image: image.clone(), layout, pixels: Arc::new(patches.pixels) })
    }

    fn image_processor(&self, image: &ImageRef) -> Result<&ImageProcessor, ModelError> {
        let family = self.config.family.as_str();
        self.images.as_ref().ok_or_else(|| ModelError::NoVision { record: image.to_string(), images: 1, family })
    }

    fn template(&self) -> Result<&crate::ChatTemplate, ModelError> {
        let none = || ModelError::Template { detail: "the model folder has no chat template".into() };
        self.text.template().ok_or_else(none)
    }

    /// What must hold before a template sees the conversation.
    fn check(&self, conversation: &Conversation) -> Result<(), ModelError> {
        conversation.validate()?;
        let record = || conversation.id.to_string();
        if self.images.is_none() && !conversation.images.is_empty() {
            let family = self.config.family.as_str();
            return Err(ModelError::NoVision { record: record(), images: conversation.images.len(), family });
        }
        for (i, message) in conversation.messages.iter().enumerate() {
            if let Some(token) = self.text.special_token_in(&message.content) {
                return Err(ModelError::ForgedToken { record: record(), message: i + 1, token: token.into() });
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
        store: &dyn ImageStore,
    ) -> Result<Encoded, ModelError> {
        let images: Vec<EncodedImage> =
            images.iter().map(|image| self.encode_image(image, store)).collect::<Result<_, _>>()?;
        let Some(token) = self.image_token() else {
            return Ok(Encoded { id, tokens: draft.tokens, targets: draft.targets, images, image_starts: vec![] });
        };
        let places = draft.tokens.iter().filter(|&&t| t == token).count();
        if places != images.len() {
            return Err(CoreError::ImageCount { record: id.to_string(), markers: places, images: images.len() }.into());
        }
        let mut encoded = Encoded { id, tokens: vec![], targets: vec![], images, image_starts: vec![] };
        for (t, target) in draft.tokens.into_iter().zip(draft.targets) {
            let n = if t == token {
                let n = encoded.images[encoded.image_starts.len()].layout.n_rows();
                encoded.image_starts.push(encoded.tokens.len());
                n
            } else {
                1
            };
            encoded.tokens.extend(std::iter::repeat_n(t, n));
            encoded.targets.extend(std::iter::repeat_n(target && t != token, n));
        }
        Ok(encoded)
    }
}

/// Tokens before their placeholders are expanded.
#[derive(Default)]
struct Draft {
    tokens: Vec<u32>,
    targets: Vec<bool>,
}

impl Draft {
    fn push(&mut self, tokens: &[u32], target: bool) {
        self.tokens.extend_from_slice(tokens);
        self.targets.extend(std::iter::repeat_n(target, tokens.len()));
    }
}

fn tile_layout(patches: [u32; 3], merge: u32) -> TileLayout {
    TileLayout { patches: patches.map(|n| n as usize), merge: merge as usize }
}

/// `preprocessor_config.json` (2024), or `processor_config.json` (transformers 5).
fn image_config(folder: &Path) -> Result<Qwen2VlImageConfig, ModelError> {
    const FILES: &[&str] = &["preprocessor_config.json", "processor_config.json"];
    for name in FILES {
        let path = folder.join(name);
        if let Some(json) = read_json(&path)? {
            return Qwen2VlImageConfig::from_json(&json.to_string())
                .map_err(|e| ModelError::config(&path, "image processor", "settings of Qwen2-VL", e));
        }
    }
    Err(ModelError::FileMissing { folder: folder.into(), expected: FILES })
}
