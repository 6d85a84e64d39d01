//! Truevision TGA by Pillow's rules: greys, palettes, 16, 24 and 32 bits, plain and by run lengths, any corner first.

use image::metadata::Orientation;

use super::raster::Raster;
use super::{Header, ImageFormat, ImageReader};
use crate::DecodeError;

const FORMAT: ImageFormat = ImageFormat::Tga;

/// Marks a file of the second version, at its very end.
const FOOTER: &[u8] = b"TRUEVISION-XFILE.\0";

pub(super) fn header(reader: &mut impl ImageReader) -> Result<Header, DecodeError> {
    let mut head = [0; 18];
    reader.read_exact(&mut head).map_err(|source| DecodeError::io(FORMAT, &source))?;
    let side = |offset: usize| u32::from(u16::from_le_bytes([head[offset], head[offset + 1]]));
    Ok(Header { width: side(12), height: side(14), orientation: Orientation::NoTransforms })
}

pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let head: &[u8; 18] = bytes.first_chunk().ok_or_else(truncated)?;
    let short = |offset: usize| usize::from(u16::from_le_bytes([head[offset], head[offset + 1]]));
    let (width, height) = (short(12), short(14));
    let (kind, depth) = (head[2], head[16]);

    // A name, then the palette, which may begin beyond 0.
    let mut rest = bytes.get(18 + usize::from(head[0])..).ok_or_else(truncated)?;
    let mut palette = None;
    if head[1] == 1 {
        let (first, n, entry) = (short(3), short(5), usize::from(head[7]).div_ceil(8));
        if ![16, 24, 32].contains(&head[7]) {
            return Err(unsupported(format!("a palette of {} bits", head[7])));
        }
        let (entries, tail) = rest.split_at_checked(n * entry).ok_or_else(truncated)?;
        rest = tail;
        let mut colours = vec![([0; 3], 0); 256.max(first + n)];
        entries.chunks_exact(entry).zip(&mut colours[first..]).for_each(|(entry, colour)| *colour = coloured(entry));
        palette = Some(colours);
    }

    let size = usize::from(depth).div_ceil(8);
    let n_bytes = width * height * size;
    let unpacked;
    let stored = if kind & 8 == 0 {
        rest.get(..n_bytes).ok_or_else(truncated)?
    } else {
        unpacked = by_runs(rest, size, n_bytes)?;
        &unpacked
    };
    let is_indexed = palette.is_some();
    let pixel = |stored: &[u8]| match (kind & 7, &palette, stored) {
        (1, Some(colours), &[index]) => colours[usize::from(index)],
        (3, _, &[grey]) => ([grey; 3], 255),
        (3, _, &[grey, alpha]) => ([grey; 3], alpha),
        _ => coloured(stored),
    };
    match (kind & 7, depth) {
        (1, 8) if is_indexed => {}
        (2, 16 | 24 | 32) | (3, 8 | 16) => {}
        _ => return Err(unsupported(format!("kind {kind} of {depth} bits"))),
    }

    let (from_right, from_top) = (head[17] & 0x10 != 0, head[17] & 0x20 != 0);
    let (mut rgb, mut alpha) = (Vec::with_capacity(width * height * 3), Vec::with_capacity(width * height));
    for y in 0..height {
        let row = if from_top { y } else { height - 1 - y };
        let row = &stored[row * width * size..][..width * size];
        for x in 0..width {
            let column = if from_right { width - 1 - x } else { x };
            let (colour, clear) = pixel(&row[column * size..][..size]);
            rgb.extend_from_slice(&colour);
            alpha.push(clear);
        }
    }
    let has_alpha = match (kind & 7, depth) {
        (2, 16 | 32) => !denies_alpha(bytes),
        (1, _) => [16, 32].contains(&head[7]),
        (_, depth) => depth == 16,
    };
    Ok(Raster { width: width as u32, height: height as u32, rgb, alpha: has_alpha.then_some(alpha) })
}

/// Blue, green, red; with alpha in a fourth byte, or in the lowest of 16 bits' highest bit.
fn coloured(stored: &[u8]) -> ([u8; 3], u8) {
    match *stored {
        [low, high] => {
            let value = u32::from(u16::from_le_bytes([low, high]));
            let spread = |value: u32| ((value & 31) * 255 / 31) as u8;
            ([spread(value >> 10), spread(value >> 5), spread(value)], if high & 0x80 == 0 { 255 } else { 0 })
        }
        [b, g, r, a] => ([r, g, b], a),
        [b, g, r] => ([r, g, b], 255),
        _ => ([0; 3], 255),
    }
}

/// Packets of one pixel to repeat, or of pixels as they are.
fn by_runs(mut packed: &[u8], size: usize, n_bytes: usize) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = Vec::new();
    while bytes.len() < n_bytes {
        let (&[head], rest) = packed.split_first_chunk().ok_or_else(truncated)?;
        let n = usize::from(head & 0x7F) + 1;
        let is_run = head & 0x80 != 0;
        let stored = rest.get(..if is_run { size } else { n * size }).ok_or_else(truncated)?;
        (0..if is_run { n } else { 1 }).for_each(|_| bytes.extend_from_slice(stored));
        packed = &rest[stored.len()..];
    }
    bytes.truncate(n_bytes);
    Ok(bytes)
}

/// Whether the extension area says that the fourth channel is none.
fn denies_alpha(bytes: &[u8]) -> bool {
    let Some(footer) = bytes.len().checked_sub(26).map(|offset| &bytes[offset..]).filter(|end| end.ends_with(FOOTER))
    else {
        return false;
    };
    let extension = u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]) as usize;
    extension != 0 && extension.checked_add(494).and_then(|offset| bytes.get(offset)) == Some(&0)
}

fn truncated() -> DecodeError {
    DecodeError::Truncated { format: FORMAT, detail: "inside its pixels or palette".into() }
}

fn unsupported(detail: impl Into<String>) -> DecodeError {
    DecodeError::Unsupported { format: FORMAT, detail: detail.into() }
}
