use std::fmt;

use crate::DecodeError;

/// A picture file's format, told by its first bytes (names and media types are not asked).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PictureFormat {
    /// Baseline and progressive JPEG; grey, YCbCr, RGB, CMYK, YCCK.
    Jpeg,
    /// PNG of every colour type and depth; of an animation the default image.
    Png,
    /// WebP, lossy or lossless; of an animation the first frame.
    WebP,
    /// The first frame of a GIF.
    Gif,
    /// Windows bitmaps.
    Bmp,
    /// The first page of a TIFF.
    Tiff,
}

impl PictureFormat {
    /// Recognises a format.
    ///
    /// # Errors
    /// [`DecodeError::Empty`] and [`DecodeError::UnknownFormat`].
    pub fn of(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match bytes {
            [] => return Err(DecodeError::Empty),
            [0xFF, 0xD8, 0xFF, ..] => Self::Jpeg,
            [0x89, b'P', b'N', b'G', ..] => Self::Png,
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Self::WebP,
            [b'G', b'I', b'F', b'8', ..] => Self::Gif,
            [b'B', b'M', ..] => Self::Bmp,
            [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Self::Tiff,
            _ => {
                let got = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                return Err(DecodeError::UnknownFormat { got });
            }
        })
    }
}

impl fmt::Display for PictureFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
        })
    }
}
