use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use adamllm_core::json::JsonFile;
use adamllm_core::random::named_stream;
use adamllm_core::{CoreError, ImageCaption, LedgerEntry, Reason, RecordId, RecordSource, Stage};
use rand::Rng;

use super::entry::SeedRecord;
use super::{QuestionAnswer, SeedConfig, SeedConversation, SeedEntry, Split, compose_seed};
use crate::SynthError;

/// The three files of the seed data.
#[derive(Clone, Debug)]
pub struct SeedSources {
    /// VisionFLAN's `metadata.json`: instructions with precise responses.
    pub precise: PathBuf,
    /// `ALLaVA-Caption-VFLAN-4V.json`.
    pub captions: PathBuf,
    /// `ALLaVA-Instruct-VFLAN-4V.json`: instructions with informative responses.
    pub informative: PathBuf,
}

/// Where each image's records are in the three files: the join, without the texts. About 200 bytes for an image, whatever
/// the length of the texts.
#[derive(Debug)]
pub struct SeedIndex {
    files: Files,
    images: Vec<ImageRecords>,
    tasks: Vec<String>,
    records_in: u64,
    lost: Vec<LedgerEntry>,
}

/// One record of one file, counted from 0.
type RecordIndex = usize;

#[derive(Debug, Default)]
struct ImageRecords {
    task: usize,
    name_hash: u64,
    precise: Vec<RecordIndex>,
    caption: Option<RecordIndex>,
    informative: Vec<RecordIndex>,
}

impl SeedIndex {
    /// Reads the three files, in any of the forms of [`adamllm_core::json`], and joins their records by image file name.
    /// Records that are not sound, and records of images that lack one of the three, are lost.
    ///
    /// # Errors
    /// Files that cannot be read, are cut off, or are of another format.
    pub fn build(sources: SeedSources) -> Result<Self, SynthError> {
        let files = Files::open(&sources)?;
        let mut index = Self { files, images: vec![], tasks: vec![], records_in: 0, lost: vec![] };
        let (mut by_name, mut by_task) = (HashMap::new(), HashMap::new());

        // The precise responses come first: they say which images there are, and what their tasks are.
        index.scan(
            |files| &files.precise,
            |index, record, i| {
                let task = record.task_name.clone().unwrap_or_else(|| "unnamed".into());
                let task = *by_task.entry(task.clone()).or_insert_with(|| {
                    index.tasks.push(task);
                    index.tasks.len() - 1
                });
                let name_hash = hash(record.image_name());
                let image = *by_name.entry(name_hash).or_insert_with(|| {
                    index.images.push(ImageRecords { task, name_hash, ..ImageRecords::default() });
                    index.images.len() - 1
                });
                index.images[image].precise.push(i);
                Ok(())
            },
        )?;

        let unmatched = (Reason::Unmatched, "the image has no precise response");
        index.scan(
            |files| &files.captions,
            |index, record, i| {
                let image = *by_name.get(&hash(record.image_name())).ok_or(unmatched)?;
                match &mut index.images[image].caption {
                    Some(_) => Err((Reason::Duplicate, "the image has a caption already")),
                    caption => {
                        *caption = Some(i);
                        Ok(())
                    }
                }
            },
        )?;

        index.scan(
            |files| &files.informative,
            |index, record, i| {
                let image = *by_name.get(&hash(record.image_name())).ok_or(unmatched)?;
                index.images[image].informative.push(i);
                Ok(())
            },
        )?;

        index.drop_incomplete();
        Ok(index)
    }

    /// Records in all three files.
    pub fn records_in(&self) -> u64 {
        self.records_in
    }

    /// Images with a caption, a precise and an informative response.
    pub fn n_images(&self) -> usize {
        self.images.len()
    }

    /// Records that belong to those images.
    pub(super) fn n_records_joined(&self) -> u64 {
        let n_records = |of: &ImageRecords| of.precise.len() + 1 + of.informative.len();
        self.images.iter().map(n_records).sum::<usize>() as u64
    }

    /// The records that were dropped while joining.
    pub fn lost(&self) -> &[LedgerEntry] {
        &self.lost
    }

