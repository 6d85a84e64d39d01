use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::layout::detect;
use super::records::{Cursor, Span};
use super::scan::MAX_RECORD;
use super::source::Source;
use super::value::{parse, parse_columns, parse_object};
use crate::{CoreError, Row, RowSource};

/// The records of a file, each read when it is asked for: only their places are in memory. A packed file is unpacked into
/// a temporary one.
#[derive(Debug)]
pub struct JsonFile {
    source: Source,
    rows: Vec<(Span, u64)>,
    columns: Option<Vec<String>>,
}

impl JsonFile {
    /// Goes through the file once and notes where its records are.
    ///
    /// # Errors
    /// As [`JsonRecords::open`](crate::json::JsonRecords::open).
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, CoreError> {
        let source = Source::open(&path.into())?.unpacked()?;
        let mut cursor = Cursor::new(&source, detect(&source)?)?;
        let mut rows = Vec::new();
        while let Some(span) = cursor.advance(&source, false)? {
            rows.push((span, cursor.row));
        }
        Ok(Self { source, rows, columns: None })
    }

    /// Keeps these columns of each record only; the others are skipped without being stored.
    pub fn with_columns(mut self, columns: impl IntoIterator<Item = String>) -> Self {
        self.columns = Some(columns.into_iter().collect());
        self
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// A record's text, which need not be sound JSON.
    ///
    /// # Errors
    /// [`CoreError::Io`]; [`CoreError::Layout`] for a record that is too long to be one.
    ///
    /// # Panics
    /// Where there is no such record.
    pub fn text(&self, index: usize) -> Result<Vec<u8>, CoreError> {
        let (span, row) = self.rows[index];
        if span.length > MAX_RECORD {
            let got = format!("{} bytes in record {row}", span.length);
            return Err(self.source.layout(format!("records of at most {MAX_RECORD} bytes"), got));
        }
        let mut bytes = vec![0; span.length as usize];
        self.source.read_at(span.start, &mut bytes)?;
        Ok(bytes)
    }

    /// A record, whatever kind of value it is.
    ///
    /// # Errors
    /// As [`JsonFile::text`]; [`CoreError::Json`] for text that is no JSON.
    ///
    /// # Panics
    /// Where there is no such record.
    pub fn value(&self, index: usize) -> Result<Value, CoreError> {
        parse(&self.text(index)?).map_err(|source| self.invalid(index, source))
    }

    fn invalid(&self, index: usize, source: serde_json::Error) -> CoreError {
        CoreError::Json { path: self.path().into(), row: self.number(index), source }
    }

    /// A record's number, counted from 1: its line in JSON Lines.
    ///
    /// # Panics
    /// Where there is no such record.
    pub fn number(&self, index: usize) -> u64 {
        self.rows[index].1
    }
}

impl RowSource for JsonFile {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn row(&self, index: usize) -> Result<Cow<'_, Row>, CoreError> {
        let text = self.text(index)?;
        let row = match &self.columns {
            Some(columns) => parse_columns(&text, columns),
            None => parse_object(&text),
        };
        match row.map_err(|source| self.invalid(index, source))? {
            Ok(row) => Ok(Cow::Owned(row)),
            Err(got) => {
                let record = self.place(index);
                Err(CoreError::Field { record, field: "(row)", expected: "a JSON object".into(), got })
            }
        }
    }

    fn place(&self, index: usize) -> String {
        format!("{} row {}", self.path().display(), self.number(index))
    }
}
