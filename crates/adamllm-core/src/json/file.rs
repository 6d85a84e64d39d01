use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::layout::detect;
use super::records::{ByteRange, Cursor};
use super::scan::MAX_RECORD;
use super::source::Source;
use super::value::{parse, parse_columns, parse_object};
use crate::{CoreError, JsonObject, RecordSource};

/// The records of a file, each read when it is asked for: only their offsets are in memory. A packed file is unpacked into
/// a temporary one.
#[derive(Debug)]
pub struct JsonFile {
    source: Source,
    records: Vec<(ByteRange, u64)>,
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
        let mut records = Vec::new();
        while let Some(span) = cursor.advance(&source, false)? {
            records.push((span, cursor.number));
        }
        Ok(Self { source, records, columns: None })
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
        let (span, number) = self.records[index];
        if span.length > MAX_RECORD {
            let got = format!("{} bytes in record {number}", span.length);
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
        CoreError::Json { path: self.path().into(), number: self.number(index), source }
    }

    /// A record's number, counted from 1: its line in JSON Lines.
    ///
    /// # Panics
    /// Where there is no such record.
    pub fn number(&self, index: usize) -> u64 {
        self.records[index].1
    }
}

impl RecordSource for JsonFile {
    fn len(&self) -> usize {
        self.records.len()
    }

    fn record(&self, index: usize) -> Result<Cow<'_, JsonObject>, CoreError> {
        let text = self.text(index)?;
        let object = match &self.columns {
            Some(columns) => parse_columns(&text, columns),
            None => parse_object(&text),
        };
        match object.map_err(|source| self.invalid(index, source))? {
            Ok(object) => Ok(Cow::Owned(object)),
            Err(got) => {
                let record = self.location(index);
                Err(CoreError::Field { record, field: "(record)", expected: "a JSON object".into(), got })
            }
        }
    }

    fn location(&self, index: usize) -> String {
        format!("{} record {}", self.path().display(), self.number(index))
    }
}
