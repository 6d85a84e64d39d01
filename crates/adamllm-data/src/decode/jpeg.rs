//! JPEG. Pillow (libjpeg-turbo) is the reference.

use std::io::{BufRead, Cursor, Seek};

use image::metadata::Orientation;
use jpeg_decoder::{Decoder, PixelFormat};

use super::raster::Raster;
use super::{Header, PictureFormat, cmyk, exif_orientation};
use crate::DecodeError;

const FORMAT: PictureFormat = PictureFormat::Jpeg;

/// Walks the markers up to the frame header; EXIF stands before it.
pub(super) fn header(mut reader: impl BufRead + Seek) -> Result<Header, DecodeError> {
    let io = |source| DecodeError::io(FORMAT, &source);
    let mut orientation = None;
    reader.seek_relative(2).map_err(io)?;
    loop {
        let marker = next_marker(&mut reader)?;
        let mut length = [0; 2];
        reader.read_exact(&mut length).map_err(io)?;
        let length = u16::from_be_bytes(length).checked_sub(2);
        let length = length.ok_or_else(|| DecodeError::broken(FORMAT, "a segment shorter than its own length"))?;
        match marker {
            0xC0..=0xCF if ![0xC4, 0xC8, 0xCC].contains(&marker) => {
                let mut frame = [0; 5];
                reader.read_exact(&mut frame).map_err(io)?;
                let [height, width] = [[frame[1], frame[2]], [frame[3], frame[4]]].map(u16::from_be_bytes);
                let orientation = orientation.unwrap_or(Orientation::NoTransforms);
                return Ok(Header { width: width.into(), height: height.into(), orientation });
            }
            0xE1 if orientation.is_none() => {
                let mut segment = vec![0; length.into()];
                reader.read_exact(&mut segment).map_err(io)?;
                if segment.starts_with(b"Exif\0\0") {
                    orientation = Some(exif_orientation(&segment));
                }
            }
            0xD9 | 0xDA => return Err(DecodeError::broken(FORMAT, "no frame header before the pixels")),
            _ => reader.seek_relative(length.into()).map_err(io)?,
        }
    }
}

/// The next marker's code, with fill bytes and stray bytes skipped.
fn next_marker(reader: &mut impl BufRead) -> Result<u8, DecodeError> {
    let mut byte = [0];
    let mut after_ff = false;
    loop {
        reader.read_exact(&mut byte).map_err(|source| DecodeError::io(FORMAT, &source))?;
        match (after_ff, byte[0]) {
            (_, 0xFF) => after_ff = true,
            (true, code @ 1..) if !(0xD0..=0xD8).contains(&code) && code != 1 => return Ok(code),
            _ => after_ff = false,
        }
    }
}

pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let mut decoder = Decoder::new(Cursor::new(bytes));
    let pixels = decoder.decode().map_err(sorted)?;
    let info = decoder.info().ok_or_else(|| DecodeError::broken(FORMAT, "no frame header"))?;
    let (width, height) = (info.width.into(), info.height.into());
    Ok(match info.pixel_format {
        PixelFormat::L8 => Raster::grey(width, height, &pixels),
        PixelFormat::RGB24 => Raster::opaque(width, height, pixels),
        PixelFormat::CMYK32 => Raster::opaque(width, height, cmyk::to_rgb(&pixels)),
        PixelFormat::L16 => return Err(unsupported("more than 8 bits a sample")),
    })
}

fn sorted(error: jpeg_decoder::Error) -> DecodeError {
    match error {
        jpeg_decoder::Error::Io(source) => DecodeError::io(FORMAT, &source),
        jpeg_decoder::Error::Unsupported(feature) => unsupported(format!("{feature:?}")),
        other => DecodeError::broken(FORMAT, other),
    }
}

fn unsupported(detail: impl Into<String>) -> DecodeError {
    DecodeError::Unsupported { format: FORMAT, detail: detail.into() }
}
