//! Files of rows to records, one row at a time: LLaMA-Factory's ShareGPT form, LLaVA's form, and `captions.jsonl`.

use std::path::{Path, PathBuf};

use adamllm_core::{Conversation, CoreError, ImageCaption};
use serde_json::Value;

pub use json_file::JsonFile;
pub(crate) use row::Row;
use split::JsonRows;

mod json_file;
mod row;
mod split;

/// Reads conversations from a JSON array or from JSON Lines.
///
/// A row is an object with `messages` or `conversations` (turns of `role`/`content` or `from`/`value`) and `images` or
/// `image` (one path or several). Its `id` is kept where it has one.
///
/// # Errors
/// [`CoreError::Io`] where the file cannot be opened. A row that is wrong is an `Err` in its own place.
pub fn conversations(path: impl AsRef<Path>) -> Result<Records<Conversation>, CoreError> {
    Records::open(path.as_ref(), |row| row.into_conversation())
}

/// Reads image-caption pairs from the same files, and from rows of `image`, `caption` and an optional `request`.
///
/// A conversation becomes a pair by its first exchange: the user's request without its image marker, and the assistant's
/// reply as the caption.
///
/// # Errors
/// As [`conversations`].
pub fn image_captions(path: impl AsRef<Path>) -> Result<Records<ImageCaption>, CoreError> {
    Records::open(path.as_ref(), |row| row.into_image_caption())
}

/// The records of one file, read as they are asked for. A row that is no such record is an `Err` in its own place, and
/// reading goes on behind it; it names the file, the row (counted from 1), the field, what was expected and what was
/// found.
pub struct Records<T> {
    rows: JsonRows,
    path: PathBuf,
    convert: fn(Row<'_>) -> Result<T, CoreError>,
}

impl<T> std::fmt::Debug for Records<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<T> Records<T> {
    fn open(path: &Path, convert: fn(Row<'_>) -> Result<T, CoreError>) -> Result<Self, CoreError> {
        let rows = JsonRows::open(path).map_err(CoreError::io("open", path))?;
        Ok(Self { rows, path: path.to_path_buf(), convert })
    }

    /// The row (counted from 1) that was read last.
    pub fn row(&self) -> u64 {
        self.rows.row()
    }
}

impl<T> Iterator for Records<T> {
    type Item = Result<T, CoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = match self.rows.next_row()? {
            Ok(bytes) => bytes,
            Err(source) => return Some(Err(CoreError::io("read", &self.path)(source))),
        };
        let parsed = serde_json::from_slice::<Value>(bytes);
        let row = self.rows.row();
        Some(match parsed {
            Ok(value) => (self.convert)(Row { path: &self.path, row, value }),
            Err(source) => Err(CoreError::Json { path: self.path.clone(), row, source }),
        })
    }
}
