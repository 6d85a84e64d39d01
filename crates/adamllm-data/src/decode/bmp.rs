//! Windows bitmaps.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;

use super::raster::Raster;
use super::{Header, ImageReader, PictureFormat, general};
use crate::DecodeError;

const FORMAT: PictureFormat = PictureFormat::Bmp;

pub(super) fn header(reader: &mut impl ImageReader) -> Result<Header, DecodeError> {
    general::header(&BmpDecoder::new(reader).map_err(|error| general::sorted(FORMAT, error))?)
}

pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(|error| general::sorted(FORMAT, error))?;
    general::pixels(FORMAT, decoder)
}
