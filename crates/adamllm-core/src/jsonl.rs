//! JSON Lines: the files between the stages. Read record by record; appended and synced; a torn last line is cut off.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::CoreError;

mod journal;

pub use journal::Journal;

/// Reads one record per line, lazily. Blank lines are skipped. A line that is not such a record is an `Err`, and
/// reading goes on after it.
///
/// # Errors
/// [`CoreError::Io`] where the file cannot be opened.
pub fn read<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<JsonLines<T>, CoreError> {
    let path = path.as_ref().to_path_buf();
    let file = File::open(&path).map_err(CoreError::io("open", &path))?;
    Ok(JsonLines { lines: BufReader::new(file), path, number: 0, buffer: Vec::new(), record: PhantomData })
}

/// [`read`], with the first bad record as the error of the whole file.
///
/// # Errors
/// [`CoreError::Io`] and [`CoreError::Json`].
pub fn read_all<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<Vec<T>, CoreError> {
    read(path)?.collect()
}

/// Writes a whole file at once, under a temporary name beside it and then renamed.
///
/// # Errors
/// [`CoreError::Io`].
pub fn write<'a, T: Serialize + 'a>(
    path: impl AsRef<Path>,
    records: impl IntoIterator<Item = &'a T>,
) -> Result<(), CoreError> {
    let mut content = Vec::new();
    for record in records {
        push_line(&mut content, record);
    }
    crate::write_atomically(path, content)
}

fn push_line(buffer: &mut Vec<u8>, record: &impl Serialize) {
    serde_json::to_writer(&mut *buffer, record).expect("records have string keys and finite numbers");
    buffer.push(b'\n');
}

/// The records of one file; see [`read`].
#[derive(Debug)]
pub struct JsonLines<T> {
    lines: BufReader<File>,
    path: PathBuf,
    number: u64,
    buffer: Vec<u8>,
    record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Iterator for JsonLines<T> {
    type Item = Result<T, CoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.buffer.clear();
            match self.lines.read_until(b'\n', &mut self.buffer) {
                Ok(0) => return None,
                Ok(_) => self.number += 1,
                Err(source) => return Some(Err(CoreError::io("read", &self.path)(source))),
            }
            if self.buffer.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let parsed = serde_json::from_slice(&self.buffer);
            return Some(parsed.map_err(|source| CoreError::Json {
                path: self.path.clone(),
                number: self.number,
                source,
            }));
        }
    }
}

/// Appends records to a file. A last line without its newline (a run that was killed while writing) is cut off on opening.
#[derive(Debug)]
pub struct Appender {
    file: File,
    path: PathBuf,
    buffer: Vec<u8>,
}

impl Appender {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CoreError> {
        let path = path.as_ref().to_path_buf();
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(CoreError::io("open", &path))?;
        cut_torn_line(&mut file).map_err(CoreError::io("repair", &path))?;
        Ok(Self { file, path, buffer: Vec::new() })
    }

    /// Writes records to the file with one system call.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn append<'a, T: Serialize + 'a>(&mut self, records: impl IntoIterator<Item = &'a T>) -> Result<(), CoreError> {
        self.buffer.clear();
        for record in records {
            push_line(&mut self.buffer, record);
        }
        self.file.write_all(&self.buffer).map_err(CoreError::io("append to", &self.path))
    }

    /// Waits until everything appended is on the disk.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn sync(&self) -> Result<(), CoreError> {
        self.file.sync_data().map_err(CoreError::io("sync", &self.path))
    }
}

fn cut_torn_line(file: &mut File) -> std::io::Result<()> {
    let mut end = file.metadata()?.len();
    let mut block = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let block = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        if let Some(newline) = block.iter().rposition(|&b| b == b'\n') {
            end = start + newline as u64 + 1;
            break;
        }
        end = start;
    }
    file.set_len(end)?;
    file.seek(SeekFrom::End(0)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_record_costs_itself_only() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("records.jsonl");
        std::fs::write(&path, "1\n\n\"two\"\n3").expect("written");
        let records: Vec<_> = read::<u32>(&path).expect("opens").collect();
        assert!(matches!(records[..], [Ok(1), Err(CoreError::Json { number: 3, .. }), Ok(3)]));
    }

    #[test]
    fn a_torn_line_is_cut_off() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("records.jsonl");
        std::fs::write(&path, format!("\"{}\"\n{{\"half", "x".repeat(5000))).expect("written");
        let mut appender = Appender::open(&path).expect("opens");
        appender.append(&["next"]).expect("appends");
        appender.sync().expect("syncs");
        assert_eq!(read_all::<String>(&path).expect("reads")[1], "next");

        std::fs::write(&path, "no newline at all".repeat(1000)).expect("written");
        Appender::open(&path).expect("opens").append(&[7]).expect("appends");
        assert_eq!(read_all::<u8>(&path).expect("reads"), [7]);
    }
}
