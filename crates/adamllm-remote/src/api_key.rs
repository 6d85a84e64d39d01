use std::path::Path;

use adamllm_core::CoreError;

/// A secret that is sent to the servers and shown nowhere: neither in `Debug`, nor in logs, errors or cache keys.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Reads a file that holds the key and nothing else; white space around it is cut off.
    ///
    /// # Errors
    /// A file that cannot be read, or that is empty.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, CoreError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(CoreError::io("read", path))?;
        match text.trim() {
            "" => Err(CoreError::Field {
                record: path.display().to_string(),
                field: "API key",
                expected: "a key".into(),
                got: "an empty file".into(),
            }),
            key => Ok(Self(key.to_owned())),
        }
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// A text without the key, should a server repeat it.
    pub(crate) fn redact(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(&self.0, "(the API key)") }
    }
}

impl<T: Into<String>> From<T> for ApiKey {
    fn from(key: T) -> Self {
        Self(key.into())
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(...)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_trimmed_and_not_shown() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("key");
        std::fs::write(&path, " sk-secret\n").expect("written");
        let key = ApiKey::read(&path).expect("reads");
        assert_eq!(key.bearer(), "Bearer sk-secret");
        assert_eq!(format!("{key:?}"), "ApiKey(...)");
        assert_eq!(key.redact("no such key: sk-secret"), "no such key: (the API key)");
        std::fs::write(&path, "\n").expect("written");
        assert!(matches!(ApiKey::read(&path), Err(CoreError::Field { .. })));
    }
}
