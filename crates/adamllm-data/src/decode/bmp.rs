//! Windows and OS/2 bitmaps: palettes of 1, 4 and 8 bits, run lengths, 16 bits by the two usual masks, 24 and 32 bits by
//! Pillow's list of masks. Other masks are refused, since Pillow reads none.

use std::io::Cursor;

use image::metadata::Orientation;

use super::raster::Raster;
use super::{Header, ImageFormat, ImageReader};
use crate::DecodeError;

const FORMAT: ImageFormat = ImageFormat::Bmp;

/// The file's head and the part of the bitmap's head that is always there.
struct Head {
    /// Where the pixels begin.
    pixels_at: usize,
    head_size: usize,
    width: usize,
    height: usize,
    /// The first row is the uppermost one.
    is_top_down: bool,
    bits: u16,
    compression: u32,
    /// Colours in the palette; 0 for all that the bits can name.
    n_colours: usize,
}

/// The order of the channels in a pixel of 24 or 32 bits, or the width of green in one of 16.
#[derive(Clone, Copy)]
enum Packing {
    Bytes {
        rgb: [usize; 3],
        alpha: Option<usize>,
    },
    /// Five bits of red and blue, five or six of green.
    Sixteen {
        green: u32,
    },
}

impl Head {
    fn read(reader: &mut impl ImageReader) -> Result<Self, DecodeError> {
        let io = |source| DecodeError::io(FORMAT, &source);
        let mut bytes = [0; 18];
        reader.read_exact(&mut bytes).map_err(io)?;
        let (pixels_at, head_size) = (u32_at(&bytes, 10) as usize, u32_at(&bytes, 14) as usize);
        if ![12, 40, 52, 56, 64, 108, 124].contains(&head_size) {
            return Err(unsupported(format!("a head of {head_size} bytes")));
        }
        let mut head = vec![0; head_size - 4];
        reader.read_exact(&mut head).map_err(io)?;
        let head = Self::of(pixels_at, head_size, &head);
        if ![1, 4, 8, 16, 24, 32].contains(&head.bits) {
            return Err(unsupported(format!("{} bits a pixel", head.bits)));
        }
        if head.n_colours > 65536 {
            return Err(broken(format!("a palette of {} colours", head.n_colours)));
        }
        Ok(head)
    }

    fn of(pixels_at: usize, head_size: usize, head: &[u8]) -> Self {
        let short = |offset: usize| u16::from_le_bytes([head[offset], head[offset + 1]]);

        // OS/2's head has 16-bit sizes without a sign, and no fields for compression and colours.
        if head_size == 12 {
            let (width, height) = (short(0).into(), short(2).into());
            let bits = short(6);
            return Self {
                pixels_at,
                head_size,
                width,
                height,
                is_top_down: false,
                bits,
                compression: 0,
                n_colours: 0,
            };
        }

        // A negative height means that the first row is the uppermost one. Pillow looks at its highest byte only.
        let height = u32_at(head, 4);
        let is_top_down = head[7] == 0xFF;
        Self {
            pixels_at,
            head_size,
            width: u32_at(head, 0) as usize,
            height: if is_top_down { height.wrapping_neg() } else { height } as usize,
            is_top_down,
            bits: short(10),
            compression: u32_at(head, 12),
            n_colours: u32_at(head, 28) as usize,
        }
    }

