/// What is wrong with a settings file, or with a value from the command line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    File {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{file} line {line}: {detail}")]
    Syntax {
        /// The file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        detail: String,
    },
    /// An argument of `--set` is not `key=value`, or its key leads nowhere.
    #[error("--set {argument}: expected {expected}")]
    Set {
        /// As it was given.
        argument: String,
        /// What could be there.
        expected: String,
    },
    /// A key that nobody knows.
    #[error("unknown setting `{key}`{}", suggestion(.key, .known))]
    UnknownKey {
        /// From the root.
        key: String,
        /// What may stand in its place, without what stands before the last dot.
        known: Vec<String>,
    },
    /// A value that its key cannot have.
    #[error("setting `{key}`: {detail}")]
    Value {
        /// From the root; empty for the whole file.
        key: String,
        /// What was expected, and what was found.
        detail: String,
    },
}

/// The nearest known name, or all of them where none is near.
fn suggestion(key: &str, known: &[String]) -> String {
    let (place, name) = key.rsplit_once('.').map_or(("", key), |(place, name)| (place, name));
    let full = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    let near = nearest(name, known).map(|near| format!("did you mean `{}`?", full(near)));
    format!(": {}", near.unwrap_or_else(|| format!("expected one of {}", known.join(", "))))
}

/// The known name with the fewest edits, where at most a third of the name is edited.
fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    let distance = |other: &&String| strsim::damerau_levenshtein(name, other);
    let near = known.iter().min_by_key(distance)?;
    (distance(&near) <= name.len().max(3) / 3).then_some(near)
}

impl SettingsError {
    /// A value that its key cannot have.
    #[cfg(feature = "train")]
    pub(crate) fn value(key: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Value { key: key.into(), detail: detail.into() }
    }
}
