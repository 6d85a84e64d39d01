use serde::{Deserialize, Serialize};

use crate::{CoreError, ImageRef, RecordId};

/// The text that stands for an image inside a message, as in LLaMA-Factory's ShareGPT form.
pub const IMAGE_MARKER: &str = "<image>";

/// The texts that stand for other media, as in LLaMA-Factory's form. They are not read: a record with one is refused.
pub const OTHER_MEDIA_MARKERS: [&str; 2] = ["<video>", "<audio>"];

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that stand before the first user turn.
    System,
    /// The one who asks. The ShareGPT name `human` is read too.
    #[serde(alias = "human")]
    User,
    /// The model. The ShareGPT name `gpt` is read too.
    #[serde(alias = "gpt")]
    Assistant,
}

impl Role {
    /// The role's name in chat templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn. Images stand in the text as [`IMAGE_MARKER`]s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    #[serde(alias = "from")]
    pub role: Role,
    /// What is said.
    #[serde(alias = "value")]
    pub content: String,
    /// The exchange that a reply belongs to, such as `caption` or `synthetic`: under this name its loss is logged. No part
    /// of any id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

impl Message {
    /// A turn of the given role.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), task: None }
    }

    /// The turn, marked as part of an exchange of this name.
    pub fn of_task(mut self, task: impl Into<String>) -> Self {
        self.task = Some(task.into());
        self
    }

    /// A user's turn.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    /// A model's turn.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }
}

/// Turns about images: the record that training reads, on disk in LLaMA-Factory's ShareGPT form
/// (`{"id", "messages": [{"role", "content"}], "images": ["..."]}`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// Made of the images and the messages.
    #[serde(default = "unset_id")]
    pub id: RecordId,
    /// The turns, in order.
    #[serde(alias = "conversations")]
    pub messages: Vec<Message>,
    /// One entry for each [`IMAGE_MARKER`] in the messages, in the order of the markers.
    #[serde(default)]
    pub images: Vec<ImageRef>,
    /// Where the example comes from, for logs: under this name its loss is kept apart. No part of the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

fn unset_id() -> RecordId {
    RecordId::given("")
}

impl Conversation {
    /// A conversation with the id of its content.
    pub fn new(messages: Vec<Message>, images: Vec<ImageRef>) -> Self {
        let mut conversation = Self { id: unset_id(), messages, images, source: None };
        conversation.id = conversation.content_id();
        conversation
    }

    /// The id of the content, whatever `id` holds.
    pub fn content_id(&self) -> RecordId {
        let images = self.images.iter().map(ImageRef::as_str);
        let turns = self.messages.iter().flat_map(|m| [m.role.as_str(), m.content.as_str()]);
        RecordId::of("conversation", images.chain(turns))
    }

    /// The conversation with its content's id where the file gave none.
    pub fn with_id(mut self) -> Self {
        if self.id.as_str().is_empty() {
            self.id = self.content_id();
        }
        self
    }

    /// How often [`IMAGE_MARKER`] occurs in all messages.
    pub fn n_image_markers(&self) -> usize {
        self.messages.iter().map(|m| m.content.matches(IMAGE_MARKER).count()).sum()
    }

    /// Checks what every later stage relies on: at least one turn, an optional system turn first, then user and
    /// assistant alternating, and as many markers as images.
    ///
    /// # Errors
    /// [`CoreError::Field`] for an empty conversation or a turn out of order, [`CoreError::ImageCount`] for markers.
    pub fn validate(&self) -> Result<(), CoreError> {
        let turns = match self.messages.first() {
            Some(first) if first.role == Role::System => &self.messages[1..],
            _ => &self.messages[..],
        };
        if turns.is_empty() {
            return Err(self.field_error("messages", "at least one user turn", "none"));
        }

        for (i, message) in turns.iter().enumerate() {
            let expected = if i % 2 == 0 { Role::User } else { Role::Assistant };
            if message.role != expected {
                let expected = format!("role {} in turn {}", expected.as_str(), i + 1);
                return Err(self.field_error("messages", &expected, message.role.as_str()));
            }
        }

        let markers = self.n_image_markers();
        if markers != self.images.len() {
            let record = self.id.to_string();
            return Err(CoreError::ImageCount { record, markers, images: self.images.len() });
        }

        Ok(())
    }

    fn field_error(&self, field: &'static str, expected: &str, got: &str) -> CoreError {
        CoreError::Field { record: self.id.to_string(), field, expected: expected.into(), got: got.into() }
    }
}

/// Which tokens of a conversation count for the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Supervision {
    /// Each reply and the token that ends it.
    #[default]
    Replies,
    /// The last reply and the token that ends it (LLaMA-Factory's `mask_history`).
    LastReply,
    /// Every token but the images' placeholders (LLaMA-Factory's `train_on_prompt`, which counts those too).
    Everything,
    /// Everything after the first exchange, the user's turns and headers included, and a final end-of-text token: how
    /// the synthesizer learns to write questions too (paper, section 3.1).
    AfterFirstExchange,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_spellings_of_sharegpt() {
        let a = r#"{"messages":[{"role":"user","content":"<image>Hi"},{"role":"assistant","content":"Yes"}],"images":["a.png"]}"#;
        let b = r#"{"conversations":[{"from":"human","value":"<image>Hi"},{"from":"gpt","value":"Yes"}],"images":["a.png"]}"#;
        let [a, b] = [a, b].map(|t| serde_json::from_str::<Conversation>(t).expect("valid").with_id());
        assert_eq!(a, b);
        a.validate().expect("valid");
    }

    #[test]
    fn names_for_the_log_are_no_part_of_the_id() {
        let plain = Conversation::new(vec![Message::user("Hi"), Message::assistant("Yes")], vec![]);
        let named = vec![Message::user("Hi"), Message::assistant("Yes").of_task("caption")];
        let named = Conversation { source: Some("food".into()), ..Conversation::new(named, vec![]) };
        assert_eq!(plain.id, named.id);
        let text = serde_json::to_string(&plain).expect("serialises");
        assert!(!text.contains("task") && !text.contains("source"));
        let text = serde_json::to_string(&named).expect("serialises");
        assert_eq!(serde_json::from_str::<Conversation>(&text).expect("reads"), named);
    }

    #[test]
    fn counts_markers_and_turns() {
        let lost = Conversation::new(vec![Message::user("Hi")], vec!["a.png".into()]);
        assert!(matches!(lost.validate(), Err(CoreError::ImageCount { markers: 0, images: 1, .. })));
        let twice = Conversation::new(vec![Message::user("Hi"), Message::user("Hi")], vec![]);
        assert!(matches!(twice.validate(), Err(CoreError::Field { field: "messages", .. })));
        assert!(Conversation::new(vec![], vec![]).validate().is_err());
    }
}
