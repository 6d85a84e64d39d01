//! JPEG 2000, of 8 bits a sample: grey and RGB, with alpha or without.

use std::io::Read;

use hayro_jpeg2000::{ColorSpace, DecodeSettings, DecoderContext, Image};
use image::metadata::Orientation;

use super::raster::Raster;
use super::{Header, ImageFormat, ImageReader};
use crate::DecodeError;

const FORMAT: ImageFormat = ImageFormat::Jpeg2000;

/// The marker segment of the size, after the code stream's beginning.
const SIZE: &[u8] = &[0xFF, 0x4F, 0xFF, 0x51];

/// Reads up to the code stream's size.
pub(super) fn header(reader: &mut impl ImageReader) -> Result<Header, DecodeError> {
    let io = |source| DecodeError::io(FORMAT, &source);
    let mut bytes = Vec::new();
    let mut searched = 0;
    loop {
        let n = reader.by_ref().take(1 << 16).read_to_end(&mut bytes).map_err(io)?;
        let found = bytes[searched..].windows(SIZE.len()).position(|window| window == SIZE);
        if let Some(offset) = found.map(|offset| offset + searched)
            && let Some(fields) = bytes.get(offset + 8..offset + 24)
        {
            let field = |i: usize| u32::from_be_bytes([0, 1, 2, 3].map(|byte| fields[i * 4 + byte]));
            let side = |end: usize, start: usize| field(end).saturating_sub(field(start));
            return Ok(Header { width: side(0, 2), height: side(1, 3), orientation: Orientation::NoTransforms });
        }
        // A mark at the end may lack its fields yet.
        searched = bytes.len().saturating_sub(24).max(searched);
        if n == 0 {
            return Err(DecodeError::Truncated { format: FORMAT, detail: "before its size".into() });
        }
    }
}

/// Refuses what Pillow and other decoders understand differently: samples of other than 8 bits, components of a coarser
/// grid, palettes, and colours that are neither grey nor RGB.
fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    let unsupported = |detail: String| Err(DecodeError::Unsupported { format: FORMAT, detail });
    let position = |what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let truncated = || DecodeError::Truncated { format: FORMAT, detail: "inside its size".into() };
    let start = position(SIZE).ok_or_else(truncated)?;

    let fields = bytes.get(start + 40..).ok_or_else(truncated)?;
    let (n, components) = fields.split_first_chunk().ok_or_else(truncated)?;
    let n = usize::from(u16::from_be_bytes(*n));
    let components = components.get(..n * 3).ok_or_else(truncated)?;
    for component in components.chunks_exact(3) {
        match component {
            [7, 1, 1] => {}
            [7, ..] => return unsupported("components of different size".into()),
            [depth, ..] if depth & 0x80 != 0 => return unsupported("signed samples".into()),
            [depth, ..] => return unsupported(format!("{} bits a sample", depth + 1)),
            [] => {}
        }
    }

    let head = &bytes[..start];
    let boxes = |name: &[u8]| head.windows(name.len()).position(|window| window == name);
    if boxes(b"pclr").is_some() {
        return unsupported("a palette".into());
    }
    let enumerated = boxes(b"colr\x01").and_then(|offset| head.get(offset + 7..)?.first_chunk());
    match enumerated.map(|code| u32::from_be_bytes(*code)) {
        None | Some(16 | 17) => Ok(()),
        Some(18) => unsupported("YCC colours".into()),
        Some(code) => unsupported(format!("colours of kind {code}")),
    }
}

pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let broken = |error: hayro_jpeg2000::DecodeError| DecodeError::broken(FORMAT, error);
    let unsupported = |detail: String| DecodeError::Unsupported { format: FORMAT, detail };
    check(bytes)?;
    let settings = DecodeSettings { strict: true, ..DecodeSettings::default() };
    let image = Image::new(bytes, &settings).map_err(broken)?;
    let (width, height) = (image.width(), image.height());
    let is_bare = bytes.starts_with(SIZE);
    let n_colours = match image.color_space() {
        // Profiles are not applied, as in Pillow.
        ColorSpace::Gray | ColorSpace::Icc { num_channels: 1, .. } => 1,
        ColorSpace::RGB | ColorSpace::Icc { num_channels: 3, .. } => 3,
        // A bare code stream does not tell: two components are grey and alpha, four are RGB and alpha.
        ColorSpace::Unknown { num_channels: 2 } if is_bare => 1,
        ColorSpace::CMYK if is_bare => 3,
        _ => return Err(unsupported("other colours than grey and RGB".into())),
    };
    let is_guessed = is_bare && matches!(image.color_space(), ColorSpace::Unknown { .. } | ColorSpace::CMYK);
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
