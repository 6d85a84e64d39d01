//! The chunks of a PNG, as Pillow walks them.

use std::io::{Read, SeekFrom};

use flate2::read::ZlibDecoder;

use super::super::orientation::Hints;
use super::FORMAT;
use crate::DecodeError;
use crate::decode::{Header, ImageReader};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Text longer than this is not searched for an orientation.
const MAX_TEXT: u64 = 64 << 20;

/// Size and orientation. The orientation may come after the pixels.
pub(super) fn header(reader: &mut impl ImageReader) -> Result<Header, DecodeError> {
    let io = |source| DecodeError::io(FORMAT, &source);
    let end = reader.seek(SeekFrom::End(0)).map_err(io)?;
    let mut offset = SIGNATURE.len() as u64;
    let (mut size, mut hints, mut raw_profile) = (None, Hints::default(), None);
    let mut seen_pixels = false;
    loop {
        let mut head = [0; 8];
        reader.seek(SeekFrom::Start(offset)).map_err(io)?;
        match reader.read_exact(&mut head) {
            Ok(()) => {}
            Err(_) if seen_pixels => break,
            Err(source) => return Err(io(source)),
        }

        // What comes after a chunk that is none is not looked at.
        let (length, name) = split(head);
        if !is_name(name) || &name == b"IEND" {
            break;
        }
        let is_whole = offset + 8 + u64::from(length) <= end;

        // A text that is cut off says nothing that can be relied on.
        match &name {
            b"IHDR" if size.is_none() => {
                let mut fields = [0; 8];
                reader.read_exact(&mut fields).map_err(io)?;
                let side = |range| u32::from_be_bytes(<[u8; 4]>::try_from(&fields[range]).unwrap_or_default());
                size = Some((side(0..4), side(4..8)));
            }
            b"IDAT" => seen_pixels = true,
            b"eXIf" | b"tEXt" | b"zTXt" | b"iTXt" if is_whole => {
                let mut data = Vec::new();
                reader.take(length.into()).read_to_end(&mut data).map_err(io)?;
                take_hints(&name, &data, &mut hints, &mut raw_profile);
            }
            _ => {}
        }

        // Length, name and check sum around the data.
        offset += 12 + u64::from(length);
    }

    // An EXIF chunk counts before ImageMagick's text, whichever comes first.
    let (width, height) = size.ok_or_else(|| DecodeError::broken(FORMAT, "no header chunk"))?;
    hints.exif = hints.exif.or(raw_profile);
    Ok(Header { width, height, orientation: hints.orientation() })
}

fn split(head: [u8; 8]) -> (u32, [u8; 4]) {
    let [a, b, c, d, name @ ..] = head;
    (u32::from_be_bytes([a, b, c, d]), name)
}

fn is_name(name: [u8; 4]) -> bool {
    name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// EXIF as a chunk (before an EXIF text of ImageMagick's), XMP as a text.
fn take_hints(name: &[u8; 4], data: &[u8], hints: &mut Hints, raw_profile: &mut Option<Vec<u8>>) {
    if name == b"eXIf" {
        hints.exif = Some(data.to_vec());
        return;
    }
    let Some(split) = data.iter().position(|&byte| byte == 0) else { return };
    let (key, value) = (&data[..split], &data[split + 1..]);
    if ![&b"XML:com.adobe.xmp"[..], b"Raw profile type exif", b"exif"].contains(&key) {
        return;
    }
    let value = match (name, value) {
        (b"tEXt", _) => Some(value.to_vec()),
        (b"zTXt", [0, packed @ ..]) => inflated(packed),
        (b"iTXt", [is_packed, method, rest @ ..]) => {
            // Behind a language and a translated key.
            let text = rest.splitn(3, |&byte| byte == 0).nth(2);
            match (is_packed, method) {
                (0, _) => text.map(<[u8]>::to_vec),
                (_, 0) => text.and_then(inflated),
                _ => None,
            }
        }
        _ => None,
    };
    match (key, value) {
        (b"XML:com.adobe.xmp", Some(value)) => hints.xmp = Some(value),
        (b"Raw profile type exif", Some(value)) => *raw_profile = profile(&value),
        (b"exif", Some(value)) if name == b"tEXt" => hints.exif = Some(value),
        _ => {}
    }
}

fn inflated(packed: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    ZlibDecoder::new(packed).take(MAX_TEXT).read_to_end(&mut text).ok()?;
    Some(text)
}

/// A profile as text: two lines of name and length, then hexadecimal digits.
fn profile(text: &[u8]) -> Option<Vec<u8>> {
    let lines = text.split(|&byte| byte == b'\n').skip(3);
    let digits: Vec<_> = lines.flatten().filter(|byte| !byte.is_ascii_whitespace()).copied().collect();
    let digit = |byte: u8| (byte as char).to_digit(16);
    let pair = |pair: &[u8]| Some((digit(pair[0])? << 4 | digit(*pair.get(1)?)?) as u8);
    digits.chunks(2).map(pair).collect()
}

/// The chunks that pixels are made of.
pub(super) struct Chunks<'a> {
    header: [u8; 13],
    palette: Option<&'a [u8]>,
    transparency: Option<&'a [u8]>,
    pixels: Vec<&'a [u8]>,
}

