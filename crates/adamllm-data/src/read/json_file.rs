use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use adamllm_core::{CoreError, Row, RowSource};
use serde_json::Value;

use super::split::JsonRows;

/// The rows of a JSON array or of JSON Lines, each read when it is asked for: only their places are in memory.
#[derive(Debug)]
pub struct JsonFile {
    path: PathBuf,
    file: Mutex<File>,
    rows: Vec<Span>,
}

/// Where a row stands.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// First byte.
    begin: u64,
    /// Bytes.
    length: usize,
    /// Counted from 1.
    row: u64,
}

impl JsonFile {
    /// Goes through the file once and notes where its rows are.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, CoreError> {
        let path = path.into();
        let mut found = JsonRows::open(&path).map_err(CoreError::io("open", &path))?;
        let mut rows = Vec::new();
        while let Some(bytes) = found.next_row() {
            let length = bytes.map_err(CoreError::io("read", &path))?.len();
            rows.push(Span { begin: found.begin(), length, row: found.row() });
        }
        let file = File::open(&path).map_err(CoreError::io("open", &path))?;
        Ok(Self { path, file: Mutex::new(file), rows })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn bytes(&self, span: Span) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; span.length];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(span.begin))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl RowSource for JsonFile {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn row(&self, index: usize) -> Result<Cow<'_, Row>, CoreError> {
        let span = self.rows[index];
        let bytes = self.bytes(span).map_err(CoreError::io("read", &self.path))?;
        let invalid = |source| CoreError::Json { path: self.path.clone(), row: span.row, source };
        match serde_json::from_slice(&bytes).map_err(invalid)? {
            Value::Object(row) => Ok(Cow::Owned(row)),
            other => Err(CoreError::Field {
                record: self.place(index),
                field: "(row)",
                expected: "an object".into(),
                got: super::row::shown(&other),
            }),
        }
    }

    fn place(&self, index: usize) -> String {
        format!("{} row {}", self.path.display(), self.rows[index].row)
    }
}
