use std::path::PathBuf;

/// Why something did not come from the Hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A repository's name is none.
    #[error("{got:?} is no repository: expected {expected}")]
    BadName {
        /// What was given.
        got: String,
        /// The form of a name.
        expected: &'static str,
    },
    /// Somebody asked the download to stop; what arrived stays, and the next one goes on from there.
    #[error("the download was stopped; the next one goes on from there")]
    Cancelled,
    /// The proxy's URL is none.
    #[error("{got:?} is no proxy: {detail}")]
    BadProxy {
        /// What was given.
        got: String,
        /// What is wrong with it.
        detail: String,
    },
    /// There is no such repository, revision or file.
    #[error("{what} does not exist ({url})")]
    NotFound {
        /// What was asked for.
        what: String,
        /// Where it was asked for.
        url: String,
    },
    /// A token is missing, or has no right to this repository.
    #[error(
        "{what}: access denied with status {status} ({url}); a gated or private repository needs a token with access"
    )]
    Denied {
        /// What was asked for.
        what: String,
        /// 401 or 403.
        status: u16,
        /// Where it was asked for.
        url: String,
    },
    /// The server answered with another status than expected.
    #[error("{url} answered with status {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The answer's status.
        status: u16,
    },
    /// No connection, or one that broke, at every attempt.
    #[error("{url}: no complete answer in {attempts} attempts: {detail}")]
    Connection {
        /// What was asked.
        url: String,
        /// How often.
        attempts: u32,
        /// The last attempt's failure.
        detail: String,
    },
    /// The answer is not what the Hub's interface promises.
    #[error("{url}: expected {expected}, got {got}")]
    BadAnswer {
        /// What was asked.
        url: String,
        /// What should have come.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// A downloaded file is not the announced one. It was thrown away.
    #[error("{file} of {repo}: expected checksum {expected}, got {got}")]
    Checksum {
        /// The repository.
        repo: String,
        /// The file.
        file: String,
        /// The announced SHA-256 (large files) or Git blob id.
        expected: String,
        /// That of the bytes that came.
        got: String,
    },
    /// The repository has none of the files that the selection asks for.
    #[error("{repo} has no {wanted}")]
    NothingSelected {
        /// The repository.
        repo: String,
        /// What was looked for.
        wanted: String,
    },
    /// The cache does not hold what is asked for, and no connection may be opened.
    #[error("{repo} is not in the cache at {folder}: {detail} is missing", folder = folder.display())]
    NotCached {
        /// The repository.
        repo: String,
        /// The cache's folder for it.
        folder: PathBuf,
        /// What is missing.
        detail: String,
    },
    /// A file of the cache could not be read or written.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

impl HubError {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
