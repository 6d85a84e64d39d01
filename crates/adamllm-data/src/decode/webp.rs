//! WebP, lossy and lossless; of an animation the first frame on its canvas.

use std::io::{Cursor, SeekFrom};

use image_webp::{DecodingError, WebPDecoder};

use super::orientation::Hints;
use super::raster::Raster;
use super::{Header, ImageFormat, ImageReader};
use crate::DecodeError;

const FORMAT: ImageFormat = ImageFormat::WebP;
const HAS_EXIF: u8 = 8;
const HAS_XMP: u8 = 4;

pub(super) fn header(reader: &mut impl ImageReader) -> Result<Header, DecodeError> {
    let mut head = [0; 21];
    let start = reader.stream_position().and_then(|start| reader.read_exact(&mut head).map(|()| start));
    let start = start.map_err(|source| DecodeError::io(FORMAT, &source))?;
    let end = reader.seek(SeekFrom::End(0)).map_err(|source| DecodeError::io(FORMAT, &source))?;
    reader.seek(SeekFrom::Start(start)).map_err(|source| DecodeError::io(FORMAT, &source))?;
    // Only blocks that the extended header announces count.
    let flags = if &head[12..16] == b"VP8X" { head[20] } else { 0 };

    let mut decoder = WebPDecoder::new(reader).map_err(sorted)?;
    // A block is reserved by the length that it claims: four gigabytes where the file is damaged.
    decoder.set_memory_limit(usize::try_from(end - start).unwrap_or(usize::MAX));
    let (width, height) = decoder.dimensions();
    let exif = decoder.exif_metadata().map_err(sorted)?.filter(|_| flags & HAS_EXIF != 0);
    let xmp = decoder.xmp_metadata().map_err(sorted)?.filter(|_| flags & HAS_XMP != 0);
    Ok(Header { width, height, orientation: Hints { exif, xmp }.orientation() })
}

pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(sorted)?;
    let (width, height) = decoder.dimensions();
    let size = decoder.output_buffer_size().ok_or_else(|| DecodeError::broken(FORMAT, "size overflow"))?;
    let mut pixels = vec![0; size];
    decoder.read_image(&mut pixels).map_err(sorted)?;
    Ok(match decoder.has_alpha() {
        true => Raster::rgba(width, height, &pixels),
        false => Raster::opaque(width, height, pixels),
    })
}

fn sorted(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::IoError(source) => DecodeError::io(FORMAT, &source),
        DecodingError::MemoryLimitExceeded => {
            DecodeError::Truncated { format: FORMAT, detail: "a block claims to be longer than the file".into() }
        }
        DecodingError::NoMoreFrames | DecodingError::NotEnoughInitData => {
            DecodeError::Truncated { format: FORMAT, detail: error.to_string() }
        }
        other => DecodeError::broken(FORMAT, other),
    }
}
