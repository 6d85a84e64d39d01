//! JPEG 2000, of 8 bits a sample: grey and RGB, with alpha or without.

use std::io::Read;

use hayro_jpeg2000::{ColorSpace, DecodeSettings, DecoderContext, Image};
use image::metadata::Orientation;

use super::raster::Raster;
use super::{Header, ImageReader, PictureFormat};
use crate::DecodeError;

const FORMAT: PictureFormat = PictureFormat::Jpeg2000;

/// The marker segment of the size, behind the code stream's beginning.
const SIZE: &[u8] = &[0xFF, 0x4F, 0xFF, 0x51];

/// Reads up to the code stream's size.
pub(super) fn header(reader: &mut impl ImageReader) -> Result<Header, DecodeError> {
    let io = |source| DecodeError::io(FORMAT, &source);
    let mut bytes = Vec::new();
    loop {
        let n = reader.by_ref().take(1 << 16).read_to_end(&mut bytes).map_err(io)?;
        if let Some(at) = bytes.windows(SIZE.len()).position(|window| window == SIZE)
            && let Some(fields) = bytes.get(at + 8..at + 24)
        {
            let field = |i: usize| u32::from_be_bytes([0, 1, 2, 3].map(|byte| fields[i * 4 + byte]));
            let side = |end: usize, start: usize| field(end).saturating_sub(field(start));
            return Ok(Header { width: side(0, 2), height: side(1, 3), orientation: Orientation::NoTransforms });
        }
        if n == 0 {
            return Err(DecodeError::Truncated { format: FORMAT, detail: "before its size".into() });
        }
    }
}

pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let broken = |error: hayro_jpeg2000::DecodeError| DecodeError::broken(FORMAT, error);
    let unsupported = |detail: String| DecodeError::Unsupported { format: FORMAT, detail };
    let settings = DecodeSettings { strict: true, ..DecodeSettings::default() };
    let image = Image::new(bytes, &settings).map_err(broken)?;
    if image.original_bit_depth() != 8 {
        return Err(unsupported(format!("{} bits a sample", image.original_bit_depth())));
    }
    let (width, height) = (image.width(), image.height());
    let is_bare = bytes.starts_with(SIZE);
    let n_colours = match image.color_space() {
        ColorSpace::Gray => 1,
        ColorSpace::RGB => 3,
        // A bare code stream does not tell: two components are grey and alpha, four are RGB and alpha.
        ColorSpace::Unknown { num_channels: 2 } if is_bare => 1,
        ColorSpace::CMYK if is_bare => 3,
        _ => return Err(unsupported("other colours than grey and RGB".into())),
    };
    let is_guessed = is_bare && !matches!(image.color_space(), ColorSpace::Gray | ColorSpace::RGB);
    let has_alpha = image.has_alpha() || is_guessed;
    let mut context = DecoderContext::default();
    let pixels = image.decode(&mut context).map_err(broken)?.data_u8();
    Ok(match (n_colours, has_alpha) {
        (1, false) => Raster::grey(width, height, &pixels),
        (1, true) => Raster::grey_alpha(width, height, &pixels),
        (_, false) => Raster::opaque(width, height, pixels),
        (_, true) => Raster::rgba(width, height, &pixels),
    })
}
