use std::path::PathBuf;
use std::sync::Arc;

use adamllm_core::{Conversation, CoreError, ImageStore};
use adamllm_data::FirstOf;
use adamllm_synth::seed::BlankImages;
use adamllm_train::SingleStage;
use serde::{Deserialize, Serialize};

use crate::settings::SettingsError;

/// A source of training examples: either conversations, or captions with or without tasks, which are composed here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceSettings {
    /// Under this name its loss is logged.
    pub name: Option<String>,
    /// ShareGPT records (JSON or JSON Lines), as `synthesize` and LLaMA-Factory write them.
    pub conversations: Option<PathBuf>,
    /// Image-caption pairs.
    pub captions: Option<PathBuf>,
    /// Tasks for these pairs, `tasks.jsonl` of a synthesis.
    pub tasks: Option<PathBuf>,
    /// How captions and tasks are mixed.
    pub compose: SingleStage,
    /// Folders or zip archives of images, in the order in which they are asked.
    pub images: Vec<PathBuf>,
    /// A name that stands for a blank image, whatever these places hold: the seeds of `tune_synthesizer` use `blank.png`.
    pub blank_image: Option<String>,
    /// How often an epoch reads the examples: 0.5 for half of them, 2 for each of them twice.
    pub weight: f64,
    /// Stages are trained one after the other, each from the weights of the one before, with a schedule and an optimizer of
    /// its own.
    pub stage: usize,
}

impl Default for SourceSettings {
    fn default() -> Self {
        Self {
            name: None,
            conversations: None,
            captions: None,
            tasks: None,
            compose: SingleStage::default(),
            images: Vec::new(),
            blank_image: None,
            weight: 1.0,
            stage: 1,
        }
    }
}

/// What is looked at of every image before the first step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ImageCheck {
    /// All of it: a broken image costs its example, before the run begins.
    #[default]
    Images,
    /// The header: faster; an image that turns out broken later ends the run.
    Headers,
}

/// Conversations in memory, and where their images are.
#[derive(Clone)]
pub struct ConversationSource {
    /// Names the source in errors: its file.
    pub place: String,
    /// The conversations.
    pub conversations: Vec<Conversation>,
    /// Their images, opened when a batch needs them.
    pub images: Arc<dyn ImageStore>,
    /// As [`SourceSettings::weight`].
    pub weight: f64,
}

impl std::fmt::Debug for ConversationSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n = self.conversations.len();
        f.debug_struct("ConversationSource").field("place", &self.place).field("n", &n).finish_non_exhaustive()
    }
}

impl SourceSettings {
    /// The file that the examples come from, for messages.
    pub(crate) fn place(&self) -> String {
        let file = self.conversations.as_ref().or(self.captions.as_ref());
        file.map_or_else(String::new, |file| file.display().to_string())
    }

    /// The source's images.
    ///
    /// # Errors
    /// [`CoreError::Io`] names a place where nothing is.
    pub fn open_images(&self) -> Result<Arc<dyn ImageStore>, CoreError> {
        let places = self.images.iter().map(adamllm_data::images_at).collect::<Result<_, _>>()?;
        let store = FirstOf::new(places);
        Ok(match &self.blank_image {
            Some(name) => Arc::new(BlankImages::new(store, name.as_str().into())),
            None => Arc::new(store),
        })
    }

    /// Checks what can be checked without reading data; `key` is where the source stands in its settings.
    pub(crate) fn validate(&self, key: &str) -> Result<(), SettingsError> {
        let below = |field: &str| format!("{key}.{field}");
        match (&self.conversations, &self.captions, &self.tasks) {
            (Some(_), None, None) | (None, Some(_), _) => {}
            (None, None, _) => {
                let expected = "expected `conversations`, or `captions` with or without `tasks`";
                return Err(SettingsError::value(key, expected));
            }
            (Some(_), ..) => {
                return Err(SettingsError::value(
                    below("conversations"),
                    "expected no `captions` or `tasks` beside it",
                ));
            }
        }

        if !(self.weight > 0.0 && self.weight.is_finite()) {
            let detail = format!("expected a positive number, got {}", self.weight);
            return Err(SettingsError::value(below("weight"), detail));
        }

        Ok(())
    }
}
