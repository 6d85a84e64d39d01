//! The first page of a TIFF.

use std::io::{BufRead, Cursor, Seek};

use image::metadata::Orientation;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::{ByteOrder, Tag};
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
    if let Some((greys, palette)) = palette_as_greys(bytes)? {
        return Ok(coloured(pixels(&greys)?, &palette));
    }
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
        (ColorType::GrayA(8) | ColorType::Multiband { bit_depth: 8, num_samples: 2 }, DecodingResult::U8(p)) => {
            Raster::grey_alpha(width, height, &p)
        }
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

/// The colour of every index.
type Palette = [[u8; 3]; 256];

/// The decoder reads no palettes. For a file with one: the same file with its indices announced as greys, and the
/// palette, spread as the greys of that many bits are spread.
fn palette_as_greys(bytes: &[u8]) -> Result<Option<(Vec<u8>, Palette)>, DecodeError> {
    const PALETTE: u16 = 3;
    const BLACK_IS_ZERO: u16 = 1;
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(sorted)?;
    let Some(map) = decoder.find_tag(Tag::ColorMap).map_err(sorted)? else { return Ok(None) };
    let photometric = decoder.get_tag_unsigned::<u16>(Tag::PhotometricInterpretation).map_err(sorted)?;
    let depth = decoder.find_tag_unsigned::<u8>(Tag::BitsPerSample).map_err(sorted)?.unwrap_or(1);
    if photometric != PALETTE || ![1, 2, 4, 8].contains(&depth) {
        return Ok(None);
    }
    let (map, n) = (map.into_u16_vec().map_err(sorted)?, 1_usize << depth);
    if map.len() != 3 * n {
        return Err(DecodeError::broken(FORMAT, format!("colour map: expected {} values, got {}", 3 * n, map.len())));
    }
    let step = 255 / (n - 1);
    // All reds come first, then all greens, then all blues.
    let colour = |grey: usize| [0, 1, 2].map(|channel| (map[channel * n + grey / step] >> 8) as u8);
    let order = decoder.byte_order();
    let [id, old, new] = [Tag::PhotometricInterpretation.to_u16(), PALETTE, BLACK_IS_ZERO].map(|value| match order {
        ByteOrder::LittleEndian => value.to_le_bytes(),
        ByteOrder::BigEndian => value.to_be_bytes(),
    });
    let entries = decoder.ifd_pointer().map_or(0, |pointer| pointer.0 as usize) + 2;
    let mut greys = bytes.to_vec();
    let entry = greys.get_mut(entries..).into_iter().flat_map(|ifd| ifd.chunks_exact_mut(12)).find(|e| e[..2] == id);
    match entry {
        Some(entry) if entry[8..10] == old => entry[8..10].copy_from_slice(&new),
        _ => return Err(DecodeError::Unsupported { format: FORMAT, detail: "a palette in a BigTIFF".into() }),
    }
    Ok(Some((greys, std::array::from_fn(colour))))
}

fn coloured(mut greys: Raster, palette: &[[u8; 3]; 256]) -> Raster {
    for pixel in greys.rgb.as_chunks_mut::<3>().0 {
        *pixel = palette[usize::from(pixel[0])];
    }
    greys
}

fn sorted(error: TiffError) -> DecodeError {
    match error {
        TiffError::IoError(source) => DecodeError::io(FORMAT, &source),
        TiffError::UnsupportedError(what) => DecodeError::Unsupported { format: FORMAT, detail: what.to_string() },
        other => DecodeError::broken(FORMAT, other),
    }
}
