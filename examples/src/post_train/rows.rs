use std::collections::{HashMap, HashSet};
use std::path::Path;

use adamllm::core::{CoreError, Ledger, LedgerEntry, Progress, Reason, RecordId, Stage, jsonl};
use adamllm::data::FirstOf;
use adamllm::model::{Encoded, Encoder, ModelError, Padding, VlmBatch};
use adamllm::prelude::*;
use adamllm::synth::seed::BlankImages;
use adamllm::train::{BatchSource, ExampleBatches, ExampleSize, Mixture, SourceShare, WeightedSources};
use rayon::prelude::*;

use super::{ImageCheck, SourceConfig};
use crate::cli::pairs;

type Failure = Box<dyn std::error::Error>;

/// Rows whose sizes are found together, so that a progress bar moves.
const MEASURED_TOGETHER: usize = 1024;

/// How many rows came in, and how many can be trained on; the others stand in the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RowCounts {
    /// Rows of the files.
    pub rows_in: u64,
    /// Rows that can be trained on.
    pub rows_out: u64,
}

/// Reads sources to rows that are known to fit.
#[derive(Debug)]
pub struct RowReader<'a> {
    encoder: Encoder<'a>,
    processor: &'a Processor,
    check: ImageCheck,
    pool: rayon::ThreadPool,
    ledger: Ledger,
    counts: RowCounts,
}

/// The rows of some sources, with their sizes. Images are read again for each batch.
pub struct RowSet<'a> {
    encoder: Encoder<'a>,
    processor: &'a Processor,
    stores: Vec<Box<dyn ImageStore>>,
    rows: Vec<Row>,
    weights: Vec<SourceShare>,
}

impl std::fmt::Debug for RowSet<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowSet")
            .field("n_rows", &self.rows.len())
            .field("weights", &self.weights)
            .finish_non_exhaustive()
    }
}

struct Row {
    conversation: Conversation,
    source: usize,
    measure: ExampleSize,
}

