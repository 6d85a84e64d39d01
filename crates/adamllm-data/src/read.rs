//! Files of records to conversations and captions, one record at a time: LLaMA-Factory's ShareGPT form, LLaVA's form, and `captions.jsonl`.

use std::path::{Path, PathBuf};

use adamllm_core::json::JsonRecords;
use adamllm_core::{Conversation, CoreError, ImageCaption, RecordForm};

/// Reads conversations from a file in any of the forms of [`adamllm_core::json`].
///
/// A record is an object with `messages` or `conversations` (turns of `role`/`content` or `from`/`value`) and `images` or
/// `image` (one path or several): see [`RecordForm`]. Its `id` is kept where it has one.
///
/// # Errors
/// [`CoreError::Io`] where the file cannot be opened, [`CoreError::Layout`] where it is cut off or of another format. A record
/// that is wrong is an `Err` among the others.
pub fn conversations(path: impl AsRef<Path>) -> Result<Records<Conversation>, CoreError> {
    Records::open(path.as_ref(), |record| record.into_conversation())
}

/// Reads image-caption pairs from the same files, and from records of `image`, `caption` and an optional `request`.
///
/// A conversation becomes a pair by its first exchange: the user's request without its image marker, and the assistant's
/// reply as the caption.
///
/// # Errors
/// As [`conversations`].
pub fn image_captions(path: impl AsRef<Path>) -> Result<Records<ImageCaption>, CoreError> {
    Records::open(path.as_ref(), |record| record.into_image_caption())
}

/// The records of one file, read as they are asked for. A record that is wrong is an `Err`, and reading goes on after it;
/// the error names the file, the record's number (from 1), the field, what was expected and what was found.
pub struct Records<T> {
    records: JsonRecords,
    path: PathBuf,
    convert: fn(RecordForm<'_>) -> Result<T, CoreError>,
}

impl<T> std::fmt::Debug for Records<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<T> Records<T> {
    fn open(path: &Path, convert: fn(RecordForm<'_>) -> Result<T, CoreError>) -> Result<Self, CoreError> {
        Ok(Self { records: JsonRecords::open(path)?, path: path.to_path_buf(), convert })
    }

    /// The number of the record that was read last, from 1: its line in JSON Lines.
    pub fn number(&self) -> u64 {
        self.records.number()
    }
}

impl<T> Iterator for Records<T> {
    type Item = Result<T, CoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let value = self.records.next()?;
        Some(value.and_then(|value| (self.convert)(RecordForm::new(&self.path, self.records.number(), value))))
    }
}
