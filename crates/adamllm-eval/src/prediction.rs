use adamllm_core::{Finish, RecordId};
use serde::{Deserialize, Serialize};

/// A model's answer to one example: a line of `predictions.jsonl`. A file made elsewhere needs `id` and `answer` (or `pred`)
/// only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prediction {
    /// The example.
    pub id: RecordId,
    /// The model's text.
    #[serde(alias = "pred")]
    pub answer: String,
    /// Why the text ended; an answer that was cut at its limit is worth knowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<Finish>,
    /// Tokens written; 0 where unknown.
    #[serde(default)]
    pub n_new_tokens: usize,
}

impl Prediction {
    /// An answer about which nothing else is known.
    pub fn new(id: RecordId, answer: impl Into<String>) -> Self {
        Self { id, answer: answer.into(), finish: None, n_new_tokens: 0 }
    }
}
