use adamllm_core::jsonl::Journal;
use adamllm_core::{Completion, DiskTable, FailureStreak, Generate, ImageCaption, Progress, Reason, RecordId, Stage};
use serde::Serialize;

use super::finish::ProposeCounts;
use super::keys::proposal_key;
use super::lost::Lost;
use super::ordered_file::OrderedFile;
use super::written::Writer;
use super::{InputRecord, SynthesisRun};
use crate::hygiene::TaskHygiene;
use crate::{SynthError, Synthesizer, TaskTriplet, task_by_rule};

/// A text that held no triplet, kept whole for people who debug a synthesizer.
#[derive(Debug, Serialize)]
struct QuarantinedText<'a> {
    id: &'a RecordId,
    pred: &'a str,
}

/// Where the first stage's records go.
struct Sinks {
    out: OrderedFile,
    quarantine: OrderedFile,
    ledger: OrderedFile,
}

impl Sinks {
    fn put<T: Serialize>(&mut self, outcome: Result<T, Lost>) -> Result<(), SynthError> {
        match outcome {
            Ok(record) => self.out.append(&record)?,
            Err(Lost { entry, text }) => {
                if let Some(pred) = &text {
                    self.quarantine.append(&QuarantinedText { id: &entry.id, pred })?;
                }
                self.ledger.append(&entry)?;
            }
        }
        Ok(())
    }
}

impl SynthesisRun<'_> {
    /// First stage: captions to `triplets.jsonl`. What does not parse is in `quarantine.jsonl`.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn propose<S: Generate>(
        &self,
        records: impl IntoIterator<Item = impl Into<InputRecord>>,
        synthesizer: &Synthesizer<S>,
        progress: &mut dyn Progress,
    ) -> Result<(), SynthError> {
        let mut journal = self.journal::<Completion>("propose.jsonl")?;
        let mut failures = FailureStreak::of(synthesizer.model());
        self.first_stage("triplets.jsonl", records, progress, |pairs| {
            self.propose_batch(pairs, synthesizer, &mut journal, &mut failures)
        })
    }

    /// First stage of [`Variant::RuleBased`](crate::Variant::RuleBased): captions to `tasks.jsonl`, without any model.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn propose_by_rule(
        &self,
        records: impl IntoIterator<Item = impl Into<InputRecord>>,
        progress: &mut dyn Progress,
    ) -> Result<(), SynthError> {
        self.make_folders()?;
        for name in ["triplets.jsonl", "judged.jsonl"] {
            OrderedFile::create(self.file(name))?.finish()?;
        }
        let mut hygiene = self.hygiene()?;
        let mut task = |pair: ImageCaption| {
            let task = task_by_rule(&pair, self.config.seed);
            let task = task.map_err(|error| Lost::of(&pair.id, Stage::Propose, error))?;
            let check = |hygiene: &mut TaskHygiene<'_>| hygiene.check(task.clone()).map(drop);
            let checked = hygiene.as_mut().map_or(Ok(()), check);
            checked.map(|()| task).map_err(|entry| Lost { entry, text: None })
        };
        self.first_stage("tasks.jsonl", records, progress, |pairs| Ok(pairs.into_iter().map(&mut task).collect()))?;
        self.write_hygiene(hygiene).map_err(SynthError::from)
    }

    /// Reads the records in batches, lets `work` turn the sound pairs of each into outcomes, and writes all of them in order.
    fn first_stage<T: Serialize>(
        &self,
        out: &str,
        records: impl IntoIterator<Item = impl Into<InputRecord>>,
        progress: &mut dyn Progress,
        mut work: impl FnMut(Vec<ImageCaption>) -> Result<Vec<Result<T, Lost>>, SynthError>,
    ) -> Result<(), SynthError> {
        self.make_folders()?;
        let mut sinks = Sinks {
            out: OrderedFile::create(self.file(out))?,
            quarantine: OrderedFile::create(self.file("quarantine.jsonl"))?,
            ledger: OrderedFile::create(self.work("ledger-propose.jsonl"))?,
        };

        let records = records.into_iter();
        progress.begin("propose", records.size_hint().1.unwrap_or(0) as u64);
        let mut records = records.map(Into::into).filter(|record: &InputRecord| self.shard.holds(record.id()));
        let (mut ids, mut counts) = (DiskTable::new(&self.folder)?, ProposeCounts::default());

        loop {
            progress.check_cancelled()?;

            let batch: Vec<_> = records.by_ref().take(self.config.batch_size).collect();
            if batch.is_empty() {
                break;
            }
            let n_records = batch.len() as u64;
            counts.records_in += n_records;

            // A record that is not admitted keeps its place among the outcomes: files are in the input's order.
            let admitted = batch.into_iter().map(|record| admit(record, &mut ids));
            let admitted: Vec<_> = admitted.collect::<Result<_, _>>()?;
            let pairs = admitted.iter().filter_map(|pair| pair.as_ref().ok()).cloned().collect();
            let mut outcomes = work(pairs)?.into_iter();
            for pair in admitted {
                sinks.put(pair.and_then(|_| outcomes.next().expect("one outcome per pair")))?;
            }

            progress.advance(n_records);
        }

        for file in [sinks.out, sinks.quarantine, sinks.ledger] {
            file.finish()?;
        }
        self.write_counts(&counts)?;
        progress.end();
        Ok(())
    }

    fn propose_batch<S: Generate>(
        &self,
        pairs: Vec<ImageCaption>,
        synthesizer: &Synthesizer<S>,
        journal: &mut Journal<Completion>,
        failures: &mut FailureStreak,
    ) -> Result<Vec<Result<TaskTriplet, Lost>>, SynthError> {
        let writer = Writer { model: synthesizer.model(), images: self.images, journal, failures };
        let key = |pair: &ImageCaption| proposal_key(pair, synthesizer, self.images);
        let written = writer.write(&pairs, |pair| &pair.image, key, |missing| synthesizer.write(missing))?;
        let outcome = |(pair, completion): (&ImageCaption, Result<Completion, _>)| {
            let triplet = completion.and_then(|completion| synthesizer.read(pair, &completion));
            triplet.map_err(|error| Lost::of(&pair.id, Stage::Propose, error))
        };
        Ok(pairs.iter().zip(written).map(outcome).collect())
    }
}

/// A pair whose id did not occur before. Ids are compared by 64 bits of their hash.
fn admit(record: InputRecord, ids: &mut DiskTable) -> Result<Result<ImageCaption, Lost>, SynthError> {
    Ok(match record {
        InputRecord::Pair(pair) if ids.insert(pair.id.to_u64(), 0)?.is_none() => Ok(pair),
        InputRecord::Pair(pair) => Err(Lost::new(&pair.id, Stage::Read, Reason::DuplicateId, "the id came before")),
        InputRecord::Dropped(entry) => Err(Lost { entry, text: None }),
    })
}
