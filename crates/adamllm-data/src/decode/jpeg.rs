//! JPEG: its header with what turns the image upright; the pixels are [`adamllm_jpeg`]'s.

use std::io::Cursor;

use super::orientation::Hints;
use super::raster::Raster;
use super::{Header, ImageFormat, ImageReader};
use crate::DecodeError;
use adamllm_jpeg::{JpegError, JpegImage};

const FORMAT: ImageFormat = ImageFormat::Jpeg;

/// Walks the markers up to the frame header, past EXIF and XMP, and further to the scan for what is in between.
pub(super) fn header(reader: &mut impl ImageReader) -> Result<Header, DecodeError> {
    const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
    let io = |source| DecodeError::io(FORMAT, &source);
    let (mut hints, mut size) = (Hints::default(), None);
    reader.seek_relative(2).map_err(io)?;
    loop {
        let marker = next_marker(reader)?;
        let mut length = [0; 2];
        if marker != 0xD9 {
            reader.read_exact(&mut length).map_err(io)?;
        }
        let length = u16::from_be_bytes(length).checked_sub(2);
        match (marker, length, size) {
            (0xD9 | 0xDA, _, Some((width, height))) => {
                return Ok(Header { width, height, orientation: hints.orientation() });
            }
            (0xF7, ..) => return Err(unsupported("JPEG-LS coding")),
            (0xD9 | 0xDA, _, None) => return Err(broken("no frame header before the pixels")),
            (_, None, _) => return Err(broken("a segment shorter than its own length")),
            (0xE1, Some(length), _) => {
                let mut segment = vec![0; length.into()];
                reader.read_exact(&mut segment).map_err(io)?;
                if segment.starts_with(b"Exif\0\0") {
                    // A block that is longer than a segment goes on in the next.
                    match &mut hints.exif {
                        Some(exif) => exif.extend_from_slice(&segment[6..]),
                        None => hints.exif = Some(segment),
                    }
                } else if let Some(packet) = segment.strip_prefix(XMP) {
                    hints.xmp = Some(packet.to_vec());
                }
            }
            (0xC0..=0xCF, Some(length), None) if ![0xC4, 0xC8, 0xCC].contains(&marker) => {
                let mut frame = [0; 5];
                reader.read_exact(&mut frame).map_err(io)?;
                let [height, width] = [[frame[1], frame[2]], [frame[3], frame[4]]].map(u16::from_be_bytes);
                size = Some((width.into(), height.into()));
                let rest = length.checked_sub(5).ok_or_else(|| broken("short frame header"))?;
                reader.seek_relative(rest.into()).map_err(io)?;
            }
            (_, Some(length), _) => reader.seek_relative(length.into()).map_err(io)?,
        }
    }
}

/// The next marker's code, with fill bytes and stray bytes skipped.
fn next_marker(reader: &mut impl ImageReader) -> Result<u8, DecodeError> {
    let mut byte = [0];
    let mut after_ff = false;
    loop {
        reader.read_exact(&mut byte).map_err(|source| DecodeError::io(FORMAT, &source))?;
        match (after_ff, byte[0]) {
            (_, 0xFF) => after_ff = true,
            (true, code @ 1..) if !(0xD0..=0xD8).contains(&code) && code != 1 => return Ok(code),
            _ => after_ff = false,
        }
    }
}

pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    // The header's size was checked before.
    let JpegImage { width, height, samples, .. } = adamllm_jpeg::decode_rgb(bytes, u64::MAX)?;
    Ok(Raster::opaque(width as u32, height as u32, samples))
}

/// Decodes a strip or tile of a TIFF, of at most `max_size`. `tables` is the stream of the tables that all of a file's strips share; YCbCr
/// becomes RGB, other components stay what they are.
pub(super) fn strip(
    tables: &[u8],
    strip: &[u8],
    is_ycbcr: bool,
    max_size: (usize, usize),
) -> Result<JpegImage, DecodeError> {
    // Tables and strips are streams of their own (T.81, B.4 and B.5), each between a start and an end marker.
    // Joined without the markers in the middle they are one file.
    let tables = tables.strip_suffix(b"\xFF\xD9").filter(|tables| tables.starts_with(b"\xFF\xD8"));
    let Some(rest) = strip.strip_prefix(b"\xFF\xD8") else { return Err(broken("a strip that is none")) };
    let joined = [tables.unwrap_or(b"\xFF\xD8"), rest].concat();

    // Looked at before the planes are allocated: the strip's own header may claim any size.
    let header = header(&mut Cursor::new(&joined))?;
    if header.width as usize > max_size.0 || header.height as usize > max_size.1 {
        return Err(broken(format!("{}x{} pixels in a smaller strip", header.width, header.height)));
    }
    Ok(adamllm_jpeg::decode_components(&joined, is_ycbcr, u64::MAX)?)
}

impl From<JpegError> for DecodeError {
    fn from(error: JpegError) -> Self {
        match error {
            JpegError::Truncated { detail } => Self::Truncated { format: FORMAT, detail },
            JpegError::Broken { detail } => Self::Broken { format: FORMAT, detail },
            JpegError::Unsupported { detail } => unsupported(detail),
            JpegError::TooLarge { width, height, limit } => {
                Self::TooLarge { width: width as u32, height: height as u32, limit }
            }
        }
    }
}

fn broken(detail: impl Into<String>) -> DecodeError {
    DecodeError::Broken { format: FORMAT, detail: detail.into() }
}

fn unsupported(detail: impl Into<String>) -> DecodeError {
    DecodeError::Unsupported { format: FORMAT, detail: detail.into() }
}