    fn scan(
        &mut self,
        of: impl Fn(&Files) -> &JsonFile,
        mut assign: impl FnMut(&mut Self, &SeedRecord, RecordIndex) -> Result<(), (Reason, &'static str)>,
    ) -> Result<(), SynthError> {
        for i in 0..of(&self.files).len() {
            self.records_in += 1;

            // The file's own failure is no record's: it ends the reading.
            let record = match read_record(of(&self.files), i) {
                Err(error @ (CoreError::Io { .. } | CoreError::Layout { .. })) => return Err(error.into()),
                other => other,
            };

            // The exchanges are checked here, so that reading them later finds nothing new.
            let outcome = match record.and_then(|record| record.exchanges().map(|_| record)) {
                Ok(record) => assign(self, &record, i).map_err(|(reason, detail)| (reason, detail.to_owned())),
                Err(error) => Err((Reason::from(&error), error.to_string())),
            };

            if let Err((reason, detail)) = outcome {
                self.lost.push(lost_record(of(&self.files), i, reason, &detail));
            }
        }
        Ok(())
    }

    fn drop_incomplete(&mut self) {
        let is_complete = |records: &ImageRecords| records.caption.is_some() && !records.informative.is_empty();
        let (complete, incomplete) = std::mem::take(&mut self.images).into_iter().partition(is_complete);
        self.images = complete;
        for records in &incomplete {
            let lacking = if records.caption.is_some() { "informative response" } else { "caption" };
            let detail = format!("the image has no {lacking}");
            let lost = |(file, i)| lost_record(file, i, Reason::Unmatched, &detail);
            let lost: Vec<_> = self.indices(records).map(lost).collect();
            self.lost.extend(lost);
        }
    }

    fn indices<'a>(&'a self, records: &'a ImageRecords) -> impl Iterator<Item = (&'a JsonFile, RecordIndex)> {
        let precise = records.precise.iter().map(|i| (&self.files.precise, *i));
        let caption = records.caption.iter().map(|i| (&self.files.captions, *i));
        let informative = records.informative.iter().map(|i| (&self.files.informative, *i));
        precise.chain(caption).chain(informative)
    }

    /// Reads the texts back image by image, in the order of VisionFLAN's file, and composes the conversations. An image
    /// whose texts are refused gives the ledger entries of all its source records.
    ///
    /// # Errors
    /// [`SynthError::Config`]; files that cannot be read any more.
    pub fn conversations(
        &self,
        config: &SeedConfig,
    ) -> Result<impl Iterator<Item = Result<SeedConversation, Vec<LedgerEntry>>>, SynthError> {
        config.validate()?;
        let splits = self.splits(config);
        let compose = move |(records, split): (&ImageRecords, Split)| {
            let entry = self.entry(records).map_err(SynthError::from);
            entry.and_then(|entry| compose_seed(&entry, split, config)).map_err(|error| {
                let lost = |(file, i)| lost_record(file, i, error.reason(), &error.to_string());
                self.indices(records).map(lost).collect()
            })
        };
        Ok(self.images.iter().zip(splits).map(compose))
    }

    /// In each task, the share of images that draw the lowest numbers is held out: exact to one image, and an image stays
    /// on its side when others come or go, up to that one.
    fn splits(&self, config: &SeedConfig) -> Vec<Split> {
        let mut of_task: BTreeMap<usize, Vec<(u64, usize)>> = BTreeMap::new();
        for (i, records) in self.images.iter().enumerate() {
            let draw = named_stream(config.seed, "seed-split", &records.name_hash.to_string()).next_u64();
            of_task.entry(records.task).or_default().push((draw, i));
        }
        let mut splits = vec![Split::Train; self.images.len()];
        for mut drawn in of_task.into_values() {
            drawn.sort_unstable();
            let n_dev = (drawn.len() as f64 * config.dev_share).round() as usize;
            for (_, at) in &drawn[..n_dev] {
                splits[*at] = Split::Dev;
            }
        }
        splits
    }

    fn entry(&self, records: &ImageRecords) -> Result<SeedEntry, CoreError> {
        let read_all = |file: &JsonFile, indices: &[RecordIndex]| -> Result<_, CoreError> {
            let mut exchanges: Vec<QuestionAnswer> = Vec::new();
            let mut image = String::new();
            for i in indices {
                let record = read_record(file, *i)?;
                exchanges.extend(record.exchanges()?);
                image = record.image_name().to_owned();
            }
            Ok((image, exchanges))
        };
        let Files { precise, captions, informative } = &self.files;
        let (image, precise) = read_all(precise, &records.precise)?;
        let (_, mut caption) = read_all(captions, records.caption.as_slice())?;
        let (_, informative) = read_all(informative, &records.informative)?;
        let pair = ImageCaption::new(image, caption.swap_remove(0).answer);
        let task = self.tasks[records.task].clone();
        Ok(SeedEntry { id: pair.id, image: pair.image, caption: pair.caption, task, precise, informative })
    }
}

#[derive(Debug)]
struct Files {
    precise: JsonFile,
    captions: JsonFile,
    informative: JsonFile,
}

impl Files {
    fn open(sources: &SeedSources) -> Result<Self, CoreError> {
        let SeedSources { precise, captions, informative } = sources;
        Ok(Self {
            precise: JsonFile::open(precise)?,
            captions: JsonFile::open(captions)?,
            informative: JsonFile::open(informative)?,
        })
    }
}

fn read_record(file: &JsonFile, i: RecordIndex) -> Result<SeedRecord, CoreError> {
    SeedRecord::read(file.path(), file.number(i), file.value(i)?)
}

fn lost_record(file: &JsonFile, i: RecordIndex, reason: Reason, detail: &str) -> LedgerEntry {
    let name = file.path().file_name().unwrap_or_default().to_string_lossy();
    let id = RecordId::given(format!("{name} record {}", file.number(i)));
    LedgerEntry::new(id, Stage::Read, reason, detail)
}

fn hash(name: &str) -> u64 {
    RecordId::given(name).to_u64()
}
