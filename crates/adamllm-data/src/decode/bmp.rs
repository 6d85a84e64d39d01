//! Windows bitmaps.

use std::io::{BufRead, Cursor, Seek};

use image::codecs::bmp::BmpDecoder;
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError};

use super::raster::Raster;
use super::{Header, PictureFormat};
use crate::DecodeError;

const FORMAT: PictureFormat = PictureFormat::Bmp;

pub(super) fn header(reader: impl BufRead + Seek) -> Result<Header, DecodeError> {
    let (width, height) = BmpDecoder::new(reader).map_err(sorted)?.dimensions();
    Ok(Header { width, height, orientation: Orientation::NoTransforms })
}

pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(sorted)?;
    let ((width, height), color) = (decoder.dimensions(), decoder.color_type());
    let mut pixels = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut pixels).map_err(sorted)?;
    Ok(match color {
        ColorType::L8 => Raster::grey(width, height, &pixels),
        ColorType::Rgba8 => Raster::rgba(width, height, &pixels),
        _ => Raster::opaque(width, height, pixels),
    })
}

fn sorted(error: ImageError) -> DecodeError {
    match error {
        ImageError::IoError(source) => DecodeError::io(FORMAT, &source),
        ImageError::Unsupported(what) => DecodeError::Unsupported { format: FORMAT, detail: what.to_string() },
        other => DecodeError::broken(FORMAT, other),
    }
}
