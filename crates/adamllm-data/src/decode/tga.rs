//! Truevision TGA.

use std::io::Cursor;

use image::codecs::tga::TgaDecoder;

use super::raster::Raster;
use super::{Header, ImageReader, PictureFormat, general};
use crate::DecodeError;

const FORMAT: PictureFormat = PictureFormat::Tga;

pub(super) fn header(reader: &mut impl ImageReader) -> Result<Header, DecodeError> {
    general::header(&TgaDecoder::new(reader).map_err(|error| general::sorted(FORMAT, error))?)
}

pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let decoder = TgaDecoder::new(Cursor::new(bytes)).map_err(|error| general::sorted(FORMAT, error))?;
    general::pixels(FORMAT, decoder)
}
