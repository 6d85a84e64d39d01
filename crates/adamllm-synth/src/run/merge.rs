use std::iter::Peekable;
use std::path::{Path, PathBuf};

use adamllm_core::jsonl::{self, Rows};
use adamllm_core::{CoreError, DiskTable, InstructionTask, LedgerRow, Reason, RecordId, Shard};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::finish::{LEDGERS, ProposeCounts};
use super::ordered_file::OrderedFile;
use super::{InputRow, RunSummary, SynthesisRun};
use crate::{Judged, SynthError, TaskTriplet};

/// A row of any of the run's files, with the id of the input row that it came from.
trait FromPair: Serialize + DeserializeOwned {
    fn pair(&self) -> &RecordId;
    /// Whether the row stands for a second occurrence of its id.
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

impl FromPair for LedgerRow {
    fn pair(&self) -> &RecordId {
        &self.id
    }
    fn repeats_id(&self) -> bool {
        self.reason == Reason::DuplicateId
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct QuarantinedRow {
    id: RecordId,
    pred: String,
}

impl FromPair for QuarantinedRow {
    fn pair(&self) -> &RecordId {
        &self.id
    }
}

/// One file, spread over the shards' folders, put together in the order of the input.
struct Merger<T: FromPair> {
    parts: Vec<Peekable<Rows<T>>>,
    out: OrderedFile,
}

impl<T: FromPair> Merger<T> {
    fn open(parts: &[PathBuf], out: PathBuf) -> Result<Self, CoreError> {
        let parts = parts.iter().map(|path| Ok(jsonl::read(path)?.peekable())).collect::<Result<_, CoreError>>()?;
        Ok(Self { parts, out: OrderedFile::create(out)? })
    }

    /// Takes the shard's next row where it belongs to this input row.
    fn take(&mut self, shard: usize, id: &RecordId, repeats: bool) -> Result<(), CoreError> {
        let next = self.parts[shard].next_if(|row| match row {
            Ok(row) => row.pair() == id && row.repeats_id() == repeats,
            Err(_) => true,
        });
        next.map_or(Ok(()), |row| self.out.append(&row?))
    }
}

/// All files of the shards, row by row beside each other.
struct Mergers {
    triplets: Merger<TaskTriplet>,
    judged: Merger<Judged>,
    tasks: Merger<InstructionTask>,
    quarantine: Merger<QuarantinedRow>,
    ledgers: Vec<Merger<LedgerRow>>,
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
    /// `rows` are the whole input again: they give the order. `shards[i]` is the folder of shard `i`. This run's settings must
    /// be those of the shards.
    ///
    /// # Errors
    /// Files that cannot be read or written; [`SynthError::Unaccounted`] where a shard is missing or is another run's.
    pub fn merge(
        &self,
        rows: impl IntoIterator<Item = impl Into<InputRow>>,
        shards: &[impl AsRef<Path>],
    ) -> Result<RunSummary, SynthError> {
        self.make_folders()?;
        let mut mergers = self.mergers(shards)?;
        let parts = (0..).map_while(|i| Shard::new(i, shards.len() as u64));
        let parts: Vec<_> = parts.collect();
        let (mut seen, mut counts) = (DiskTable::new(&self.folder)?, ProposeCounts::default());
        for row in rows {
            let row: InputRow = row.into();
            let Some(shard) = parts.iter().position(|part| part.holds(row.id())) else { continue };
            counts.rows_in += 1;
            let repeats = match &row {
                InputRow::Pair(pair) => seen.insert(pair.id.to_u64(), 0)?.is_some(),
                InputRow::Lost(lost) => lost.repeats_id(),
            };
            mergers.take(shard, row.id(), repeats)?;
        }
        mergers.finish()?;
        self.write_counts(&counts)?;
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
