use crate::ImageFormat;

/// Why an image's bytes did not become pixels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There are no bytes at all.
    #[error("expected an image, got an empty file")]
    Empty,
    /// The bytes begin like none of the known formats.
    #[error("expected JPEG, PNG, WebP, GIF, BMP, TIFF, PNM, TGA, ICO or JPEG 2000, got bytes that begin with {got}")]
    UnknownFormat {
        /// The first bytes in hexadecimal.
        got: String,
    },
    /// The file is of a known kind that is not read here, or no image at all.
    #[error("expected an image of a format that is read here, got {found}: {advice}")]
    NotRead {
        /// What the file is.
        found: &'static str,
        /// What to do about it.
        advice: &'static str,
    },
    /// The file ends before its pixels do.
    #[error("{format} ends too early: {detail}")]
    Truncated {
        /// What the file claims to be.
        format: ImageFormat,
        /// What the decoder was waiting for.
        detail: String,
    },
    /// The file breaks its format's rules.
    #[error("broken {format}: {detail}")]
    Broken {
        /// What the file claims to be.
        format: ImageFormat,
        /// What the decoder said.
        detail: String,
    },
    /// The file is fine, and uses a part of its format that is not read here.
    #[error("{format} with {detail} is not supported")]
    Unsupported {
        /// The file's format.
        format: ImageFormat,
        /// The part that is not read.
        detail: String,
    },
    /// The header announces more pixels than allowed: a decompression bomb, or an image to be scaled down first.
    #[error("{width}x{height} pixels are more than the limit of {limit}")]
    TooLarge {
        /// Width in pixels, as stored.
        width: u32,
        /// Height in pixels, as stored.
        height: u32,
        /// The largest number of pixels allowed.
        limit: u64,
    },
    /// The file could not be read any further (only where the image is not in memory yet).
    #[error("reading failed: {detail}")]
    Read {
        /// The operating system's answer.
        detail: String,
    },
}

impl DecodeError {
    /// Sorts a decoder's input error: an early end is a truncated file, anything else broken reading.
    pub(crate) fn io(format: ImageFormat, source: &std::io::Error) -> Self {
        let detail = source.to_string();
        match source.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Truncated { format, detail },
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => Self::Broken { format, detail },
            _ => Self::Read { detail },
        }
    }

    /// A broken file, with the decoder's words.
    pub(crate) fn broken(format: ImageFormat, detail: impl ToString) -> Self {
        Self::Broken { format, detail: detail.to_string() }
    }
}
