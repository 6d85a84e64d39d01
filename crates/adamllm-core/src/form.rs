//! One record as tools write it: LLaMA-Factory's ShareGPT form, LLaVA's, OpenAI's messages with parts, and captions.

use std::path::Path;

use serde_json::Value;

use crate::json::{id_text, is_absent, shown};
use crate::{Conversation, CoreError, IMAGE_MARKER, ImageCaption, ImageRef, Message, RecordId, Role};

mod images;
mod keys;
mod turns;

/// One parsed record and where it stands.
///
/// | key | what it holds |
/// |---|---|
/// | `messages` or `conversations` | turns of `role`/`from` and `content`/`value`; content is text, or parts of type `text` and `image` |
/// | `images` or `image` | a path or several; `{"path": ..., "bytes": null}` is a path too |
/// | `system` | the system turn, where the turns have none |
/// | `caption`, `request` | a caption, and what was asked before it |
/// | `id` | text or a number |
///
/// Keys that hold `null` count as absent. Keys to which tools give a meaning that is not read here (`video`, `audio`, `tools`,
/// preference pairs, turns that are not trained on) are an error that names them, and so are names that would be read in two ways.
/// All other keys are ignored.
#[derive(Debug)]
pub struct RecordForm<'a> {
    path: &'a Path,
    number: u64,
    value: Value,
}

impl<'a> RecordForm<'a> {
    /// A record of a file, `number` counted from 1.
    pub fn new(path: &'a Path, number: u64, value: Value) -> Self {
        Self { path, number, value }
    }

    /// The record as a conversation that holds together ([`Conversation::validate`]).
    ///
    /// # Errors
    /// [`CoreError::Field`] and [`CoreError::ImageCount`], with the file and the record's number.
    pub fn into_conversation(self) -> Result<Conversation, CoreError> {
        self.must_be_object()?;
        self.refuse_meanings()?;
        let id = self.id()?;
        let (images, messages) = self.turns_and_images()?;
        let mut conversation = Conversation::new(messages, images);
        conversation.validate().map_err(|error| self.placed(error))?;
        if let Some(id) = id {
            conversation.id = id;
        }
        Ok(conversation)
    }

    /// The record as an image with its caption. A conversation becomes one by its first exchange: the user's request
    /// without its image marker, and the assistant's reply as the caption.
    ///
    /// # Errors
    /// As [`RecordForm::into_conversation`]; a caption that says nothing, or that holds an image marker.
    pub fn into_image_caption(self) -> Result<ImageCaption, CoreError> {
        self.must_be_object()?;
        self.refuse_meanings()?;
        let id = self.id()?;
        let is_native = !is_absent(self.value.get("caption"));
        let (images, request, caption) = if is_native { self.native()? } else { self.first_exchange()? };
        let [image] = &images[..] else {
            return Err(self.field("images", "one image", format!("{} images", images.len())));
        };
        let mut pair = ImageCaption::new(image.as_str(), caption);
        pair.validate().map_err(|error| self.placed(error))?;
        if let Some(id) = id {
            pair.id = id;
        }
        Ok(if request.is_empty() { pair } else { pair.with_request(request) })
    }

    /// The exchanges of a record that needs neither, with its one image: what seed data hold.
    ///
    /// # Errors
    /// As [`RecordForm::into_conversation`].
    pub fn into_turns(self) -> Result<(ImageRef, Vec<Message>), CoreError> {
        self.must_be_object()?;
        self.refuse_meanings()?;
        let (mut images, messages) = self.turns_and_images()?;
        match images.len() {
            1 => Ok((images.remove(0), messages)),
            n => Err(self.field("images", "one image", format!("{n} images"))),
        }
    }