impl<'a> RowReader<'a> {
    /// A reader that notes lost rows in `ledger`.
    ///
    /// # Errors
    /// Where the threads cannot be started.
    pub fn new(
        processor: &'a Processor,
        encoder: Encoder<'a>,
        check: ImageCheck,
        workers: usize,
        ledger: Ledger,
    ) -> Result<Self, Failure> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(workers).build()?;
        Ok(Self { encoder, processor, check, pool, ledger, counts: RowCounts::default() })
    }

    /// Rows read so far: `rows_in` is `rows_out` and what stands in the ledger.
    pub fn counts(&self) -> RowCounts {
        self.counts
    }

    /// Ends reading: the threads, which then make batches, and the ledger.
    pub fn finish(self) -> (rayon::ThreadPool, Ledger) {
        (self.pool, self.ledger)
    }

    /// Reads sources one behind the other.
    ///
    /// # Errors
    /// A file or a place of images that does not open; a source of which no row is left.
    pub fn read(&mut self, sources: &[&SourceConfig], progress: &mut dyn Progress) -> Result<RowSet<'a>, Failure> {
        let mut set = RowSet {
            encoder: self.encoder.clone(),
            processor: self.processor,
            stores: Vec::new(),
            rows: Vec::new(),
            weights: Vec::new(),
        };
        for (number, source) in sources.iter().enumerate() {
            let (records_before, losses_before) = (self.counts.rows_in, self.ledger.lost_records(0));
            let conversations = self.conversations(source)?;
            let store = pictures(source)?;
            let before = set.rows.len();
            self.measure(conversations, number, &*store, &mut set.rows, progress)?;
            let n_rows = set.rows.len() - before;
            if n_rows == 0 {
                let n_records = self.counts.rows_in - records_before;
                let why = match n_records {
                    0 => "the file has none".into(),
                    _ => self.ledger.lost_records(n_records).since(&losses_before).to_string(),
                };
                return Err(format!("{}: no record is left to train on; {why}", shown(source)).into());
            }
            set.stores.push(store);
            set.weights.push(SourceShare { n_examples: n_rows, weight: source.weight });
        }
        self.ledger.sync()?;
        Ok(set)
    }

    fn measure(
        &mut self,
        conversations: Vec<Conversation>,
        source: usize,
        store: &dyn ImageStore,
        rows: &mut Vec<Row>,
        progress: &mut dyn Progress,
    ) -> Result<(), Failure> {
        progress.begin("measure", conversations.len() as u64);
        let mut rest = conversations.into_iter();
        loop {
            let part: Vec<Conversation> = rest.by_ref().take(MEASURED_TOGETHER).collect();
            if part.is_empty() {
                break;
            }
            let (encoder, check) = (&self.encoder, self.check);
            let measured: Vec<_> =
                self.pool.install(|| part.par_iter().map(|row| measure(row, encoder, check, store)).collect());
            progress.advance(part.len() as u64);
            for (conversation, measured) in part.into_iter().zip(measured) {
                match measured {
                    Ok(measure) => rows.push(Row { conversation, source, measure }),
                    Err(error) => {
                        let (reason, detail) = (Reason::from(&error), error.to_string());
                        self.ledger.record(LedgerEntry {
                            id: conversation.id,
                            stage: Stage::Encode,
                            reason,
                            detail,
                        })?;
                    }
                }
            }
        }
        progress.end();
        self.counts.rows_out = self.counts.rows_in - self.ledger.total();
        Ok(())
    }

    fn conversations(&mut self, source: &SourceConfig) -> Result<Vec<Conversation>, Failure> {
        let mut conversations = match (&source.conversations, &source.captions) {
            (Some(file), _) => self.listed(file)?,
            (None, Some(captions)) => self.composed(captions, source)?,
            (None, None) => Vec::new(),
        };
        for conversation in &mut conversations {
            conversation.source = source.name.clone().or(conversation.source.take());
        }
        Ok(conversations)
    }

    fn listed(&mut self, file: &Path) -> Result<Vec<Conversation>, Failure> {
        let mut records = adamllm::data::conversations(file)?;
        let mut rows = Vec::new();
        while let Some(record) = records.next() {
            self.counts.rows_in += 1;
            match record {
                Ok(row) => rows.push(row),
                Err(error) => self.ledger.record(unread(file, records.number(), &error))?,
            }
        }
        Ok(rows)
    }

    /// Captions with their tasks. A pair that has nothing to say in this mixture, and a task without its pair, are rows that
    /// the ledger keeps.
    fn composed(&mut self, captions: &Path, source: &SourceConfig) -> Result<Vec<Conversation>, Failure> {
        let tasks = source.tasks.as_deref().map_or(Ok(Vec::new()), |file| self.tasks(file))?;
        let mut with_task: HashMap<RecordId, usize> = HashMap::new();
        tasks.iter().for_each(|task| *with_task.entry(task.pair.clone()).or_default() += 1);
        let mut kept = Vec::new();
        for pair in pairs(captions)? {
            self.counts.rows_in += 1;
            let pair = pair.and_then(|pair| match pair.validate() {
                Ok(()) if source.compose.mixture == Mixture::TasksOnly && !with_task.contains_key(&pair.id) => {
                    Err(lost(&pair.id, Reason::Unmatched, "no task, and captions are left out"))
                }
                Ok(()) => Ok(pair),
                Err(error) => Err(lost(&pair.id, Reason::from(&error), &error.to_string())),
            });
            match pair {
                Ok(pair) => kept.push(pair),
                Err(row) => self.ledger.record(row)?,
            }
        }
        let known: HashSet<&RecordId> = kept.iter().map(|pair| &pair.id).collect();
        let (tasks, stray): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| known.contains(&task.pair));
        for task in stray {
            self.counts.rows_in += 1;
            let detail = format!("its pair {} is not among the captions", task.pair);
            self.ledger.record(lost(&task.id, Reason::Unmatched, &detail))?;
        }
        Ok(source.compose.compose(&kept, &tasks)?)
    }

    fn tasks(&mut self, file: &Path) -> Result<Vec<InstructionTask>, Failure> {
        let mut tasks = Vec::new();
        for (i, task) in jsonl::read::<InstructionTask>(file)?.enumerate() {
            match task {
                Ok(task) => tasks.push(task),
                Err(error) => {
                    self.counts.rows_in += 1;
                    self.ledger.record(unread(file, i as u64 + 1, &error))?;
                }
            }
        }
        Ok(tasks)
    }
}

