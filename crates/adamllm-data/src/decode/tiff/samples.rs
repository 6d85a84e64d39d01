//! From strips and tiles to an image.

use adamllm_jpeg::cmyk_channel;

use super::super::jpeg;
use super::directory::Page;
use super::layout::Kind;
use super::packing::Packing;
use super::ycbcr::Conversion;
use super::{broken, truncated, unsupported};
use crate::DecodeError;
use crate::decode::raster::Raster;

/// Where a strip or tile stands in the image, without the part beyond its edges.
#[derive(Clone, Copy)]
struct Area {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

pub(super) fn raster(page: &Page, bytes: &[u8]) -> Result<Raster, DecodeError> {
    let (across, down) = page.grid();
    let n_chunks = across * down * page.n_planes;
    if page.offsets.len() < n_chunks {
        return Err(broken(format!("{n_chunks} strips or tiles are needed, {} are listed", page.offsets.len())));
    }
    // An uncompressed strip that is the whole image may be listed several times: the last one counts.
    let is_whole = page.packing == Packing::None && !page.is_separate && across * down == 1;
    let first = if is_whole { page.offsets.len() - 1 } else { 0 };
    let packed = (first..first + n_chunks).map(|index| packed(page, bytes, index)).collect::<Result<Vec<_>, _>>()?;
    check_plausible(page, &packed)?;

    let colours = Colours::of(page);
    let n_pixels = page.width * page.height;
    let has_alpha = page.layout.kind.has_alpha();
    let mut image = Raster {
        width: page.width as u32,
        height: page.height as u32,
        rgb: vec![0; n_pixels * 3],
        alpha: has_alpha.then(|| vec![255; n_pixels]),
    };
    // Planes are gathered first, since colours are made of several of them.
    let n_channels = page.layout.kind.n_channels();
    let is_separate = page.n_planes > 1;
    let mut planes = vec![vec![0_u8; if is_separate { n_pixels } else { 0 }]; if is_separate { n_channels } else { 0 }];

    for (index, packed) in packed.iter().enumerate().take(across * down * n_channels.min(page.n_planes)) {
        let (plane, index) = (index / (across * down), index % (across * down));
        let (x, y) = (index % across * page.chunk_size.0, index / across * page.chunk_size.1);
        let (width, height) = (page.chunk_size.0.min(page.width - x), page.chunk_size.1.min(page.height - y));
        let area = Area { x, y, width, height };
        if page.packing == Packing::Jpeg {
            let samples = jpeg_samples(page, packed, area)?;
            let row_bytes = samples.len() / area.height;
            copy_area(page, &colours, area, &samples, row_bytes, &mut image, planes.get_mut(plane))?;
        } else {
            let samples = unpacked(page, packed, area)?;
            copy_area(page, &colours, area, &samples, page.row_bytes(), &mut image, planes.get_mut(plane))?;
        }
    }
    if is_separate {
        join(page, &planes, &mut image);
    }
    Ok(image)
}

/// The bytes of a strip or tile as they stand in the file.
fn packed<'a>(page: &Page, bytes: &'a [u8], index: usize) -> Result<&'a [u8], DecodeError> {
    if page.offsets[index] == 0 {
        return Err(truncated(format!("strip or tile {index} is left out"))); // sparse files of GDAL's
    }
    let start = usize::try_from(page.offsets[index]).ok().filter(|&start| start < bytes.len());
    let start = start.ok_or_else(|| truncated(format!("strip or tile {index} begins past the file's end")))?;
    let rest = &bytes[start..];
    if page.packing == Packing::None {
        return Ok(rest); // Pillow does not ask how long it is said to be
    }
    match page.byte_counts.as_ref().map(|counts| counts.get(index)) {
        None => Ok(rest),
        Some(None) => Err(broken(format!("strip or tile {index} has no length"))),
        Some(Some(&count)) => {
            let count = usize::try_from(count).ok().filter(|&count| count <= rest.len());
            let count = count.ok_or_else(|| truncated(format!("strip or tile {index} ends past the file's end")))?;
            Ok(&rest[..count])
        }
    }
}

/// Before memory for the whole image is taken: the packed bytes must be able to hold it.
fn check_plausible(page: &Page, packed: &[&[u8]]) -> Result<(), DecodeError> {
    // Deflate makes at most 1032 bytes of one, LZW fewer than 3000; the others can make a row of a few bits.
    let factor = match page.packing {
        Packing::None => 1,
        Packing::PackBits => 64,
        Packing::Deflate => 1032,
        Packing::Lzw => 3000,
        _ => return Ok(()),
    };
    let have: usize = packed.iter().map(|chunk| chunk.len()).fold(0, usize::saturating_add);
    let need = (page.width * page.n_interleaved * page.layout.bits / 8).saturating_mul(page.height);
    match have.saturating_mul(factor) < need {
        true => Err(truncated(format!("{have} bytes cannot hold {}x{} pixels", page.width, page.height))),
        false => Ok(()),
    }
}

