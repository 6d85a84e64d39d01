//! Tables with images inside: the Arrow folders of `datasets.save_to_disk`, Arrow files, and parquet files.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adamllm_core::json::unreadable;
use adamllm_core::{Conversation, CoreError, ImageCaption, ImageRef, ImageStore, RecordForm, RecordSource, RgbImage};
use arrow_array::{ArrayRef, RecordBatch};
use serde_json::Value;

use crate::folder::named;
use crate::local::is_table;
use crate::{DecodeOptions, FirstOf, FolderImages, decode, image_size};

mod arrow;
mod cell;
#[cfg(feature = "parquet")]
mod parquet;

/// Rows of a table, and the store of the images in them.
///
/// A row is read as JSON. An image (a struct of `bytes` and `path`, as `datasets` keeps them, or plain bytes) becomes a
/// reference made of the row's number (from 0), the column and, in lists, the index: `"17/image"`, `"17/images/0"`; one without
/// bytes is known by its path, beside the table or in `images` beside it. The table itself is the [`ImageStore`] for these
/// references, and the [`RecordSource`] of the rows. A column costs something only where it is asked for.
///
/// Arrow files are mapped into memory: nothing is read before it is used, and what was used is given back when reading goes
/// on after it, so memory stays the same whatever the table's size (of a stream whose buffers are packed, all batches are in
/// memory). Of parquet files the columns that were asked for are kept unpacked, of one row group at a time.
#[derive(Clone, Debug)]
pub struct Table {
    path: PathBuf,
    parts: Vec<Part>,
    /// The number of the first row of each part.
    starts: Vec<u64>,
    n_rows: u64,
    options: DecodeOptions,
    /// The columns that rows have; all where `None`.
    selected: Option<Vec<String>>,
    /// The part that was used last.
    last: Arc<AtomicUsize>,
}

/// Neighbouring rows that are at hand together.
#[derive(Clone, Debug)]
enum Part {
    /// A batch of an Arrow stream.
    Mapped(arrow::MappedBatch),
    /// A batch of an Arrow file.
    Block(Arc<arrow::IpcFile>, usize),
    #[cfg(feature = "parquet")]
    RowGroup(Arc<parquet::ParquetFile>, usize),
}

/// A column's values in one part, or why they cannot be read: that costs something only where they are asked for.
type Column = Result<ArrayRef, String>;

impl Part {
    /// The columns by name that `wanted` asks for; the others are not read.
    fn columns(&self, wanted: impl Fn(&str) -> bool) -> Vec<(String, Column)> {
        let of_batch = |batch: &RecordBatch| {
            let fields = batch.schema();
            let pairs = fields.fields().iter().zip(batch.columns()).filter(|(field, _)| wanted(field.name()));
            pairs.map(|(field, column)| (field.name().clone(), Ok(Arc::clone(column)))).collect()
        };

        match self {
            Self::Mapped(mapped) => of_batch(&mapped.batch),
            Self::Block(file, block) => match file.batch(*block) {
                Ok(batch) => of_batch(&batch),
                Err(error) => {
                    let names = file.names().filter(|name| wanted(name));
                    names.map(|name| (name.to_owned(), Err(error.to_string()))).collect()
                }
            },
            #[cfg(feature = "parquet")]
            Self::RowGroup(file, group) => {
                let wanted = file.names().enumerate().filter(|(_, name)| wanted(name));
                wanted.map(|(i, name)| (name.to_owned(), file.column(*group, i))).collect()
            }
        }
    }

    /// Gives back the memory that reading this part took.
    fn release(&self) {
        match self {
            Self::Mapped(mapped) => mapped.release(),
            Self::Block(file, block) => file.release(*block),
            #[cfg(feature = "parquet")]
            Self::RowGroup(file, group) => file.release(*group),
        }
    }

    /// Gives back the memory of bytes that lie in the file.
    fn release_bytes(&self, bytes: &[u8]) {
        match self {
            Self::Mapped(mapped) => mapped.release_bytes(bytes),
            Self::Block(file, _) => file.release_bytes(bytes),
            #[cfg(feature = "parquet")]
            Self::RowGroup(..) => {}
        }
    }
}

