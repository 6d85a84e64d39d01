use adamllm_core::{ImageRef, RecordId};
use serde::{Deserialize, Serialize};

use crate::Opinion;

/// One question about an image with two answers: a short one and one that reasons (paper section 3.1, "task triplet").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskTriplet {
    /// Made of the pair's id and the three texts.
    pub id: RecordId,
    /// The [`ImageCaption`](adamllm_core::ImageCaption) that the triplet was proposed for.
    pub pair: RecordId,
    /// The image.
    pub image: ImageRef,
    /// The question or order, without its hint line.
    pub instruction: String,
    /// The answer that explains.
    pub informative: String,
    /// The short answer.
    pub precise: String,
}

impl TaskTriplet {
    /// A triplet with the id of its content.
    pub fn new(
        pair: RecordId,
        image: ImageRef,
        instruction: impl Into<String>,
        informative: impl Into<String>,
        precise: impl Into<String>,
    ) -> Self {
        let (instruction, informative, precise) = (instruction.into(), informative.into(), precise.into());
        let id = RecordId::of("task-triplet", [pair.as_str(), &instruction, &informative, &precise]);
        Self { id, pair, image, instruction, informative, precise }
    }

    /// The three texts with their field names.
    pub fn texts(&self) -> [(&'static str, &str); 3] {
        [("instruction", &self.instruction), ("informative", &self.informative), ("precise", &self.precise)]
    }
}

/// What the judge says about a triplet (paper section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// `Yes`: both answers come to the same.
    Consistent,
    /// `No`: the answers disagree.
    Inconsistent,
    /// `Open`: the question has no single answer, or asks for a description.
    Open,
    /// None of the three, or too unsure.
    Unclear,
    /// No judge was asked: an ablation without a filter.
    Unjudged,
}

impl Verdict {
    /// All verdicts, in the order of the reports.
    pub const ALL: [Self; 5] = [Self::Consistent, Self::Inconsistent, Self::Open, Self::Unclear, Self::Unjudged];

    /// The name in files and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consistent => "consistent",
            Self::Inconsistent => "inconsistent",
            Self::Open => "open",
            Self::Unclear => "unclear",
            Self::Unjudged => "unjudged",
        }
    }
}

/// A triplet with its verdict, and the probabilities that it comes from where the judge was scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// What was judged.
    pub triplet: TaskTriplet,
    /// What the judge says.
    pub verdict: Verdict,
    /// Probability of `Yes` among the three answers, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_yes: Option<f64>,
    /// Probability of `No` among the three answers, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_no: Option<f64>,
    /// Probability of `Open` among the three answers, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_open: Option<f64>,
    /// What the judge wrote, where it wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

impl Judged {
    /// A triplet that no judge was asked about.
    pub fn unjudged(triplet: TaskTriplet) -> Self {
        Self { triplet, verdict: Verdict::Unjudged, p_yes: None, p_no: None, p_open: None, answer: None }
    }

    /// What was said before a verdict was made of it; `None` where no judge was asked.
    pub fn opinion(&self) -> Option<Opinion> {
        match (&self.answer, self.p_yes, self.p_no, self.p_open) {
            (Some(answer), ..) => Some(Opinion::Text(answer.clone())),
            (None, Some(p_yes), Some(p_no), Some(p_open)) => Some(Opinion::Probabilities([p_yes, p_no, p_open])),
            _ => None,
        }
    }
}
