use std::fmt;

use crate::DecodeError;

/// An image file's format, known by its first bytes (names and media types are not asked).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageFormat {
    /// Baseline and progressive JPEG; grey, YCbCr, RGB, CMYK, YCCK. Of several images in one file the first.
    Jpeg,
    /// PNG of every colour type and depth; of an animation the default image.
    Png,
    /// WebP, lossy or lossless; of an animation the first frame.
    WebP,
    /// The first frame of a GIF.
    Gif,
    /// Windows and OS/2 bitmaps.
    Bmp,
    /// The first page of a TIFF.
    Tiff,
    /// Portable bitmaps, greymaps, pixmaps and floatmaps, plain and raw.
    Pnm,
    /// Truevision TGA, which has no mark of its own: known by a header that makes sense.
    Tga,
    /// The largest image of a Windows icon.
    Ico,
    /// JPEG 2000, in boxes or as a bare code stream.
    Jpeg2000,
}

impl ImageFormat {
    /// Recognises a format.
    ///
    /// # Errors
    /// [`DecodeError::Empty`], [`DecodeError::NotRead`] and [`DecodeError::UnknownFormat`].
    pub fn of(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match bytes {
            [] => return Err(DecodeError::Empty),
            [0xFF, 0xD8, 0xFF, ..] => Self::Jpeg,
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Self::Png,
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Self::WebP,
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Self::Gif,
            [b'B', b'M', ..] => Self::Bmp,
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Self::Tiff,
            [b'I', b'I', 0, 42, ..] | [b'M', b'M', 42, 0, ..] => Self::Tiff,
            [b'P', b'1'..=b'6' | b'f', b' ' | b'\t'..=b'\r', ..] => Self::Pnm,
            [0, 0, 1, 0, ..] => Self::Ico,
            [0xFF, 0x4F, 0xFF, 0x51, ..] => Self::Jpeg2000,
            [0, 0, 0, 12, b'j', b'P', b' ', b' ', b'\r', b'\n', 0x87, b'\n', ..] => Self::Jpeg2000,
            _ => return unmarked(bytes),
        })
    }
}

/// Formats without a mark, then the ones that are only known by name.
fn unmarked(bytes: &[u8]) -> Result<ImageFormat, DecodeError> {
    if is_tga(bytes) {
        return Ok(ImageFormat::Tga);
    }
    if let Some((found, advice)) = not_read(bytes) {
        return Err(DecodeError::NotRead { found, advice });
    }
    let got = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Err(DecodeError::UnknownFormat { got })
}

fn is_tga(bytes: &[u8]) -> bool {
    let Some(&[_, map, kind, _, _, _, _, map_depth, _, _, _, _, w0, w1, h0, h1, depth, flags]) = bytes.first_chunk()
    else {
        return false;
    };
    let has_map = map == 1 && [15, 16, 24, 32].contains(&map_depth);
    (has_map || (map == 0 && map_depth == 0 && ![1, 9].contains(&kind)))
        && [1, 2, 3, 9, 10, 11].contains(&kind)
        && (w0, w1) != (0, 0)
        && (h0, h1) != (0, 0)
        && [8, 16, 24, 32].contains(&depth)
        && flags & 0xC0 == 0
}

const CONVERT: &str = "convert it to PNG";
const NO_IMAGE: &str = "this is not an image; fetch the file again";

