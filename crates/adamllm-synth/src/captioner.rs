use adamllm_core::{Completion, Decoding, Finish, Generate, ImageCaption, ImageRef, Prompt, RecordId};
use serde::{Deserialize, Serialize};

use crate::SynthError;
use crate::model_outputs::model_outputs;

/// Our own request for a caption.
pub const CAPTION_PROMPT: &str = include_str!("prompts/caption.txt");

/// How a captioner is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptionerConfig {
    /// What it is asked about each image.
    pub prompt: String,
    /// How it answers. A caption that does not end within `max_new_tokens` is dropped.
    pub decoding: Decoding,
}

impl Default for CaptionerConfig {
    fn default() -> Self {
        Self { prompt: CAPTION_PROMPT.into(), decoding: Decoding::greedy(512) }
    }
}

/// Writes the captions of images that have none: any model that follows instructions.
#[derive(Debug)]
pub struct Captioner<G> {
    model: G,
    config: CaptionerConfig,
}

impl<G: Generate> Captioner<G> {
    /// A captioner with our prompt.
    pub fn new(model: G) -> Self {
        Self { model, config: CaptionerConfig::default() }
    }

    /// A captioner with settings of its own.
    ///
    /// # Errors
    /// [`SynthError::Config`] for a prompt that says nothing, or for no token to write.
    pub fn with_config(model: G, config: CaptionerConfig) -> Result<Self, SynthError> {
        let error = |field, expected, got: String| Err(SynthError::Config { field, expected, got });
        if config.prompt.trim().is_empty() {
            return error("prompt", "a request for a caption", "nothing".into());
        }
        if config.decoding.max_new_tokens == 0 {
            return error("decoding.max_new_tokens", "at least 1", "0".into());
        }
        Ok(Self { model, config })
    }

    /// The model that is asked.
    pub fn model(&self) -> &G {
        &self.model
    }

    /// The settings.
    pub fn config(&self) -> &CaptionerConfig {
        &self.config
    }

    /// What the model is asked about an image.
    pub fn prompt(&self, image: &ImageRef) -> Prompt {
        Prompt::ask(image, self.config.prompt.trim())
    }

    /// The model's text for each image: one result per image, in the same order.
    pub fn write(&self, images: &[ImageRef]) -> Vec<Result<Completion, SynthError>> {
        let ids: Vec<_> = images.iter().map(|image| RecordId::given(image.as_str())).collect();
        let prompts = images.iter().map(|image| Ok(self.prompt(image))).collect();
        let ask = |model: &G, prompts: Vec<Prompt>| model.generate(&prompts, &self.config.decoding);
        model_outputs(&self.model, &ids.iter().collect::<Vec<_>>(), prompts, ask)
    }

    /// The pair that an answer makes of an image.
    ///
    /// # Errors
    /// [`SynthError::CaptionCut`] where the answer did not end; as [`ImageCaption::validate`].
    pub fn read(&self, image: &ImageRef, completion: &Completion) -> Result<ImageCaption, SynthError> {
        let pair = ImageCaption::new(image.clone(), completion.text.trim());
        if completion.finish == Finish::Length {
            let limit = self.config.decoding.max_new_tokens;
            return Err(SynthError::CaptionCut { image: image.clone(), limit });
        }
        pair.validate()?;
        Ok(pair)
    }
}

#[cfg(test)]
mod tests {
    use adamllm_core::testing::ScriptedModel;

    use super::*;

    #[test]
    fn the_settings_are_what_is_asked() {
        let model = ScriptedModel::new(|_| Ok(" A cell. ".into()));
        let config = CaptionerConfig { prompt: " Say it.\n".into(), decoding: Decoding::greedy(7) };
        let captioner = Captioner::with_config(&model, config.clone()).expect("valid");
        assert_eq!(captioner.config(), &config);
        let image = ImageRef::from("a.png");
        assert_eq!(captioner.prompt(&image), Prompt::ask(&image, "Say it."));
        let completion = captioner.write(std::slice::from_ref(&image)).remove(0).expect("an answer");
        assert_eq!(captioner.read(&image, &completion).expect("a caption"), ImageCaption::new("a.png", "A cell."));
        let cut = captioner.read(&image, &completion.ended_by(Finish::Length));
        assert!(matches!(cut, Err(SynthError::CaptionCut { limit: 7, .. })));
        assert!(captioner.read(&image, &Completion::new(" ")).is_err());
    }

    #[test]
    fn settings_that_ask_nothing_are_refused() {
        let field = |config| match Captioner::with_config(ScriptedModel::new(|_| Ok(String::new())), config) {
            Err(SynthError::Config { field, .. }) => Some(field),
            _ => None,
        };
        let config = CaptionerConfig::default;
        assert_eq!(field(CaptionerConfig { prompt: " \n".into(), ..config() }), Some("prompt"));
        assert_eq!(
            field(CaptionerConfig { decoding: Decoding::greedy(0), ..config() }),
            Some("decoding.max_new_tokens")
        );
        assert_eq!(field(CaptionerConfig { decoding: Decoding::greedy(1), ..config() }), None);
    }
}
