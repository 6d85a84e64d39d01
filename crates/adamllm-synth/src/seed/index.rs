use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use adamllm_core::json::JsonFile;
use adamllm_core::random::named_stream;
use adamllm_core::{CoreError, ImageCaption, LedgerRow, Reason, RecordId, RowSource, Stage};
use rand::Rng;

use super::entry::SeedRow;
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

/// Where each image's records stand in the three files: the join, without the texts. About 200 bytes for an image, whatever
/// the length of the texts.
#[derive(Debug)]
pub struct SeedIndex {
    files: Files,
    images: Vec<ImageRows>,
    tasks: Vec<String>,
    rows_in: u64,
    lost: Vec<LedgerRow>,
}

/// One record of one file, counted from 0.
type Place = usize;

#[derive(Debug, Default)]
struct ImageRows {
    task: usize,
    name_hash: u64,
    precise: Vec<Place>,
    caption: Option<Place>,
    informative: Vec<Place>,
}

impl SeedIndex {
    /// Reads the three files, in any of the forms of [`adamllm_core::json`], and joins their records by image file name.
    /// Records that are not sound, and records of images that lack one of the three, are lost.
    ///
    /// # Errors
    /// Files that cannot be read, are cut off, or are of another format.
    pub fn build(sources: SeedSources) -> Result<Self, SynthError> {
        let files = Files::open(&sources)?;
        let mut index = Self { files, images: vec![], tasks: vec![], rows_in: 0, lost: vec![] };
        let (mut by_name, mut by_task) = (HashMap::new(), HashMap::new());
        index.scan(
            |files| &files.precise,
            |index, row, place| {
                let task = row.task_name.clone().unwrap_or_else(|| "unnamed".into());
                let task = *by_task.entry(task.clone()).or_insert_with(|| {
                    index.tasks.push(task);
                    index.tasks.len() - 1
                });
                let name_hash = hash(row.image_name());
                let at = *by_name.entry(name_hash).or_insert_with(|| {
                    index.images.push(ImageRows { task, name_hash, ..ImageRows::default() });
                    index.images.len() - 1
                });
                index.images[at].precise.push(place);
                Ok(())
            },
        )?;
        let unmatched = (Reason::Unmatched, "the image has no precise response");
        index.scan(
            |files| &files.captions,
            |index, row, place| {
                let at = *by_name.get(&hash(row.image_name())).ok_or(unmatched)?;
                match &mut index.images[at].caption {
                    Some(_) => Err((Reason::Duplicate, "the image has a caption already")),
                    caption => {
                        *caption = Some(place);
                        Ok(())
                    }
                }
            },
        )?;
        index.scan(
            |files| &files.informative,
            |index, row, place| {
                let at = *by_name.get(&hash(row.image_name())).ok_or(unmatched)?;
                index.images[at].informative.push(place);
                Ok(())
            },
        )?;
        index.drop_incomplete();
        Ok(index)
    }

    /// Rows in all three files.
    pub fn rows_in(&self) -> u64 {
        self.rows_in
    }

    /// Images with a caption, a precise and an informative response.
    pub fn n_images(&self) -> usize {
        self.images.len()
    }

    /// Rows that belong to those images.
    pub(super) fn n_rows_joined(&self) -> u64 {
        let n_rows = |rows: &ImageRows| rows.precise.len() + 1 + rows.informative.len();
        self.images.iter().map(n_rows).sum::<usize>() as u64
    }

    /// The rows that were lost while joining.
    pub fn lost(&self) -> &[LedgerRow] {
        &self.lost
    }

