use std::borrow::Cow;
use std::path::{Path, PathBuf};

use adamllm_core::json::JsonFile;
use adamllm_core::{CoreError, JsonObject, RecordSource};

use crate::EvalError;

/// The records of a file in any of the forms of [`adamllm_core::json`], or records in memory: examples, or predictions.
#[derive(Debug)]
pub struct JsonExamples(Store);

#[derive(Debug)]
enum Store {
    File(JsonFile),
    Memory { name: PathBuf, records: Vec<JsonObject> },
}

impl JsonExamples {
    /// Opens the file. A record that is not a JSON object costs itself only.
    ///
    /// # Errors
    /// [`CoreError::Io`]; [`CoreError::Layout`] where the file is cut off or of another format.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, EvalError> {
        Ok(Self(Store::File(JsonFile::open(path.as_ref())?)))
    }

    /// [`JsonExamples::read`] that keeps some columns only; the others are skipped without being stored.
    ///
    /// # Errors
    /// As [`JsonExamples::read`].
    pub fn read_columns(path: impl AsRef<Path>, columns: &[String]) -> Result<Self, EvalError> {
        let file = JsonFile::open(path.as_ref())?;
        Ok(Self(Store::File(file.with_columns(columns.iter().cloned()))))
    }

    /// Records that are in memory already; `name` stands for the file in error messages.
    pub fn from_records(name: impl Into<PathBuf>, records: impl IntoIterator<Item = JsonObject>) -> Self {
        Self(Store::Memory { name: name.into(), records: records.into_iter().collect() })
    }
}

impl RecordSource for JsonExamples {
    fn len(&self) -> usize {
        match &self.0 {
            Store::File(file) => file.len(),
            Store::Memory { records, .. } => records.len(),
        }
    }

    fn record(&self, index: usize) -> Result<Cow<'_, JsonObject>, CoreError> {
        match &self.0 {
            Store::File(file) => file.record(index),
            Store::Memory { records, .. } => Ok(Cow::Borrowed(&records[index])),
        }
    }

    fn location(&self, index: usize) -> String {
        match &self.0 {
            Store::File(file) => file.location(index),
            Store::Memory { name, .. } => format!("{} record {}", name.display(), index + 1),
        }
    }
}
