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
    fn replaces_the_whole_file_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("report.json");
        write_atomically(&path, "old").expect("written");
        write_atomically(&path, "new").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "new");
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
    }
}