    /// What the masks say, which stand in a long head or after a short one.
    fn packing(&self, bytes: &[u8]) -> Result<Packing, DecodeError> {
        let plain = match self.bits {
            16 => Packing::Sixteen { green: 5 },
            _ => Packing::Bytes { rgb: [2, 1, 0], alpha: None },
        };
        if self.compression == 0 {
            return Ok(plain);
        }

        // In both cases they begin 54 bytes into the file: after 14 of its own head and the first 40 of the bitmap's.
        let mask = |i: usize| bytes.get(54 + 4 * i..58 + 4 * i).map(|mask| u32_at(mask, 0));
        let truncated = || DecodeError::Truncated { format: FORMAT, detail: "inside its masks".into() };
        let rgb = [mask(0), mask(1), mask(2)].map(|mask| mask.ok_or_else(truncated));
        let [red, green, blue] = rgb;
        let alpha = if self.head_size >= 56 { mask(3).ok_or_else(truncated)? } else { 0 };
        let masks = [red?, green?, blue?, alpha];

        match (self.bits, masks) {
            (16, [0xF800, 0x7E0, 0x1F, _]) => Ok(Packing::Sixteen { green: 6 }),
            (16, [0x7C00, 0x3E0, 0x1F, _]) | (24, [0xFF_0000, 0xFF00, 0xFF, _]) => Ok(plain),
            (32, [0xFF_0000, 0xFF00, 0xFF, 0]) => Ok(plain),
            (32, [0xFF00_0000, 0xFF_0000, 0xFF00, 0]) => Ok(Packing::Bytes { rgb: [3, 2, 1], alpha: None }),
            (32, [0xFF00_0000, 0xFF00, 0xFF, 0]) => Ok(Packing::Bytes { rgb: [3, 1, 0], alpha: None }),
            (32, [0xFF00_0000, 0xFF_0000, 0xFF00, 0xFF]) => Ok(Packing::Bytes { rgb: [3, 2, 1], alpha: Some(0) }),
            (32, [0xFF, 0xFF00, 0xFF_0000, 0xFF00_0000]) => Ok(Packing::Bytes { rgb: [0, 1, 2], alpha: Some(3) }),
            (32, [0xFF_0000, 0xFF00, 0xFF, 0xFF00_0000] | [0, 0, 0, 0]) => {
                Ok(Packing::Bytes { rgb: [2, 1, 0], alpha: Some(3) })
            }
            (32, [0xFF00_0000, 0xFF00, 0xFF, 0xFF_0000]) => Ok(Packing::Bytes { rgb: [3, 1, 0], alpha: Some(2) }),
            (bits, masks) => Err(unsupported(format!("{bits} bits by the masks {masks:x?}"))),
        }
    }

    /// Where pixels without a palette begin.
    fn after_head(&self) -> usize {
        let masks = if self.compression == 3 && self.head_size < 52 { 12 } else { 0 };
        if self.pixels_at == 0 { 14 + self.head_size + masks } else { self.pixels_at }
    }

    fn row_bytes(&self) -> usize {
        (self.width * usize::from(self.bits)).div_ceil(32) * 4
    }

    /// A palette's colours, padded with black; where it holds the greys in order, an index is the grey itself.
    fn palette(&self, bytes: &[u8]) -> Result<([[u8; 3]; 256], usize), DecodeError> {
        let size = if self.head_size == 12 { 3 } else { 4 };
        let masks = if self.compression == 3 && self.head_size == 40 { 12 } else { 0 };
        let start = 14 + self.head_size + masks;
        let n_colours = if self.n_colours == 0 { 1 << self.bits } else { self.n_colours };
        let entries = bytes.get(start..).unwrap_or_default().chunks_exact(size).take(n_colours);
        if entries.len() < n_colours {
            return Err(DecodeError::Truncated { format: FORMAT, detail: "inside its palette".into() });
        }
        let mut palette = [[0; 3]; 256];
        entries.zip(&mut palette).for_each(|(entry, colour)| *colour = [entry[2], entry[1], entry[0]]);
        let grey = |i: usize| if n_colours == 2 { [i as u8 * 255; 3] } else { [i as u8; 3] };
        if n_colours > 2 && n_colours <= 256 && (0..n_colours).all(|i| palette[i] == grey(i)) {
            palette = std::array::from_fn(|i| [i as u8; 3]);
        }
        // Without an offset of their own, pixels follow the palette.
        let after = start + size * n_colours;
        let offset = if [0, 14 + self.head_size].contains(&self.pixels_at) { after } else { self.pixels_at };
        Ok((palette, offset))
    }
}

