use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use adamllm_core::{
    Conversation, ImageStore, InstructionTask, Ledger, LedgerEntry, LostRecords, Progress, Reason, RecordId, Stage,
    jsonl,
};
use adamllm_model::{Encoder, ModelError, Processor};
use adamllm_train::{Mixture, SourceShare, WeightedSources};
use rayon::prelude::*;
use serde::Serialize;

use super::{ConversationSource, Example, ImageCheck, SourceSettings, TrainingSet};
use crate::captions::{caption_records, unreadable};
use crate::{ExampleSize, RecipeError};

/// Conversations whose sizes are found together, so that a progress bar moves.
const MEASURED_TOGETHER: usize = 1024;

/// How many records came in, and how many can be trained on; the others stand in the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecordCounts {
    /// Records of the files.
    pub records_in: u64,
    /// Records that can be trained on.
    pub records_out: u64,
    /// Entries in the ledger: `records_in = records_out + ledger_entries`.
    pub ledger_entries: u64,
}

/// How training sets are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// What is looked at of every image before the first step.
    pub check: ImageCheck,
    /// Threads that decode and encode images; 0 for one on each processor. They change no result.
    pub workers: usize,
    /// Whether a batch holds its examples one after the other instead of padded.
    pub packing: bool,
}

/// Reads sources to training sets. Its threads then make the sets' batches; its ledger has what was lost in all of them.
#[derive(Debug)]
pub struct TrainingSetReader<'a> {
    encoder: Encoder<'a>,
    processor: &'a Processor,
    options: ReadOptions,
    threads: Arc<rayon::ThreadPool>,
    ledger: Ledger,
    counts: RecordCounts,
}

impl<'a> TrainingSetReader<'a> {
    /// A reader that notes lost records in `ledger`.
    ///
    /// # Errors
    /// [`RecipeError::Threads`].
    pub fn new(
        processor: &'a Processor,
        encoder: Encoder<'a>,
        options: ReadOptions,
        ledger: Ledger,
    ) -> Result<Self, RecipeError> {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(options.workers).build();
        let threads = Arc::new(threads.map_err(|error| RecipeError::Threads(error.to_string()))?);
        Ok(Self { encoder, processor, options, threads, ledger, counts: RecordCounts::default() })
    }

    /// Records read so far.
    pub fn counts(&self) -> RecordCounts {
        self.counts
    }

    /// The records lost so far, and why.
    pub fn losses(&self) -> LostRecords {
        self.ledger.lost_records(self.counts.records_in)
    }

