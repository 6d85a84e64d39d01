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

/// The text of a small file, without its byte order mark.
///
/// # Errors
/// [`CoreError::Io`]; [`CoreError::Layout`] where it is no UTF-8.
pub fn read_text(path: impl AsRef<Path>) -> Result<String, CoreError> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(CoreError::io("read", path))?;
    let layout = |got: String| CoreError::Layout { path: path.into(), expected: "text in UTF-8".into(), got };
    let text = crate::json::without_mark(&bytes).map_err(|got| layout(got.into()))?;
    let text = std::str::from_utf8(text).map_err(|error| layout(format!("another encoding: {error}")))?;
    Ok(text.to_owned())
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
    fn a_byte_order_mark_belongs_to_no_text() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("names.txt");
        fs::write(&path, "\u{feff}apple pie\n").expect("written");
        assert_eq!(read_text(&path).expect("reads"), "apple pie\n");
        for other in [&b"\xFF\xFEa\0"[..], b"a\0b\0", b"caf\xE9"] {
            fs::write(&path, other).expect("written");
            assert!(matches!(read_text(&path), Err(CoreError::Layout { .. })), "{other:?}");
        }
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
}