impl Table {
    /// Opens a folder that `datasets.save_to_disk` wrote, an Arrow stream or file, a parquet file, or a folder of such
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
        Ok(Self { path, parts, starts, n_rows, options: DecodeOptions::default(), selected: None, last })
    }

    /// A part's columns. The part that was used before it is given back.
    fn columns(&self, part: usize, wanted: impl Fn(&str) -> bool) -> Vec<(String, Column)> {
        let last = self.last.swap(part, Ordering::Relaxed);
        if last != part
            && let Some(last) = self.parts.get(last)
        {
            last.release();
        }
        self.parts[part].columns(wanted)
    }

    /// The part's columns of the table's rows.
    fn row_columns(&self, part: usize) -> Vec<(String, Column)> {
        self.columns(part, |name| {
            self.selected.as_ref().is_none_or(|selected| selected.iter().any(|column| column == name))
        })
    }

    /// The part that holds a row.
    fn part_of(&self, row: u64) -> usize {
        self.starts.partition_point(|&start| start <= row) - 1
    }

    /// Rows have these columns only: the others are not read.
    pub fn with_columns(mut self, columns: impl IntoIterator<Item = String>) -> Self {
        self.selected = Some(columns.into_iter().collect());
        self
    }

    /// Decodes images with other options.
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

    /// The rows as JSON objects, images as references. What JSON has no form for, and columns that cannot be read, are
    /// [`unreadable`] values: they cost something only where they are asked for.
    pub fn rows(&self) -> impl Iterator<Item = Result<Value, CoreError>> + '_ {
        self.starts.iter().enumerate().flat_map(move |(part, &start)| {
            let end = self.starts.get(part + 1).copied().unwrap_or(self.n_rows);
            let columns = if end > start { self.row_columns(part) } else { Vec::new() };
            (start..end).map(move |number| Ok(Value::Object(row(&columns, (number - start) as usize, number))))
        })
    }

    /// The rows as image-caption pairs, read as [`image_captions`](crate::image_captions) reads them. Only the columns that
    /// such a record has are read.
    pub fn image_captions(&self) -> impl Iterator<Item = Result<ImageCaption, CoreError>> + '_ {
        self.records(|record| record.into_image_caption())
    }

    /// The rows as conversations, read as [`conversations`](crate::conversations) reads them. Only the columns that such a
    /// record has are read.
    pub fn conversations(&self) -> impl Iterator<Item = Result<Conversation, CoreError>> + '_ {
        self.records(|record| record.into_conversation())
    }

    fn records<T>(
        &self,
        convert: fn(RecordForm<'_>) -> Result<T, CoreError>,
    ) -> impl Iterator<Item = Result<T, CoreError>> {
        let parts = self.starts.iter().enumerate().flat_map(move |(part, &start)| {
            let end = self.starts.get(part + 1).copied().unwrap_or(self.n_rows);
            let columns = if end > start { self.columns(part, RecordForm::has_key) } else { Vec::new() };
            (start..end).map(move |number| row(&columns, (number - start) as usize, number))
        });
        parts.zip(1..).map(move |(row, number)| convert(RecordForm::new(&self.path, number, Value::Object(row))))
    }

    /// An image's bytes, handed to `read` where they lie. `None` where the reference leads to no bytes in the table.
    fn with_bytes<T>(
        &self,
        image: &ImageRef,
        read: impl FnOnce(&[u8]) -> Result<T, CoreError>,
    ) -> Option<Result<T, CoreError>> {
        let mut steps = image.as_str().split('/');
        let number = steps.next()?.parse::<u64>().ok().filter(|&number| number < self.n_rows)?;
        let part = self.part_of(number);
        let name = steps.next()?;
        let (_, column) = self.columns(part, |column| column == name).into_iter().next()?;
        let row = (number - self.starts[part]) as usize;
        let column = match column {
            Ok(column) => column,
            Err(detail) => {
                return Some(Err(CoreError::ImageDecode { image: image.to_string(), source: detail.into() }));
            }
        };
        let bytes = cell::image(column, row, &mut steps)?;
        let answer = read(bytes.as_slice());
        self.parts[part].release_bytes(bytes.as_slice());
        Some(answer)
    }

    /// The images that the table names by their paths: beside it, or in `images` beside it.
    fn beside(&self) -> FirstOf {
        let folder = if self.path.is_dir() { self.path.as_path() } else { self.path.parent().unwrap_or("".as_ref()) };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let store = |folder: PathBuf| {
            Box::new(FolderImages::new(folder).with_options(self.options.clone())) as Box<dyn ImageStore>
        };
        let folders = [folder.to_path_buf(), folder.join("images")];
        FirstOf::new(folders.into_iter().map(store).collect())
    }
}

