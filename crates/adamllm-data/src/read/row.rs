use std::path::Path;

use adamllm_core::{Conversation, CoreError, IMAGE_MARKER, ImageCaption, ImageRef, Message, RecordId, Role};
use serde_json::Value;

/// One parsed row and where it stands.
pub(crate) struct Row<'a> {
    pub(crate) path: &'a Path,
    pub(crate) row: u64,
    pub(crate) value: Value,
}

impl Row<'_> {
    pub(crate) fn into_conversation(mut self) -> Result<Conversation, CoreError> {
        self.must_be_object()?;
        let (images, messages, id) = (self.images()?, self.messages()?, self.id()?);
        let mut conversation = Conversation::new(messages, images);
        conversation.validate().map_err(|error| self.placed(error))?;
        if let Some(id) = id {
            conversation.id = id;
        }
        Ok(conversation)
    }

    pub(crate) fn into_image_caption(mut self) -> Result<ImageCaption, CoreError> {
        self.must_be_object()?;
        let mut images = self.images()?;
        if images.len() != 1 {
            return Err(self.field("images", "one image", format!("{} images", images.len())));
        }
        let (image, id) = (images.remove(0), self.id()?);
        let native = self.value.get("caption").is_some();
        let (request, caption) = if native { self.native()? } else { self.first_exchange(&image)? };
        if caption.trim().is_empty() {
            return Err(self.field("caption", "text", format!("{caption:?}")));
        }
        let mut pair = ImageCaption::new(image.as_str(), caption);
        if let Some(id) = id {
            pair.id = id;
        }
        Ok(if request.is_empty() { pair } else { pair.with_request(request) })
    }

    fn native(&mut self) -> Result<(String, String), CoreError> {
        let caption = self.text("caption")?;
        let has_request = self.value.get("request").is_some_and(|request| !request.is_null());
        let request = if has_request { self.text("request")? } else { String::new() };
        Ok((request, caption))
    }

    /// The first user turn without image markers, and the assistant's turn after it.
    fn first_exchange(&mut self, image: &ImageRef) -> Result<(String, String), CoreError> {
        let conversation = Conversation::new(self.messages()?, vec![image.clone()]);
        conversation.validate().map_err(|error| self.placed(error))?;
        let mut turns = conversation.messages.into_iter().skip_while(|message| message.role == Role::System);
        match (turns.next(), turns.next()) {
            (Some(request), Some(caption)) if (request.role, caption.role) == (Role::User, Role::Assistant) => {
                Ok((request.content.replace(IMAGE_MARKER, "").trim().to_owned(), caption.content))
            }
            (first, second) => {
                let role = |turn: Option<Message>| turn.map_or("nothing", |turn| turn.role.as_str());
                let got = format!("{}, {}", role(first), role(second));
                Err(self.field("messages", "a user turn, then an assistant turn", got))
            }
        }
    }

    fn images(&mut self) -> Result<Vec<ImageRef>, CoreError> {
        let name = if self.value.get("images").is_some() { "images" } else { "image" };
        let value = self.value.get_mut(name).map_or(Value::Null, Value::take);
        let path = |value: Value| match value {
            Value::String(path) if !path.is_empty() => Ok(ImageRef::from(path)),
            other => Err(self.field("images", "a path", shown(&other))),
        };
        match value {
            Value::Null => Ok(Vec::new()),
            Value::Array(values) => values.into_iter().map(path).collect(),
            value => Ok(vec![path(value)?]),
        }
    }

    fn messages(&mut self) -> Result<Vec<Message>, CoreError> {
        let name = if self.value.get("messages").is_some() { "messages" } else { "conversations" };
        match self.value.get_mut(name).map(Value::take) {
            Some(Value::Array(turns)) => turns.into_iter().map(|turn| self.message(turn)).collect(),
            Some(other) => Err(self.field("messages", "an array of turns", shown(&other))),
            None => Err(self.field("messages", "`messages` or `conversations`", "neither".into())),
        }
    }

    fn message(&self, mut turn: Value) -> Result<Message, CoreError> {
        let role = match turn.get("role").or_else(|| turn.get("from")).and_then(Value::as_str) {
            Some("user" | "human") => Role::User,
            Some("assistant" | "gpt") => Role::Assistant,
            Some("system") => Role::System,
            _ => {
                let expected = "`role` or `from`: user, human, assistant, gpt or system";
                return Err(self.field("messages", expected, shown(&turn)));
            }
        };
        let name = if turn.get("content").is_some() { "content" } else { "value" };
        match turn.get_mut(name).map(Value::take) {
            Some(Value::String(content)) => Ok(Message::new(role, content)),
            Some(other) => Err(self.field("messages", "text as a turn's content", shown(&other))),
            None => Err(self.field("messages", "a turn with `content` or `value`", shown(&turn))),
        }
    }

    fn id(&self) -> Result<Option<RecordId>, CoreError> {
        match self.value.get("id") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(id)) if !id.is_empty() => Ok(Some(RecordId::given(id))),
            Some(Value::Number(id)) => Ok(Some(RecordId::given(id.to_string()))),
            Some(other) => Err(self.field("id", "text or a number", shown(other))),
        }
    }

    fn text(&mut self, field: &'static str) -> Result<String, CoreError> {
        match self.value.get_mut(field).map(Value::take) {
            Some(Value::String(text)) => Ok(text),
            other => Err(self.field(field, "text", other.as_ref().map_or("nothing".into(), shown))),
        }
    }

    fn must_be_object(&self) -> Result<(), CoreError> {
        if self.value.is_object() {
            return Ok(());
        }
        Err(self.field("(row)", "an object", shown(&self.value)))
    }

    fn field(&self, field: &'static str, expected: &str, got: String) -> CoreError {
        CoreError::Field { record: self.place(), field, expected: expected.into(), got }
    }

    /// The record's error with the row's place instead of its id.
    fn placed(&self, error: CoreError) -> CoreError {
        match error {
            CoreError::Field { field, expected, got, .. } => {
                CoreError::Field { record: self.place(), field, expected, got }
            }
            CoreError::ImageCount { markers, images, .. } => {
                CoreError::ImageCount { record: self.place(), markers, images }
            }
            other => other,
        }
    }

    fn place(&self) -> String {
        format!("{} row {}", self.path.display(), self.row)
    }
}

/// A value in an error message: short, whatever it is.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