pub(super) fn header(reader: &mut impl ImageReader) -> Result<Header, DecodeError> {
    let head = Head::read(reader)?;
    let side = |side: usize| u32::try_from(side).map_err(|_| broken(format!("a side of {side} pixels")));
    Ok(Header { width: side(head.width)?, height: side(head.height)?, orientation: Orientation::NoTransforms })
}

/// The size of a bitmap in an icon: its head tells twice the height, for the mask.
pub(super) fn icon_header(bytes: &[u8]) -> Result<Header, DecodeError> {
    let mut header = header(&mut Cursor::new(as_file(bytes)?))?;
    header.height /= 2;
    Ok(header)
}

/// The pixels of a bitmap in an icon; the fourth byte of 32 bits is alpha.
pub(super) fn icon_pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let bytes = as_file(bytes)?;
    let mut head = Head::read(&mut Cursor::new(&bytes))?;
    head.height /= 2;
    if head.height == 0 {
        return Err(broken("an icon without rows"));
    }
    decoded(&head, &bytes, head.bits == 32 && head.compression == 0)
}

/// A bitmap with the head of a file before it.
fn as_file(bitmap: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let truncated = || DecodeError::Truncated { format: FORMAT, detail: "inside its head".into() };
    if bitmap.len() < 40 {
        return Err(truncated());
    }
    let head_size = u32_at(bitmap, 0);
    let masks = if head_size == 40 && u32_at(bitmap, 16) == 3 { 12 } else { 0 };
    let pixels_at = head_size.checked_add(14 + masks).ok_or_else(truncated)?;
    Ok([b"BM", &[0; 8][..], &pixels_at.to_le_bytes(), bitmap].concat())
}

pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    decoded(&Head::read(&mut Cursor::new(bytes))?, bytes, false)
}

fn decoded(head: &Head, bytes: &[u8], has_fourth_alpha: bool) -> Result<Raster, DecodeError> {
    match (head.compression, head.bits) {
        (0, _) | (3, 16 | 24 | 32) => {}
        (1, 8) | (2, 4) => return runs(head, bytes),
        (compression, bits) => return Err(unsupported(format!("compression {compression} of {bits} bits"))),
    }
    let is_indexed = head.bits <= 8;
    let (palette, start) = if is_indexed { head.palette(bytes)? } else { ([[0; 3]; 256], head.after_head()) };
    let row_bytes = head.row_bytes();
    let used = (head.width * usize::from(head.bits)).div_ceil(8);
    // The padding of the last row may be missing.
    let needed = row_bytes * (head.height - 1) + used;
    let Some(data) = bytes.get(start..).filter(|data| data.len() >= needed) else {
        let detail = format!("{needed} bytes of pixels are needed");
        return Err(DecodeError::Truncated { format: FORMAT, detail });
    };
    let packing = match is_indexed {
        true => None,
        false if has_fourth_alpha => Some(Packing::Bytes { rgb: [2, 1, 0], alpha: Some(3) }),
        false => Some(head.packing(bytes)?),
    };
    let has_alpha = matches!(packing, Some(Packing::Bytes { alpha: Some(_), .. }));

    let mut image = empty(head, has_alpha);
    for (i, out) in image.rgb.chunks_exact_mut(head.width * 3).enumerate() {
        let row = if head.is_top_down { i } else { head.height - 1 - i };
        let row = &data[row * row_bytes..][..used];
        let out = out.as_chunks_mut::<3>().0;
        match packing {
            None => {
                let bits = usize::from(head.bits);
                let index = |x: usize| row[x * bits / 8] >> (8 - bits - x * bits % 8) & (0xFF >> (8 - bits));
                out.iter_mut().enumerate().for_each(|(x, pixel)| *pixel = palette[usize::from(index(x))]);
            }
            Some(Packing::Sixteen { green }) => {
                out.iter_mut().zip(row.as_chunks().0).for_each(|(pixel, pair)| *pixel = sixteen(*pair, green));
            }
            Some(Packing::Bytes { rgb, .. }) => {
                let stored = row.chunks_exact(usize::from(head.bits / 8));
                out.iter_mut().zip(stored).for_each(|(pixel, stored)| *pixel = rgb.map(|channel| stored[channel]));
            }
        }
        if let (Some(Packing::Bytes { alpha: Some(alpha), .. }), Some(out)) = (packing, image.alpha.as_mut()) {
            let out = &mut out[i * head.width..(i + 1) * head.width];
            out.iter_mut().zip(row.chunks_exact(4)).for_each(|(out, stored)| *out = stored[alpha]);
        }
    }
    Ok(image)
}