/// A row of the table's columns.
fn row(columns: &[(String, Column)], i: usize, number: u64) -> adamllm_core::JsonObject {
    let value = |(name, column): &(String, Column)| {
        let value = match column {
            Ok(column) => cell::to_json(column, i, &format!("{number}/{name}")),
            Err(detail) => unreadable(format!("a column that cannot be read: {detail}")),
        };
        (name.clone(), value)
    };
    columns.iter().map(value).collect()
}

impl RecordSource for Table {
    fn len(&self) -> usize {
        self.n_rows as usize
    }

    fn record(&self, index: usize) -> Result<Cow<'_, adamllm_core::JsonObject>, CoreError> {
        let number = index as u64;
        assert!(number < self.n_rows, "row {index} of {}", self.n_rows);
        let part = self.part_of(number);
        Ok(Cow::Owned(row(&self.row_columns(part), (number - self.starts[part]) as usize, number)))
    }

    fn location(&self, index: usize) -> String {
        format!("{} row {}", self.path.display(), index + 1)
    }
}

impl ImageStore for Table {
    fn open(&self, image: &ImageRef) -> Result<RgbImage, CoreError> {
        self.with_bytes(image, |bytes| decode(bytes, &self.options).map_err(|error| named(error, image)))
            .unwrap_or_else(|| self.beside().open(image))
    }

    fn size(&self, image: &ImageRef) -> Result<(u32, u32), CoreError> {
        self.with_bytes(image, |bytes| image_size(bytes, &self.options).map_err(|error| named(error, image)))
            .unwrap_or_else(|| self.beside().size(image))
    }

    fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, CoreError> {
        self.with_bytes(image, |bytes| Ok(Some(bytes.to_vec()))).unwrap_or_else(|| self.beside().bytes(image))
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

/// The split of a saved `DatasetDict` that has no other.
fn only_split(folder: &Path) -> Result<Option<String>, CoreError> {
    let path = folder.join("dataset_dict.json");
    let Ok(text) = std::fs::read(&path) else { return Ok(None) };
    let dict: Value =
        serde_json::from_slice(&text).map_err(|source| CoreError::Json { path: path.clone(), number: 1, source })?;
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
    let state: Value = serde_json::from_slice(&text).map_err(|source| CoreError::Json { path, number: 1, source })?;
    let files = state.get("_data_files").and_then(Value::as_array);
    let names = files.map(|files| files.iter().filter_map(|file| file.get("filename")?.as_str()));
    Ok(names.map(|names| names.map(|name| folder.join(name)).collect()))
}

/// The parts of a file and their numbers of rows. Its first bytes tell its format.
fn opened(file: &Path) -> Result<Vec<(Part, usize)>, CoreError> {
    let mut start = Vec::new();
    let opened = File::open(file).map_err(CoreError::io("open", file))?;
    opened.take(4).read_to_end(&mut start).map_err(CoreError::io("read", file))?;
    match &start[..] {
        #[cfg(feature = "parquet")]
        b"PAR1" => parquet::opened(file),
        #[cfg(not(feature = "parquet"))]
        b"PAR1" => {
            Err(CoreError::io("read without the feature `parquet`", file)(std::io::ErrorKind::Unsupported.into()))
        }
        b"PARE" => Err(CoreError::Layout {
            path: file.into(),
            expected: "a table that can be read without a key".into(),
            got: "an encrypted parquet file".into(),
        }),
        _ => arrow::opened(file),
    }
}

/// Runs a decoder that may panic on a damaged file: the panic becomes an error.
fn guarded<T, E: ToString>(decode: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode)) {
        Ok(decoded) => decoded.map_err(|error| error.to_string()),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
            Err(format!("the file is damaged: {}", said.unwrap_or_default()))
        }
    }
}

/// An Arrow error with the file's name.
fn arrow_error(file: &Path) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> CoreError + '_ {
    move |source| CoreError::io("read the table", file)(std::io::Error::new(std::io::ErrorKind::InvalidData, source))
}
