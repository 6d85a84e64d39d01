use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use adamllm_core::jsonl::{self, Journal};
use adamllm_core::{
    Completion, CoreError, Generate, ImageCaption, ImageRef, ImageStore, InstructionTask, LedgerRow, Progress, Reason,
    RecordId, Stage,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ordered_file::OrderedFile;
use super::{InputRow, RunSummary, SynthesisRun};
use crate::consistency::JudgeMode;
use crate::{ConsistencyFilter, Judged, Opinion, SynthError, Synthesizer, TaskTriplet, Verdict, combine};

/// A text that held no triplet, kept whole for people who debug a synthesizer.
#[derive(Debug, Serialize)]
struct Quarantined<'a> {
    id: &'a RecordId,
    pred: &'a str,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProposeCounts {
    rows_in: u64,
}

impl SynthesisRun<'_> {
    /// Does the whole run: [`SynthesisRun::propose`], [`SynthesisRun::judge`], [`SynthesisRun::combine`],
    /// [`SynthesisRun::finish`]. A row that fails costs itself only and stands in the ledger.
    ///
    /// # Errors
    /// Files that cannot be written; [`SynthError::Unaccounted`].
    pub fn run<S: Generate, J: Generate>(
        &self,
        rows: impl IntoIterator<Item = impl Into<InputRow>>,
        synthesizer: &Synthesizer<'_, S>,
        judge: &ConsistencyFilter<'_, J>,
        progress: &mut dyn Progress,
    ) -> Result<RunSummary, SynthError> {
        self.propose(rows, synthesizer, progress)?;
        self.judge(judge, progress)?;
        self.combine(progress)?;
        self.finish()
    }

    /// First stage: captions to `triplets.jsonl`. What does not parse lies in `quarantine.jsonl`.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn propose<S: Generate>(
        &self,
        rows: impl IntoIterator<Item = impl Into<InputRow>>,
        synthesizer: &Synthesizer<'_, S>,
        progress: &mut dyn Progress,
    ) -> Result<(), SynthError> {
        let mut journal = self.journal::<Completion>("propose.jsonl")?;
        let mut triplets = OrderedFile::create(self.file("triplets.jsonl"))?;
        let mut quarantine = OrderedFile::create(self.file("quarantine.jsonl"))?;
        let mut ledger = OrderedFile::create(self.work("ledger-propose.jsonl"))?;
        let rows = rows.into_iter();
        progress.begin("propose", rows.size_hint().1.unwrap_or(0) as u64);
        let mut rows = rows.map(Into::into).filter(|row: &InputRow| self.shard.holds(row.id()));
        let (mut seen, mut rows_in) = (HashSet::new(), 0);
        loop {
            let batch: Vec<_> = rows.by_ref().take(self.config.batch_size).collect();
            if batch.is_empty() {
                break;
            }
            rows_in += batch.len() as u64;
            let n_rows = batch.len() as u64;
            for outcome in self.propose_batch(batch, &mut seen, synthesizer, &mut journal)? {
                match outcome {
                    Ok(triplet) => triplets.append(&triplet)?,
                    Err(Lost { row, text }) => {
                        if let Some(pred) = &text {
                            quarantine.append(&Quarantined { id: &row.id, pred })?;
                        }
                        ledger.append(&row)?;
                    }
                }
            }
            progress.advance(n_rows);
        }
        triplets.finish()?;
        quarantine.finish()?;
        ledger.finish()?;
        let counts = serde_json::to_vec(&ProposeCounts { rows_in }).expect("a count is JSON");
        adamllm_core::write_atomically(self.work("propose-counts.json"), counts)?;
        progress.end();
        Ok(())
    }

    fn propose_batch<S: Generate>(
        &self,
        batch: Vec<InputRow>,
        seen: &mut HashSet<u64>,
        synthesizer: &Synthesizer<'_, S>,
        journal: &mut Journal<Completion>,
    ) -> Result<Vec<Result<TaskTriplet, Lost>>, SynthError> {
        let (mut pairs, mut keys) = (Vec::new(), Vec::new());
        let mut admit = |row: InputRow| {
            let pair = match row {
                InputRow::Pair(pair) => pair,
                InputRow::Lost(row) => return Err(Lost { row, text: None }),
            };
            if !seen.insert(pair.id.to_u64()) {
                return Err(Lost::new(&pair.id, Stage::Read, Reason::DuplicateId, "the id came before"));
            }
            keys.push(
                self.proposal_key(&pair, synthesizer).map_err(|error| Lost::of(&pair.id, Stage::Propose, error))?,
            );
            pairs.push(pair);
            Ok(())
        };
        let admitted: Vec<_> = batch.into_iter().map(&mut admit).collect();
        let written = remembered(journal, &keys, &pairs, |missing| synthesizer.write(missing))?;
        let mut outcomes = pairs.iter().zip(written).map(|(pair, completion)| {
            let triplet = completion.and_then(|completion| synthesizer.read(pair, &completion));
            triplet.map_err(|error| Lost::of(&pair.id, Stage::Propose, self.diagnosed(error, &pair.image)))
        });
        let next = |slot: Result<(), Lost>| slot.and_then(|()| outcomes.next().expect("one outcome for each pair"));
        Ok(admitted.into_iter().map(next).collect())
    }

    /// Second stage: `triplets.jsonl` to `judged.jsonl`.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn judge<J: Generate>(
        &self,
        judge: &ConsistencyFilter<'_, J>,
        progress: &mut dyn Progress,
    ) -> Result<(), SynthError> {
        let mut journal = self.journal::<Opinion>("judge.jsonl")?;
        let mut all = OrderedFile::create(self.file("judged.jsonl"))?;
        let mut ledger = OrderedFile::create(self.work("ledger-judge.jsonl"))?;
        let mut triplets = jsonl::read::<TaskTriplet>(self.file("triplets.jsonl"))?;
        progress.begin("judge", 0);
        loop {
            let batch = triplets.by_ref().take(self.config.batch_size).collect::<Result<Vec<_>, _>>()?;
            if batch.is_empty() {
                break;
            }
            for outcome in judge_batch(&batch, judge, &mut journal)? {
                match outcome {
                    Ok(judged) => {
                        all.append(&judged)?;
                        if let Some(row) = lost_by_verdict(&judged) {
                            ledger.append(&row)?;
                        }
                    }
                    Err(lost) => ledger.append(&lost.row)?,
                }
            }
            progress.advance(batch.len() as u64);
        }
        all.finish()?;
        ledger.finish()?;
        progress.end();
        Ok(())
    }

    /// Third stage: the consistent rows of `judged.jsonl` to `tasks.jsonl`.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn combine(&self, progress: &mut dyn Progress) -> Result<(), SynthError> {
        let mut tasks = OrderedFile::create(self.file("tasks.jsonl"))?;
        progress.begin("combine", 0);
        for judged in jsonl::read::<Judged>(self.file("judged.jsonl"))? {
            let judged = judged?;
            if judged.verdict == Verdict::Consistent {
                tasks.append(&combine(&judged, self.config.seed))?;
            }
            progress.advance(1);
        }
        tasks.finish()?;
        progress.end();
        Ok(())
    }

    /// Puts the stages' ledgers together as `ledger.jsonl`, counts, and writes `summary.json`.
    ///
    /// # Errors
    /// Files that cannot be read or written; [`SynthError::Unaccounted`].
    pub fn finish(&self) -> Result<RunSummary, SynthError> {
        let mut summary = RunSummary::default();
        let mut ledger = OrderedFile::create(self.file("ledger.jsonl"))?;
        for part in ["ledger-propose.jsonl", "ledger-judge.jsonl"] {
            for row in jsonl::read::<LedgerRow>(self.work(part))? {
                let row = row?;
                summary.count_lost(&row);
                ledger.append(&row)?;
            }
        }
        ledger.finish()?;
        let counts: ProposeCounts = read_json(&self.work("propose-counts.json"))?;
        summary.rows_in = counts.rows_in;
        summary.triplets = count_rows::<TaskTriplet>(&self.file("triplets.jsonl"))?;
        summary.rows_out = count_rows::<InstructionTask>(&self.file("tasks.jsonl"))?;
        for judged in jsonl::read::<Judged>(self.file("judged.jsonl"))? {
            summary.count_verdict(judged?.verdict);
        }
        let names = ["triplets", "judged", "tasks", "ledger", "quarantine"];
        summary.files = names.map(|name| self.file(&format!("{name}.jsonl"))).into();
        summary.check()?;
        let content = serde_json::to_vec_pretty(&summary).expect("a summary is JSON");
        adamllm_core::write_atomically(self.file("summary.json"), content)?;
        Ok(summary)
    }

    /// Everything that the synthesizer's answer depends on.
    fn proposal_key<S: Generate>(
        &self,
        pair: &ImageCaption,
        synthesizer: &Synthesizer<'_, S>,
    ) -> Result<RecordId, SynthError> {
        let prompt = json(&synthesizer.prompt(pair)?);
        let (image, identity) = (image_hash(self.images, &pair.image)?, synthesizer.model().identity());
        let decoding = json(&synthesizer.config().decoding);
        Ok(RecordId::of("proposal", [prompt.as_str(), image.as_str(), &identity, &decoding]))
    }

    /// Where the model failed because of the image, says so.
    fn diagnosed(&self, error: SynthError, image: &ImageRef) -> SynthError {
        match self.images.open(image) {
            Err(broken) if error.is_models_fault() => broken.into(),
            _ => error,
        }
    }

    fn journal<T: Serialize + DeserializeOwned>(&self, name: &str) -> Result<Journal<T>, CoreError> {
        let (folder, path) = (self.folder.join("work"), self.work(name));
        fs::create_dir_all(&folder).map_err(CoreError::io("create", &folder))?;
        if !self.resume && path.exists() {
            fs::remove_file(&path).map_err(CoreError::io("remove", &path))?;
        }
        Journal::open(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn work(&self, name: &str) -> PathBuf {
        self.folder.join("work").join(name)
    }
}

/// A row on its way into the ledger, with the text to quarantine.
struct Lost {
    row: LedgerRow,
    text: Option<String>,
}

impl Lost {
    fn new(id: &RecordId, stage: Stage, reason: Reason, detail: impl ToString) -> Self {
        Self { row: LedgerRow { id: id.clone(), stage, reason, detail: detail.to_string() }, text: None }
    }

    fn of(id: &RecordId, stage: Stage, error: SynthError) -> Self {
        let lost = Self::new(id, stage, error.reason(), &error);
        let text = if let SynthError::NoTriplet { text, .. } = error { Some(text) } else { None };
        Self { text, ..lost }
    }
}

fn judge_batch<J: Generate>(
    batch: &[TaskTriplet],
    judge: &ConsistencyFilter<'_, J>,
    journal: &mut Journal<Opinion>,
) -> Result<Vec<Result<Judged, Lost>>, SynthError> {
    let keys: Vec<_> = batch.iter().map(|triplet| opinion_key(triplet, judge)).collect();
    let opinions = remembered(journal, &keys, batch, |missing| judge.ask(missing))?;
    let decide = |(triplet, opinion): (&TaskTriplet, Result<Opinion, SynthError>)| {
        let opinion = opinion.map_err(|error| Lost::of(&triplet.pair, Stage::Judge, error))?;
        Ok(judge.decide(triplet.clone(), &opinion))
    };
    Ok(batch.iter().zip(opinions).map(decide).collect())
}

/// Everything that the judge's opinion depends on; the threshold is applied later.
fn opinion_key<J: Generate>(triplet: &TaskTriplet, judge: &ConsistencyFilter<'_, J>) -> RecordId {
    let prompt = judge.prompt(triplet).map_or_else(|error| error.to_string(), |prompt| json(&prompt));
    let reading = match judge.config().mode {
        JudgeMode::Generated => json(&judge.config().decoding),
        JudgeMode::Scored { .. } => json(&crate::consistency::ANSWERS),
    };
    RecordId::of("opinion", [prompt.as_str(), &judge.model().identity(), &reading])
}

/// Answers from the journal where it has them, from `ask` where not; new answers are synced to the journal, failures are
/// not, so that they are tried again when the run is resumed. One slot per item, in order.
fn remembered<I: Clone, T: Serialize + DeserializeOwned>(
    journal: &mut Journal<T>,
    keys: &[RecordId],
    items: &[I],
    ask: impl FnOnce(&[I]) -> Vec<Result<T, SynthError>>,
) -> Result<Vec<Result<T, SynthError>>, SynthError> {
    let known: Vec<_> = keys.iter().map(|key| journal.get(key)).collect::<Result<_, _>>()?;
    let is_missing = |(item, known): (&I, &Option<T>)| known.is_none().then(|| item.clone());
    let missing: Vec<_> = items.iter().zip(&known).filter_map(is_missing).collect();
    let asked = if missing.is_empty() { Vec::new() } else { ask(&missing) };
    let missing_keys = keys.iter().zip(&known).filter_map(|(key, known)| known.is_none().then_some(key));
    let answered = missing_keys.zip(&asked).filter_map(|(key, slot)| Some((key, slot.as_ref().ok()?)));
    journal.append(answered)?;
    let mut asked = asked.into_iter();
    let fill = |known: Option<T>| known.map_or_else(|| asked.next().expect("one slot for each missing item"), Ok);
    Ok(known.into_iter().map(fill).collect())
}

fn lost_by_verdict(judged: &Judged) -> Option<LedgerRow> {
    let answer = judged.answer.as_deref().unwrap_or_default();
    let (reason, detail) = match judged.verdict {
        Verdict::Consistent => return None,
        Verdict::Inconsistent => (Reason::Inconsistent, "the two answers disagree".to_owned()),
        Verdict::Open => (Reason::Open, "the question has no single answer".to_owned()),
        Verdict::Unclear => match judged.p_yes {
            Some(p_yes) => (Reason::BelowThreshold, format!("probability of yes: {p_yes}")),
            None => (Reason::UnclearVerdict, format!("expected Yes, No or Open, got {answer:?}")),
        },
    };
    Some(LedgerRow { id: judged.triplet.pair.clone(), stage: Stage::Judge, reason, detail })
}

/// A hash of the picture's file, or of its pixels where the store keeps no file.
fn image_hash(images: &dyn ImageStore, image: &ImageRef) -> Result<RecordId, CoreError> {
    if let Some(bytes) = images.bytes(image)? {
        return Ok(RecordId::of_bytes("image-file", [bytes.as_slice()]));
    }
    let picture = images.open(image)?;
    let size = [picture.width().to_le_bytes(), picture.height().to_le_bytes()].concat();
    Ok(RecordId::of_bytes("image-pixels", [size.as_slice(), picture.as_raw()]))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("prompts and settings have string keys and finite numbers")
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CoreError> {
    let content = fs::read(path).map_err(CoreError::io("read", path))?;
    serde_json::from_slice(&content).map_err(|source| CoreError::Json { path: path.into(), row: 1, source })
}

fn count_rows<T: DeserializeOwned>(path: &Path) -> Result<u64, CoreError> {
    jsonl::read::<T>(path)?.try_fold(0, |n, row| row.map(|_| n + 1))
}
