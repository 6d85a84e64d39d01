/// Why bytes did not become pixels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JpegError {
    /// The file ends before its pixels do.
    #[error("it ends too early: {detail}")]
    Truncated {
        /// What the decoder was waiting for.
        detail: String,
    },
    /// The file breaks the format's rules.
    #[error("broken: {detail}")]
    Broken {
        /// Which rule.
        detail: String,
    },
    /// The file is fine, and uses a part of the format that is not read here.
    #[error("{detail} is not supported")]
    Unsupported {
        /// The part that is not read.
        detail: String,
    },
    /// The frame header announces more pixels than allowed.
    #[error("{width}x{height} pixels are more than the limit of {limit}")]
    TooLarge {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// The largest number of pixels allowed.
        limit: u64,
    },
}

pub(crate) fn broken(detail: impl Into<String>) -> JpegError {
    JpegError::Broken { detail: detail.into() }
}

pub(crate) fn truncated(detail: impl Into<String>) -> JpegError {
    JpegError::Truncated { detail: detail.into() }
}

pub(crate) fn unsupported(detail: impl Into<String>) -> JpegError {
    JpegError::Unsupported { detail: detail.into() }
}
