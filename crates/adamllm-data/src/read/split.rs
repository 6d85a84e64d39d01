use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// Cuts a JSON array or JSON Lines into the texts of its rows without parsing them, so that one broken row does not take
/// its neighbours along, and only one row is in memory.
pub(super) struct JsonRows {
    input: BufReader<File>,
    form: Form,
    row: u64,
    /// Where the row that was read last begins, and where the next one does.
    begin: u64,
    position: u64,
    buffer: Vec<u8>,
    done: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Array,
    Lines,
}

impl JsonRows {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut input = BufReader::with_capacity(1 << 16, File::open(path)?);
        let mut position = 0;
        if input.fill_buf()?.starts_with(b"\xEF\xBB\xBF") {
            input.consume(3); // a byte order mark
            position += 3;
        }
        let (first, n_blank) = first_solid_byte(&mut input)?;
        position += n_blank;
        let form = if first == Some(b'[') { Form::Array } else { Form::Lines };
        if form == Form::Array {
            input.consume(1);
            position += 1;
        }
        Ok(Self { input, form, row: 0, begin: position, position, buffer: Vec::new(), done: false })
    }

    /// Where the row that was read last stands in the file: its first byte, in bytes from the start.
    pub(super) fn begin(&self) -> u64 {
        self.begin
    }

    /// Counted from 1; a line's number in JSON Lines.
    pub(super) fn row(&self) -> u64 {
        self.row
    }

    /// The next row's bytes.
    pub(super) fn next_row(&mut self) -> Option<io::Result<&[u8]>> {
        while !self.done {
            self.buffer.clear();
            let read = match self.form {
                Form::Array => read_element(&mut self.input, &mut self.buffer),
                Form::Lines => self.input.read_until(b'\n', &mut self.buffer).map(|n| n == 0),
            };
            match read {
                Ok(last) => {
                    self.done = last;
                    self.begin = self.position;
                    // An element of an array has a comma or a bracket behind it; a line's end is in the buffer.
                    self.position += self.buffer.len() as u64 + u64::from(self.form == Form::Array);
                }
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
            let blank = self.buffer.iter().all(u8::is_ascii_whitespace);
            self.row += u64::from(!blank || (self.form == Form::Lines && !self.done));
            if !blank {
                return Some(Ok(&self.buffer));
            }
        }
        None
    }
}

/// The first byte that is no white space, and how many stood before it.
fn first_solid_byte(input: &mut impl BufRead) -> io::Result<(Option<u8>, u64)> {
    for n_blank in 0.. {
        let available = input.fill_buf()?;
        match available.first() {
            Some(byte) if byte.is_ascii_whitespace() => input.consume(1),
            first => return Ok((first.copied(), n_blank)),
        }
    }
    unreachable!("files end")
}

/// Copies one element of an array up to the comma behind it; `true` when the array (or the file) is over. Brackets are
/// counted outside of strings only.
fn read_element(input: &mut impl BufRead, element: &mut Vec<u8>) -> io::Result<bool> {
    let mut scanner = Scanner::default();
    loop {
        let available = input.fill_buf()?;
        if available.is_empty() {
            return Ok(true);
        }
        if let Some(end) = available.iter().position(|&byte| scanner.ends_at(byte)) {
            element.extend_from_slice(&available[..end]);
            let over = available[end] == b']';
            input.consume(end + 1);
            return Ok(over);
        }
        let length = available.len();
        element.extend_from_slice(available);
        input.consume(length);
    }
}

#[derive(Default)]
struct Scanner {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scanner {
    /// Takes one byte; `true` for the comma or bracket that ends the element (it does not belong to it).
    fn ends_at(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b',' | b']' if self.depth == 0 => return true,
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        false
    }
}
