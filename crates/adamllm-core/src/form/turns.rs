use serde_json::Value;

use super::{RecordForm, says_nothing};
use crate::json::{is_absent, shown};
use crate::{CoreError, IMAGE_MARKER, ImageRef, Message, OTHER_MEDIA_MARKERS, Role};

impl RecordForm<'_> {
    /// The turns, the record's system text in front, and the images in the order of their markers.
    pub(super) fn turns_and_images(&self) -> Result<(Vec<ImageRef>, Vec<Message>), CoreError> {
        let listed = self.listed_images()?;
        let (mut messages, mut parts) = (Vec::new(), Vec::new());
        match self.either(["messages", "conversations"], "messages")? {
            Value::Array(turns) => {
                for turn in &turns {
                    messages.push(self.message(turn, &mut parts)?);
                }
            }
            Value::Null => return Err(self.field("messages", "`messages` or `conversations`", "neither".into())),
            other => return Err(self.field("messages", "an array of turns", shown(&other))),
        }
        self.put_system(&mut messages)?;
        Ok((self.joined(listed, parts)?, messages))
    }

    /// Images by the record's list, or by the parts of its turns; by both if they say the same.
    fn joined(&self, listed: Vec<ImageRef>, parts: Vec<Option<ImageRef>>) -> Result<Vec<ImageRef>, CoreError> {
        let named: Vec<_> = parts.iter().flatten().cloned().collect();
        match (named.len(), listed.len()) {
            (0, _) => Ok(listed),
            (n, 0) if n == parts.len() => Ok(named),
            _ if named == listed => Ok(listed),
            (n, _) => {
                let got =
                    format!("{n} named in the turns, {} without a name, {} listed", parts.len() - n, listed.len());
                Err(self.field("images", "the images in the turns, or in the record's list", got))
            }
        }
    }

    fn put_system(&self, messages: &mut Vec<Message>) -> Result<(), CoreError> {
        let Some(system) = self.text("system")?.filter(|text| !text.is_empty()) else { return Ok(()) };
        match messages.first() {
            Some(first) if first.role == Role::System && first.content == system => {}
            Some(first) if first.role == Role::System => {
                let got = format!("{}, and another system turn", shown(&system.as_str().into()));
                return Err(self.field("system", "one system text", got));
            }
            _ => messages.insert(0, Message::new(Role::System, system)),
        }
        Ok(())
    }

    /// One turn. An image among the parts of its content goes to `images`, `None` where the part does not name it.
    fn message(&self, turn: &Value, images: &mut Vec<Option<ImageRef>>) -> Result<Message, CoreError> {
        let role = self.role(turn)?;
        self.refuse_meanings_in_turn(turn, role == Role::Assistant)?;

        // ShareGPT says `value`, the OpenAI form `content`. Where a turn has both, they must agree.
        let said = |name| turn.get(name).filter(|value: &&Value| !value.is_null());
        let content = match (said("content"), said("value")) {
            (Some(first), Some(second)) if first != second => {
                return Err(self.field("messages", "one text under `content` and `value`", shown(turn)));
            }
            (Some(content), _) | (None, Some(content)) => content,
            (None, None) => return Err(self.field("messages", "a turn with `content` or `value`", shown(turn))),
        };

        let content = match content {
            Value::String(text) => text.clone(),
            Value::Array(parts) => {
                let parts: Result<Vec<_>, _> = parts.iter().map(|part| self.part(part, images)).collect();
                parts?.concat()
            }
            other => return Err(self.field("messages", "text as a turn's content", shown(other))),
        };

        // A medium that is not read would leave a question that nobody can answer.
        match OTHER_MEDIA_MARKERS.into_iter().find(|marker| content.contains(marker)) {
            Some(marker) => Err(self.field(
                "messages",
                &format!("no `{marker}`: videos and sounds are not read"),
                shown(&content.into()),
            )),
            None => Ok(Message::new(role, content)),
        }
    }

    fn role(&self, turn: &Value) -> Result<Role, CoreError> {
        let said = |name| turn.get(name).filter(|value: &&Value| !value.is_null());
        let name = match (said("role"), said("from")) {
            (Some(first), Some(second)) if first != second => None,
            (first, second) => first.or(second).and_then(Value::as_str),
        };
        match name {
            Some("user" | "human") => Ok(Role::User),
            Some("assistant" | "gpt") => Ok(Role::Assistant),
            Some("system") => Ok(Role::System),
            Some(
                name @ ("observation" | "function" | "function_call" | "tool" | "tool_call" | "tool_response"
                | "ipython"),
            ) => Err(self.field("messages", "no tool calls: they are not trained on", format!("role {name:?}"))),
            _ => {
                let expected = "`role` or `from`: user, human, assistant, gpt or system";
                Err(self.field("messages", expected, shown(turn)))
            }
        }
    }

    /// A part of a turn's content, as OpenAI and `transformers` write it, as text.
    fn part(&self, part: &Value, images: &mut Vec<Option<ImageRef>>) -> Result<String, CoreError> {
        let refused = |expected: &str| Err(self.field("messages", expected, shown(part)));
        match part.get("type").and_then(Value::as_str) {
            Some("text") => match part.get("text").and_then(Value::as_str) {
                Some(text) => Ok(text.to_owned()),
                None => refused("a part with `text`"),
            },
            Some("image" | "image_url") => {
                // Tables give every part every key; an image's own is the one that says something.
                let keys = ["image", "image_url", "path", "url"];
                let named = keys.into_iter().find_map(|key| part.get(key).filter(|value| !says_nothing(value)));
                images.push(named.map(|value| self.image(value)).transpose()?);
                Ok(IMAGE_MARKER.to_owned())
            }
            Some(_) => refused("parts of type text or image"),
            None if part.is_string() || is_absent(Some(part)) => refused("parts with a type"),
            None => match (part.get("text").and_then(Value::as_str), part.as_object()) {
                (Some(text), Some(members)) if members.len() == 1 => Ok(text.to_owned()),
                _ => refused("parts of type text or image"),
            },
        }
    }
}
