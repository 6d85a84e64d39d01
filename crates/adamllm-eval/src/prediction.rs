use adamllm_core::{Finish, JsonObject, RecordId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::described::{id_text, whole_number};

/// A model's answer to one example: a line of `predictions.jsonl`. A file made elsewhere needs `id` (or `syn_id`; text or a
/// number, where `1`, `1.0` and `"1"` are the same id) and `answer` (or `pred`; text, a number, true or false; `null` is an
/// empty answer) only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "JsonObject")]
#[non_exhaustive]
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

impl TryFrom<JsonObject> for Prediction {
    type Error = String;

    /// Fields that are `null` count as absent; an answer that is there and `null` is empty.
    fn try_from(record: JsonObject) -> Result<Self, String> {
        let given = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| Some((name, record.get(name).filter(|value| !value.is_null())?)))
        };
        let missing = |field: &str| {
            let found: Vec<&str> = record.keys().map(String::as_str).collect();
            format!(
                "missing field `{field}`: found {}",
                if found.is_empty() { "nothing".into() } else { found.join(", ") }
            )
        };

        let id = match given(["id", "syn_id"]).ok_or_else(|| missing("id"))? {
            (_, Value::String(id)) => id.clone(),
            (name, Value::Number(id)) => id_text(id).map_err(|problem| format!("field `{name}`: {problem}: {id}"))?,
            (name, other) => return Err(unexpected(name, "text or a number", other)),
        };
        let answer = match given(["answer", "pred"]) {
            Some((_, Value::String(answer))) => answer.clone(),
            Some((_, value @ (Value::Number(_) | Value::Bool(_)))) => value.to_string(),
            Some((name, other)) => return Err(unexpected(name, "text, a number, true or false", other)),
            None if record.contains_key("answer") || record.contains_key("pred") => String::new(),
            None => return Err(missing("answer")),
        };
        let finish = match record.get("finish") {
            None => None,
            Some(finish) => Option::deserialize(finish)
                .map_err(|_| unexpected("finish", "`end`, `length` or another reason known here", finish))?,
        };
        let n_new_tokens = match record.get("n_new_tokens") {
            None | Some(Value::Null) => 0,
            Some(value) => {
                let whole = value.as_number().and_then(whole_number).and_then(|n| usize::try_from(n).ok());
                whole.ok_or_else(|| unexpected("n_new_tokens", "a whole number", value))?
            }
        };
        Ok(Self { id: RecordId::given(id), answer, finish, n_new_tokens })
    }
}

fn unexpected(field: &str, expected: &str, got: &Value) -> String {
    let got: String = got.to_string().chars().take(80).collect();
    format!("field `{field}`: expected {expected}, got {got}")
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
        for id in ["1", "1.0", "\"1\"", "1e0"] {
            assert_eq!(
                read(&format!(r#"{{"id": {id}, "answer": 3}}"#)),
                Ok(Prediction::new(RecordId::given("1"), "3")),
                "{id}"
            );
        }
        assert_eq!(read(r#"{"id": 1.5, "answer": true}"#), Ok(Prediction::new(RecordId::given("1.5"), "true")));
        assert_eq!(read(r#"{"id": -2.0, "answer": 0.5}"#), Ok(Prediction::new(RecordId::given("-2"), "0.5")));
        let nulls = r#"{"id": null, "syn_id": 7, "answer": null, "pred": "x", "finish": null, "n_new_tokens": null}"#;
        assert_eq!(read(nulls), Ok(Prediction::new(RecordId::given("7"), "x")));
        assert!(
            read(r#"{"id": 12345678901234567890123, "answer": "x"}"#).is_err_and(|error| error.contains("too large"))
        );
        assert!(
            read(r#"{"id": 18446744073709551615, "answer": "x"}"#)
                .is_ok_and(|read| read.id.as_str() == u64::MAX.to_string())
        );
        assert!(read(r#"{"id": 1, "answer": ["x"]}"#).is_err_and(|error| error.contains("`answer`: expected text")));
        assert!(read(r#"{"id": 1, "response": "x"}"#).is_err_and(|error| error.contains("found id, response")));
        assert!(
            read(r#"{"id": [1], "answer": "x"}"#).is_err_and(|error| error.contains("`id`: expected text or a number"))
        );
        assert!(read(r#"{"id": 1, "answer": "x", "finish": "eos"}"#).is_err_and(|error| error.contains("`finish`")));
        let own =
            Prediction { finish: Some(Finish::Length), n_new_tokens: 3, ..Prediction::new(RecordId::given("a"), "b") };
        assert_eq!(read(&serde_json::to_string(&own).expect("serialises")), Ok(own));
    }
}