    /// A text of the record; `None` where it is absent.
    ///
    /// # Errors
    /// [`CoreError::Field`] for anything but text.
    pub fn text(&self, field: &'static str) -> Result<Option<String>, CoreError> {
        match self.value.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.field(field, "text", shown(other))),
        }
    }

    fn native(&self) -> Result<(Vec<ImageRef>, String, String), CoreError> {
        let caption = match self.value.get("caption") {
            Some(Value::String(text)) => text.clone(),
            other => return Err(self.field("caption", "text", other.map_or("nothing".into(), shown))),
        };
        let request = without_marker(&self.text("request")?.unwrap_or_default());
        let images = self.listed_images()?;
        Ok((images, request, caption))
    }

    /// The first user turn without image markers, and the assistant's turn after it.
    fn first_exchange(&self) -> Result<(Vec<ImageRef>, String, String), CoreError> {
        let (images, messages) = self.turns_and_images()?;
        if images.len() != 1 {
            return Err(self.field("images", "one image", format!("{} images", images.len())));
        }
        let conversation = Conversation::new(messages, images);
        conversation.validate().map_err(|error| self.placed(error))?;
        let images = conversation.images;
        let mut turns = conversation.messages.into_iter().skip_while(|message| message.role == Role::System);
        match (turns.next(), turns.next()) {
            (Some(request), Some(caption)) if (request.role, caption.role) == (Role::User, Role::Assistant) => {
                Ok((images, without_marker(&request.content), caption.content))
            }
            (first, second) => {
                let role = |turn: Option<Message>| turn.map_or("nothing", |turn| turn.role.as_str());
                let got = format!("{}, {}", role(first), role(second));
                Err(self.field("messages", "a user turn, then an assistant turn", got))
            }
        }
    }

    fn id(&self) -> Result<Option<RecordId>, CoreError> {
        match self.value.get("id") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(id)) if id.is_empty() => Ok(None),
            Some(id) => match id_text(id) {
                Some(id) => Ok(Some(RecordId::given(id))),
                None => Err(self.field("id", "text or a number", shown(id))),
            },
        }
    }

    fn must_be_object(&self) -> Result<(), CoreError> {
        if self.value.is_object() {
            return Ok(());
        }
        Err(self.field("(record)", "an object", shown(&self.value)))
    }

    /// The value of the one of two keys that is there. Both may be, if they say the same.
    fn either(&self, names: [&str; 2], field: &'static str) -> Result<Value, CoreError> {
        let said = |name| self.value.get(name).filter(|value| !says_nothing(value));
        match names.map(said) {
            [Some(first), Some(second)] if first != second => {
                let got = format!("{}, and another value", shown(first));
                Err(self.field(field, &format!("one value under `{}` and `{}`", names[0], names[1]), got))
            }
            [Some(value), _] | [None, Some(value)] => Ok(value.clone()),
            [None, None] => Ok(names
                .into_iter()
                .find_map(|name| self.value.get(name).filter(|value| !value.is_null()))
                .cloned()
                .unwrap_or_default()),
        }
    }

    fn field(&self, field: &'static str, expected: &str, got: String) -> CoreError {
        CoreError::Field { record: self.location(), field, expected: expected.into(), got }
    }

    /// The record's error with the record's location instead of its id.
    fn placed(&self, error: CoreError) -> CoreError {
        match error {
            CoreError::Field { field, expected, got, .. } => {
                CoreError::Field { record: self.location(), field, expected, got }
            }
            CoreError::ImageCount { markers, images, .. } => {
                CoreError::ImageCount { record: self.location(), markers, images }
            }
            CoreError::EmptyCaption { .. } => CoreError::EmptyCaption { record: self.location() },
            other => other,
        }
    }

    fn location(&self) -> String {
        format!("{} record {}", self.path.display(), self.number)
    }
}

/// Whether a value is there and says nothing: tools write empty texts and lists for what a record does not have.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => matches!(text.trim(), "" | "[]" | "null"),
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn without_marker(text: &str) -> String {
    text.replace(IMAGE_MARKER, "").trim().to_owned()
}
