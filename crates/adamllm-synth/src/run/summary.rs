use std::collections::BTreeMap;
use std::path::PathBuf;

use adamllm_core::LedgerEntry;
use serde::{Deserialize, Serialize};

use crate::{SynthError, Verdict};

/// What became of a run's records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Records read, those of other shards left out.
    #[serde(alias = "rows_in")]
    pub records_in: u64,
    /// Pairs with a triplet.
    pub triplets: u64,
    /// Triplets judged consistent.
    pub consistent: u64,
    /// Triplets judged inconsistent.
    pub inconsistent: u64,
    /// Triplets whose question was judged open.
    pub open: u64,
    /// Triplets whose verdict was unclear.
    pub unclear: u64,
    /// Triplets that no judge was asked about.
    pub unjudged: u64,
    /// Tasks written.
    #[serde(alias = "rows_out")]
    pub records_out: u64,
    /// Entries in the ledger: `records_in = records_out + ledger_entries`.
    #[serde(alias = "ledger_rows")]
    pub ledger_entries: u64,
    /// Entries in the ledger by `stage/reason`.
    pub ledger: BTreeMap<String, u64>,
    /// The files written.
    pub files: Vec<PathBuf>,
}

impl RunSummary {
    pub(super) fn count_verdict(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Consistent => &mut self.consistent,
            Verdict::Inconsistent => &mut self.inconsistent,
            Verdict::Open => &mut self.open,
            Verdict::Unclear => &mut self.unclear,
            Verdict::Unjudged => &mut self.unjudged,
        } += 1;
    }

    pub(super) fn count_dropped(&mut self, entry: &LedgerEntry) {
        self.ledger_entries += 1;
        let key = format!("{}/{}", entry.stage.code(), entry.reason.code());
        *self.ledger.entry(key).or_default() += 1;
    }

    /// # Errors
    /// [`SynthError::Unaccounted`] unless every record came out or is in the ledger.
    pub(super) fn check(&self) -> Result<(), SynthError> {
        let Self { records_in, records_out, ledger_entries, .. } = *self;
        if records_in == records_out + ledger_entries {
            return Ok(());
        }
        Err(SynthError::Unaccounted { records_in, records_out, ledger_entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_with_the_old_names_is_read() {
        let summary = RunSummary { records_in: 3, records_out: 1, ledger_entries: 2, ..RunSummary::default() };
        let new = serde_json::to_string(&summary).expect("JSON");
        let old = new.replace("records_", "rows_").replace("ledger_entries", "ledger_rows");
        assert_ne!(new, old);
        assert_eq!(serde_json::from_str::<RunSummary>(&old).expect("reads"), summary);
    }
}
