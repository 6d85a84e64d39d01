use std::io;

use super::source::Input;

/// No record is longer, in bytes: what is longer has a quote or a bracket that nobody closes.
pub(super) const MAX_RECORD: u64 = 1 << 28;

/// How a value ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With its own last byte.
    Whole,
    /// Brackets or quotes do not fit: it ended where the next record seems to begin, or with the list that it stands in.
    Broken,
    /// With the file.
    CutOff,
    /// It is longer than [`MAX_RECORD`].
    TooLong,
}

/// Goes through JSON text and finds where values end, by brackets and quotes alone.
pub(super) struct Scanner {
    input: Input,
    offset: u64,
    line: u64,
}

impl Scanner {
    /// `offset` is where the input begins in its file.
    pub(super) fn new(input: Input, offset: u64) -> Self {
        Self { input, offset, line: 1 }
    }

    /// Bytes from the file's start.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Counted from 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.input.fill_buf()?.first().copied())
    }

    /// Takes the byte that was peeked at.
    pub(super) fn bump(&mut self, byte: u8) {
        self.input.consume(1);
        self.offset += 1;
        self.line += u64::from(byte == b'\n');
    }

    /// The next byte that is no white space; it is not taken.
    pub(super) fn solid(&mut self) -> io::Result<Option<u8>> {
        while let Some(byte) = self.peek()? {
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            self.bump(byte);
        }
        Ok(None)
    }

    /// Skips bytes, for a part of the file that was looked at before.
    pub(super) fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        while self.offset < offset {
            let n = self.input.fill_buf()?.len().min((offset - self.offset) as usize);
            if n == 0 {
                return Ok(());
            }
            self.input.consume(n);
            self.offset += n as u64;
        }
        Ok(())
    }

    /// Takes the rest of the line, its end included. `false` at the end of the file.
    pub(super) fn rest_of_line(&mut self, mut bytes: Option<&mut Vec<u8>>) -> io::Result<bool> {
        let mut any = false;
        loop {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                return Ok(any);
            }

            // A line may be longer than the buffer: it is taken in parts.
            any = true;
            let end = available.iter().position(|&byte| byte == b'\n');
            let n = end.map_or(available.len(), |end| end + 1);

            if let Some(bytes) = &mut bytes {
                bytes.extend_from_slice(&available[..n]);
            }
            self.input.consume(n);
            self.offset += n as u64;

            if end.is_some() {
                self.line += 1;
                return Ok(true);
            }
        }
    }

    /// Takes one value, whose first byte was peeked at; its bytes go to `bytes`. Gives how it ended, and its length.
    pub(super) fn value(&mut self, bytes: Option<&mut Vec<u8>>) -> io::Result<(End, u64)> {
        self.value_inside(Nesting::default(), bytes)
    }

    /// [`Scanner::value`] of which some opening brackets were taken already.
    pub(super) fn value_inside(
        &mut self,
        mut nesting: Nesting,
        mut bytes: Option<&mut Vec<u8>>,
    ) -> io::Result<(End, u64)> {
        let mut taken = 0;
        loop {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                // A bare word may end with the file.
                let end = if nesting.is_open() { End::CutOff } else { nesting.end() };
                return Ok((end, taken));
            }
            let (mut n, mut step) = (0, Step::Inside);
            while n < available.len() && step == Step::Inside {
                step = nesting.take(available[n]);
                n += usize::from(matches!(step, Step::Inside | Step::Last));
            }
            if let Some(bytes) = &mut bytes {
                bytes.extend_from_slice(&available[..n]);
            }
            self.line += available[..n].iter().filter(|&&byte| byte == b'\n').count() as u64;
            self.input.consume(n);
            self.offset += n as u64;
            taken += n as u64;
            match step {
                Step::Inside if bytes.is_some() && taken > MAX_RECORD => return Ok((End::TooLong, taken)),
                Step::Inside => {}
                Step::Last | Step::Before => return Ok((nesting.end(), taken)),
            }
        }
    }
}

/// Whether a byte belongs to the value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It does.
    Inside,
    /// It does, and is the last one that does.
    Last,
    /// It does not.
    Before,
}

/// Where the scan stands inside a value.
#[derive(Default)]
pub(super) struct Nesting {
    open: Vec<u8>,
    in_string: bool,
    escaped: bool,
    /// The last byte outside of strings that is no white space; a string counts as its closing quote.
    last: u8,
    broken: bool,
}

impl Nesting {
    /// Inside a list of which nothing but the bracket was taken.
    pub(super) fn in_list() -> Self {
        Self { open: vec![b'['], ..Self::default() }
    }

    fn is_open(&self) -> bool {
        self.in_string || !self.open.is_empty()
    }

    fn end(&self) -> End {
        if self.broken { End::Broken } else { End::Whole }
    }

    fn take(&mut self, byte: u8) -> Step {
        if self.in_string {
            return self.take_in_string(byte);
        }
        if byte.is_ascii_whitespace() {
            // A bare word ends at white space.
            return if self.open.is_empty() && self.last != 0 { Step::Before } else { Step::Inside };
        }
        let step = match byte {
            b'"' => {
                self.in_string = true;
                Step::Inside
            }
            b'{' if self.open.last() == Some(&b'{') && self.last != b':' => {
                // An object cannot stand where a key must: the record lacks its end, and this is the next one.
                self.broken = true;
                Step::Before
            }
            b'{' | b'[' if self.open.is_empty() && self.last != 0 => Step::Before,
            b'{' | b'[' => {
                self.open.push(byte);
                Step::Inside
            }
            b'}' => self.close(b'{'),
            b']' => self.close(b'['),
            b',' if self.open.is_empty() => Step::Before,
            _ => Step::Inside,
        };
        if step != Step::Before {
            self.last = byte;
        }
        step
    }

    fn take_in_string(&mut self, byte: u8) -> Step {
        match byte {
            // JSON has no line feed in a string: its closing quote is missing, and the damage ends with the line.
            b'\n' => (self.in_string, self.escaped, self.broken) = (false, false, true),
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => {
                self.in_string = false;
                self.last = byte;
                if self.open.is_empty() {
                    return Step::Last;
                }
            }
            _ => {}
        }
        Step::Inside
    }

    /// Closes the innermost bracket of this kind, and those inside it that nobody closed.
    fn close(&mut self, opened_by: u8) -> Step {
        let Some(at) = self.open.iter().rposition(|&open| open == opened_by) else {
            // The end of what the value stands in, or a stray brace where a value should begin.
            let is_stray = self.open.is_empty() && self.last == 0;
            self.broken |= !self.open.is_empty() || is_stray;
            return if is_stray || (opened_by == b'{' && !self.open.is_empty()) { Step::Inside } else { Step::Before };
        };
        self.broken |= at + 1 != self.open.len();
        self.open.truncate(at);
        if self.open.is_empty() { Step::Last } else { Step::Inside }
    }
}
