//! Event files as TensorBoard reads them: TFRecord frames around `Event` messages of protocol buffers, of which the few fields
//! of scalar summaries are written here.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use adamllm_core::CoreError;

const PREFIX: &str = "events.out.tfevents.";
/// What the first event of a file says.
const VERSION: &str = "brain.Event:2";

/// An event file, appended.
#[derive(Debug)]
pub(crate) struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Opens the folder's event file, or begins one. Events after `step` belong to work that was lost with a killed run;
    /// they are cut off, and so is a torn last one.
    pub(crate) fn open(folder: &Path, step: usize) -> Result<Self, CoreError> {
        std::fs::create_dir_all(folder).map_err(CoreError::io("create", folder))?;
        let path = match existing(folder)? {
            Some(path) => path,
            None => folder.join(format!("{PREFIX}{:.0}.adamllm", now())),
        };
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(CoreError::io("open", &path))?;
        let kept = cut(&mut file, step).map_err(CoreError::io("repair", &path))?;
        let mut events = Self { file, path };
        if kept == 0 {
            events.append(&event(now(), None, 3, VERSION.as_bytes()))?;
        }
        Ok(events)
    }

    /// Appends the values of one step, each under its tag.
    pub(crate) fn push(&mut self, step: usize, values: &[(String, f64)]) -> Result<(), CoreError> {
        self.append(&event(now(), Some(step), 5, &summary(values)))
    }

    fn append(&mut self, message: &[u8]) -> Result<(), CoreError> {
        self.file.write_all(&framed(message)).map_err(CoreError::io("append to", &self.path))
    }
}

fn existing(folder: &Path) -> Result<Option<PathBuf>, CoreError> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let named =
        |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(PREFIX).then(|| entry.path());
    Ok(entries.map_err(CoreError::io("list", folder))?.into_iter().filter_map(named).max())
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Cuts the file after the last whole event up to `step`, and seeks to its end. Gives the bytes kept.
fn cut(file: &mut File, step: usize) -> std::io::Result<u64> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut kept = 0;
    while let Some(message) = first_message(&bytes[kept..]) {
        if step_of(message).is_some_and(|s| s > step as u64) {
            break;
        }
        kept += message.len() + 16;
    }
    file.set_len(kept as u64)?;
    file.seek(SeekFrom::Start(kept as u64))
}

/// An `Event`: `wall_time` (1), `step` (2), and one of `file_version` (3) and `summary` (5).
fn event(time: f64, step: Option<usize>, field: u8, content: &[u8]) -> Vec<u8> {
    let mut message = vec![1 << 3 | 1]; // 64 bits
    message.extend_from_slice(&time.to_le_bytes());
    if let Some(step) = step {
        message.push(2 << 3);
        varint(&mut message, step as u64);
    }
    bytes_field(&mut message, field, content);
    message
}

/// A `Summary`: a `Value` (1) for each scalar, of `tag` (1) and `simple_value` (2).
fn summary(values: &[(String, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in values {
        let mut entry = Vec::new();
        bytes_field(&mut entry, 1, tag.as_bytes());
        entry.push(2 << 3 | 5); // 32 bits
        entry.extend_from_slice(&(*value as f32).to_le_bytes());
        bytes_field(&mut summary, 1, &entry);
    }
    summary
}

fn bytes_field(message: &mut Vec<u8>, field: u8, content: &[u8]) {
    message.push(field << 3 | 2);
    varint(message, content.len() as u64);
    message.extend_from_slice(content);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// The `step` of an event as [`event`] writes it.
fn step_of(message: &[u8]) -> Option<u64> {
    if message.get(9) != Some(&(2 << 3)) {
        return None;
    }
    let mut step = 0;
    for (i, byte) in message[10..].iter().enumerate().take(10) {
        step |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(step);
        }
    }
    None
}

/// A TFRecord: length, its checksum, the message, its checksum.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let (of_length, of_message) = (masked(&length).to_le_bytes(), masked(message).to_le_bytes());
    [&length[..], &of_length, message, &of_message].concat()
}

/// The message of the record that the bytes begin with, where it is whole.
fn first_message(bytes: &[u8]) -> Option<&[u8]> {
    let length = bytes.get(..8)?;
    let checked =
        |content: &[u8], offset: usize| bytes.get(offset..offset + 4) == Some(&masked(content).to_le_bytes()[..]);
    if !checked(length, 8) {
        return None;
    }
    let n = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
    let message = bytes.get(12..12 + n)?;
    checked(message, 12 + n).then_some(message)
}

/// TFRecord's checksum: rotated, so that a checksum of checksums does not fall back onto itself.
fn masked(content: &[u8]) -> u32 {
    crc32c(content).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The cyclic redundancy check of Castagnoli's polynomial (RFC 3720, appendix B.4).
fn crc32c(content: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    };
    !content.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &Path) -> Vec<u8> {
        std::fs::read(existing(folder).expect("lists").expect("one file")).expect("reads")
    }

    fn steps(bytes: &[u8]) -> Vec<Option<u64>> {
        let (mut offset, mut steps) = (0, Vec::new());
        while let Some(message) = first_message(&bytes[offset..]) {
            steps.push(step_of(message));
            offset += message.len() + 16;
        }
        assert_eq!(offset, bytes.len(), "nothing after the last whole record");
        steps
    }

    /// The check value of the polynomial, and the 32 zero bytes of RFC 3720.
    #[test]
    fn checksums() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    /// What TensorBoard's own writer makes of the same events (`tools/fixtures/make_events.py`).
    #[test]
    fn bytes_are_those_of_tensorboards_writer() {
        let fixture = include_bytes!("../tests/fixtures/events.tfevents");
        let summary = |values: &[(&str, f64)]| {
            summary(&values.iter().map(|(tag, value)| ((*tag).to_owned(), *value)).collect::<Vec<_>>())
        };
        let ours = [
            event(1_700_000_000.25, None, 3, VERSION.as_bytes()),
            event(1_700_000_001.5, Some(1), 5, &summary(&[("loss", 2.5)])),
            event(1_700_000_002.5, Some(300), 5, &summary(&[("loss", 1.25), ("speed/tokens_per_second", 1234.5)])),
        ];
        assert_eq!(ours.map(|message| framed(&message)).concat(), fixture);
    }

    #[test]
    fn going_on_leaves_no_step_twice_and_no_torn_record() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let push = |from, steps: std::ops::RangeInclusive<usize>| {
            let mut file = EventFile::open(folder.path(), from).expect("opens");
            steps.for_each(|step| file.push(step, &[("loss".into(), 1.0 / step as f64)]).expect("appends"));
        };
        push(0, 1..=5);
        let path = existing(folder.path()).expect("lists").expect("one file");
        let whole = std::fs::read(&path).expect("reads");
        std::fs::write(&path, &whole[..whole.len() - 3]).expect("tears the last record");
        push(4, 5..=5);
        assert_eq!(steps(&read(folder.path())), [None, Some(1), Some(2), Some(3), Some(4), Some(5)]);
        push(2, 3..=200);
        let expected: Vec<_> = std::iter::once(None).chain((1..=200).map(Some)).collect();
        assert_eq!(steps(&read(folder.path())), expected);
        assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 1);
    }
}
