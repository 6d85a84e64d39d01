use std::fs;
use std::path::Path;

use adamllm_core::jsonl;
use adamllm_core::{CoreError, InstructionTask, LedgerEntry, Progress, write_atomically};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ordered_file::OrderedFile;
use super::{RunSummary, SynthesisRun};
use crate::hygiene::TaskHygiene;
use crate::{Judged, SynthError, TaskTriplet};

/// What the first stage counts and no file of records says.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ProposeCounts {
    #[serde(alias = "rows_in")]
    pub(super) records_in: u64,
}

/// The stages' own ledgers, in the order in which they make up the run's.
pub(super) const LEDGERS: [&str; 3] = ["ledger-propose.jsonl", "ledger-judge.jsonl", "ledger-combine.jsonl"];

/// The run's files, without the ending `.jsonl`.
const FILES: [&str; 5] = ["triplets", "judged", "tasks", "ledger", "quarantine"];

impl SynthesisRun<'_> {
    /// Third stage: the kept records of `judged.jsonl` to `tasks.jsonl`, each in the wording of the run's variant.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn combine(&self, progress: &mut dyn Progress) -> Result<(), SynthError> {
        let mut tasks = OrderedFile::create(self.file("tasks.jsonl"))?;
        let mut ledger = OrderedFile::create(self.work("ledger-combine.jsonl"))?;
        let mut hygiene = self.hygiene()?;

        progress.begin("combine", 0);
        for judged in jsonl::read::<Judged>(self.file("judged.jsonl"))? {
            let judged = judged?;

            // The triplet is checked, not the task's wording: templates are drawn at random and make one task look like
            // two.
            if let Some(task) = self.config.variant.task(&judged, self.config.seed) {
                match hygiene.as_mut().map_or(Ok(()), |hygiene| check(hygiene, &judged.triplet)) {
                    Ok(()) => tasks.append(&task)?,
                    Err(entry) => ledger.append(&entry)?,
                }
            }
            progress.advance(1);
            progress.check_cancelled()?;
        }

        tasks.finish()?;
        ledger.finish()?;
        self.write_hygiene(hygiene)?;
        progress.end();
        Ok(())
    }

    /// Writes `hygiene.json`, where the run looked for repeated tasks.
    pub(super) fn write_hygiene(&self, hygiene: Option<TaskHygiene<'_>>) -> Result<(), CoreError> {
        let Some(hygiene) = hygiene else { return Ok(()) };
        let content = serde_json::to_vec_pretty(hygiene.report()).expect("counts and names are JSON");
        write_atomically(self.file("hygiene.json"), content)
    }

    /// Puts the stages' ledgers together as `ledger.jsonl`, counts, and writes `summary.json`.
    ///
    /// # Errors
    /// Files that cannot be read or written; [`SynthError::Unaccounted`].
    pub fn finish(&self) -> Result<RunSummary, SynthError> {
        let mut summary = RunSummary { records_in: self.read_counts()?.records_in, ..RunSummary::default() };
        let mut ledger = OrderedFile::create(self.file("ledger.jsonl"))?;

        // A variant without some stage has no ledger of it.
        for part in LEDGERS {
            let path = self.work(part);
            if !path.exists() {
                continue;
            }
            for entry in jsonl::read::<LedgerEntry>(path)? {
                let entry = entry?;
                summary.count_dropped(&entry);
                ledger.append(&entry)?;
            }
        }
        ledger.finish()?;

        summary.triplets = count_records::<TaskTriplet>(&self.file("triplets.jsonl"))?;
        summary.records_out = count_records::<InstructionTask>(&self.file("tasks.jsonl"))?;
        for judged in jsonl::read::<Judged>(self.file("judged.jsonl"))? {
            summary.count_verdict(judged?.verdict);
        }
        summary.files = FILES.map(|name| self.file(&format!("{name}.jsonl"))).into();

        // Nothing is announced as done before every record is accounted for.
        summary.check()?;
        let content = serde_json::to_vec_pretty(&summary).expect("a summary is JSON");
        write_atomically(self.file("summary.json"), content)?;
        Ok(summary)
    }

    pub(super) fn write_counts(&self, counts: &ProposeCounts) -> Result<(), CoreError> {
        let content = serde_json::to_vec(counts).expect("a count is JSON");
        write_atomically(self.work("propose-counts.json"), content)
    }

    fn read_counts(&self) -> Result<ProposeCounts, CoreError> {
        let path = self.work("propose-counts.json");
        let content = fs::read(&path).map_err(CoreError::io("read", &path))?;
        serde_json::from_slice(&content).map_err(|source| CoreError::Json { path, number: 1, source })
    }
}

fn check(hygiene: &mut TaskHygiene<'_>, triplet: &TaskTriplet) -> Result<(), LedgerEntry> {
    let answer = format!("{}\n{}", triplet.informative, triplet.precise);
    hygiene.check_text(&triplet.pair, &triplet.image, &triplet.instruction, &answer)
}

fn count_records<T: DeserializeOwned>(path: &Path) -> Result<u64, CoreError> {
    jsonl::read::<T>(path)?.try_fold(0, |n, record| record.map(|_| n + 1))
}