    fn scan(
        &mut self,
        of: impl Fn(&Files) -> &JsonFile,
        mut place_row: impl FnMut(&mut Self, &SeedRow, Place) -> Result<(), (Reason, &'static str)>,
    ) -> Result<(), SynthError> {
        for place in 0..of(&self.files).len() {
            self.rows_in += 1;
            let row = match read_row(of(&self.files), place) {
                Err(error @ (CoreError::Io { .. } | CoreError::Layout { .. })) => return Err(error.into()),
                other => other,
            };
            let outcome = match row.and_then(|row| row.exchanges().map(|_| row)) {
                Ok(row) => place_row(self, &row, place).map_err(|(reason, detail)| (reason, detail.to_owned())),
                Err(error) => Err((Reason::from(&error), error.to_string())),
            };
            if let Err((reason, detail)) = outcome {
                self.lost.push(lost_row(of(&self.files), place, reason, &detail));
            }
        }
        Ok(())
    }

    fn drop_incomplete(&mut self) {
        let is_complete = |rows: &ImageRows| rows.caption.is_some() && !rows.informative.is_empty();
        let (complete, incomplete) = std::mem::take(&mut self.images).into_iter().partition(is_complete);
        self.images = complete;
        for rows in &incomplete {
            let lacking = if rows.caption.is_some() { "informative response" } else { "caption" };
            let detail = format!("the image has no {lacking}");
            let lost = |(file, place)| lost_row(file, place, Reason::Unmatched, &detail);
            let lost: Vec<_> = self.places(rows).map(lost).collect();
            self.lost.extend(lost);
        }
    }

    fn places<'a>(&'a self, rows: &'a ImageRows) -> impl Iterator<Item = (&'a JsonFile, Place)> {
        let precise = rows.precise.iter().map(|place| (&self.files.precise, *place));
        let caption = rows.caption.iter().map(|place| (&self.files.captions, *place));
        let informative = rows.informative.iter().map(|place| (&self.files.informative, *place));
        precise.chain(caption).chain(informative)
    }

    /// Reads the texts back image by image, in the order of VisionFLAN's file, and composes the conversations. An image
    /// whose texts are refused gives the ledger rows of all its source rows.
    ///
    /// # Errors
    /// [`SynthError::Config`]; files that cannot be read any more.
    pub fn conversations(
        &self,
        config: &SeedConfig,
    ) -> Result<impl Iterator<Item = Result<SeedConversation, Vec<LedgerRow>>>, SynthError> {
        config.validate()?;
        let splits = self.splits(config);
        let compose = move |(rows, split): (&ImageRows, Split)| {
            let entry = self.entry(rows).map_err(SynthError::from);
            entry.and_then(|entry| compose_seed(&entry, split, config)).map_err(|error| {
                let lost = |(file, place)| lost_row(file, place, error.reason(), &error.to_string());
                self.places(rows).map(lost).collect()
            })
        };
        Ok(self.images.iter().zip(splits).map(compose))
    }

    /// In each task, the share of images that draw the lowest numbers is held out: exact to one image, and an image stays
    /// on its side when others come or go, up to that one.
    fn splits(&self, config: &SeedConfig) -> Vec<Split> {
        let mut of_task: BTreeMap<usize, Vec<(u64, usize)>> = BTreeMap::new();
        for (at, rows) in self.images.iter().enumerate() {
            let draw = named_stream(config.seed, "seed-split", &rows.name_hash.to_string()).next_u64();
            of_task.entry(rows.task).or_default().push((draw, at));
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

    fn entry(&self, rows: &ImageRows) -> Result<SeedEntry, CoreError> {
        let read_all = |file: &JsonFile, places: &[Place]| -> Result<_, CoreError> {
            let mut exchanges: Vec<QuestionAnswer> = Vec::new();
            let mut image = String::new();
            for place in places {
                let row = read_row(file, *place)?;
                exchanges.extend(row.exchanges()?);
                image = row.image_name().to_owned();
            }
            Ok((image, exchanges))
        };
        let Files { precise, captions, informative } = &self.files;
        let (image, precise) = read_all(precise, &rows.precise)?;
        let (_, mut caption) = read_all(captions, rows.caption.as_slice())?;
        let (_, informative) = read_all(informative, &rows.informative)?;
        let pair = ImageCaption::new(image, caption.swap_remove(0).answer);
        let task = self.tasks[rows.task].clone();
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

fn read_row(file: &JsonFile, place: Place) -> Result<SeedRow, CoreError> {
    SeedRow::read(file.path(), file.number(place), file.value(place)?)
}

fn lost_row(file: &JsonFile, place: Place, reason: Reason, detail: &str) -> LedgerRow {
    let name = file.path().file_name().unwrap_or_default().to_string_lossy();
    let id = RecordId::given(format!("{name} row {}", file.number(place)));
    LedgerRow { id, stage: Stage::Read, reason, detail: detail.into() }
}

fn hash(name: &str) -> u64 {
    RecordId::given(name).to_u64()
}
