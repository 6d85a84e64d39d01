//! WebP, lossy and lossless; of an animation the first frame on its canvas.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::orientation::Hints;
use super::raster::Raster;
use super::{Header, ImageReader, PictureFormat};
use crate::DecodeError;

const FORMAT: PictureFormat = PictureFormat::WebP;

pub(super) fn header(reader: &mut impl ImageReader) -> Result<Header, DecodeError> {
    let mut decoder = WebPDecoder::new(reader).map_err(sorted)?;
    let (width, height) = decoder.dimensions();
    let exif = decoder.exif_metadata().map_err(sorted)?;
    let xmp = decoder.xmp_metadata().map_err(sorted)?;
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
        DecodingError::NoMoreFrames | DecodingError::NotEnoughInitData => {
            DecodeError::Truncated { format: FORMAT, detail: error.to_string() }
        }
        other => DecodeError::broken(FORMAT, other),
    }
}
