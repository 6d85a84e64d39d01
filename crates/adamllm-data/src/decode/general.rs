//! What the decoders of `image` have in common.

use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError};

use super::raster::Raster;
use super::{Header, PictureFormat};
use crate::DecodeError;

pub(super) fn header(decoder: &impl ImageDecoder) -> Result<Header, DecodeError> {
    let (width, height) = decoder.dimensions();
    Ok(Header { width, height, orientation: Orientation::NoTransforms })
}

pub(super) fn pixels(format: PictureFormat, decoder: impl ImageDecoder) -> Result<Raster, DecodeError> {
    let ((width, height), color) = (decoder.dimensions(), decoder.color_type());
    let mut pixels = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut pixels).map_err(|error| sorted(format, error))?;
    Ok(match color {
        ColorType::L8 => Raster::grey(width, height, &pixels),
        ColorType::La8 => Raster::grey_alpha(width, height, &pixels),
        ColorType::Rgb8 => Raster::opaque(width, height, pixels),
        ColorType::Rgba8 => Raster::rgba(width, height, &pixels),
        other => return Err(DecodeError::Unsupported { format, detail: format!("{other:?} pixels") }),
    })
}

pub(super) fn sorted(format: PictureFormat, error: ImageError) -> DecodeError {
    match error {
        ImageError::IoError(source) => DecodeError::io(format, &source),
        ImageError::Unsupported(what) => DecodeError::Unsupported { format, detail: what.to_string() },
        other => DecodeError::broken(format, other),
    }
}
