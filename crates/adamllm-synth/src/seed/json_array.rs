use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use adamllm_core::CoreError;

use crate::SynthError;

/// The place of one element in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Offset of its first byte.
    pub(super) start: u64,
    /// Its length in bytes.
    pub(super) length: u32,
}

/// The elements of a file that is one large JSON array, found one by one without parsing them: only brackets and quotes
/// are looked at, so memory holds one element, and an element that is not sound costs itself only.
pub(super) struct JsonArray {
    reader: BufReader<File>,
    path: PathBuf,
    offset: u64,
    row: u64,
    element: Vec<u8>,
    is_open: bool,
}

/// Where the scan stands inside an element.
#[derive(Clone, Copy, Default)]
struct Nesting {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Nesting {
    /// Whether the byte ends the element (a comma or the array's bracket).
    fn ends_at(&mut self, byte: u8) -> bool {
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' if self.depth > 0 => self.depth -= 1,
            b',' | b']' | b'}' => return self.depth == 0,
            _ => {}
        }
        false
    }
}

impl JsonArray {
    pub(super) fn open(path: &Path) -> Result<Self, SynthError> {
        let file = File::open(path).map_err(CoreError::io("open", path))?;
        let reader = BufReader::with_capacity(1 << 18, file);
        let mut array = Self { reader, path: path.into(), offset: 0, row: 0, element: Vec::new(), is_open: true };
        match array.skip(|byte| byte.is_ascii_whitespace() || !byte.is_ascii())? {
            Some(b'[') => array.consume(1),
            found => return Err(array.layout("a JSON array", found)),
        }
        Ok(array)
    }

    /// The next element's place, and its text in [`JsonArray::element`].
    pub(super) fn advance(&mut self) -> Result<Option<Span>, SynthError> {
        if !self.is_open {
            return Ok(None);
        }
        match self.skip(|byte| byte.is_ascii_whitespace() || byte == b',')? {
            Some(b']') => {
                self.is_open = false;
                return Ok(None);
            }
            Some(_) => {}
            None => return Err(self.layout("the array's end", None)),
        }
        self.element.clear();
        self.row += 1;
        let (start, mut nesting) = (self.offset, Nesting::default());
        loop {
            let buffer = self.reader.fill_buf().map_err(CoreError::io("read", &self.path))?;
            if buffer.is_empty() {
                return Err(self.layout("the array's end", None));
            }
            let end = buffer.iter().position(|&byte| nesting.ends_at(byte));
            let taken = end.unwrap_or(buffer.len());
            self.element.extend_from_slice(&buffer[..taken]);
            self.consume(taken);
            if end.is_some() {
                return Ok(Some(Span { start, length: self.element.len() as u32 }));
            }
        }
    }

    /// The element found last.
    pub(super) fn element(&self) -> &[u8] {
        &self.element
    }

    /// Its number, counted from 1.
    pub(super) fn row(&self) -> u64 {
        self.row
    }

    fn consume(&mut self, n_bytes: usize) {
        self.reader.consume(n_bytes);
        self.offset += n_bytes as u64;
    }

    /// Skips bytes, and returns the first other one without taking it.
    fn skip(&mut self, is_skipped: impl Fn(u8) -> bool) -> Result<Option<u8>, SynthError> {
        loop {
            let buffer = self.reader.fill_buf().map_err(CoreError::io("read", &self.path))?;
            let Some(&first) = buffer.first() else { return Ok(None) };
            if !is_skipped(first) {
                return Ok(Some(first));
            }
            self.consume(1);
        }
    }

    fn layout(&self, expected: &'static str, found: Option<u8>) -> SynthError {
        let got = match found {
            Some(byte) => format!("{:?} at byte {}", char::from(byte), self.offset),
            None => format!("the end of the file in or behind element {}", self.row),
        };
        SynthError::Layout { path: self.path.clone(), expected, got }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(text: &str) -> Result<Vec<(u64, String)>, SynthError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("array.json");
        std::fs::write(&path, text).expect("written");
        let (mut array, mut found) = (JsonArray::open(&path)?, Vec::new());
        while let Some(span) = array.advance()? {
            assert_eq!(&text.as_bytes()[span.start as usize..][..span.length as usize], array.element());
            found.push((array.row(), String::from_utf8_lossy(array.element()).trim().to_owned()));
        }
        Ok(found)
    }

    #[test]
    fn finds_elements_by_their_brackets() {
        let found = elements("\u{feff} [ {\"a\": \"],}\\\"\"}, [1, 2] ,\n3, {\"b\": {}}\n] ").expect("an array");
        let texts: Vec<_> = found.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["{\"a\": \"],}\\\"\"}", "[1, 2]", "3", "{\"b\": {}}"]);
        assert!(elements("[]").expect("an array").is_empty());
    }

    #[test]
    fn says_where_an_array_breaks_off() {
        assert!(matches!(elements("{\"a\": 1}"), Err(SynthError::Layout { expected: "a JSON array", .. })));
        assert!(matches!(elements("[{\"a\": 1}, {\"b"), Err(SynthError::Layout { expected: "the array's end", .. })));
        assert!(matches!(elements("[1, 2"), Err(SynthError::Layout { .. })));
        assert!(matches!(elements(""), Err(SynthError::Layout { .. })));
    }
}
