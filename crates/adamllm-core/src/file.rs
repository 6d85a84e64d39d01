use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::CoreError;

/// Writes a file so that a reader sees the old content or the whole new one: beside it, synced, then renamed.
///
/// # Errors
/// [`CoreError::Io`]; the old file is then still whole.
pub fn write_atomically(path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<(), CoreError> {
    let path = path.as_ref();
    let beside = beside(path);
    let mut file = File::create(&beside).map_err(CoreError::io("create", &beside))?;
    file.write_all(content.as_ref()).map_err(CoreError::io("write", &beside))?;
    file.sync_all().map_err(CoreError::io("sync", &beside))?;
    fs::rename(&beside, path).map_err(CoreError::io("rename", &beside))
}

/// Reads a text file that a person or another tool wrote: UTF-8 or, as its byte order mark says, UTF-16. The mark belongs to
/// no text.
///
/// # Errors
/// [`CoreError::Io`], with [`InvalidData`](std::io::ErrorKind::InvalidData) for bytes that are no text.
pub fn read_text(path: impl AsRef<Path>) -> Result<String, CoreError> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(CoreError::io("read", path))?;
    decode_text(bytes)
        .map_err(|detail| CoreError::io("read", path)(std::io::Error::new(std::io::ErrorKind::InvalidData, detail)))
}

fn decode_text(bytes: Vec<u8>) -> Result<String, &'static str> {
    let utf16 = |unit: fn([u8; 2]) -> u16| {
        let (units, rest) = bytes[2..].as_chunks::<2>();
        let units: Vec<u16> = units.iter().map(|&pair| unit(pair)).collect();
        let text = rest.is_empty().then(|| String::from_utf16(&units).ok());
        text.flatten().ok_or("its byte order mark says UTF-16, which it is not")
    };
    match &bytes[..] {
        [0xff, 0xfe, ..] => utf16(u16::from_le_bytes),
        [0xfe, 0xff, ..] => utf16(u16::from_be_bytes),
        _ => {
            let mut text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
            if text.starts_with('\u{feff}') {
                text.drain(..'\u{feff}'.len_utf8());
            }
            Ok(text)
        }
    }
}

/// The BLAKE3 hash of a file's content, as hexadecimal digits, read in pieces.
///
/// # Errors
/// [`CoreError::Io`].
pub fn file_hash(path: impl AsRef<Path>) -> Result<String, CoreError> {
    let path = path.as_ref();
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).map_err(CoreError::io("open", path))?;
    hasher.update_reader(file).map_err(CoreError::io("read", path))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// The temporary neighbour of `path`: same folder, so that the rename stays on one file system.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks_belong_to_no_text() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("names.txt");
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).expect("written");
            read_text(&path).map_err(|error| error.to_string())
        };
        assert_eq!(read("grün\n".as_bytes()).as_deref(), Ok("grün\n"));
        assert_eq!(read(b"\xef\xbb\xbfrice").as_deref(), Ok("rice"));
        assert_eq!(read(b"\xff\xfer\0i\0").as_deref(), Ok("ri"));
        assert_eq!(read(b"\xfe\xff\0r\0i").as_deref(), Ok("ri"));
        assert_eq!(read(b"").as_deref(), Ok(""));
        assert!(read(b"\xff\xfer").is_err_and(|error| error.contains("UTF-16")));
        assert!(read(b"gr\xfcn").is_err_and(|error| error.contains("names.txt: it is not UTF-8")));
    }

    #[test]
    fn replaces_the_whole_file_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("report.json");
        write_atomically(&path, "old").expect("written");
        write_atomically(&path, "new").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "new");
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
    }
    #[test]
    fn a_hash_is_that_of_the_content() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("weights");
        fs::write(&path, b"").expect("written");
        // BLAKE3 of nothing, as its test vectors have it.
        assert!(file_hash(&path).expect("reads").starts_with("af1349b9f5f9a1a6a0404dea36dcc949"));
        assert!(file_hash(folder.path().join("none")).is_err());
    }
}
