use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A run of tokens of one kind, with where it comes from. An example's spans follow each other and cover all its tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Words, a special token, or an image.
    pub kind: SpanKind,
    /// The tokens.
    pub tokens: Range<usize>,
    /// The message to whose turn the tokens belong, headers included; a system line counts with the turn after it.
    /// `None` for a text without turns.
    pub message: Option<usize>,
    /// Whether predicting these tokens counts for the loss. All of a span's tokens count, or none.
    pub target: bool,
}

/// What a [`Span`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// Ordinary words.
    Text,
    /// One special token, such as the end of a turn.
    Special,
    /// All tokens of the image of this number, and nothing else: its placeholders, and what the family writes between and
    /// around them.
    Image(usize),
}

/// The positions that the decoder's rotary embedding gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RopeMode {
    /// The model's own: time, height and width for image features where the family has three axes, else plain ones.
    #[default]
    MRope,
    /// Plain ones, whatever the family: what training frameworks gave Qwen2-VL before December 2024.
    Linear,
}