/// What a file is that is not read, and what to do about it.
fn not_read(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    if bytes.get(4..8) == Some(b"ftyp") {
        return Some((brand(bytes), CONVERT));
    }

    let marks: &[(&[u8], &str, &str)] = &[
        (b"\xFF\x0A", "a JPEG XL image", CONVERT),
        (b"\0\0\0\x0CJXL \r\n\x87\n", "a JPEG XL image", CONVERT),
        (b"II\xBC\x01", "a JPEG XR image", CONVERT),
        (b"II\xBC\0", "a JPEG XR image", CONVERT),
        (b"8BPS", "a Photoshop document", CONVERT),
        (b"qoif", "a QOI image", CONVERT),
        (b"DDS ", "a DirectDraw surface", CONVERT),
        (b"\x76\x2F\x31\x01", "an OpenEXR image", CONVERT),
        (b"#?RADIANCE", "a Radiance HDR image", CONVERT),
        (b"icns", "an Apple icon", CONVERT),
        (b"\0\0\x02\0", "a Windows cursor", CONVERT),
        (b"\x01\xDA", "an SGI image", CONVERT),
        (b"SIMPLE  =", "a FITS file", CONVERT),
        (b"CDF\x01", "a NetCDF file", CONVERT),
        (b"\x89HDF\r\n\x1A\n", "an HDF5 file", CONVERT),
        (b"P7\n", "a PAM image", CONVERT),
        (b"PF\n", "a floatmap of colours", CONVERT),
        (b"#define ", "an X bitmap", CONVERT),
        (b"/* XPM */", "an X pixmap", CONVERT),
        (b"%!PS", "a PostScript file", CONVERT),
        (b"\xC5\xD0\xD3\xC6", "a PostScript file", CONVERT),
        (b"%PDF-", "a PDF document", "render its pages to PNG"),
        (b"\xD7\xCD\xC6\x9A", "a Windows metafile", CONVERT),
        (b"version https://git-lfs.github.com/spec", "a Git LFS pointer", "run `git lfs pull`"),
        (b"PK\x03\x04", "a zip archive", "unpack it, or name the file inside it"),
        (b"\x1F\x8B", "a gzip file", "unpack it"),
        (b"7z\xBC\xAF\x27\x1C", "a 7-Zip archive", "unpack it"),
        (b"Rar!\x1A\x07", "a RAR archive", "unpack it"),
        (b"PAR1", "a parquet table", "give it as the table"),
        (b"ARROW1", "an Arrow table", "give it as the table"),
        (b"\x93NUMPY", "a NumPy array", CONVERT),
        (b"\x1A\x45\xDF\xA3", "a video (Matroska)", "take frames from it"),
        (b"OggS", "an Ogg stream", NO_IMAGE),
        (b"\x28\0\0\0", "a bitmap without a file's head", CONVERT),
        (b"\x59\xA6\x6A\x95", "a Sun raster", CONVERT),
        (b"gimp xcf", "a GIMP document", CONVERT),
        (b"Image type:", "an IM image", CONVERT),
        (b"DanM", "a Windows Paint image", CONVERT),
        (b"LinS", "a Windows Paint image", CONVERT),
        (b"NITF", "a NITF image", CONVERT),
        (b"EHFA_HEADER_TAG", "an Erdas Imagine raster", CONVERT),
        (b"GRIB", "a GRIB file", CONVERT),
        (b"NRRD", "an NRRD volume", CONVERT),
    ];

    let mark = marks.iter().find(|(mark, ..)| bytes.starts_with(mark));
    if let Some((_, found, advice)) = mark {
        return Some((found, advice));
    }

    // WebP is RIFF too, and was recognised before.
    if bytes.starts_with(b"RIFF") {
        return Some(("a video or sound (RIFF)", "take frames from it"));
    }

    // NIfTI-1 has its mark at the end of a head of 348 bytes, DICOM after a preamble of 128.
    if [Some(&b"n+1\0"[..]), Some(b"ni1\0")].contains(&bytes.get(344..348)) {
        return Some(("a NIfTI volume", CONVERT));
    }
    if bytes.get(128..132) == Some(b"DICM") {
        return Some(("a DICOM file", CONVERT));
    }

    // One byte marks PCX; version and encoding are looked at to be surer.
    if bytes.starts_with(b"\x0A") && bytes.get(1).is_some_and(|version| *version <= 5) && bytes.get(2) == Some(&1) {
        return Some(("a PCX image", CONVERT));
    }

    text(bytes)
}

/// The boxes of HEIF and of videos name what they hold.
fn brand(bytes: &[u8]) -> &'static str {
    match bytes.get(8..12) {
        Some(b"avif" | b"avis") => "an AVIF image",
        Some(b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1" | b"msf1") => {
            let names_avif = bytes.iter().take(64).copied().collect::<Vec<_>>().windows(4).any(|four| four == b"avif");
            if names_avif { "an AVIF image" } else { "a HEIC image" }
        }
        Some(b"crx ") => "a Canon raw image",
        Some(b"qt  ") => "a QuickTime video",
        _ => "an MP4 video",
    }
}

