use std::path::PathBuf;

/// What a library said, or a sentence of ours, as the source of an error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong with files, records and images before a model is involved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// A file or folder could not be opened, read or written.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried, such as `"read"`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A record of a file is not the JSON that its kind of record asks for.
    #[error("{path} record {number}: invalid JSON: {source}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Its number, counted from 1.
        number: u64,
        /// What the parser expected and found.
        source: serde_json::Error,
    },
    /// A whole file is not laid out as its kind of file must be: it is cut off, has text after its end, or is of another
    /// format.
    #[error("{path}: expected {expected}, got {got}", path = path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// What must be there.
        expected: String,
        /// What was found, and the likely cause.
        got: String,
    },
    /// A field of a record holds something that the record cannot have.
    #[error("{record} field `{field}`: expected {expected}, got {got}")]
    Field {
        /// The record: its id, or its file and number.
        record: String,
        /// The field's name.
        field: &'static str,
        /// What is allowed.
        expected: String,
        /// What was found.
        got: String,
    },
    /// A caption says nothing.
    #[error("{record}: the caption is empty")]
    EmptyCaption {
        /// The record: its id, or its file and number.
        record: String,
    },
    /// A conversation's image markers and its images do not match.
    #[error("{record}: {markers} image markers `<image>` but {images} images")]
    ImageCount {
        /// The conversation's id.
        record: String,
        /// Occurrences of the marker in the messages.
        markers: usize,
        /// Entries in `images`.
        images: usize,
    },
    /// An image is not in the store.
    #[error("image {image} not found in {location}")]
    ImageMissing {
        /// The reference that was looked up.
        image: String,
        /// The folder, archive or memory that was searched.
        location: String,
    },
    /// An image's bytes could not be decoded.
    #[error("image {image} does not decode: {source}")]
    ImageDecode {
        /// The reference that was opened.
        image: String,
        /// What the decoder said.
        source: BoxError,
    },
    /// An image is larger than the reader allows (a decompression bomb).
    #[error("image {image} is {width}x{height}: more than the limit of {limit} pixels")]
    ImageTooLarge {
        /// The reference that was opened.
        image: String,
        /// Width in pixels from the header.
        width: u32,
        /// Height in pixels from the header.
        height: u32,
        /// The allowed number of pixels.
        limit: u64,
    },
    /// Somebody asked the work to stop ([`Progress::is_cancelled`](crate::Progress::is_cancelled)). What was finished is on disk.
    #[error("stopped before the end, as was asked for; what was finished is kept")]
    Cancelled,
    /// A model fails on everything: a server that is gone, a device that was lost.
    #[error(
        "the model failed on {n} consecutive prompts, the last time with: {detail}; what was answered before is kept"
    )]
    ModelFails {
        /// How many.
        n: usize,
        /// Its last error.
        detail: String,
    },
}

impl CoreError {
    /// An [`CoreError::Io`] with the path that `std::io::Error` leaves out.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
