use adamllm_core::RecordId;
use serde::{Deserialize, Serialize};

use crate::AnswerType;

/// One answer, scored both ways.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The example.
    pub id: RecordId,
    /// How it was scored.
    pub answer_type: AnswerType,
    /// Outcomes of one cluster are not independent.
    pub cluster: String,
    /// The reference's score, 0 to 100. `None` where the reference has none for such an example (no label at all).
    pub paper: Option<f64>,
    /// What the score should mean, 0 to 100.
    pub strict: f64,
    /// The strict scoring could not read the answer, and counts it as wrong.
    pub unparsed: bool,
    /// The paper scoring could not read the answer, and drew one at random.
    pub random: bool,
    /// The right answer in words.
    pub expected: String,
    /// What the strict scoring understood; `None` where it is the answer itself, or unread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict_read: Option<String>,
    /// What the paper scoring understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paper_read: Option<String>,
}

impl Outcome {
    /// Whether the two scorings differ.
    pub fn disagrees(&self) -> bool {
        self.paper.is_none_or(|paper| (paper - self.strict).abs() > 1e-9)
    }

    /// Whether the strict score is less than full.
    pub fn is_wrong(&self) -> bool {
        self.strict < 100.0
    }
}
