use serde::{Deserialize, Serialize};

use crate::{CoreError, IMAGE_MARKER, ImageRef, OTHER_MEDIA_MARKERS, RecordId};

/// An image and the text that a domain's source says about it: what the whole pipeline starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageCaption {
    /// Made of the image reference and the caption.
    pub id: RecordId,
    /// The image.
    pub image: ImageRef,
    /// What the source says about it; never empty once [`ImageCaption::validate`]d.
    pub caption: String,
    /// The question that the caption answers, where the source had one (`Describe the image.` otherwise).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

impl ImageCaption {
    /// A pair with the id of its content.
    pub fn new(image: impl Into<ImageRef>, caption: impl Into<String>) -> Self {
        let (image, caption) = (image.into(), caption.into());
        let id = RecordId::of("image-caption", [image.as_str(), caption.as_str()]);
        Self { id, image, caption, request: None }
    }

    /// The same pair with the request that its source showed before the caption. The id stays.
    pub fn with_request(mut self, request: impl Into<String>) -> Self {
        self.request = Some(request.into());
        self
    }

    /// Checks what every later stage relies on: the caption says something, and holds no image marker (it would stand for a
    /// second image once a question is put before it).
    ///
    /// # Errors
    /// [`CoreError::EmptyCaption`] where the caption is empty or white space, [`CoreError::ImageCount`] for a marker,
    /// [`CoreError::Field`] for a marker of another medium.
    pub fn validate(&self) -> Result<(), CoreError> {
        if self.caption.trim().is_empty() {
            return Err(CoreError::EmptyCaption { record: self.id.to_string() });
        }
        if let Some(marker) = OTHER_MEDIA_MARKERS.into_iter().find(|marker| self.caption.contains(marker)) {
            return Err(CoreError::Field {
                record: self.id.to_string(),
                field: "caption",
                expected: "text without markers of videos and sounds".into(),
                got: marker.into(),
            });
        }
        match self.caption.matches(IMAGE_MARKER).count() {
            0 => Ok(()),
            n => Err(CoreError::ImageCount { record: self.id.to_string(), markers: n + 1, images: 1 }),
        }
    }
}

/// A task made for one image: what the synthesis stage hands to training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstructionTask {
    /// Made of the pair's id, the instruction and the response.
    pub id: RecordId,
    /// The [`ImageCaption`] that the task was made from.
    pub pair: RecordId,
    /// The image.
    pub image: ImageRef,
    /// What the user asks.
    pub instruction: String,
    /// What the model shall answer.
    pub response: String,
}

impl InstructionTask {
    /// A task with the id of its content.
    pub fn new(pair: RecordId, image: ImageRef, instruction: impl Into<String>, response: impl Into<String>) -> Self {
        let (instruction, response) = (instruction.into(), response.into());
        let id = RecordId::of("instruction-task", [pair.as_str(), &instruction, &response]);
        Self { id, pair, image, instruction, response }
    }
}
