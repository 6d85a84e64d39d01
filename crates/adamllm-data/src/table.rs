//! Tables with pictures inside: the Arrow folders of `datasets.save_to_disk`, and parquet files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adamllm_core::{Conversation, CoreError, ImageCaption, ImageRef, ImageStore, RgbImage};
use arrow_array::RecordBatch;
use serde_json::Value;

use crate::folder::named;
use crate::read::Row;
use crate::{DecodeOptions, decode, image_size};

mod arrow;
mod cell;
#[cfg(feature = "parquet")]
mod parquet;

/// Rows of a table, and the store of the pictures that stand in them.
///
/// A row is read as JSON. A picture (a struct of `bytes` and `path`, as `datasets` keeps them) becomes a reference made of
/// the row's number (from 0), the column and, in lists, the place: `"17/image"`, `"17/images/0"`. The table itself is the
/// [`ImageStore`] for these references. Arrow folders are mapped into memory, so nothing is read before it is used; of
/// parquet files one row group at a time is kept unpacked.
#[derive(Clone, Debug)]
pub struct Table {
    path: PathBuf,
    parts: Vec<Part>,
    /// The number of the first row of each part.
    starts: Vec<u64>,
    n_rows: u64,
    options: DecodeOptions,
}

/// Neighbouring rows that are at hand together.
#[derive(Clone, Debug)]
enum Part {
    Mapped(RecordBatch),
    #[cfg(feature = "parquet")]
    RowGroup(Arc<parquet::ParquetFile>, usize),
}

impl Part {
    fn batch(&self) -> Result<RecordBatch, CoreError> {
        match self {
            Self::Mapped(batch) => Ok(batch.clone()),
            #[cfg(feature = "parquet")]
            Self::RowGroup(file, group) => file.row_group(*group),
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
        let (mut parts, mut starts, mut n_rows) = (Vec::new(), Vec::new(), 0);
        for file in files(&path)? {
            for (part, n) in opened(&file)? {
                parts.push(part);
                starts.push(n_rows);
                n_rows += n as u64;
            }
        }
        Ok(Self { path, parts, starts, n_rows, options: DecodeOptions::default() })
    }

    /// Decodes pictures with other options.
    pub fn with_options(mut self, options: DecodeOptions) -> Self {
        self.options = options;
        self
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
        self.parts.iter().zip(&self.starts).flat_map(move |(part, &start)| {
            let (batch, failure) = match part.batch() {
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
        self.records(|row| row.into_image_caption())
    }

    /// The rows as conversations, read as [`conversations`](crate::conversations) reads them.
    pub fn conversations(&self) -> impl Iterator<Item = Result<Conversation, CoreError>> + '_ {
        self.records(|row| row.into_conversation())
    }

    fn records<T>(&self, convert: fn(Row<'_>) -> Result<T, CoreError>) -> impl Iterator<Item = Result<T, CoreError>> {
        self.rows().zip(1..).map(move |(value, row)| convert(Row { path: &self.path, row, value: value? }))
    }

    fn row_of(&self, batch: &RecordBatch, i: usize, number: u64) -> Result<Value, CoreError> {
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
        Ok(Value::Object(row))
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
        let part = self.starts.partition_point(|&start| start <= number) - 1;
        let batch = self.parts[part].batch()?;
        let column = steps.next().and_then(|name| batch.column_by_name(name)).ok_or_else(missing)?;
        let place = (number - self.starts[part]) as usize;
        let bytes = cell::picture(Arc::clone(column), place, &mut steps).ok_or_else(missing)?;
        read(bytes.as_slice())
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
    Ok(batches.into_iter().map(|batch| (batch.num_rows(), batch)).map(|(n, batch)| (Part::Mapped(batch), n)).collect())
}

/// An Arrow error with the file's name.
fn arrow_error(file: &Path) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> CoreError + '_ {
    move |source| CoreError::io("read the table", file)(std::io::Error::new(std::io::ErrorKind::InvalidData, source))
}
