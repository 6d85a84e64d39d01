use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use adamllm_core::random::named_stream;
use adamllm_core::{CoreError, ImageCaption, LedgerRow, Reason, RecordId, Stage};
use rand::Rng;

use super::entry::SeedRow;
use super::json_array::{JsonArray, Span};
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

/// Where each image's rows stand in the three files: the join, without the texts. About 150 bytes for an image, whatever the
/// length of the texts.
#[derive(Debug)]
pub struct SeedIndex {
    sources: SeedSources,
    images: Vec<ImageRows>,
    tasks: Vec<String>,
    rows_in: u64,
    lost: Vec<LedgerRow>,
}

/// One row of one file.
#[derive(Clone, Copy, Debug)]
struct Place {
    span: Span,
    row: u64,
}

#[derive(Debug, Default)]
struct ImageRows {
    task: usize,
    name_hash: u64,
    precise: Vec<Place>,
    caption: Option<Place>,
    informative: Vec<Place>,
}

impl SeedIndex {
    /// Reads the three files once, and joins their rows by image file name. Rows that are not sound, and rows of images that
    /// lack one of the three, are lost.
    ///
    /// # Errors
    /// Files that cannot be read, or that are not JSON arrays.
    pub fn build(sources: SeedSources) -> Result<Self, SynthError> {
        let mut index = Self { sources: sources.clone(), images: vec![], tasks: vec![], rows_in: 0, lost: vec![] };
        let (mut by_name, mut by_task) = (HashMap::new(), HashMap::new());
        index.scan(&sources.precise, |index, row, place| {
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
        })?;
        let unmatched = (Reason::Unmatched, "the image has no precise response");
        index.scan(&sources.captions, |index, row, place| {
            let at = *by_name.get(&hash(row.image_name())).ok_or(unmatched)?;
            match &mut index.images[at].caption {
                Some(_) => Err((Reason::Duplicate, "the image has a caption already")),
                caption => {
                    *caption = Some(place);
                    Ok(())
                }
            }
        })?;
        index.scan(&sources.informative, |index, row, place| {
            let at = *by_name.get(&hash(row.image_name())).ok_or(unmatched)?;
            index.images[at].informative.push(place);
            Ok(())
        })?;
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
        path: &Path,
        mut place_row: impl FnMut(&mut Self, &SeedRow, Place) -> Result<(), (Reason, &'static str)>,
    ) -> Result<(), SynthError> {
        let mut array = JsonArray::open(path)?;
        while let Some(span) = array.advance()? {
            self.rows_in += 1;
            let place = Place { span, row: array.row() };
            let outcome = match serde_json::from_slice::<SeedRow>(array.element()) {
                Ok(row) => match row.exchanges() {
                    Ok(_) => place_row(self, &row, place).map_err(|(reason, detail)| (reason, detail.to_owned())),
                    Err(error) => Err((Reason::from(&error), error.to_string())),
                },
                Err(error) => Err((Reason::InvalidJson, error.to_string())),
            };
            if let Err((reason, detail)) = outcome {
                self.lost.push(lost_row(path, place, reason, &detail));
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
            let lost = |(path, place)| lost_row(path, place, Reason::Unmatched, &detail);
            let lost: Vec<_> = self.places(rows).map(lost).collect();
            self.lost.extend(lost);
        }
    }

    fn places<'a>(&'a self, rows: &'a ImageRows) -> impl Iterator<Item = (&'a Path, Place)> {
        let precise = rows.precise.iter().map(|place| (self.sources.precise.as_path(), *place));
        let caption = rows.caption.iter().map(|place| (self.sources.captions.as_path(), *place));
        let informative = rows.informative.iter().map(|place| (self.sources.informative.as_path(), *place));
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
        let open = |path: &Path| File::open(path).map_err(CoreError::io("open", path));
        let SeedSources { precise, captions, informative } = &self.sources;
        let mut files = Files { precise: open(precise)?, captions: open(captions)?, informative: open(informative)? };
        let compose = move |(rows, split): (&ImageRows, Split)| {
            let entry = self.entry(rows, &mut files).map_err(SynthError::from);
            entry.and_then(|entry| compose_seed(&entry, split, config)).map_err(|error| {
                let lost = |(path, place)| lost_row(path, place, error.reason(), &error.to_string());
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

    fn entry(&self, rows: &ImageRows, files: &mut Files) -> Result<SeedEntry, CoreError> {
        let read_all = |file: &mut File, path: &Path, places: &[Place]| -> Result<_, CoreError> {
            let mut exchanges: Vec<QuestionAnswer> = Vec::new();
            let mut image = String::new();
            for place in places {
                let row = read_row(file, path, *place)?;
                exchanges.extend(row.exchanges()?);
                image = row.image_name().to_owned();
            }
            Ok((image, exchanges))
        };
        let SeedSources { precise, captions, informative } = &self.sources;
        let (image, precise) = read_all(&mut files.precise, precise, &rows.precise)?;
        let (_, mut caption) = read_all(&mut files.captions, captions, rows.caption.as_slice())?;
        let (_, informative) = read_all(&mut files.informative, informative, &rows.informative)?;
        let pair = ImageCaption::new(image, caption.swap_remove(0).answer);
        let task = self.tasks[rows.task].clone();
        Ok(SeedEntry { id: pair.id, image: pair.image, caption: pair.caption, task, precise, informative })
    }
}

struct Files {
    precise: File,
    captions: File,
    informative: File,
}

fn read_row(file: &mut File, path: &Path, place: Place) -> Result<SeedRow, CoreError> {
    let mut element = vec![0; place.span.length as usize];
    file.seek(SeekFrom::Start(place.span.start)).map_err(CoreError::io("seek in", path))?;
    file.read_exact(&mut element).map_err(CoreError::io("read", path))?;
    serde_json::from_slice(&element).map_err(|source| CoreError::Json { path: path.into(), row: place.row, source })
}

fn lost_row(path: &Path, place: Place, reason: Reason, detail: &str) -> LedgerRow {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let id = RecordId::given(format!("{file} row {}", place.row));
    LedgerRow { id, stage: Stage::Read, reason, detail: detail.into() }
}

fn hash(name: &str) -> u64 {
    RecordId::given(name).to_u64()
}
