use std::borrow::Cow;
use std::sync::Arc;

use adamllm_core::{IMAGE_MARKER, ImageRef, Message, Prompt, RecordId};
use serde::{Deserialize, Serialize};

use crate::EvalError;
use crate::metrics::NameSet;

/// How an answer is read and scored. Reports are broken down by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AnswerType {
    /// Free words, scored by the recall of the label's words.
    Open,
    /// Yes or no (and in SLAKE a few other words), scored by accuracy.
    Closed,
    /// One of a question's own lettered options, scored by accuracy.
    Choice,
    /// One name of a list that all questions share, scored by accuracy.
    Category,
    /// Several names of such a list, scored by recall or F1.
    Labels,
    /// A short answer of any kind, scored by accuracy.
    Short,
    /// A text, scored by Rouge-L.
    Text,
}

impl AnswerType {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Open, Self::Closed, Self::Choice, Self::Category, Self::Labels, Self::Short, Self::Text];

    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Choice => "choice",
            Self::Category => "category",
            Self::Labels => "labels",
            Self::Short => "short",
            Self::Text => "text",
        }
    }

    /// Whether every answer is right or wrong, with nothing between.
    pub fn is_accuracy(self) -> bool {
        matches!(self, Self::Closed | Self::Choice | Self::Category | Self::Short)
    }

    /// Reads the name, and the spellings of the published data sets, in any case.
    ///
    /// # Errors
    /// [`EvalError::Unknown`].
    pub fn parse(name: &str) -> Result<Self, EvalError> {
        match name.to_ascii_lowercase().as_str() {
            "open" => Ok(Self::Open),
            "closed" | "close" => Ok(Self::Closed),
            "choice" | "multiple_choice" | "multiple-choice" => Ok(Self::Choice),
            "category" => Ok(Self::Category),
            "labels" => Ok(Self::Labels),
            "short" => Ok(Self::Short),
            "text" => Ok(Self::Text),
            _ => Err(EvalError::Unknown {
                what: "answer type",
                got: name.into(),
                expected: "open, closed, choice, category, labels, short, text".into(),
            }),
        }
    }
}

/// Options with their keys: `A` to `D` for a question of its own, `0` to `100` for Food101's names.
#[derive(Clone, Debug)]
pub struct OptionSet {
    keys: Vec<Cow<'static, str>>,
    texts: NameSet,
}

impl OptionSet {
    /// Options with the keys `A`, `B`, ... (past 26 of them, the keys are numbers).
    pub fn lettered(texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let texts = NameSet::new(texts);
        let n = texts.names().len();
        let key = |i: usize| if n <= 26 { Cow::Borrowed(&LETTERS[i..=i]) } else { Cow::Owned(i.to_string()) };
        Self { keys: (0..n).map(key).collect(), texts }
    }

    /// Options with the keys `0`, `1`, ...
    pub fn numbered(texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let texts = NameSet::new(texts);
        Self { keys: (0..texts.names().len()).map(|i| Cow::Owned(i.to_string())).collect(), texts }
    }

    /// The keys.
    pub fn keys(&self) -> &[Cow<'static, str>] {
        &self.keys
    }

    /// The texts.
    pub fn texts(&self) -> &NameSet {
        &self.texts
    }
}

/// How several labels are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LabelMetric {
    /// The share of the labels that the answer names.
    Recall,
    /// The harmonic mean of that and of the share of right names in the answer.
    F1,
}

/// The right answer, and what is needed to compare another one with it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Expected {
    /// [`AnswerType::Open`].
    Open(String),
    /// [`AnswerType::Closed`].
    Closed(String),
    /// [`AnswerType::Short`].
    Short(String),
    /// [`AnswerType::Text`]: the reference texts; the best one counts.
    Text(Vec<String>),
    /// [`AnswerType::Choice`].
    Choice {
        /// The question's options.
        options: Arc<OptionSet>,
        /// Index of the right one.
        correct: usize,
    },
    /// [`AnswerType::Category`].
    Category {
        /// The list that all questions share.
        options: Arc<OptionSet>,
        /// Index of the right one.
        correct: usize,
    },
    /// [`AnswerType::Labels`].
    Labels {
        /// The list that all questions share.
        names: Arc<NameSet>,
        /// Indices of the right ones, each once.
        correct: Vec<usize>,
        /// Recall or F1.
        metric: LabelMetric,
    },
}

impl Expected {
    /// The kind of answer.
    pub fn answer_type(&self) -> AnswerType {
        match self {
            Self::Open(_) => AnswerType::Open,
            Self::Closed(_) => AnswerType::Closed,
            Self::Short(_) => AnswerType::Short,
            Self::Text(_) => AnswerType::Text,
            Self::Choice { .. } => AnswerType::Choice,
            Self::Category { .. } => AnswerType::Category,
            Self::Labels { .. } => AnswerType::Labels,
        }
    }

    /// The right answer in words, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Open(label) | Self::Closed(label) | Self::Short(label) => label.clone(),
            Self::Text(references) => references.join("\n"),
            Self::Choice { options, correct } => {
                format!("{}: {}", options.keys()[*correct], options.texts().names()[*correct])
            }
            Self::Category { options, correct } => options.texts().names()[*correct].clone(),
            Self::Labels { names, correct, .. } => {
                correct.iter().map(|&i| names.names()[i].as_str()).collect::<Vec<_>>().join(", ")
            }
        }
    }
}

/// One question of a benchmark.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Example {
    /// The record's own id, or the id of its content.
    pub id: RecordId,
    /// The images; they stand before the prompt.
    pub images: Vec<ImageRef>,
    /// What the model is asked, without image markers.
    pub prompt: String,
    /// The bare question, for people.
    pub question: String,
    /// The right answer.
    pub expected: Expected,
    /// Seeds the paper scoring's guess: the record's `syn_id`, or its position where it has none, as in the reference.
    pub guess_seed: u64,
    /// Examples with the same group are not independent: intervals are computed over groups. The images where `None`.
    pub group: Option<String>,
}

impl Example {
    /// A question whose prompt is the bare question; each image is a cluster of its own.
    pub fn new(id: RecordId, images: Vec<ImageRef>, question: impl Into<String>, expected: Expected) -> Self {
        let question = question.into();
        Self { id, images, prompt: question.clone(), question, expected, guess_seed: 0, group: None }
    }

    /// The prompt as a conversation: every image first, then the text, as the paper's models want it.
    pub fn to_prompt(&self) -> Prompt {
        let markers = format!("{IMAGE_MARKER}\n").repeat(self.images.len());
        Prompt::chat(vec![Message::user(format!("{markers}{}", self.prompt))], self.images.clone())
    }

    /// What must not be taken for independent: the group, else the images, else the example alone.
    pub fn cluster(&self) -> String {
        match (&self.group, &self.images[..]) {
            (Some(group), _) => group.clone(),
            (None, []) => self.id.to_string(),
            (None, images) => images.iter().map(ImageRef::as_str).collect::<Vec<_>>().join("\n"),
        }
    }
}