    /// Reads files, one source after the other, to one set.
    ///
    /// # Errors
    /// A file or a place of images that does not open; [`RecipeError::NoRecordLeft`] for a source of which nothing is left.
    pub fn read(
        &mut self,
        sources: &[&SourceSettings],
        progress: &mut dyn Progress,
    ) -> Result<TrainingSet<'a>, RecipeError> {
        let (mut set, mut shares) = (Vec::new(), Vec::new());
        let mut images = Vec::new();
        for settings in sources {
            let (records_before, losses_before) = (self.counts.records_in, self.ledger.lost_records(0));
            let source = self.load(settings)?;
            images.push(source.images.clone());
            let share = self.measure(source, shares.len(), &mut set, progress)?;
            self.check_left(settings.place(), share, records_before, &losses_before)?;
            shares.push(share);
        }
        self.set(images, set, shares)
    }

    /// Takes conversations that are in memory already.
    ///
    /// # Errors
    /// As [`TrainingSetReader::read`].
    pub fn take(
        &mut self,
        source: ConversationSource,
        progress: &mut dyn Progress,
    ) -> Result<TrainingSet<'a>, RecipeError> {
        let (records_before, losses_before) = (self.counts.records_in, self.ledger.lost_records(0));
        self.counts.records_in += source.conversations.len() as u64;
        let (mut examples, images) = (Vec::new(), vec![source.images.clone()]);
        let place = source.place.clone();
        let share = self.measure(source, 0, &mut examples, progress)?;
        self.check_left(place, share, records_before, &losses_before)?;
        self.set(images, examples, vec![share])
    }

    fn set(
        &self,
        images: Vec<Arc<dyn ImageStore>>,
        examples: Vec<Example>,
        shares: Vec<SourceShare>,
    ) -> Result<TrainingSet<'a>, RecipeError> {
        self.ledger.sync()?;
        Ok(TrainingSet {
            encoder: self.encoder.clone(),
            processor: self.processor,
            images,
            examples,
            mixture: WeightedSources::new(shares)?,
            threads: self.threads.clone(),
            packing: self.options.packing,
        })
    }

    /// # Errors
    /// [`RecipeError::NoRecordLeft`] says what became of the source's records.
    fn check_left(
        &self,
        place: String,
        share: SourceShare,
        records_before: u64,
        losses_before: &LostRecords,
    ) -> Result<(), RecipeError> {
        if share.n_examples > 0 {
            return Ok(());
        }
        let cause = match self.counts.records_in - records_before {
            0 => "the file has none".into(),
            n => self.ledger.lost_records(n).since(losses_before).to_string(),
        };
        Err(RecipeError::NoRecordLeft { place, cause })
    }

    /// Appends the conversations that can be trained on to `examples`.
    fn measure(
        &mut self,
        source: ConversationSource,
        number: usize,
        examples: &mut Vec<Example>,
        progress: &mut dyn Progress,
    ) -> Result<SourceShare, RecipeError> {
        let ConversationSource { conversations, images, weight, .. } = source;
        let before = examples.len();
        progress.begin("measure", conversations.len() as u64);

        // In parts: each is read by all threads, and between them the job can be cancelled.
        let mut rest = conversations.into_iter();
        loop {
            progress.check_cancelled()?;
            let part: Vec<Conversation> = rest.by_ref().take(MEASURED_TOGETHER).collect();
            if part.is_empty() {
                break;
            }

            let (encoder, check) = (&self.encoder, self.options.check);
            let size = |conversation: &Conversation| measure(conversation, encoder, check, &*images);
            let sizes: Vec<_> = self.threads.install(|| part.par_iter().map(size).collect());
            progress.advance(part.len() as u64);

            // In the order of the conversations, whichever thread was first: the set must be the same in every run.
            for (conversation, size) in part.into_iter().zip(sizes) {
                match size {
                    Ok(size) => examples.push(Example { conversation, source: number, size }),
                    Err(error) => {
                        self.ledger.drop_record(&conversation.id, Stage::Encode, Reason::from(&error), error)?;
                    }
                }
            }
        }

        progress.end();
        self.counts.ledger_entries = self.ledger.total();
        self.counts.records_out = self.counts.records_in - self.ledger.total();
        Ok(SourceShare { n_examples: examples.len() - before, weight })
    }

    fn load(&mut self, settings: &SourceSettings) -> Result<ConversationSource, RecipeError> {
        let mut conversations = match (&settings.conversations, &settings.captions) {
            (Some(file), _) => self.conversations(file)?,
            (None, Some(captions)) => self.composed(captions, settings)?,
            (None, None) => Vec::new(),
        };
        for conversation in &mut conversations {
            conversation.source = settings.name.clone().or(conversation.source.take());
        }
        let (place, weight) = (settings.place(), settings.weight);
        Ok(ConversationSource { place, conversations, images: settings.open_images()?, weight })
    }

    fn conversations(&mut self, file: &Path) -> Result<Vec<Conversation>, RecipeError> {
        let mut records = adamllm_data::conversations(file)?;
        let mut conversations = Vec::new();
        while let Some(record) = records.next() {
            self.counts.records_in += 1;
            match record {
                Ok(conversation) => conversations.push(conversation),
                Err(error) => self.ledger.record(unreadable(file, records.number(), &error))?,
            }
        }
        Ok(conversations)
    }

    /// Captions with their tasks. A pair that has nothing to say in this mixture, and a task without its pair, are records that
    /// the ledger keeps.
    fn composed(&mut self, captions: &Path, source: &SourceSettings) -> Result<Vec<Conversation>, RecipeError> {
        let tasks = source.tasks.as_deref().map_or(Ok(Vec::new()), |file| self.tasks(file))?;
        let mut with_task: HashMap<RecordId, usize> = HashMap::new();
        tasks.iter().for_each(|task| *with_task.entry(task.pair.clone()).or_default() += 1);

        let mut kept = Vec::new();
        for pair in caption_records(captions)? {
            self.counts.records_in += 1;
            let pair = pair.and_then(|pair| match pair.validate() {
                Ok(()) if source.compose.mixture == Mixture::TasksOnly && !with_task.contains_key(&pair.id) => {
                    Err(unmixed(&pair.id, Reason::Unmatched, "no task, and captions are left out"))
                }
                Ok(()) => Ok(pair),
                Err(error) => Err(unmixed(&pair.id, Reason::from(&error), &error.to_string())),
            });
            match pair {
                Ok(pair) => kept.push(pair),
                Err(lost) => self.ledger.record(lost)?,
            }
        }

        let known: HashSet<&RecordId> = kept.iter().map(|pair| &pair.id).collect();
        let (tasks, stray): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| known.contains(&task.pair));
        for task in stray {
            self.counts.records_in += 1;
            let detail = format!("its pair {} is not among the captions", task.pair);
            self.ledger.record(unmixed(&task.id, Reason::Unmatched, &detail))?;
        }
        Ok(source.compose.compose(&kept, &tasks)?)
    }

    fn tasks(&mut self, file: &Path) -> Result<Vec<InstructionTask>, RecipeError> {
        let mut tasks = Vec::new();
        for (i, task) in jsonl::read::<InstructionTask>(file)?.enumerate() {
            match task {
                Ok(task) => tasks.push(task),
                Err(error) => {
                    self.counts.records_in += 1;
                    self.ledger.record(unreadable(file, i as u64 + 1, &error))?;
                }
            }
        }
        Ok(tasks)
    }
}

fn unmixed(id: &RecordId, reason: Reason, detail: &str) -> LedgerEntry {
    LedgerEntry::new(id.clone(), Stage::Compose, reason, detail)
}

fn measure(
    conversation: &Conversation,
    encoder: &Encoder,
    check: ImageCheck,
    images: &dyn ImageStore,
) -> Result<ExampleSize, ModelError> {
    let size = encoder.example_size(conversation, images)?;
    if check == ImageCheck::Images {
        conversation.images.iter().try_for_each(|image| images.open(image).map(drop))?;
    }
    Ok(size)
}
