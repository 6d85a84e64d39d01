//! How a job's results reach the disk.

use std::path::Path;

use adamllm_core::{CoreError, write_atomically};
use serde::Serialize;

/// A value as indented JSON, written whole or not at all.
///
/// # Errors
/// [`CoreError::Io`].
pub fn write_json(path: impl AsRef<Path>, value: &impl Serialize) -> Result<(), CoreError> {
    let path = path.as_ref();
    let text = serde_json::to_string_pretty(value).map_err(|source| CoreError::Json {
        path: path.to_owned(),
        number: 1,
        source,
    })?;
    write_atomically(path, format!("{text}\n"))
}

/// A value from a file of JSON.
#[cfg(feature = "train")]
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, CoreError> {
    let bytes = std::fs::read(path).map_err(CoreError::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| CoreError::Json { path: path.to_owned(), number: 1, source })
}

/// A name as a file or folder can be called: other characters than letters, digits and a few marks become `_`.
pub(crate) fn safe_name(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "-_.() ".contains(c) { c } else { '_' }).collect()
}
