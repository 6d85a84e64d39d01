use serde_json::Value;

use super::{RecordForm, says_nothing};
use crate::CoreError;
use crate::json::shown;

/// Keys of a record to which tools give a meaning that is not read here, and what they are.
const REFUSED: [(&str, &str); 13] = [
    ("video", "no video: videos are not read"),
    ("videos", "no video: videos are not read"),
    ("audio", "no audio: sounds are not read"),
    ("audios", "no audio: sounds are not read"),
    ("tools", "no tools: tool calls are not trained on"),
    ("functions", "no tools: tool calls are not trained on"),
    ("chosen", "no preference pair: each record has one reply"),
    ("rejected", "no preference pair: each record has one reply"),
    ("rejected_response", "no preference pair: each record has one reply"),
    ("rejected_messages", "no preference pair: each record has one reply"),
    ("kto_tag", "no preference: each record has one reply"),
    ("objects", "no grounding objects: write the boxes into the text"),
    ("weight", "no weight of a record: give the source a weight"),
];

/// The same for keys of a turn.
const REFUSED_IN_TURN: [(&str, &str); 6] = [
    ("tool_calls", "no tool call"),
    ("tool_call_id", "no tool call"),
    ("function_call", "no tool call"),
    ("reasoning_content", "the reasoning in `content`"),
    ("reasoning", "the reasoning in `content`"),
    ("thinking", "the reasoning in `content`"),
];

/// Keys with which tools leave a reply out of the loss.
const IN_THE_LOSS: [&str; 5] = ["weight", "loss", "loss_scale", "train", "training"];

/// Keys of a record that are read.
const READ: [&str; 8] = ["id", "image", "images", "messages", "conversations", "caption", "request", "system"];

impl RecordForm<'_> {
    /// Whether a key of a record is read, or looked at because it may say something that would be lost.
    pub fn has_key(key: &str) -> bool {
        READ.contains(&key) || REFUSED.iter().any(|(refused, _)| *refused == key)
    }

    /// Refuses a record that says something which would be lost.
    pub(super) fn refuse_meanings(&self) -> Result<(), CoreError> {
        let is_one = |value: &Value| value.as_f64() == Some(1.0);
        for (key, expected) in REFUSED {
            match self.value.get(key) {
                None => {}
                Some(value) if says_nothing(value) || (key == "weight" && is_one(value)) => {}
                Some(Value::Bool(false)) => {}
                // Lists of what the image shows are a note; boxes by name are filled into the text.
                Some(value) if key == "objects" && value.get("bbox").is_none() && value.get("ref").is_none() => {}
                Some(value) => return Err(self.field(key, expected, shown(value))),
            }
        }
        Ok(())
    }

    pub(super) fn refuse_meanings_in_turn(&self, turn: &Value, is_reply: bool) -> Result<(), CoreError> {
        for (key, expected) in REFUSED_IN_TURN {
            if let Some(value) = turn.get(key).filter(|value| !says_nothing(value)) {
                return Err(self.field("messages", expected, format!("`{key}`: {}", shown(value))));
            }
        }
        for key in IN_THE_LOSS.into_iter().filter(|_| is_reply) {
            let counts = match turn.get(key) {
                None | Some(Value::Null | Value::Bool(true)) => true,
                Some(value) => value.as_f64() == Some(1.0),
            };
            if !counts {
                let got = format!("`{key}`: {}", shown(&turn[key]));
                let expected =
                    "replies that all count for the loss with weight 1; split the record, or leave the reply out";
                return Err(self.field("messages", expected, got));
            }
        }
        Ok(())
    }
}