/// Samples of a strip or tile in the file's byte order, predictors undone.
fn unpacked(page: &Page, packed: &[u8], area: Area) -> Result<Vec<u8>, DecodeError> {
    let row_bytes = page.row_bytes();
    // A last strip holds the rows that are left, a tile is always whole; of an uncompressed one the rest need not be
    // there.
    let is_whole_tile = page.is_tiled && page.packing != Packing::None;
    let n_rows = if is_whole_tile { page.chunk_size.1 } else { area.height };
    let reversed: Vec<u8>;
    let packed = match page.reversed {
        true => {
            let most = if page.packing == Packing::None { row_bytes * n_rows } else { packed.len() };
            reversed = packed.iter().take(most).map(|byte| byte.reverse_bits()).collect();
            &reversed
        }
        false => packed,
    };
    let mut samples = page.packing.unpack(packed, row_bytes, n_rows, page.chunk_size.0)?;
    for row in samples.chunks_exact_mut(row_bytes) {
        page.predictor.undo(row, page.n_interleaved, page.layout.bits, page.big_endian);
    }
    Ok(samples)
}

/// Samples of a strip or tile that is a JPEG of its own.
fn jpeg_samples(page: &Page, packed: &[u8], area: Area) -> Result<Vec<u8>, DecodeError> {
    let is_ycbcr = page.layout.kind.is_ycbcr() && page.n_planes == 1;
    if page.layout.kind.is_ycbcr() && !is_ycbcr {
        return Err(unsupported("planes of YCbCr in JPEG"));
    }
    let decoded = jpeg::strip(&page.jpeg_tables, packed, is_ycbcr, page.chunk_size)?;
    let (size, n_samples, samples) = ((decoded.width, decoded.height), decoded.n_channels, decoded.samples);
    let fits = size.0 == page.chunk_size.0 && size.1 >= area.height && n_samples == page.n_interleaved;
    if !fits || page.layout.bits != 8 {
        return Err(broken(format!("a JPEG of {}x{}x{n_samples} in a strip or tile of another size", size.0, size.1)));
    }
    Ok(samples[..size.0 * n_samples * area.height].to_vec())
}

/// What turns samples into colours.
struct Colours {
    palette: Box<[[u8; 3]; 256]>,
    ycbcr: Option<Conversion>,
}

impl Colours {
    fn of(page: &Page) -> Self {
        // Indices without a colour are black, as in Pillow.
        let mut palette = Box::new([[0; 3]; 256]);
        let n = page.colour_map.len() / 3;
        for (i, colour) in palette.iter_mut().enumerate().take(n) {
            *colour = [0, 1, 2].map(|channel| (page.colour_map[channel * n + i] >> 8) as u8);
        }
        let ycbcr = match page.packing {
            Packing::Jpeg => None, // already RGB
            Packing::None => Some(Conversion::Pillow),
            _ => Some(Conversion::Libtiff),
        };
        Self { palette, ycbcr }
    }
}

/// Writes a strip's or tile's samples into the image, or into the plane that they belong to.
fn copy_area(
    page: &Page,
    colours: &Colours,
    area: Area,
    samples: &[u8],
    row_bytes: usize,
    image: &mut Raster,
    mut plane: Option<&mut Vec<u8>>,
) -> Result<(), DecodeError> {
    for (row, samples) in samples.chunks_exact(row_bytes).take(area.height).enumerate() {
        let start = (area.y + row) * page.width + area.x;

        // Of a wider sample in a plane the high byte is kept.
        if let Some(plane) = plane.as_deref_mut() {
            let out = &mut plane[start..start + area.width];
            let size = page.layout.bits / 8;
            let high = if page.big_endian { 0 } else { size - 1 };
            out.iter_mut().zip(samples.chunks_exact(size)).for_each(|(out, sample)| *out = sample[high]);
            continue;
        }

        let rgb = &mut image.rgb[start * 3..(start + area.width) * 3];
        let mut none = [];
        let alpha = image.alpha.as_mut().map_or(&mut none[..], |alpha| &mut alpha[start..start + area.width]);
        pixels(page, colours, samples, rgb.as_chunks_mut().0, alpha);
    }
    Ok(())
}