impl<'a> Chunks<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut chunks = Self { header: [0; 13], palette: None, transparency: None, pixels: Vec::new() };
        let mut frame = None;
        let mut rest = bytes.get(SIGNATURE.len()..).unwrap_or_default();
        loop {
            let (name, data, tail) = match chunk(rest) {
                Some(chunk) => chunk,
                // Pixels that break off are the decoder's to judge: there may be enough of them.
                None if rest.get(4..8) == Some(b"IDAT") => {
                    chunks.pixels.push(&rest[8..]);
                    break;
                }
                None if !chunks.pixels.is_empty() => break,
                None => return Err(truncated("before its pixels")),
            };
            let is_pixels = &name == b"IDAT";
            if !is_pixels && !chunks.pixels.is_empty() {
                break;
            }
            if !is_pixels {
                check(name, data, tail)?;
            }
            match &name {
                b"IHDR" => {
                    let header = data.first_chunk().ok_or_else(|| DecodeError::broken(FORMAT, "short header"))?;
                    chunks.header = *header;
                }
                b"PLTE" => chunks.palette = Some(data),
                b"tRNS" => chunks.transparency = Some(data),
                b"fcTL" => frame = data.get(4..20),
                b"IDAT" => chunks.pixels.push(data),
                b"IEND" => return Err(truncated("before its pixels")),
                _ => {}
            }
            rest = tail.get(4..).unwrap_or_default();
        }
        // The first frame of an animation may cover a part of the canvas only.
        let whole = [&chunks.header[..8], &[0; 8]].concat();
        if frame.is_some_and(|frame| frame != whole) {
            let detail = "a first frame that is smaller than the animation".into();
            return Err(DecodeError::Unsupported { format: FORMAT, detail });
        }
        Ok(chunks)
    }

    /// The same image as a file of nothing but what its pixels need.
    pub(super) fn plain(&self) -> Result<Vec<u8>, DecodeError> {
        let (depth, colour) = (self.header[8], self.header[9]);
        let n_bytes: usize = self.pixels.iter().map(|part| part.len()).sum();
        self.check_plausible(n_bytes)?;
        let mut out = Vec::with_capacity(n_bytes + 2048);
        out.extend_from_slice(SIGNATURE);
        write(&mut out, b"IHDR", &[&self.header]);
        let n_colours = 1 << depth.min(8);
        if colour == 3 {
            // Indices without a colour are black, as in Pillow.
            let mut palette = vec![0; 3 * n_colours];
            let given = self.palette.unwrap_or_default();
            let n = (given.len() / 3 * 3).min(palette.len());
            palette[..n].copy_from_slice(&given[..n]);
            write(&mut out, b"PLTE", &[&palette]);
        }
        // A grey, a colour, or the alphas of the first palette entries. Pillow compares the grey with pixels that are
        // spread over 8 bits already: of 2 and 4 bits hardly any is ever clear.
        let mut transparency = self.transparency;
        let unspread: [u8; 2];
        if let (0, 2 | 4, Some(&[high, low])) = (colour, depth, transparency.and_then(|grey| grey.first_chunk())) {
            let step = 255 / ((1_u16 << depth) - 1);
            let grey = u16::from_be_bytes([high, low]);
            unspread = (grey / step).to_be_bytes();
            transparency = (grey % step == 0 && grey <= 255).then_some(&unspread[..]);
        }
        let (least, most) = match colour {
            0 => (2, 2),
            2 => (6, 6),
            3 => (1, n_colours),
            _ => (1, 0),
        };
        if let Some(alphas) = transparency.map(|alphas| &alphas[..alphas.len().min(most)]) {
            if alphas.len() >= least {
                write(&mut out, b"tRNS", &[alphas]);
            } else if matches!(colour, 0 | 2) {
                return Err(DecodeError::broken(FORMAT, "a transparent colour that is too short"));
            }
        }
        write(&mut out, b"IDAT", &self.pixels);
        write(&mut out, b"IEND", &[]);
        Ok(out)
    }

    /// Deflate makes at most 1032 bytes of one: fewer bytes than that cannot hold the announced pixels.
    fn check_plausible(&self, n_bytes: usize) -> Result<(), DecodeError> {
        let side = |offset: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| self.header[offset + i])) as u128;
        let n_samples = match self.header[9] {
            2 => 3,
            4 => 2,
            6 => 4,
            _ => 1,
        };
        let need = side(0) * side(4) * n_samples * u128::from(self.header[8]) / 8;
        match n_bytes as u128 * 1032 < need {
            true => Err(truncated("inside its pixels")),
            false => Ok(()),
        }
    }
}

/// Name, data, and the bytes from the checksum on.
fn chunk(bytes: &[u8]) -> Option<([u8; 4], &[u8], &[u8])> {
    let (length, name) = split(*bytes.first_chunk()?);
    let data = bytes.get(8..8 + length as usize)?;
    Some((name, data, &bytes[8 + data.len()..]))
}

fn check(name: [u8; 4], data: &[u8], tail: &[u8]) -> Result<(), DecodeError> {
    let shown = name.escape_ascii();
    if !is_name(name) {
        return Err(DecodeError::broken(FORMAT, format!("a chunk named {shown}")));
    }
    let mut crc = flate2::Crc::new();
    crc.update(&name);
    crc.update(data);
    match tail.first_chunk().map(|stored| u32::from_be_bytes(*stored)) {
        Some(stored) if stored == crc.sum() => Ok(()),
        Some(_) => Err(DecodeError::broken(FORMAT, format!("wrong checksum of chunk {shown}"))),
        None => Err(truncated("before its pixels")),
    }
}

fn truncated(detail: &str) -> DecodeError {
    DecodeError::Truncated { format: FORMAT, detail: detail.into() }
}

/// Checksums are not looked at, so none is made.
fn write(out: &mut Vec<u8>, name: &[u8; 4], parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&(length as u32).to_be_bytes());
    out.extend_from_slice(name);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(&[0; 4]);
}
