use adamllm_core::{ImageCaption, LedgerRow, RecordId};

/// One row of a run's input: a pair, or a row that was lost while reading and must be accounted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputRow {
    /// A pair to work on.
    Pair(ImageCaption),
    /// A row that already left the path.
    Lost(LedgerRow),
}

impl InputRow {
    pub(super) fn id(&self) -> &RecordId {
        match self {
            Self::Pair(pair) => &pair.id,
            Self::Lost(row) => &row.id,
        }
    }
}

impl From<ImageCaption> for InputRow {
    fn from(pair: ImageCaption) -> Self {
        Self::Pair(pair)
    }
}

impl From<&ImageCaption> for InputRow {
    fn from(pair: &ImageCaption) -> Self {
        Self::Pair(pair.clone())
    }
}

impl From<Result<ImageCaption, LedgerRow>> for InputRow {
    fn from(row: Result<ImageCaption, LedgerRow>) -> Self {
        row.map_or_else(Self::Lost, Self::Pair)
    }
}
