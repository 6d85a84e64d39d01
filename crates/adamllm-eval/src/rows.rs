use std::borrow::Cow;
use std::path::{Path, PathBuf};

use adamllm_core::json::JsonFile;
use adamllm_core::{CoreError, Row, RowSource};

use crate::EvalError;

/// Rows of a file of records in any of the forms of [`adamllm_core::json`], or rows in memory.
#[derive(Debug)]
pub struct JsonRows(Store);

#[derive(Debug)]
enum Store {
    File(JsonFile),
    Memory { name: PathBuf, rows: Vec<Row> },
}

impl JsonRows {
    /// Opens the file. A record that is not a JSON object costs itself only.
    ///
    /// # Errors
    /// [`CoreError::Io`]; [`CoreError::Layout`] where the file is cut off or of another format.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, EvalError> {
        Ok(Self(Store::File(JsonFile::open(path.as_ref())?)))
    }

    /// [`JsonRows::read`] that keeps some columns only; the others are skipped without being stored.
    ///
    /// # Errors
    /// As [`JsonRows::read`].
    pub fn read_columns(path: impl AsRef<Path>, columns: &[String]) -> Result<Self, EvalError> {
        let file = JsonFile::open(path.as_ref())?;
        Ok(Self(Store::File(file.with_columns(columns.iter().cloned()))))
    }

    /// Rows that are in memory already; `name` stands for the file in error messages.
    pub fn from_rows(name: impl Into<PathBuf>, rows: impl IntoIterator<Item = Row>) -> Self {
        Self(Store::Memory { name: name.into(), rows: rows.into_iter().collect() })
    }
}

impl RowSource for JsonRows {
    fn len(&self) -> usize {
        match &self.0 {
            Store::File(file) => file.len(),
            Store::Memory { rows, .. } => rows.len(),
        }
    }

    fn row(&self, index: usize) -> Result<Cow<'_, Row>, CoreError> {
        match &self.0 {
            Store::File(file) => file.row(index),
            Store::Memory { rows, .. } => Ok(Cow::Borrowed(&rows[index])),
        }
    }

    fn place(&self, index: usize) -> String {
        match &self.0 {
            Store::File(file) => file.place(index),
            Store::Memory { name, .. } => format!("{} row {}", name.display(), index + 1),
        }
    }
}
