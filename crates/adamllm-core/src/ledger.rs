use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::jsonl::Appender;
use crate::{CoreError, RecordId};

/// The stage of the pipeline in which a record was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// Reading the source files.
    Read,
    /// A model writes captions for images that have none.
    Caption,
    /// The synthesizer proposes triplets.
    Propose,
    /// The judge gives its verdict.
    Judge,
    /// A consistent triplet becomes a task.
    Combine,
    /// Captions and tasks become conversations.
    Compose,
    /// A conversation becomes tokens and pixels.
    Encode,
    /// Training steps.
    Fit,
    /// The evaluated model answers.
    Predict,
}

/// Why a record was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Not valid JSON, or not a record of its kind.
    InvalidJson,
    /// A field holds something that the record cannot have.
    InvalidField,
    /// The caption says nothing.
    EmptyCaption,
    /// Image markers and images do not match.
    ImageCountMismatch,
    /// The image is not where the record says.
    ImageMissing,
    /// The image does not decode.
    ImageBroken,
    /// The image has more pixels than allowed.
    ImageTooLarge,
    /// The same id came before.
    DuplicateId,
    /// The same content came before.
    Duplicate,
    /// Nearly the same content came before.
    NearDuplicate,
    /// The record's other half is missing, such as a caption without questions.
    Unmatched,
    /// The record is also in a benchmark.
    Leak,
    /// The text contains the template's own special tokens.
    ForgedTurn,
    /// The model failed on this record.
    ModelError,
    /// The synthesizer's text holds no pair of answers to one question.
    NoTriplet,
    /// The judge says that the two answers disagree.
    Inconsistent,
    /// The judge says that the question is open.
    Open,
    /// The judge's answer is none of Yes, No, Open.
    UnclearVerdict,
    /// The score is on the wrong side of the threshold.
    BelowThreshold,
    /// The example is longer than the context.
    TooLong,
    /// Nothing in the example is in the loss.
    NoTarget,
    /// The loss or a gradient was not finite.
    NonFinite,
}

/// A record that was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LedgerEntry {
    /// The record's id; its file and number where it has none.
    pub id: RecordId,
    /// In which stage.
    pub stage: Stage,
    /// Why, as a code to count by.
    pub reason: Reason,
    /// Why, in words.
    pub detail: String,
}

impl LedgerEntry {
    /// A record that was dropped in a stage, why, and the same in words.
    pub fn new(id: RecordId, stage: Stage, reason: Reason, detail: impl Into<String>) -> Self {
        Self { id, stage, reason, detail: detail.into() }
    }
}

/// Counts every record that is dropped, and keeps them in `ledger.jsonl` where a file is given.
///
/// For every stage, records in = records out + ledger entries.
#[derive(Debug, Default)]
pub struct Ledger {
    file: Option<Appender>,
    counts: BTreeMap<(Stage, Reason), u64>,
    /// For each of them, what was wrong with the first record.
    firsts: BTreeMap<(Stage, Reason), String>,
}

impl Ledger {
    /// A ledger in memory only: it counts, and keeps no entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// A ledger that starts a new file (an old one is replaced).
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, CoreError> {
        std::fs::write(&path, "").map_err(CoreError::io("create", path.as_ref()))?;
        Ok(Self { file: Some(Appender::open(path)?), ..Self::default() })
    }

    /// Notes one dropped record.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn record(&mut self, entry: LedgerEntry) -> Result<(), CoreError> {
        tracing::debug!(id = %entry.id, stage = ?entry.stage, reason = ?entry.reason, detail = entry.detail, "record dropped");
        *self.counts.entry((entry.stage, entry.reason)).or_default() += 1;
        self.firsts.entry((entry.stage, entry.reason)).or_insert_with(|| entry.detail.clone());
        match &mut self.file {
            Some(file) => file.append([&entry]),
            None => Ok(()),
        }
    }

    /// [`Ledger::record`] from its parts.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn drop_record(
        &mut self,
        id: &RecordId,
        stage: Stage,
        reason: Reason,
        detail: impl ToString,
    ) -> Result<(), CoreError> {
        self.record(LedgerEntry { id: id.clone(), stage, reason, detail: detail.to_string() })
    }

    /// How many records were dropped, by stage and reason.
    pub fn counts(&self) -> &BTreeMap<(Stage, Reason), u64> {
        &self.counts
    }

    /// Records dropped in one stage.
    pub fn dropped_in(&self, stage: Stage) -> u64 {
        self.counts.iter().filter(|((s, _), _)| *s == stage).map(|(_, n)| n).sum()
    }

    /// All dropped records.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Waits until the file is on the disk.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn sync(&self) -> Result<(), CoreError> {
        self.file.as_ref().map_or(Ok(()), Appender::sync)
    }
}

impl Ledger {
    /// How many left by `stage/reason`, as summaries write it.
    pub fn causes(&self) -> BTreeMap<String, u64> {
        self.counts.iter().map(|((stage, reason), n)| (format!("{}/{}", stage.code(), reason.code()), *n)).collect()
    }

    /// How many of `records` were lost to faults so far.
    pub fn lost_records(&self, records: u64) -> crate::LostRecords {
        let mut lost = crate::LostRecords::of(records);
        for (&(stage, reason), &n) in &self.counts {
            lost.add_all(stage, reason, n, self.firsts[&(stage, reason)].clone());
        }
        lost
    }
}

/// The word that files have for a unit variant.
fn word(value: &impl Serialize) -> String {
    let json = serde_json::to_value(value).ok();
    json.and_then(|json| json.as_str().map(str::to_owned)).unwrap_or_default()
}

impl Stage {
    /// Its code in files: `read`, `propose`.
    pub fn code(self) -> String {
        word(&self)
    }
}

impl Reason {
    /// Its code in files: `image_missing`, `no_triplet`.
    pub fn code(self) -> String {
        word(&self)
    }
}

impl From<&CoreError> for Reason {
    /// The reason code of an error that costs one record.
    fn from(error: &CoreError) -> Self {
        match error {
            CoreError::Json { .. } | CoreError::Layout { .. } => Self::InvalidJson,
            CoreError::EmptyCaption { .. } => Self::EmptyCaption,
            CoreError::Field { .. } => Self::InvalidField,
            CoreError::ImageCount { .. } => Self::ImageCountMismatch,
            CoreError::ImageMissing { .. } => Self::ImageMissing,
            CoreError::ImageTooLarge { .. } => Self::ImageTooLarge,
            CoreError::ImageDecode { .. } | CoreError::Io { .. } => Self::ImageBroken,
            CoreError::Cancelled | CoreError::ModelFails { .. } => Self::ModelError,
        }
    }
}
