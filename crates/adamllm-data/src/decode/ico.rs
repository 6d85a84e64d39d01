//! Windows icons.

use std::io::Cursor;

use image::codecs::ico::IcoDecoder;

use super::raster::Raster;
use super::{Header, ImageReader, PictureFormat, general};
use crate::DecodeError;

const FORMAT: PictureFormat = PictureFormat::Ico;

pub(super) fn header(reader: &mut impl ImageReader) -> Result<Header, DecodeError> {
    general::header(&IcoDecoder::new(reader).map_err(|error| general::sorted(FORMAT, error))?)
}

pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let decoder = IcoDecoder::new(Cursor::new(bytes)).map_err(|error| general::sorted(FORMAT, error))?;
    general::pixels(FORMAT, decoder)
}
