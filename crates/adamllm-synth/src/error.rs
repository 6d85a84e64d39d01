use adamllm_core::{CoreError, ImageRef, Reason, RecordId};

/// What can go wrong between an image-caption pair and a task.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// A file, a record or an image, before any model is involved.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A text of the record contains a special token of a chat template: rendered, it would open or close a turn.
    #[error("{record} field `{field}`: contains the special token {token:?}, which could forge a turn")]
    ForgedTurn {
        /// The pair's id.
        record: RecordId,
        /// The field that contains the token.
        field: &'static str,
        /// The first such token.
        token: String,
    },
    /// A text is longer than any context could hold.
    #[error("{record} field `{field}`: {got} characters, expected at most {limit}")]
    TooLong {
        /// The pair's id.
        record: RecordId,
        /// The field that is too long.
        field: &'static str,
        /// Characters allowed.
        limit: usize,
        /// Characters found.
        got: usize,
    },
    /// The model failed on this record.
    #[error("{record}: {model} failed: {source}")]
    Model {
        /// The pair's id.
        record: RecordId,
        /// [`Generate::identity`](adamllm_core::Generate::identity) of the model.
        model: String,
        /// What the model said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The model returned fewer results than it got prompts.
    #[error("{record}: {model} answered {got} of {expected} prompts")]
    MissingOutput {
        /// The pair's id.
        record: RecordId,
        /// The model's identity.
        model: String,
        /// Prompts given.
        expected: usize,
        /// Results returned.
        got: usize,
    },
    /// The judge's log-probabilities are not three numbers with a finite sum of probabilities.
    #[error("{record}: expected 3 log-probabilities of which one is finite, got {got:?}")]
    Scores {
        /// The pair's id.
        record: RecordId,
        /// What the model returned.
        got: Vec<f64>,
    },
    /// The synthesizer's text holds no question that is answered both ways.
    #[error("{record}: no question with both a precise and an informative response in {n_turns} complete turns")]
    NoTriplet {
        /// The pair's id.
        record: RecordId,
        /// Complete user-assistant exchanges in the text.
        n_turns: usize,
        /// The whole text, for the quarantine file.
        text: String,
    },
    /// A prompt template lacks a placeholder.
    #[error("prompt template: expected the placeholder {placeholder}, found it nowhere")]
    Placeholder {
        /// The missing placeholder with its braces.
        placeholder: &'static str,
    },
    /// A caption that did not end.
    #[error("{image}: the caption did not end within {limit} tokens")]
    CaptionCut {
        /// The image.
        image: ImageRef,
        /// The most tokens that a caption may have.
        limit: usize,
    },
    /// A model answers nothing more in this process. What it answered is kept.
    #[error("stopped: {cause}; --resume (`resume`) goes on from there")]
    Stopped {
        /// Why.
        cause: String,
    },
    /// A setting that cannot be.
    #[error("setting `{field}`: expected {expected}, got {got}")]
    Config {
        /// The setting's name.
        field: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What was found.
        got: String,
    },
    /// A run lost count of its records: a bug in this crate.
    #[error("{records_in} records in, but {records_out} out and {ledger_entries} in the ledger")]
    Unaccounted {
        /// Records read.
        records_in: u64,
        /// Records written.
        records_out: u64,
        /// Entries in the ledger.
        ledger_entries: u64,
    },
}

impl SynthError {
    /// The ledger's code for an error that costs one record.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Core(error) => Reason::from(error),
            Self::ForgedTurn { .. } => Reason::ForgedTurn,
            Self::TooLong { .. } | Self::CaptionCut { .. } => Reason::TooLong,
            Self::Scores { .. } => Reason::NonFinite,
            Self::NoTriplet { .. } => Reason::NoTriplet,
            Self::Model { .. } | Self::MissingOutput { .. } | Self::Stopped { .. } | Self::Unaccounted { .. } => {
                Reason::ModelError
            }
            Self::Placeholder { .. } | Self::Config { .. } => Reason::InvalidField,
        }
    }

    /// Whether another try may end differently: the model failed, not the record.
    pub fn is_models_fault(&self) -> bool {
        matches!(self, Self::Model { .. } | Self::MissingOutput { .. } | Self::Scores { .. })
    }
}
