use std::path::Path;

use adamllm_core::{CoreError, IMAGE_MARKER, ImageCaption, ImageRef, Message, RecordForm, RecordId, Role};
use serde_json::Value;

use crate::TaskTriplet;

/// A question with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuestionAnswer {
    /// What the user asks, without image markers and hints.
    pub question: String,
    /// What the model answers.
    pub answer: String,
}

/// All that the seed data say about one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedEntry {
    /// Made of the image and the caption.
    pub id: RecordId,
    /// The image.
    pub image: ImageRef,
    /// What the image shows.
    pub caption: String,
    /// The task that the image belongs to: the split is made in each task.
    pub task: String,
    /// Questions with short answers.
    pub precise: Vec<QuestionAnswer>,
    /// Questions with answers that explain.
    pub informative: Vec<QuestionAnswer>,
}

impl SeedEntry {
    /// The seed that a pair and a triplet about it make.
    pub fn from_triplet(pair: &ImageCaption, triplet: &TaskTriplet, task: impl Into<String>) -> Self {
        let ask = |answer: &str| QuestionAnswer { question: triplet.instruction.clone(), answer: answer.into() };
        Self {
            id: pair.id.clone(),
            image: pair.image.clone(),
            caption: pair.caption.clone(),
            task: task.into(),
            precise: vec![ask(&triplet.precise)],
            informative: vec![ask(&triplet.informative)],
        }
    }
}

/// One element of VisionFLAN's `metadata.json`, or of ALLaVA's files: `{"id", "image", "conversations": [{"from", "value"},
/// ...], "task_name"}`, the last in VisionFLAN only.
#[derive(Debug)]
pub(super) struct SeedRecord {
    location: String,
    image: ImageRef,
    conversations: Vec<Message>,
    pub(super) task_name: Option<String>,
}

impl SeedRecord {
    pub(super) fn read(path: &Path, number: u64, value: Value) -> Result<Self, CoreError> {
        let form = RecordForm::new(path, number, value);
        let task_name = form.text("task_name")?;
        let (image, conversations) = form.into_turns()?;
        Ok(Self { location: format!("{} record {number}", path.display()), image, conversations, task_name })
    }

    /// The file's name, which is what the three files have in common.
    pub(super) fn image_name(&self) -> &str {
        let image = self.image.as_str();
        image.rsplit(['/', '\\']).next().unwrap_or(image)
    }

    /// The exchanges, without image markers.
    pub(super) fn exchanges(&self) -> Result<Vec<QuestionAnswer>, CoreError> {
        let error = |expected: &str, got: &str| CoreError::Field {
            record: self.location.clone(),
            field: "conversations",
            expected: expected.into(),
            got: got.into(),
        };

        if self.conversations.is_empty() || !self.conversations.len().is_multiple_of(2) {
            return Err(error("pairs of a question and an answer", &format!("{} turns", self.conversations.len())));
        }

        let exchange = |turns: &[Message]| match turns {
            [question, answer] if (question.role, answer.role) == (Role::User, Role::Assistant) => {
                let question = question.content.replace(IMAGE_MARKER, "").trim().to_owned();
                let answer = answer.content.trim().to_owned();
                if question.is_empty() || answer.is_empty() {
                    return Err(error("text", "an empty turn"));
                }
                Ok(QuestionAnswer { question, answer })
            }
            _ => Err(error("a human turn, then a gpt turn", turns[0].role.as_str())),
        };

        self.conversations.chunks(2).map(exchange).collect()
    }
}
