use std::path::Path;

use serde_json::Value;

use super::layout::{Layout, detect};
use super::scan::{End, MAX_RECORD, Scanner};
use super::source::Source;
use super::value::parse;
use crate::CoreError;

/// One record's text, and its number.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RawRecord<'a> {
    /// Counted from 1: the line in JSON Lines, else the record.
    pub number: u64,
    /// The text, which need not be sound JSON.
    pub bytes: &'a [u8],
}

/// The records of one file, one after the other; see the [module](crate::json).
pub struct JsonRecords {
    source: Source,
    cursor: Cursor,
}

impl std::fmt::Debug for JsonRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonRecords").field("source", &self.source).field("number", &self.cursor.number).finish()
    }
}

impl JsonRecords {
    /// Opens a file and looks through its brackets, so that what is wrong with the whole file is known before the first
    /// record is.
    ///
    /// # Errors
    /// [`CoreError::Io`]; [`CoreError::Layout`] where the file is cut off, has text after its list, or is no JSON in UTF-8.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CoreError> {
        let source = Source::open(path.as_ref())?;
        let layout = detect(&source)?;
        if source.is_packed() || matches!(layout, Layout::Lists | Layout::Wrapped(_)) {
            let mut cursor = Cursor::new(&source, layout)?;
            while cursor.advance(&source, false)?.is_some() {}
        }
        let cursor = Cursor::new(&source, layout)?;
        Ok(Self { source, cursor })
    }

    /// The number of the record that was read last, counted from 1: its line in JSON Lines.
    pub fn number(&self) -> u64 {
        self.cursor.number
    }

    /// The next record's text.
    ///
    /// # Errors
    /// As [`JsonRecords::open`]; nothing comes after such an error.
    pub fn next_record(&mut self) -> Result<Option<RawRecord<'_>>, CoreError> {
        let found = self.cursor.advance(&self.source, true)?;
        Ok(found.map(|_| RawRecord { number: self.cursor.number, bytes: &self.cursor.bytes }))
    }
}

impl Iterator for JsonRecords {
    type Item = Result<Value, CoreError>;

    /// The next record. [`CoreError::Json`] costs this record only.
    fn next(&mut self) -> Option<Self::Item> {
        match self.cursor.advance(&self.source, true) {
            Ok(None) => None,
            Ok(Some(_)) => {
                let invalid =
                    |source| CoreError::Json { path: self.source.path().into(), number: self.cursor.number, source };
                Some(parse(&self.cursor.bytes).map_err(invalid))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// Where a record's text is in its file.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByteRange {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// Goes from record to record.
pub(super) struct Cursor {
    scanner: Scanner,
    layout: Layout,
    in_list: bool,
    /// Whether a comma or bracket must come next.
    after_value: bool,
    is_over: bool,
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
}

impl Cursor {
    pub(super) fn new(source: &Source, layout: Layout) -> Result<Self, CoreError> {
        let (input, offset) = source.reader()?;
        let mut scanner = Scanner::new(input, offset);
        if let Layout::Wrapped(list) = layout {
            scanner.skip_to(list).map_err(|error| source.failed(error))?;
        }
        Ok(Self { scanner, layout, in_list: false, after_value: false, is_over: false, number: 0, bytes: Vec::new() })
    }

    /// Finds the next record; its text is in `bytes` if they are kept.
    pub(super) fn advance(&mut self, source: &Source, keep: bool) -> Result<Option<ByteRange>, CoreError> {
        if self.is_over {
            return Ok(None);
        }
        self.bytes.clear();
        let found = match self.layout {
            Layout::Lists | Layout::Wrapped(_) => self.element(source, keep),
            Layout::Lines => self.text_line(source, keep),
            Layout::Objects => self.object(source, keep),
        };
        self.is_over = !matches!(found, Ok(Some(_)));
        found
    }

    fn element(&mut self, source: &Source, keep: bool) -> Result<Option<ByteRange>, CoreError> {
        let failed = |error| source.failed(error);
        loop {
            let Some(byte) = self.scanner.solid().map_err(failed)? else {
                return if self.in_list { Err(self.cut_off(source)) } else { Ok(None) };
            };
            match (self.in_list, byte) {
                (false, b'[') => (self.in_list, self.after_value) = (true, false),
                (false, _) if matches!(self.layout, Layout::Wrapped(_)) => return Ok(None),
                (false, _) => {
                    let byte = char::from(byte).escape_default();
                    let got = format!("`{byte}` after the closing bracket, at byte {}", self.scanner.offset());
                    return Err(source.layout("the end of the file after its list", got));
                }
                (true, b',') if self.after_value => self.after_value = false,
                (true, b',') => {
                    // A record is missing between two commas. (A comma before the closing bracket hides none.)
                    self.scanner.bump(byte);
                    self.number += 1;
                    return Ok(Some(ByteRange { start: self.scanner.offset(), length: 0 }));
                }
                (true, b']') => {
                    self.in_list = false;
                    self.scanner.bump(byte);
                    if matches!(self.layout, Layout::Wrapped(_)) {
                        return Ok(None);
                    }
                    continue;
                }
                (true, _) => {
                    self.after_value = true;
                    return self.value(source, keep).map(Some);
                }
            }
            self.scanner.bump(byte);
        }
    }

    fn text_line(&mut self, source: &Source, keep: bool) -> Result<Option<ByteRange>, CoreError> {
        let failed = |error| source.failed(error);
        if self.scanner.solid().map_err(failed)?.is_none() {
            return Ok(None);
        }
        self.number = self.scanner.line();
        let start = self.scanner.offset();
        self.scanner.rest_of_line(keep.then_some(&mut self.bytes)).map_err(failed)?;
        Ok(Some(ByteRange { start, length: self.scanner.offset() - start }))
    }

    fn object(&mut self, source: &Source, keep: bool) -> Result<Option<ByteRange>, CoreError> {
        let failed = |error| source.failed(error);
        loop {
            match self.scanner.solid().map_err(failed)? {
                None => return Ok(None),
                // Some write a comma after each object.
                Some(b',') if self.number > 0 => self.scanner.bump(b','),
                Some(b',' | b']') => {
                    let start = self.scanner.offset();
                    self.number += 1;
                    self.scanner.rest_of_line(keep.then_some(&mut self.bytes)).map_err(failed)?;
                    return Ok(Some(ByteRange { start, length: self.scanner.offset() - start }));
                }
                Some(_) => return self.value(source, keep).map(Some),
            }
        }
    }

    fn value(&mut self, source: &Source, keep: bool) -> Result<ByteRange, CoreError> {
        let start = self.scanner.offset();
        self.number += 1;
        let bytes = keep.then_some(&mut self.bytes);
        let (end, length) = self.scanner.value(bytes).map_err(|error| source.failed(error))?;
        match end {
            End::Whole | End::Broken => Ok(ByteRange { start, length }),
            // An object of its own that is cut off costs itself; a list that is cut off is a file that is.
            End::CutOff if self.layout == Layout::Objects && length <= MAX_RECORD => Ok(ByteRange { start, length }),
            End::CutOff => Err(self.cut_off(source)),
            End::TooLong => {
                let got = format!("a longer one at byte {start}: a quote or bracket in it is not closed");
                Err(source.layout(format!("records of at most {MAX_RECORD} bytes"), got))
            }
        }
    }

    fn cut_off(&self, source: &Source) -> CoreError {
        let got = format!("the end of the file in or after record {}: it is cut off", self.number);
        source.layout("the list's closing bracket", got)
    }
}