fn empty(head: &Head, has_alpha: bool) -> Raster {
    let n_pixels = head.width * head.height;
    let alpha = has_alpha.then(|| vec![0; n_pixels]);
    Raster { width: head.width as u32, height: head.height as u32, rgb: vec![0; n_pixels * 3], alpha }
}

fn sixteen(pair: [u8; 2], green_bits: u32) -> [u8; 3] {
    let value = u32::from(u16::from_le_bytes(pair));
    let green_top = (1 << green_bits) - 1;
    let spread = |value: u32, top: u32| (value * 255 / top) as u8;
    [spread(value >> (5 + green_bits) & 31, 31), spread(value >> 5 & green_top, green_top), spread(value & 31, 31)]
}

/// Indices by run length, rows from below. Where the codes leave pixels out, index 0 is taken.
fn runs(head: &Head, bytes: &[u8]) -> Result<Raster, DecodeError> {
    let (palette, start) = head.palette(bytes)?;
    let (width, n_pixels) = (head.width, head.width * head.height);
    let is_half = head.bits == 4;
    let mut codes = bytes.get(start..).unwrap_or_default();
    let mut indices: Vec<u8> = Vec::new();
    let mut column = 0;
    let nibbles = |bytes: &[u8], n: usize| bytes.iter().flat_map(|b| [b >> 4, b & 15]).take(n).collect::<Vec<_>>();

    while indices.len() < n_pixels {
        let [n, value, rest @ ..] = codes else { break };
        codes = rest;
        match (usize::from(*n), usize::from(*value)) {
            (0, 0) => {
                indices.resize(indices.len().next_multiple_of(width), 0);
                column = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let [right, up, rest @ ..] = codes else { break };
                codes = rest;
                let skipped = usize::from(*right) + usize::from(*up) * width;
                indices.resize((indices.len() + skipped).min(n_pixels), 0);
                column = indices.len() % width;
            }
            (0, listed) => {
                let n = listed.min(n_pixels - indices.len());
                let n_bytes = if is_half { n.div_ceil(2) } else { n };
                let Some(part) = codes.get(..n_bytes) else { break };
                match is_half {
                    true => indices.extend(nibbles(part, n)),
                    false => indices.extend_from_slice(part),
                }
                // Codes begin at even offsets.
                codes = &codes[(n_bytes + n_bytes % 2).min(codes.len())..];
                column += listed;
            }
            (n, _) => {
                let n = n.min(width.saturating_sub(column));
                match is_half {
                    true => indices.extend(nibbles(&[*value], 2).iter().cycle().take(n)),
                    false => indices.resize(indices.len() + n, *value),
                }
                column += n;
            }
        }
    }
    if indices.len() < n_pixels {
        let detail = format!("expected {n_pixels} pixels, got {}", indices.len());
        return Err(DecodeError::Truncated { format: FORMAT, detail });
    }
    let mut image = empty(head, false);
    for (i, out) in image.rgb.chunks_exact_mut(width * 3).enumerate() {
        let row = if head.is_top_down { i } else { head.height - 1 - i };
        let row = &indices[row * width..(row + 1) * width];
        out.as_chunks_mut::<3>().0.iter_mut().zip(row).for_each(|(out, &i)| *out = palette[usize::from(i)]);
    }
    Ok(image)
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[offset + i]))
}

fn broken(detail: impl Into<String>) -> DecodeError {
    DecodeError::Broken { format: FORMAT, detail: detail.into() }
}

fn unsupported(detail: impl Into<String>) -> DecodeError {
    DecodeError::Unsupported { format: FORMAT, detail: detail.into() }
}
