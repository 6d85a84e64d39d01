use std::iter::Peekable;
use std::path::{Path, PathBuf};

use adamllm_core::jsonl::{self, JsonLines};
use adamllm_core::{CoreError, DiskTable, InstructionTask, LedgerEntry, Reason, RecordId, Shard};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::finish::{LEDGERS, ProposeCounts};
use super::ordered_file::OrderedFile;
use super::{InputRecord, RunSummary, SynthesisRun};
use crate::{Judged, SynthError, TaskTriplet};

/// A record of any of the run's files, with the id of the input record that it came from.
trait FromPair: Serialize + DeserializeOwned {
    fn pair(&self) -> &RecordId;
    /// Whether the record is for a second occurrence of its id.
    fn repeats_id(&self) -> bool {
        false
    }
}

impl FromPair for TaskTriplet {
    fn pair(&self) -> &RecordId {
        &self.pair
    }
}

impl FromPair for Judged {
    fn pair(&self) -> &RecordId {
        &self.triplet.pair
    }
}

impl FromPair for InstructionTask {
    fn pair(&self) -> &RecordId {
        &self.pair
    }
}

impl FromPair for LedgerEntry {
    fn pair(&self) -> &RecordId {
        &self.id
    }
    fn repeats_id(&self) -> bool {
        self.reason == Reason::DuplicateId
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct QuarantinedRecord {
    id: RecordId,
    pred: String,
}

impl FromPair for QuarantinedRecord {
    fn pair(&self) -> &RecordId {
        &self.id
    }
}

/// One file, spread over the shards' folders, put together in the order of the input.
struct Merger<T: FromPair> {
    parts: Vec<Peekable<JsonLines<T>>>,
    out: OrderedFile,
}

impl<T: FromPair> Merger<T> {
    fn open(parts: &[PathBuf], out: PathBuf) -> Result<Self, CoreError> {
        let parts = parts.iter().map(|path| Ok(jsonl::read(path)?.peekable())).collect::<Result<_, CoreError>>()?;
        Ok(Self { parts, out: OrderedFile::create(out)? })
    }

    /// Takes the shard's next record where it belongs to this input record.
    fn take(&mut self, shard: usize, id: &RecordId, repeats: bool) -> Result<(), CoreError> {
        let next = self.parts[shard].next_if(|record| match record {
            Ok(record) => record.pair() == id && record.repeats_id() == repeats,
            Err(_) => true,
        });
        next.map_or(Ok(()), |record| self.out.append(&record?))
    }
}

/// All files of the shards, record by record beside each other.
struct Mergers {
    triplets: Merger<TaskTriplet>,
    judged: Merger<Judged>,
    tasks: Merger<InstructionTask>,
    quarantine: Merger<QuarantinedRecord>,
    ledgers: Vec<Merger<LedgerEntry>>,
}

impl Mergers {
    fn take(&mut self, shard: usize, id: &RecordId, repeats: bool) -> Result<(), CoreError> {
        if !repeats {
            self.triplets.take(shard, id, false)?;
            self.judged.take(shard, id, false)?;
            self.tasks.take(shard, id, false)?;
            self.quarantine.take(shard, id, false)?;
        }
        self.ledgers.iter_mut().try_for_each(|ledger| ledger.take(shard, id, repeats))
    }

    fn finish(self) -> Result<(), CoreError> {
        let files = [self.triplets.out, self.judged.out, self.tasks.out, self.quarantine.out];
        let ledgers = self.ledgers.into_iter().map(|ledger| ledger.out);
        files.into_iter().chain(ledgers).try_for_each(|file| file.finish().map(drop))
    }
}

impl SynthesisRun<'_> {
    /// Puts the folders of all `i/n` shards together in this run's folder: the files are those of a run over the whole, and
    /// repeated tasks are looked for here.
    ///
    /// `records` are the whole input again: they give the order. `shards[i]` is the folder of shard `i`. This run's settings must
    /// be those of the shards.
    ///
    /// # Errors
    /// Files that cannot be read or written; [`SynthError::Unaccounted`] where a shard is missing or is another run's.
    pub fn merge(
        &self,
        records: impl IntoIterator<Item = impl Into<InputRecord>>,
        shards: &[impl AsRef<Path>],
    ) -> Result<RunSummary, SynthError> {
        self.make_folders()?;
        let mut mergers = self.mergers(shards)?;

        let parts = (0..).map_while(|i| Shard::new(i, shards.len() as u64));
        let parts: Vec<_> = parts.collect();
        let (mut ids, mut counts) = (DiskTable::new(&self.folder)?, ProposeCounts::default());

        for record in records {
            let record: InputRecord = record.into();
            let Some(shard) = parts.iter().position(|part| part.holds(record.id())) else { continue };
            counts.records_in += 1;

            // A second record of an id has an entry in the ledger and nothing else.
            let repeats = match &record {
                InputRecord::Pair(pair) => ids.insert(pair.id.to_u64(), 0)?.is_some(),
                InputRecord::Dropped(entry) => entry.repeats_id(),
            };
            mergers.take(shard, record.id(), repeats)?;
        }

        mergers.finish()?;
        self.write_counts(&counts)?;

        // Only the whole shows which tasks are in two shards: the third stage is done again.
        if self.config.variant.asks_synthesizer() {
            self.combine(&mut ())?;
        }

        self.finish()
    }

    fn mergers(&self, shards: &[impl AsRef<Path>]) -> Result<Mergers, CoreError> {
        let parts = |name: &str| -> Vec<_> { shards.iter().map(|folder| folder.as_ref().join(name)).collect() };
        let mut ledgers = Vec::new();
        for name in LEDGERS {
            let parts: Vec<_> = parts("work").iter().map(|work| work.join(name)).collect();
            if parts.iter().all(|part| part.exists()) {
                ledgers.push(Merger::open(&parts, self.work(name))?);
            }
        }
        Ok(Mergers {
            triplets: Merger::open(&parts("triplets.jsonl"), self.file("triplets.jsonl"))?,
            judged: Merger::open(&parts("judged.jsonl"), self.file("judged.jsonl"))?,
            tasks: Merger::open(&parts("tasks.jsonl"), self.file("tasks.jsonl"))?,
            quarantine: Merger::open(&parts("quarantine.jsonl"), self.file("quarantine.jsonl"))?,
            ledgers,
        })
    }
}