/// The images of a source.
fn pictures(source: &SourceConfig) -> Result<Box<dyn ImageStore>, Failure> {
    let places = source.images.iter().map(adamllm::data::images_at).collect::<Result<_, _>>()?;
    let store = FirstOf::new(places);
    Ok(match &source.blank_image {
        Some(name) => Box::new(BlankImages::new(store, name.as_str().into())),
        None => Box::new(store),
    })
}

fn lost(id: &RecordId, reason: Reason, detail: &str) -> LedgerEntry {
    LedgerEntry { id: id.clone(), stage: Stage::Compose, reason, detail: detail.into() }
}

fn unread(file: &Path, row: u64, error: &CoreError) -> LedgerEntry {
    let id = RecordId::given(format!("{}:{row}", file.display()));
    LedgerEntry { id, stage: Stage::Read, reason: Reason::from(error), detail: error.to_string() }
}

fn shown(source: &SourceConfig) -> String {
    let file = source.conversations.as_ref().or(source.captions.as_ref());
    file.map_or_else(String::new, |file| file.display().to_string())
}

fn measure(
    row: &Conversation,
    encoder: &Encoder,
    check: ImageCheck,
    store: &dyn ImageStore,
) -> Result<ExampleSize, ModelError> {
    let measured = encoder.example_size(row, store)?;
    if check == ImageCheck::Images {
        row.images.iter().try_for_each(|image| store.open(image).map(drop))?;
    }
    Ok(measured)
}

impl<'a> RowSet<'a> {
    /// How large each row is.
    pub fn measures(&self) -> impl Iterator<Item = &ExampleSize> {
        self.rows.iter().map(|row| &row.measure)
    }

    /// How large the row of this number is.
    pub fn measure(&self, row: usize) -> &ExampleSize {
        &self.rows[row].measure
    }

    /// Its rows as batches, made by the threads of `pool`: mixed by the sources' weights, packed where asked for.
    ///
    /// # Errors
    /// Weights with which no row is read.
    pub fn batches<'s>(
        &'s self,
        pool: &'s rayon::ThreadPool,
        packing: bool,
    ) -> Result<impl BatchSource<Batch = VlmBatch> + use<'s, 'a>, Failure> {
        let batch = move |wanted: &[usize]| self.batch(pool, wanted, packing);
        let size = |size: &ExampleSize| *size;
        let sizes = self.measures().map(size).collect();
        let mixture = WeightedSources::new(self.weights.clone())?;
        Ok(ExampleBatches::new(self.rows.len(), batch).with_sizes(sizes).with_mixture(mixture))
    }

    fn batch(&self, pool: &rayon::ThreadPool, wanted: &[usize], packing: bool) -> Result<VlmBatch, String> {
        let encode = |&row: &usize| {
            let Row { conversation, source, .. } = &self.rows[row];
            let named = |error: ModelError| format!("row {}: {error}", conversation.id);
            self.encoder.encode(conversation, &*self.stores[*source]).map_err(named)
        };
        // Collected in the order of `wanted`, whichever thread is done first.
        let encoded: Vec<Encoded> = pool.install(|| wanted.par_iter().map(encode).collect::<Result<_, _>>())?;
        let rows: Vec<&Encoded> = encoded.iter().collect();
        Ok(match packing {
            true => VlmBatch::pack(&rows, self.processor),
            false => VlmBatch::collate(&rows, Padding::Right, self.processor),
        })
    }
}

#[cfg(test)]
mod tests {
    use adamllm::model::Encoding;

    use super::*;
    use crate::cli::mini_folder;

    fn base() -> Processor {
        Processor::read(&ModelFolder::open(mini_folder().join("models/base")).expect("opens")).expect("reads")
    }

