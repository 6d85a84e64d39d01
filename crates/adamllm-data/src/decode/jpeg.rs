//! JPEG (ITU-T T.81), baseline and progressive, with the same samples as libjpeg-turbo, and so as Pillow.
//!
//! The format leaves the inverse transform's rounding and the enlargement of coarse colour planes to the decoder, and
//! decoders differ by several levels there. Models were trained on what libjpeg-turbo gives by default: its accurate
//! integer transform ("islow"), its triangle filter for coarse planes ("fancy upsampling"), its 16-bit colour
//! conversion. Those three are followed here to the bit.

use std::io::{BufRead, Seek};

use image::metadata::Orientation;

use super::raster::Raster;
use super::{Header, PictureFormat, exif_orientation};
use crate::DecodeError;
use colour::ColourModel;
use picture::Picture;

mod bits;
mod colour;
mod frame;
mod huffman;
mod idct;
mod picture;
mod progressive;
mod scan;
mod segments;
mod sequential;
mod upsample;

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
        let length = length.ok_or_else(|| broken("a segment shorter than its own length"))?;
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
            0xD9 | 0xDA => return Err(broken("no frame header before the pixels")),
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
    let Picture { frame, planes, hints } = Picture::decode(bytes)?;
    let model = ColourModel::of(&frame, hints)?;
    let rgb = colour::to_rgb(&frame, &planes, model);
    Ok(Raster::opaque(frame.width as u32, frame.height as u32, rgb))
}

fn broken(detail: impl Into<String>) -> DecodeError {
    DecodeError::Broken { format: FORMAT, detail: detail.into() }
}

fn truncated(detail: impl Into<String>) -> DecodeError {
    DecodeError::Truncated { format: FORMAT, detail: detail.into() }
}

fn unsupported(detail: impl Into<String>) -> DecodeError {
    DecodeError::Unsupported { format: FORMAT, detail: detail.into() }
}
