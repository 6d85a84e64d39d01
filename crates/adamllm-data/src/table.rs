//! Tables with pictures inside: the Arrow folders of `datasets.save_to_disk`, and parquet files.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adamllm_core::{Conversation, CoreError, ImageCaption, ImageRef, ImageStore, RecordForm, RgbImage, RowSource};
use arrow_array::RecordBatch;
use serde_json::Value;

use crate::folder::named;
use crate::{DecodeOptions, decode, image_size};

mod arrow;
mod cell;
#[cfg(feature = "parquet")]
mod parquet;

/// Rows of a table, and the store of the pictures that stand in them.
///
/// A row is read as JSON. A picture (a struct of `bytes` and `path`, as `datasets` keeps them) becomes a reference made of
/// the row's number (from 0), the column and, in lists, the place: `"17/image"`, `"17/images/0"`. The table itself is the
/// [`ImageStore`] for these references, and the [`RowSource`] of the rows. Arrow folders are mapped into memory: nothing is
/// read before it is used, and what was used is given back when reading goes on behind it, so memory stays the same
/// whatever the table's size. Of parquet files one row group at a time is kept unpacked.
#[derive(Clone, Debug)]
pub struct Table {
    path: PathBuf,
    parts: Vec<Part>,
    /// The number of the first row of each part.
    starts: Vec<u64>,
    n_rows: u64,
    options: DecodeOptions,
    /// The part that was used last.
    last: Arc<AtomicUsize>,
}

/// Neighbouring rows that are at hand together.
#[derive(Clone, Debug)]
enum Part {
    Mapped(arrow::MappedBatch),
    #[cfg(feature = "parquet")]
    RowGroup(Arc<parquet::ParquetFile>, usize),
}

impl Part {
    fn batch(&self) -> Result<RecordBatch, CoreError> {
        match self {
            Self::Mapped(mapped) => Ok(mapped.batch.clone()),
            #[cfg(feature = "parquet")]
            Self::RowGroup(file, group) => file.row_group(*group),
        }
    }

    /// Gives back the memory that reading this part took.
    fn release(&self) {
        match self {
            Self::Mapped(mapped) => mapped.release(),
            #[cfg(feature = "parquet")]
            Self::RowGroup(file, group) => file.release(*group),
        }
    }
}

impl Table {
    /// Opens a folder that `datasets.save_to_disk` wrote, an `.arrow` stream, a `.parquet` file, or a folder of such
    /// files (in the order of their names).
    ///
    /// # Errors
    /// [`CoreError::Io`] where there is no such table, or one that breaks its format's rules.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, CoreError> {
        let path = path.into();
        let files = files(&path)?;
        Self::of_files(path, &files)
    }

    /// Some files of a folder as one table.
    pub(crate) fn of_files(path: PathBuf, files: &[PathBuf]) -> Result<Self, CoreError> {
        let (mut parts, mut starts, mut n_rows) = (Vec::new(), Vec::new(), 0);
        for file in files {
            for (part, n) in opened(file)? {
                parts.push(part);
                starts.push(n_rows);
                n_rows += n as u64;
            }
        }
        let last = Arc::new(AtomicUsize::new(usize::MAX));
        Ok(Self { path, parts, starts, n_rows, options: DecodeOptions::default(), last })
    }

    /// A part's rows. The part that was used before it is given back.
    fn batch(&self, part: usize) -> Result<RecordBatch, CoreError> {
        let last = self.last.swap(part, Ordering::Relaxed);
        if last != part
            && let Some(last) = self.parts.get(last)
        {
            last.release();
        }
        self.parts[part].batch()
    }

    /// The part that holds a row.
    fn part_of(&self, row: u64) -> usize {
        self.starts.partition_point(|&start| start <= row) - 1
    }

    /// Decodes pictures with other options.
    pub fn with_options(mut self, options: DecodeOptions) -> Self {
        self.options = options;
        self
    }

    /// The file or folder that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of rows.
    pub fn len(&self) -> u64 {
        self.n_rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.n_rows == 0
    }

    /// The rows as JSON objects, pictures as references.
    pub fn rows(&self) -> impl Iterator<Item = Result<Value, CoreError>> + '_ {
        self.starts.iter().enumerate().flat_map(move |(part, &start)| {
            let (batch, failure) = match self.batch(part) {
                Ok(batch) => (Some(batch), None),
                Err(error) => (None, Some(Err(error))),
            };
            let rows = batch
                .into_iter()
                .flat_map(move |batch| (0..batch.num_rows()).map(move |i| self.row_of(&batch, i, start + i as u64)));
            rows.chain(failure)
        })
    }

    /// The rows as image-caption pairs, read as [`image_captions`](crate::image_captions) reads them.
    pub fn image_captions(&self) -> impl Iterator<Item = Result<ImageCaption, CoreError>> + '_ {
        self.records(|record| record.into_image_caption())
    }

    /// The rows as conversations, read as [`conversations`](crate::conversations) reads them.
    pub fn conversations(&self) -> impl Iterator<Item = Result<Conversation, CoreError>> + '_ {
        self.records(|record| record.into_conversation())
    }

    fn records<T>(&self, convert: fn(RecordForm<'_>) -> Result<T, CoreError>) -> impl Iterator<Item = Result<T, CoreError>> {
        self.rows().zip(1..).map(move |(value, row)| convert(RecordForm::new(&self.path, row, value?)))
    }

    fn row_of(&self, batch: &RecordBatch, i: usize, number: u64) -> Result<Value, CoreError> {
        self.columns_of(batch, i, number).map(Value::Object)
    }

    fn columns_of(&self, batch: &RecordBatch, i: usize, number: u64) -> Result<adamllm_core::Row, CoreError> {
        let schema = batch.schema();
        let mut row = serde_json::Map::new();
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            let reference = format!("{number}/{}", field.name());
            let value = cell::to_json(column, i, &reference).map_err(|kind| CoreError::Field {
                record: format!("{} row {}", self.path.display(), number + 1),
                field: "(column)",
                expected: "text, numbers, pictures, lists and structs of them".into(),
                got: format!("column `{}` with {kind}", field.name()),
            })?;
            row.insert(field.name().clone(), value);
        }
        Ok(row)
    }

    /// A picture's bytes, handed to `read` where they lie.
    fn with_bytes<T>(
        &self,
        image: &ImageRef,
        read: impl FnOnce(&[u8]) -> Result<T, CoreError>,
    ) -> Result<T, CoreError> {
        let missing = || CoreError::ImageMissing { image: image.to_string(), place: self.path.display().to_string() };
        let mut steps = image.as_str().split('/');
        let number = steps.next().and_then(|row| row.parse::<u64>().ok()).filter(|&row| row < self.n_rows);
        let number = number.ok_or_else(missing)?;
        let part = self.part_of(number);
        let batch = self.batch(part)?;
        let column = steps.next().and_then(|name| batch.column_by_name(name)).ok_or_else(missing)?;
        let place = (number - self.starts[part]) as usize;
        let bytes = cell::picture(Arc::clone(column), place, &mut steps).ok_or_else(missing)?;
        let answer = read(bytes.as_slice());
        if let Part::Mapped(mapped) = &self.parts[part] {
            mapped.release_bytes(bytes.as_slice());
        }
        answer
    }
}

