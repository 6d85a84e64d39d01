//! The first page of a TIFF: strips and tiles, interleaved samples and planes, as GeoTIFFs, scanners, microscopes and
//! Pillow write them.
//!
//! What a sample means is decided by Pillow's rules (which combinations of photometric, depth, extra samples there are,
//! what is clipped, what is divided by alpha), so a combination that Pillow does not read is refused by name. The
//! directory, the strips and their unpacking are read here, and only the packing itself (LZW, deflate, Zstandard, fax
//! codes) by other crates: a general TIFF decoder makes its own choices about extra bands and planes, and a wrong
//! image cannot be distinguished from a right one.

use std::io::{Cursor, Read, Seek};

use super::ifd::Ifd;
use super::orientation::{self, ORIENTATION};
use super::raster::Raster;
use super::{Header, ImageFormat, ImageReader};
use crate::DecodeError;
use directory::Page;

mod directory;
mod fax;
mod layout;
mod packing;
mod predictor;
mod samples;
mod ycbcr;

const FORMAT: ImageFormat = ImageFormat::Tiff;

/// An XMP packet.
const XMP: u16 = 700;

pub(super) fn header(reader: &mut impl ImageReader) -> Result<Header, DecodeError> {
    let ifd = directory::read(reader)?;
    let (width, height) = directory::size(&ifd)?;
    let orientation = orientation::of(Some(&ifd), ifd.bytes(XMP));
    Ok(Header { width, height, orientation })
}

pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let ifd = directory::read(&mut Cursor::new(bytes))?;
    let page = Page::of(&ifd)?;
    samples::raster(&page, bytes)
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