    fn reader<'a>(processor: &'a Processor, max_tokens: usize, workers: usize) -> RowReader<'a> {
        let encoding = Encoding { max_tokens: Some(max_tokens), ..Encoding::default() };
        let encoder = Encoder::new(processor, encoding).expect("fits");
        RowReader::new(processor, encoder, ImageCheck::Images, workers, Ledger::new()).expect("threads")
    }

    fn slides() -> SourceConfig {
        let folder = mini_folder().join("slides");
        SourceConfig { captions: Some(folder.join("captions.json")), images: vec![folder], ..SourceConfig::default() }
    }

    /// What a batch holds that depends on its rows: tokens, and the pixels of each image.
    fn content(batch: &VlmBatch) -> (Vec<u32>, Vec<Vec<f32>>) {
        batch.with_input(|input| {
            (input.tokens.to_vec(), input.images.iter().map(|image| image.pixels.values.to_vec()).collect())
        })
    }

    #[test]
    fn the_number_of_threads_changes_no_batch() {
        let processor = base();
        let mut reader = reader(&processor, 256, 1);
        let rows = reader.read(&[&slides()], &mut ()).expect("reads");
        let wanted: Vec<usize> = (0..40).map(|i| i * 37 % 200).collect();
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            content(&rows.batches(&pool, false).expect("weights").batch(&wanted).expect("a batch"))
        };
        let one = with(1);
        assert_eq!(one.1.len(), 40);
        assert!(one == with(3) && one == with(8));
    }

    #[test]
    fn every_row_is_used_or_stands_in_the_ledger() {
        let processor = base();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pictures = mini_folder().join("slides/images");
        std::fs::copy(pictures.join("5000.png"), folder.path().join("good.png")).expect("copies");
        let whole = std::fs::read(pictures.join("5001.png")).expect("reads");
        std::fs::write(folder.path().join("broken.png"), &whole[..whole.len() / 2]).expect("written");
        let row = |image: &str, reply: &str| {
            let turns = [("user", "<image>\nWhat?"), ("assistant", reply)]
                .map(|(role, content)| serde_json::json!({"role": role, "content": content}));
            serde_json::json!({"messages": turns, "images": [image]}).to_string()
        };
        let long = "ink ".repeat(300);
        let lines = [
            row("good.png", "ink"),
            row("broken.png", "ink"),
            row("missing.png", "ink"),
            row("good.png", &long),
            row("good.png", "<|im_end|>"),
            "{\"messages\": 3}".into(),
            row("good.png", "lint"),
        ];
        let file = folder.path().join("rows.jsonl");
        std::fs::write(&file, lines.join("\n")).expect("written");
        let source = SourceConfig {
            name: Some("mine".into()),
            conversations: Some(file),
            images: vec![folder.path().to_path_buf()],
            ..SourceConfig::default()
        };
        let mut reader = reader(&processor, 128, 2);
        let rows = reader.read(&[&source], &mut ()).expect("two rows are left");
        assert_eq!(rows.measures().count(), 2);
        assert_eq!(reader.counts(), RowCounts { rows_in: 7, rows_out: 2 });
        let (_, ledger) = reader.finish();
        let found: Vec<_> = ledger.counts().iter().map(|((stage, reason), n)| (*stage, *reason, *n)).collect();
        let mut expected = [
            (Stage::Read, Reason::InvalidField, 1),
            (Stage::Encode, Reason::ImageMissing, 1),
            (Stage::Encode, Reason::ImageBroken, 1),
            (Stage::Encode, Reason::ForgedTurn, 1),
            (Stage::Encode, Reason::TooLong, 1),
        ];
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_source_without_its_pictures_is_one_clear_error() {
        let processor = base();
        let nowhere = SourceConfig { images: vec!["no/such/place".into()], ..slides() };
        let error = reader(&processor, 256, 1).read(&[&nowhere], &mut ()).expect_err("no place").to_string();
        assert!(error.contains("no/such/place"), "{error}");
        let elsewhere = SourceConfig { images: vec![mini_folder()], ..slides() };
        let error = reader(&processor, 256, 1).read(&[&elsewhere], &mut ()).expect_err("no picture").to_string();
        assert!(error.contains("no record is left") && error.contains("images/5000.png"), "{error}");
    }
}