/// One row of interleaved samples.
fn pixels(page: &Page, colours: &Colours, row: &[u8], rgb: &mut [[u8; 3]], alpha: &mut [u8]) {
    let (layout, n) = (page.layout, page.n_interleaved);
    let size = (layout.bits / 8).max(1);
    // The byte that is kept of 8 or 16 bits: the high one.
    let high = if page.big_endian { 0 } else { size - 1 };
    let whole = row.chunks_exact(size * n);
    match layout.kind {
        Kind::Grey | Kind::Palette if layout.bits < 8 => {
            let top = (1_u16 << layout.bits) - 1;
            let spread = if layout.kind == Kind::Grey { 255 / top } else { 1 };
            for (x, pixel) in rgb.iter_mut().enumerate() {
                let value = sample_at(row, x * n, layout.bits) * spread;
                *pixel = grey_or_colour(page, colours, value as u8);
            }
        }
        Kind::Grey | Kind::Palette => {
            rgb.iter_mut().zip(whole).for_each(|(out, sample)| *out = grey_or_colour(page, colours, sample[0]));
        }
        Kind::WideGrey => {
            for (x, pixel) in rgb.iter_mut().enumerate() {
                let value = match layout.bits {
                    12 => sample_at(row, x, 12),
                    _ => u16_of(&row[x * 2..x * 2 + 2], page.big_endian),
                };
                *pixel = [value.min(255) as u8; 3];
            }
        }
        Kind::Integer { .. } | Kind::Float => {
            rgb.iter_mut().zip(whole).for_each(|(out, sample)| *out = [clipped(page, sample); 3]);
        }
        Kind::GreyAlpha | Kind::PaletteAlpha => {
            for ((out, alpha), sample) in rgb.iter_mut().zip(alpha).zip(whole) {
                *out = grey_or_colour(page, colours, sample[0]);
                *alpha = sample[1];
            }
        }
        Kind::Rgb => {
            let [g, b] = [high + size, high + 2 * size];
            rgb.iter_mut().zip(whole).for_each(|(out, s)| *out = [s[high], s[g], s[b]]);
        }
        Kind::Rgba | Kind::AssociatedRgba => {
            let divides = layout.kind == Kind::AssociatedRgba;
            for ((out, alpha), s) in rgb.iter_mut().zip(alpha).zip(whole) {
                let [r, g, b, a] = [0, 1, 2, 3].map(|channel| s[high + channel * size]);
                *out = if divides { [r, g, b].map(|value| divided(value, a)) } else { [r, g, b] };
                *alpha = a;
            }
        }
        Kind::Cmyk => {
            for (out, s) in rgb.iter_mut().zip(whole) {
                let [c, m, y, k] = [0, 1, 2, 3].map(|channel| s[high + channel * size]);
                *out = [cmyk_channel(c, k), cmyk_channel(m, k), cmyk_channel(y, k)];
            }
        }
        Kind::YCbCr => {
            let convert = |[y, cb, cr]: [u8; 3]| colours.ycbcr.map_or([y, cb, cr], |by| by.rgb([y, cb, cr]));
            rgb.iter_mut().zip(whole).for_each(|(out, s)| *out = convert([s[0], s[1], s[2]]));
        }
    }
}

/// Planes of 8 bits, the high bytes of wider samples, to colours.
fn join(page: &Page, planes: &[Vec<u8>], image: &mut Raster) {
    let convert = Conversion::Libtiff;
    for (i, out) in image.rgb.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        *out = match page.layout.kind {
            Kind::Cmyk => [0, 1, 2].map(|ink| cmyk_channel(planes[ink][i], planes[3][i])),
            Kind::YCbCr => convert.rgb([planes[0][i], planes[1][i], planes[2][i]]),
            Kind::AssociatedRgba => [0, 1, 2].map(|colour| divided(planes[colour][i], planes[3][i])),
            _ => [planes[0][i], planes[1][i], planes[2][i]],
        };
    }
    if let (Some(alpha), Some(plane)) = (image.alpha.as_mut(), planes.get(3)) {
        alpha.copy_from_slice(plane);
    }
}

fn grey_or_colour(page: &Page, colours: &Colours, value: u8) -> [u8; 3] {
    match page.layout.kind {
        Kind::Palette | Kind::PaletteAlpha => colours.palette[usize::from(value)],
        _ if page.layout.inverted => [255 - value; 3],
        _ => [value; 3],
    }
}

/// A sample of fewer than 16 bits, from a row that is packed from the highest bit.
fn sample_at(row: &[u8], index: usize, bits: usize) -> u16 {
    let bit = index * bits;
    let byte = |i: usize| u32::from(row.get(bit / 8 + i).copied().unwrap_or(0));
    let three = byte(0) << 16 | byte(1) << 8 | byte(2);
    (three >> (24 - bits - bit % 8)) as u16 & ((1_u16 << bits) - 1)
}

fn u16_of(bytes: &[u8], big_endian: bool) -> u16 {
    let pair = [bytes[0], bytes[1]];
    if big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
}

/// Whole numbers and floats, cut to 0..=255; no number becomes 0.
fn clipped(page: &Page, sample: &[u8]) -> u8 {
    let mut bytes = [0; 4];
    bytes[..sample.len()].copy_from_slice(sample);
    if page.big_endian {
        bytes[..sample.len()].reverse();
    }
    match (page.layout.kind, sample.len()) {
        (Kind::Float, _) => f32::from_le_bytes(bytes) as u8,
        (_, 2) => i16::from_le_bytes([bytes[0], bytes[1]]).clamp(0, 255) as u8,
        _ => i32::from_le_bytes(bytes).clamp(0, 255) as u8,
    }
}

/// A colour that was multiplied by its alpha; nothing is left of one that is clear.
fn divided(value: u8, alpha: u8) -> u8 {
    match alpha {
        0 => 0,
        255 => value,
        _ => (u32::from(value) * 255 / u32::from(alpha)).min(255) as u8,
    }
}
