use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::CoreError;

/// A file's text, from its start.
pub(super) type Input = Box<dyn BufRead + Send>;

/// A file that can be read several times, unpacked where it is packed.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    file: File,
    is_packed: bool,
}

impl Source {
    /// Opens the file. A pipe is copied to a temporary file first, because it can be read once only.
    pub(super) fn open(path: &Path) -> Result<Self, CoreError> {
        let mut file = File::open(path).map_err(CoreError::io("open", path))?;
        let failed = |source| CoreError::io("read", path)(source);
        let kind = file.metadata().map_err(failed)?;
        if kind.is_dir() {
            return Err(CoreError::io("read", path)(io::ErrorKind::IsADirectory.into()));
        }
        if !kind.is_file() {
            file = spooled(file).map_err(failed)?;
        }
        let is_packed = head(&mut file, 2).map_err(failed)? == [0x1F, 0x8B];
        Ok(Self { path: path.to_path_buf(), file, is_packed })
    }

    /// The same file, unpacked into a temporary one where it was packed, so that any offset of it can be read.
    pub(super) fn unpacked(self) -> Result<Self, CoreError> {
        if !self.is_packed {
            return Ok(self);
        }
        let unpacked = spooled(MultiGzDecoder::new(BufReader::new(&self.file)));
        let file = unpacked.map_err(|error| self.failed(error))?;
        Ok(Self { file, is_packed: false, ..self })
    }

    pub(super) fn is_packed(&self) -> bool {
        self.is_packed
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The text after its byte order mark, and the number of the mark's bytes.
    pub(super) fn reader(&self) -> Result<(Input, u64), CoreError> {
        let failed = |error| self.failed(error);
        let mut file = self.file.try_clone().map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut input: Box<dyn Read + Send> = match self.is_packed {
            true => Box::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, file))),
            false => Box::new(file),
        };
        let mut start = vec![0; 8];
        let n = read_up_to(&mut *input, &mut start).map_err(failed)?;
        start.truncate(n);
        let mark = mark(&start).map_err(|got| self.layout("JSON in UTF-8", got))?;
        let start = Cursor::new(start.split_off(mark));
        Ok((Box::new(start.chain(BufReader::with_capacity(1 << 16, input))), mark as u64))
    }

    /// Reads a part of an unpacked file; threads may do so side by side.
    pub(super) fn read_at(&self, start: u64, bytes: &mut [u8]) -> Result<(), CoreError> {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, start);
        #[cfg(windows)]
        let read = read_exact_at(&self.file, bytes, start);
        read.map_err(|error| self.failed(error))
    }

    pub(super) fn layout(&self, expected: impl Into<String>, got: impl Into<String>) -> CoreError {
        CoreError::Layout { path: self.path.clone(), expected: expected.into(), got: got.into() }
    }

    /// A packed file that ends too early is cut off; anything else is the operating system's error.
    pub(super) fn failed(&self, error: io::Error) -> CoreError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof if self.is_packed => {
                self.layout("a whole gzip file", "the end of the file: it is cut off")
            }
            _ => CoreError::io("read", &self.path)(error),
        }
    }
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut start: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, start)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => (bytes, start) = (&mut bytes[n..], start + n as u64),
        }
    }
    Ok(())
}

fn spooled(mut from: impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut from, &mut file)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn head(file: &mut File, n: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; n];
    let read = read_up_to(file, &mut bytes)?;
    bytes.truncate(read);
    file.seek(SeekFrom::Start(0))?;
    Ok(bytes)
}

fn read_up_to(input: &mut (impl Read + ?Sized), bytes: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < bytes.len() {
        match input.read(&mut bytes[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n)
}

/// The length of the byte order mark that a text begins with. `Err` says what the bytes are, where they are no UTF-8 text.
fn mark(start: &[u8]) -> Result<usize, &'static str> {
    match start {
        [0xEF, 0xBB, 0xBF, ..] => Ok(3),
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => Err("UTF-32: save it as UTF-8"),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => Err("UTF-16: save it as UTF-8"),
        [0, 0, 0, _, ..] | [_, 0, 0, 0, ..] => Err("UTF-32: save it as UTF-8"),
        [0, _, ..] | [_, 0, ..] => Err("UTF-16: save it as UTF-8"),
        [b'P', b'K', 3, 4, ..] => Err("a zip archive: unpack it first"),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => Err("a zstd file: unpack it first (gzip is read)"),
        [0xFD, b'7', b'z', b'X', b'Z', ..] => Err("an xz file: unpack it first (gzip is read)"),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, ..] => Err("a bzip2 file: unpack it first (gzip is read)"),
        [b'P', b'A', b'R', b'1', ..] => Err("a parquet file: its name should end with .parquet"),
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] => Err("an Arrow file: its name should end with .arrow"),
        _ => Ok(0),
    }
}
