use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::{CoreError, LedgerEntry, Reason, Stage, jsonl};

/// How many of a job's records were lost to faults, and why: a job that lost nearly everything has not succeeded, even if
/// what was left went well.
///
/// What a filter takes out on purpose (an inconsistent triplet, a duplicate, a leak) is not lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LostRecords {
    /// Records that went in.
    records: u64,
    /// For each cause, how many, and what was wrong with the first.
    lost: BTreeMap<(Stage, Reason), (u64, String)>,
}

impl Reason {
    /// Whether a stage takes such records out on purpose.
    pub fn is_filter(self) -> bool {
        use Reason::{
            BelowThreshold, Duplicate, Inconsistent, Leak, NearDuplicate, NoTriplet, Open, UnclearVerdict, Unmatched,
        };
        matches!(
            self,
            Duplicate
                | NearDuplicate
                | Leak
                | NoTriplet
                | Inconsistent
                | Open
                | UnclearVerdict
                | BelowThreshold
                | Unmatched
        )
    }
}

impl LostRecords {
    /// No lost record yet, of so many.
    pub fn of(records: u64) -> Self {
        Self { records, ..Self::default() }
    }

    /// Counts the lost records of a ledger's file.
    ///
    /// # Errors
    /// [`CoreError::Io`] and [`CoreError::Json`].
    pub fn from_ledger(records: u64, path: impl AsRef<Path>) -> Result<Self, CoreError> {
        let mut lost = Self::of(records);
        for entry in jsonl::read::<LedgerEntry>(path)? {
            lost.add(&entry?);
        }
        Ok(lost)
    }

    /// Counts one record, unless a filter took it out.
    pub fn add(&mut self, entry: &LedgerEntry) {
        self.add_all(entry.stage, entry.reason, 1, entry.detail.clone());
    }

    /// Counts records that left for the same reason; `first` says what was wrong with one of them.
    pub fn add_all(&mut self, stage: Stage, reason: Reason, n: u64, first: String) {
        if n > 0 && !reason.is_filter() {
            self.lost.entry((stage, reason)).or_insert((0, first)).0 += n;
        }
    }

    /// Adds another part of the job: its records are those that came out and those that were lost.
    pub fn join(&mut self, part: Self) {
        self.records += part.records + part.n_lost();
        for ((stage, reason), (n, first)) in part.lost {
            self.add_all(stage, reason, n, first);
        }
    }

    /// What was lost since `before` was counted.
    #[must_use]
    pub fn since(mut self, before: &Self) -> Self {
        for (cause, (n, _)) in &before.lost {
            if let Some(entry) = self.lost.get_mut(cause) {
                entry.0 -= n;
            }
        }
        self.lost.retain(|_, (n, _)| *n > 0);
        self
    }

    /// Records lost.
    pub fn n_lost(&self) -> u64 {
        self.lost.values().map(|(n, _)| n).sum()
    }

    /// The share of the records that was lost, from 0 to 1.
    pub fn share(&self) -> f64 {
        if self.records == 0 { 0.0 } else { self.n_lost() as f64 / self.records as f64 }
    }

    /// Whether more than this share was lost.
    pub fn exceed(&self, most: f64) -> bool {
        self.share() > most
    }
}

/// The causes, the most frequent first, and what was wrong with the first record of that.
impl fmt::Display for LostRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} records were lost", self.n_lost(), self.records)?;
        let mut causes: Vec<_> = self.lost.iter().collect();
        causes.sort_by_key(|(cause, (n, _))| (std::cmp::Reverse(*n), **cause));
        for (i, ((stage, reason), (n, _))) in causes.iter().take(5).enumerate() {
            write!(f, "{} {n} {}/{}", if i == 0 { ":" } else { "," }, stage.code(), reason.code())?;
        }
        match causes.first() {
            Some((_, (_, first))) => write!(f, "; the first: {first}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ledger, RecordId};

    #[test]
    fn filters_lose_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ledger.jsonl");
        let mut ledger = Ledger::create(&path).expect("created");
        let id = RecordId::of("test", ["x"]);
        for reason in [Reason::Inconsistent, Reason::ImageMissing, Reason::InvalidJson, Reason::ImageMissing] {
            ledger.drop_record(&id, Stage::Read, reason, format!("detail of {reason:?}")).expect("noted");
        }
        ledger.sync().expect("synced");
        let lost = LostRecords::from_ledger(10, &path).expect("read");
        assert_eq!(lost.n_lost(), 3);
        assert!(lost.exceed(0.29) && !lost.exceed(0.3));
        let text = lost.to_string();
        let expected =
            "3 of 10 records were lost: 2 read/image_missing, 1 read/invalid_json; the first: detail of ImageMissing";
        assert_eq!(text, expected);
        assert!(!LostRecords::of(0).exceed(0.0));
    }
}
