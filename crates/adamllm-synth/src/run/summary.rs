use std::collections::BTreeMap;
use std::path::PathBuf;

use adamllm_core::LedgerRow;
use serde::{Deserialize, Serialize};

use crate::{SynthError, Verdict};

/// What became of a run's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Rows read, those of other shards left out.
    pub rows_in: u64,
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
    pub rows_out: u64,
    /// Rows in the ledger: `rows_in = rows_out + ledger_rows`.
    pub ledger_rows: u64,
    /// Rows in the ledger by `stage/reason`.
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

    pub(super) fn count_lost(&mut self, row: &LedgerRow) {
        self.ledger_rows += 1;
        let key = format!("{}/{}", row.stage.code(), row.reason.code());
        *self.ledger.entry(key).or_default() += 1;
    }

    /// # Errors
    /// [`SynthError::Unaccounted`] unless every row came out or stands in the ledger.
    pub(super) fn check(&self) -> Result<(), SynthError> {
        let Self { rows_in, rows_out, ledger_rows, .. } = *self;
        if rows_in == rows_out + ledger_rows {
            return Ok(());
        }
        Err(SynthError::Unaccounted { rows_in, rows_out, ledger_rows })
    }
}
