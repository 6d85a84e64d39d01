//! Which way up an image is stored, from EXIF and XMP, with Pillow's precedence: an EXIF block decides where it has an
//! orientation at all (even one that says nothing); only without one is XMP asked.

use std::io::Cursor;

use image::metadata::Orientation;

use super::ifd::Ifd;

/// The tag of the orientation.
pub(super) const ORIENTATION: u16 = 0x0112;

/// What a file says about its orientation, gathered while its header is read.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// An EXIF block: a TIFF structure, with or without `Exif\0\0` before it.
    pub(super) exif: Option<Vec<u8>>,
    /// An XMP packet.
    pub(super) xmp: Option<Vec<u8>>,
}

impl Hints {
    pub(super) fn orientation(&self) -> Orientation {
        match self.exif.as_deref().map(without_head).filter(|block| !block.is_empty()) {
            // A block that is no directory says nothing, and XMP is not asked.
            Some(block) => Ifd::read(&mut Cursor::new(block), &[ORIENTATION])
                .map_or(Orientation::NoTransforms, |ifd| of(Some(&ifd), self.xmp.as_deref())),
            None => of(None, self.xmp.as_deref()),
        }
    }
}

/// The orientation of a directory, or else of an XMP packet.
pub(super) fn of(ifd: Option<&Ifd>, xmp: Option<&[u8]>) -> Orientation {
    let code = match ifd.filter(|ifd| ifd.has(ORIENTATION)) {
        Some(ifd) => ifd.numbers(ORIENTATION).and_then(|values| values.first().copied()),
        None => xmp.and_then(in_xmp),
    };
    let code = code.filter(|code| (1.0..=8.0).contains(code) && code.fract() == 0.0);
    code.and_then(|code| Orientation::from_exif(code as u8)).unwrap_or(Orientation::NoTransforms)
}

/// Some writers put the head of a JPEG's EXIF segment there twice, or before EXIF elsewhere.
fn without_head(block: &[u8]) -> &[u8] {
    const HEAD: &[u8] = b"Exif\0\0";
    let block = block.strip_prefix(HEAD).unwrap_or(block);
    block.strip_prefix(HEAD).unwrap_or(block)
}

/// The digit after `tiff:Orientation`, as an attribute or as an element.
fn in_xmp(packet: &[u8]) -> Option<f64> {
    const NAME: &[u8] = b"tiff:Orientation";
    packet.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME).find_map(|(offset, _)| {
        let rest = &packet[offset + NAME.len()..];
        let rest = rest.strip_prefix(b"=\"").or(rest.strip_prefix(b">"))?;
        rest.first().filter(|byte| byte.is_ascii_digit()).map(|digit| f64::from(digit - b'0'))
    })
}
