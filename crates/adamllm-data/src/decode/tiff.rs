//! The first page of a TIFF.

use std::io::{BufRead, Cursor, Read, Seek};

use image::metadata::Orientation;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use super::raster::Raster;
use super::{Header, PictureFormat, cmyk};
use crate::DecodeError;

const FORMAT: PictureFormat = PictureFormat::Tiff;

pub(super) fn header(reader: impl BufRead + Seek) -> Result<Header, DecodeError> {
    let mut decoder = Decoder::new(reader).map_err(sorted)?;
    let (width, height) = decoder.dimensions().map_err(sorted)?;
    let code = decoder.find_tag_unsigned::<u8>(Tag::Orientation).map_err(sorted)?;
    let orientation = code.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms);
    Ok(Header { width, height, orientation })
}

/// Grey of 16 bits is clipped at 255, other 16-bit types keep the high byte, as in Pillow.
pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(sorted)?.with_limits(Limits::unlimited());
    let (width, height) = decoder.dimensions().map_err(sorted)?;
    let color = decoder.colortype().map_err(sorted)?;
    let samples = decoder.read_image().map_err(sorted)?;
    let raster = match (color, samples) {
        (ColorType::Gray(8), DecodingResult::U8(p)) => Raster::grey(width, height, &p),
        (ColorType::Gray(16), DecodingResult::U16(p)) => Raster::grey(width, height, &clipped(&p)),
        (ColorType::Gray(bits @ (1 | 2 | 4)), DecodingResult::U8(p)) => {
            let scale = 255 / ((1_u8 << bits) - 1);
            let grey: Vec<_> = unpacked(&p, bits, width).into_iter().map(|v| v * scale).collect();
            Raster::grey(width, height, &grey)
        }
        (ColorType::Palette(bits @ (1 | 2 | 4 | 8)), DecodingResult::U8(p)) => {
            let colours = palette(&mut decoder, bits)?;
            let indices = unpacked(&p, bits, width);
            Raster::opaque(width, height, indices.into_iter().flat_map(|i| colours[usize::from(i)]).collect())
        }
        (ColorType::GrayA(8), DecodingResult::U8(p)) => Raster::grey_alpha(width, height, &p),
        (ColorType::RGB(8), DecodingResult::U8(p)) => Raster::opaque(width, height, p),
        (ColorType::RGB(16), DecodingResult::U16(p)) => Raster::opaque(width, height, high_bytes(&p)),
        (ColorType::RGBA(8), DecodingResult::U8(p)) => Raster::rgba(width, height, &p),
        (ColorType::RGBA(16), DecodingResult::U16(p)) => Raster::rgba(width, height, &high_bytes(&p)),
        (ColorType::CMYK(8), DecodingResult::U8(p)) => Raster::opaque(width, height, cmyk::to_rgb(&p)),
        (color, _) => return Err(DecodeError::Unsupported { format: FORMAT, detail: format!("{color:?} pixels") }),
    };
    Ok(raster)
}

fn clipped(samples: &[u16]) -> Vec<u8> {
    samples.iter().map(|&sample| sample.min(255) as u8).collect()
}

fn high_bytes(samples: &[u16]) -> Vec<u8> {
    samples.iter().map(|&sample| (sample >> 8) as u8).collect()
}

/// One byte a sample from rows of packed bits, each row beginning with a new byte.
fn unpacked(packed: &[u8], bits: u8, width: u32) -> Vec<u8> {
    if bits == 8 {
        return packed.to_vec();
    }
    let (per_byte, mask) = (8 / bits as usize, (1_u8 << bits) - 1);
    let n_columns = width as usize;
    let row = |row: &[u8]| {
        let row = row.to_vec();
        (0..n_columns).map(move |x| (row[x / per_byte] >> (8 - bits as usize * (x % per_byte + 1))) & mask)
    };
    packed.chunks_exact(n_columns.div_ceil(per_byte)).flat_map(row).collect()
}

/// The colour map: all reds, all greens, all blues, of 16 bits each.
fn palette<R: Read + Seek>(decoder: &mut Decoder<R>, bits: u8) -> Result<Vec<[u8; 3]>, DecodeError> {
    let map = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(sorted)?;
    let n = 1_usize << bits;
    if map.len() < 3 * n {
        return Err(DecodeError::broken(FORMAT, format!("colour map: expected {} values, got {}", 3 * n, map.len())));
    }
    let n = map.len() / 3;
    Ok((0..n).map(|i| [map[i], map[n + i], map[2 * n + i]].map(|value| (value >> 8) as u8)).collect())
}

fn sorted(error: TiffError) -> DecodeError {
    match error {
        TiffError::IoError(source) => DecodeError::io(FORMAT, &source),
        TiffError::UnsupportedError(what) => DecodeError::Unsupported { format: FORMAT, detail: what.to_string() },
        other => DecodeError::broken(FORMAT, other),
    }
}
