use adamllm_core::{Finish, RecordId};
use serde::{Deserialize, Serialize};

/// A model's answer to one example: a line of `predictions.jsonl`. A file made elsewhere needs `id` (or `syn_id`; text or a
/// number) and `answer` (or `pred`; `null` is an empty answer) only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PredictionLine")]
pub struct Prediction {
    /// The example.
    pub id: RecordId,
    /// The model's text.
    pub answer: String,
    /// Why the text ended; an answer that was cut at its limit is worth knowing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish: Option<Finish>,
    /// Tokens written; 0 where unknown.
    pub n_new_tokens: usize,
}

impl Prediction {
    /// An answer about which nothing else is known.
    pub fn new(id: RecordId, answer: impl Into<String>) -> Self {
        Self { id, answer: answer.into(), finish: None, n_new_tokens: 0 }
    }
}

/// What a line may hold.
#[derive(Deserialize)]
struct PredictionLine {
    id: Option<IdText>,
    syn_id: Option<IdText>,
    #[serde(default, deserialize_with = "present")]
    answer: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    pred: Option<Option<String>>,
    #[serde(default)]
    finish: Option<Finish>,
    #[serde(default)]
    n_new_tokens: usize,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum IdText {
    Text(String),
    Number(serde_json::Number),
}

/// A field that is there, `null` or not.
fn present<'de, D: serde::Deserializer<'de>>(field: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(field).map(Some)
}

impl TryFrom<PredictionLine> for Prediction {
    type Error = &'static str;

    fn try_from(line: PredictionLine) -> Result<Self, Self::Error> {
        let id = match line.id.or(line.syn_id).ok_or("missing field `id`")? {
            IdText::Text(id) => id,
            IdText::Number(id) => id.to_string(),
        };
        let answer = line.answer.or(line.pred).ok_or("missing field `answer`")?.unwrap_or_default();
        Ok(Self { id: RecordId::given(id), answer, finish: line.finish, n_new_tokens: line.n_new_tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_made_elsewhere() {
        let read = |line: &str| serde_json::from_str::<Prediction>(line).map_err(|error| error.to_string());
        assert_eq!(read(r#"{"id": 7, "pred": "yes", "input": "q"}"#), Ok(Prediction::new(RecordId::given("7"), "yes")));
        assert_eq!(read(r#"{"syn_id": "a", "answer": null}"#), Ok(Prediction::new(RecordId::given("a"), "")));
        assert!(read(r#"{"id": "a"}"#).is_err_and(|error| error.contains("missing field `answer`")));
        assert!(read(r#"{"pred": "a"}"#).is_err_and(|error| error.contains("missing field `id`")));
        let own =
            Prediction { finish: Some(Finish::Length), n_new_tokens: 3, ..Prediction::new(RecordId::given("a"), "b") };
        assert_eq!(read(&serde_json::to_string(&own).expect("serialises")), Ok(own));
    }
}
