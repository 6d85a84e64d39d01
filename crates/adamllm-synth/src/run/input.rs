use adamllm_core::{ImageCaption, LedgerEntry, RecordId};

/// One record of a run's input: a pair, or a record that was dropped while reading and must be accounted for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputRecord {
    /// A pair to work on.
    Pair(ImageCaption),
    /// A record that is already in the ledger.
    Dropped(LedgerEntry),
}

impl InputRecord {
    pub(super) fn id(&self) -> &RecordId {
        match self {
            Self::Pair(pair) => &pair.id,
            Self::Dropped(entry) => &entry.id,
        }
    }
}

impl From<ImageCaption> for InputRecord {
    fn from(pair: ImageCaption) -> Self {
        Self::Pair(pair)
    }
}

impl From<&ImageCaption> for InputRecord {
    fn from(pair: &ImageCaption) -> Self {
        Self::Pair(pair.clone())
    }
}

impl From<Result<ImageCaption, LedgerEntry>> for InputRecord {
    fn from(record: Result<ImageCaption, LedgerEntry>) -> Self {
        record.map_or_else(Self::Dropped, Self::Pair)
    }
}