/// Pages and messages that were saved instead of an image.
fn text(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let head = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let head = head.trim_ascii_start();
    let head: Vec<_> = head.iter().take(512).map(u8::to_ascii_lowercase).collect();
    let holds = |what: &[u8]| head.windows(what.len()).any(|window| window == what);

    // A drawing may begin with an XML declaration, a document type or a comment.
    if head.starts_with(b"<svg") || (head.starts_with(b"<?xml") || head.starts_with(b"<!")) && holds(b"<svg") {
        return Some(("an SVG drawing", "render it to PNG"));
    }

    if head.starts_with(b"<!doctype html") || head.starts_with(b"<html") || head.starts_with(b"<head") {
        return Some(("an HTML page", NO_IMAGE));
    }
    if head.starts_with(b"<") {
        return Some(("an XML document", NO_IMAGE));
    }
    if head.starts_with(b"{") || head.starts_with(b"[") {
        return Some(("JSON text", NO_IMAGE));
    }

    // Left by a download that reserved the whole size and never wrote it.
    if !bytes.is_empty() && bytes.iter().take(512).all(|&byte| byte == 0) {
        return Some(("a file of zeros", NO_IMAGE));
    }

    None
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::Pnm => "PNM",
            Self::Tga => "TGA",
            Self::Ico => "ICO",
            Self::Jpeg2000 => "JPEG 2000",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: &[u8]) -> String {
        match ImageFormat::of(bytes) {
            Ok(format) => format.to_string(),
            Err(DecodeError::NotRead { found, .. }) => found.to_owned(),
            Err(other) => other.to_string(),
        }
    }

    #[test]
    fn formats_are_known_by_their_first_bytes() {
        for (bytes, name) in [
            (&b"\xFF\xD8\xFF\xE0"[..], "JPEG"),
            (b"\x89PNG\r\n\x1a\n", "PNG"),
            (b"RIFF\x10\0\0\0WEBP", "WebP"),
            (b"GIF87a", "GIF"),
            (b"GIF89a", "GIF"),
            (b"BM", "BMP"),
            (b"II*\0", "TIFF"),
            (b"MM\0*", "TIFF"),
            (b"II+\0", "TIFF"),
            (b"MM\0+", "TIFF"),
            (b"P1 ", "PNM"),
            (b"P6\n", "PNM"),
            (b"Pf\r", "PNM"),
            (b"\0\0\x01\0", "ICO"),
            (b"\xFF\x4F\xFF\x51", "JPEG 2000"),
            (b"\0\0\0\x0CjP  \r\n\x87\n", "JPEG 2000"),
        ] {
            assert_eq!(said(bytes), name, "{bytes:x?}");
        }
    }

    #[test]
    fn what_is_no_image_is_named() {
        let at = |offset: usize, mark: &[u8]| [&vec![b'x'; offset][..], mark].concat();
        for (bytes, name) in [
            (at(4, b"ftypavif"), "an AVIF image"),
            (at(4, b"ftypmif1\0\0\0\0avifmiaf"), "an AVIF image"),
            (at(4, b"ftypheic"), "a HEIC image"),
            (at(4, b"ftypcrx "), "a Canon raw image"),
            (at(4, b"ftypqt  "), "a QuickTime video"),
            (at(4, b"ftypisom"), "an MP4 video"),
            (b"RIFF\x10\0\0\0AVI ".to_vec(), "a video or sound (RIFF)"),
            (at(344, b"n+1\0"), "a NIfTI volume"),
            (at(344, b"ni1\0"), "a NIfTI volume"),
            (at(128, b"DICM"), "a DICOM file"),
            (b"\x0A\x05\x01\x08".to_vec(), "a PCX image"),
            (b"\xEF\xBB\xBF <svg>".to_vec(), "an SVG drawing"),
            (b"<?xml version='1.0'?><SVG/>".to_vec(), "an SVG drawing"),
            (b"<!-- drawn --><svg/>".to_vec(), "an SVG drawing"),
            (b"<?xml version='1.0'?><kml/>".to_vec(), "an XML document"),
            (b"\n<!DOCTYPE html>".to_vec(), "an HTML page"),
            (b"<html>".to_vec(), "an HTML page"),
            (b"<head>".to_vec(), "an HTML page"),
            (b"{\"error\": 404}".to_vec(), "JSON text"),
            (b"[1]".to_vec(), "JSON text"),
            (vec![0; 600], "a file of zeros"),
        ] {
            assert_eq!(said(&bytes), name, "{:x?}", &bytes[..bytes.len().min(16)]);
        }
        for unknown in [&b"\x0A\x06\x01"[..], b"\x0A\x05\x02", b"text", b"GIF88a", b"P8 "] {
            let shown: String = unknown.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(said(unknown).contains(&shown), "{}", said(unknown));
        }
        assert!(matches!(ImageFormat::of(b""), Err(DecodeError::Empty)));
    }

    /// A TGA file has no mark: its head must make sense as a whole.
    #[test]
    fn a_tga_head_is_sound_in_every_field() {
        //            id map kind map: start, length, depth; x, y, width, height, depth, flags
        let sound = [0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 4, 0, 24, 0x20];
        assert!(is_tga(&sound));
        let with = |changes: &[(usize, u8)]| {
            let mut head = sound;
            changes.iter().for_each(|&(at, value)| head[at] = value);
            is_tga(&head)
        };
        for good in
            [&[(2, 10)][..], &[(2, 3), (16, 8)], &[(2, 11)], &[(1, 1), (2, 1), (7, 24), (16, 8)], &[(1, 1), (7, 16)]]
        {
            assert!(with(good), "{good:?}");
        }
        assert!(with(&[(12, 0), (13, 1)]) && with(&[(14, 0), (15, 1)]), "256 pixels wide or high");
        for bad in [
            &[(1, 2)][..], // a kind of map that does not exist
            &[(1, 1)],     // a map without a depth
            &[(7, 24)],    // a depth without a map
            &[(2, 1)],     // colours by number without a map
            &[(2, 9)],
            &[(2, 4)],
            &[(2, 0)],
            &[(12, 0)],
            &[(14, 0)],
            &[(16, 12)],
            &[(17, 0x40)],
            &[(17, 0x80)],
        ] {
            assert!(!with(bad), "{bad:?}");
        }
        assert!(!is_tga(&sound[..17]));
    }
}
