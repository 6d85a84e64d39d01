//! Windows icons: the largest image, a PNG or a bitmap without a file's head and with a mask after its pixels.

use std::io::{Cursor, Read, Seek, SeekFrom};

use super::raster::Raster;
use super::{Header, ImageFormat, ImageReader, bmp, png};
use crate::DecodeError;

const FORMAT: ImageFormat = ImageFormat::Ico;
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The chosen image.
struct Entry {
    bits: u16,
    /// From its first byte to the file's end.
    bytes: Vec<u8>,
    /// As the directory has it.
    size: usize,
}

impl Entry {
    /// The first of the largest images with the fewest colours, as in Pillow.
    fn read(reader: &mut (impl Read + Seek)) -> Result<Self, DecodeError> {
        let io = |source| DecodeError::io(FORMAT, &source);
        let mut head = [0; 6];
        reader.read_exact(&mut head).map_err(io)?;
        let n = u64::from(u16::from_le_bytes([head[4], head[5]]));
        let mut entries = Vec::new();
        reader.take(n * 16).read_to_end(&mut entries).map_err(io)?;

        // A side of 256 does not fit into its byte and is stored as 0.
        let side = |byte: u8| if byte == 0 { 256 } else { u32::from(byte) };
        let bits = |entry: &[u8]| u16::from_le_bytes([entry[6], entry[7]]);

        // Where the bits are not given, the number of colours tells them; neither means 256 to Pillow.
        let depth = |entry: &[u8]| match (bits(entry), entry[2]) {
            (0, 0) => 256,
            (0, n_colours) => u32::from(n_colours).next_power_of_two().trailing_zeros(),
            (bits, _) => bits.into(),
        };

        let order = |entry: &&[u8]| (std::cmp::Reverse(side(entry[0]) * side(entry[1])), depth(entry));
        let entry = entries.chunks_exact(16).min_by_key(order);
        let entry = entry.ok_or_else(|| DecodeError::broken(FORMAT, "no image in it"))?;

        let field = |offset: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| entry[offset + i]));
        reader.seek(SeekFrom::Start(field(12).into())).map_err(io)?;
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(io)?;
        Ok(Self { bits: bits(entry), bytes, size: field(8) as usize })
    }

    /// Inks out every pixel's alpha by the mask, which has a bit for each (1 = clear), rows from below.
    fn mask(&self, width: usize, height: usize) -> Option<Vec<u8>> {
        let row_bytes = width.div_ceil(32) * 4;
        let start = self.size.checked_sub(row_bytes * height)?;
        let mask = self.bytes.get(start..self.size)?;
        let alpha = |row: &[u8], x: usize| if row[x / 8] & 0x80 >> (x % 8) == 0 { 255 } else { 0 };
        Some(mask.chunks_exact(row_bytes).rev().flat_map(|row| (0..width).map(|x| alpha(row, x))).collect())
    }
}

pub(super) fn header(reader: &mut impl ImageReader) -> Result<Header, DecodeError> {
    let entry = Entry::read(reader)?;
    match entry.bytes.starts_with(PNG) {
        true => png::header(&mut Cursor::new(&entry.bytes)).map(|header| Header { orientation: NONE, ..header }),
        false => bmp::icon_header(&entry.bytes),
    }
}

const NONE: image::metadata::Orientation = image::metadata::Orientation::NoTransforms;

pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let entry = Entry::read(&mut Cursor::new(bytes))?;
    if entry.bytes.starts_with(PNG) {
        return png::pixels(&entry.bytes);
    }
    let mut image = bmp::icon_pixels(&entry.bytes)?;
    if entry.bits != 32 {
        let mask = entry.mask(image.width as usize, image.height as usize);
        let detail = || DecodeError::Truncated { format: FORMAT, detail: "inside its mask".into() };
        image.alpha = Some(mask.ok_or_else(detail)?);
    }
    Ok(image)
}