impl RowSource for Table {
    fn len(&self) -> usize {
        self.n_rows as usize
    }

    fn row(&self, index: usize) -> Result<Cow<'_, adamllm_core::Row>, CoreError> {
        let number = index as u64;
        assert!(number < self.n_rows, "row {index} of {}", self.n_rows);
        let part = self.part_of(number);
        let batch = self.batch(part)?;
        self.columns_of(&batch, (number - self.starts[part]) as usize, number).map(Cow::Owned)
    }

    fn place(&self, index: usize) -> String {
        format!("{} row {}", self.path.display(), index + 1)
    }
}

impl ImageStore for Table {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        self.with_bytes(image, |bytes| decode(bytes, &self.options).map_err(|error| named(error, image)))
    }

    fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
        self.with_bytes(image, |bytes| image_size(bytes, &self.options).map_err(|error| named(error, image)))
    }

    fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        self.with_bytes(image, |bytes| Ok(Some(bytes.to_vec())))
    }
}

/// The table's files: those that `state.json` lists, else all in the folder by name.
fn files(path: &Path) -> Result<Vec<PathBuf>, CoreError> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    if let Some(split) = only_split(path)? {
        return files(&path.join(split));
    }
    if let Some(listed) = listed_files(path)? {
        return Ok(listed);
    }
    let entries = std::fs::read_dir(path).map_err(CoreError::io("list", path))?;
    let mut files: Vec<_> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| is_table(file)).collect();
    files.sort();
    if files.is_empty() {
        return Err(CoreError::io("find .arrow or .parquet files in", path)(std::io::ErrorKind::NotFound.into()));
    }
    Ok(files)
}

fn is_table(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "arrow" || extension == "parquet")
}

/// The split of a saved `DatasetDict` that has no other.
fn only_split(folder: &Path) -> Result<Option<String>, CoreError> {
    let path = folder.join("dataset_dict.json");
    let Ok(text) = std::fs::read(&path) else { return Ok(None) };
    let dict: Value =
        serde_json::from_slice(&text).map_err(|source| CoreError::Json { path: path.clone(), row: 1, source })?;
    let splits = dict.get("splits").and_then(Value::as_array);
    let splits: Vec<_> = splits.into_iter().flatten().filter_map(Value::as_str).collect();
    match splits[..] {
        [split] => Ok(Some(split.to_owned())),
        _ => Err(CoreError::Field {
            record: path.display().to_string(),
            field: "splits",
            expected: "one split (open one of the folders inside)".into(),
            got: splits.join(", "),
        }),
    }
}

fn listed_files(folder: &Path) -> Result<Option<Vec<PathBuf>>, CoreError> {
    let path = folder.join("state.json");
    let Ok(text) = std::fs::read(&path) else { return Ok(None) };
    let state: Value = serde_json::from_slice(&text).map_err(|source| CoreError::Json { path, row: 1, source })?;
    let files = state.get("_data_files").and_then(Value::as_array);
    let names = files.map(|files| files.iter().filter_map(|file| file.get("filename")?.as_str()));
    Ok(names.map(|names| names.map(|name| folder.join(name)).collect()))
}

/// The parts of a file and their numbers of rows.
fn opened(file: &Path) -> Result<Vec<(Part, usize)>, CoreError> {
    if file.extension().is_some_and(|extension| extension == "parquet") {
        #[cfg(feature = "parquet")]
        return parquet::opened(file);
        #[cfg(not(feature = "parquet"))]
        return Err(CoreError::io("read without the feature `parquet`", file)(std::io::ErrorKind::Unsupported.into()));
    }
    let batches = arrow::mapped(file)?;
    let part = |mapped: arrow::MappedBatch| (mapped.batch.num_rows(), mapped);
    Ok(batches.into_iter().map(part).map(|(n, mapped)| (Part::Mapped(mapped), n)).collect())
}

/// An Arrow error with the file's name.
fn arrow_error(file: &Path) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> CoreError + '_ {
    move |source| CoreError::io("read the table", file)(std::io::Error::new(std::io::ErrorKind::InvalidData, source))
}
