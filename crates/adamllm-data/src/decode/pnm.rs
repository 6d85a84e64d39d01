//! Portable bitmaps (`P1`, `P4`), greymaps (`P2`, `P5`), pixmaps (`P3`, `P6`) and grey floatmaps (`Pf`), with Pillow's
//! scaling: greys above 8 bits are spread over 16 bits and then clipped at 255.

use image::metadata::Orientation;

use super::raster::Raster;
use super::{Header, ImageFormat, ImageReader};
use crate::DecodeError;

const FORMAT: ImageFormat = ImageFormat::Pnm;

/// Tokens of the head and of plain pixels are no longer than this.
const MAX_TOKEN: usize = 10;

struct Head {
    /// The second byte of the file.
    kind: u8,
    width: u32,
    height: u32,
    /// The largest value, or a floatmap's scale.
    top: f64,
}

impl Head {
    fn read(reader: &mut impl ImageReader) -> Result<Self, DecodeError> {
        let mut magic = [0; 2];
        reader.read_exact(&mut magic).map_err(|source| DecodeError::io(FORMAT, &source))?;

        let mut number = |name: &str| {
            let token = token(reader)?;
            let value: Option<f64> = token.parse().ok().filter(|value: &f64| value.is_finite());
            value.ok_or_else(|| broken(format!("{name} is {token:?}")))
        };
        let mut side = |name| {
            let value = number(name)?;
            (value >= 0.0 && value.fract() == 0.0 && value <= f64::from(u32::MAX))
                .then_some(value as u32)
                .ok_or_else(|| broken(format!("{name} is {value}")))
        };

        // Bitmaps have no largest value. A floatmap's is a scale, whose sign is the byte order.
        let (width, height) = (side("its width")?, side("its height")?);
        let kind = magic[1];
        let top = if [b'1', b'4'].contains(&kind) { 1.0 } else { number("its largest value")? };

        let is_sound = if kind == b'f' { top != 0.0 } else { top.fract() == 0.0 && (1.0..65536.0).contains(&top) };
        match is_sound {
            true => Ok(Self { kind, width, height, top }),
            false => Err(broken(format!("its largest value is {top}"))),
        }
    }

    fn is_colour(&self) -> bool {
        [b'3', b'6'].contains(&self.kind)
    }

    fn n_values(&self) -> usize {
        self.width as usize * self.height as usize * if self.is_colour() { 3 } else { 1 }
    }

    /// A value of 0..=top as 8 bits.
    fn scaled(&self, value: f64) -> u8 {
        let out = if self.top > 255.0 && !self.is_colour() { 65535.0 } else { 255.0 };
        (value / self.top * out).round_ties_even().min(255.0) as u8
    }
}

pub(super) fn header(reader: &mut impl ImageReader) -> Result<Header, DecodeError> {
    let head = Head::read(reader)?;
    Ok(Header { width: head.width, height: head.height, orientation: Orientation::NoTransforms })
}

pub(super) fn pixels(bytes: &[u8]) -> Result<Raster, DecodeError> {
    let mut reader = std::io::Cursor::new(bytes);
    let head = Head::read(&mut reader)?;
    let data = &bytes[reader.position() as usize..];
    let (width, height, n) = (head.width, head.height, head.n_values());
    let row_bytes = width.div_ceil(8) as usize;

    let values: Vec<u8> = match head.kind {
        b'1' => plain_bits(data, n)?,
        b'2' | b'3' => plain_values(data, n, &head)?,
        b'4' => {
            // A row begins with a byte of its own; 1 is black.
            let rows = enough(data, row_bytes * height as usize)?.chunks_exact(row_bytes);
            let bit = |row: &[u8], x: usize| if row[x / 8] & 0x80 >> (x % 8) == 0 { 255 } else { 0 };
            rows.flat_map(|row| (0..width as usize).map(move |x| bit(row, x))).collect()
        }
        b'f' => {
            // The conversion clips to 0..=255. Floatmaps are stored from the bottom row up.
            let value = |bytes: &[u8; 4]| match head.top < 0.0 {
                true => f32::from_le_bytes(*bytes) as u8,
                false => f32::from_be_bytes(*bytes) as u8,
            };
            let rows = enough(data, n * 4)?.chunks_exact(width as usize * 4);
            rows.rev().flat_map(|row| row.as_chunks().0.iter().map(value)).collect()
        }
        _ if head.top < 256.0 => enough(data, n)?.iter().map(|&value| head.scaled(value.into())).collect(),
        _ => {
            let pairs = enough(data, n * 2)?.as_chunks().0.iter();
            pairs.map(|pair| head.scaled(u16::from_be_bytes(*pair).into())).collect()
        }
    };

    Ok(if head.is_colour() { Raster::opaque(width, height, values) } else { Raster::grey(width, height, &values) })
}

fn enough(data: &[u8], n_bytes: usize) -> Result<&[u8], DecodeError> {
    data.get(..n_bytes).ok_or_else(|| truncated(data.len(), n_bytes))
}

/// Digits 0 and 1, with space between them or without.
fn plain_bits(data: &[u8], n: usize) -> Result<Vec<u8>, DecodeError> {
    let digits = without_comments(data).filter(|byte| !is_space(*byte)).take(n);
    let bit = |byte| match byte {
        b'0' => Ok(255),
        b'1' => Ok(0),
        other => Err(broken(format!("the digit {:?}", other as char))),
    };
    let bits = digits.map(bit).collect::<Result<Vec<_>, _>>()?;
    if bits.len() == n { Ok(bits) } else { Err(truncated(bits.len(), n)) }
}

fn plain_values(data: &[u8], n: usize, head: &Head) -> Result<Vec<u8>, DecodeError> {
    let text: Vec<_> = without_comments(data).collect();
    let tokens = text.split(|&byte| is_space(byte)).filter(|token| !token.is_empty()).take(n);
    let value = |token: &[u8]| {
        let number = std::str::from_utf8(token).ok().filter(|text| text.len() <= MAX_TOKEN);
        let number: Option<u32> = number.and_then(|text| text.parse().ok());
        let number = number.map(f64::from).filter(|&value| value <= head.top);
        number.map(|value| head.scaled(value)).ok_or_else(|| broken(format!("the value {:?}", token.escape_ascii())))
    };
    let values = tokens.map(value).collect::<Result<Vec<_>, _>>()?;
    if values.len() == n { Ok(values) } else { Err(truncated(values.len(), n)) }
}

/// A comment goes from a hash to the line's end.
fn without_comments(data: &[u8]) -> impl Iterator<Item = u8> {
    let mut in_comment = false;
    data.iter().copied().filter(move |&byte| {
        let ends = in_comment && [b'\n', b'\r'].contains(&byte);
        in_comment = !ends && (in_comment || byte == b'#');
        !in_comment && !ends
    })
}

fn is_space(byte: u8) -> bool {
    byte == b' ' || (b'\t'..=b'\r').contains(&byte)
}

/// The next word of the head, and the one character after it.
fn token(reader: &mut impl ImageReader) -> Result<String, DecodeError> {
    let mut token = String::new();
    let mut in_comment = false;

    // Byte by byte: the pixels begin directly after the last word's space, and nothing of them may be read here.
    loop {
        let mut byte = [0];
        if reader.read(&mut byte).map_err(|source| DecodeError::io(FORMAT, &source))? == 0 {
            let detail = "inside its head".into();
            let end = || DecodeError::Truncated { format: FORMAT, detail };
            return if token.is_empty() { Err(end()) } else { Ok(token) };
        }

        // A comment may also stand inside a word, as in Pillow.
        match byte[0] {
            b'\n' | b'\r' if in_comment => in_comment = false,
            _ if in_comment => {}
            b'#' => in_comment = true,
            byte if is_space(byte) && token.is_empty() => {}
            byte if is_space(byte) => return Ok(token),
            byte => token.push(byte.into()),
        }

        if token.len() > MAX_TOKEN {
            return Err(broken("a word of its head is too long"));
        }
    }
}

fn broken(detail: impl Into<String>) -> DecodeError {
    DecodeError::Broken { format: FORMAT, detail: detail.into() }
}

fn truncated(got: usize, expected: usize) -> DecodeError {
    DecodeError::Truncated { format: FORMAT, detail: format!("expected {expected} values, got {got}") }
}

#[cfg(test)]
mod tests {
    use crate::{DecodeOptions, decode, image_size};

    fn samples(head: &str, data: &[u8]) -> Result<Vec<u8>, String> {
        let file = [head.as_bytes(), data].concat();
        decode(&file, &DecodeOptions::default()).map(|image| image.into_raw()).map_err(|error| error.to_string())
    }

    fn greys(head: &str, data: &[u8]) -> Vec<u8> {
        let samples = samples(head, data).expect("decodes");
        let pixels = samples.as_chunks::<3>().0;
        assert!(pixels.iter().all(|[r, g, b]| r == g && g == b));
        pixels.iter().map(|pixel| pixel[0]).collect()
    }

    #[test]
    fn values_are_shares_of_the_largest() {
        assert_eq!(greys("P2 3 1 10\n", b"0 5 10"), [0, 128, 255], "127.5 to the even one");
        assert_eq!(greys("P5 3 1 10\n", &[0, 5, 10]), [0, 128, 255]);
        assert_eq!(samples("P3 1 1 10\n", b"0 5 10"), Ok(vec![0, 128, 255]));
        assert_eq!(samples("P6 1 1 1000\n", &[0, 0, 1, 0xF4, 3, 0xE8]), Ok(vec![0, 128, 255]));
        // Greys above 8 bits are spread over 16 and cut off at 255: 1 of 1000 is 66.
        assert_eq!(greys("P2 3 1 1000\n", b"0 1 4"), [0, 66, 255]);
        assert_eq!(greys("P5 2 1 65535\n", &[0, 128, 1, 0]), [128, 255]);
        assert_eq!(greys("P5 2 1 255\n", &[7, 9]), [7, 9]);
        assert_eq!(greys("P5 1 1 256\n", &[0, 1]), [255], "of two bytes");
    }

    #[test]
    fn bitmaps_are_black_where_they_are_set() {
        assert_eq!(greys("P1 3 2\n", b"1 0 1\n# two\n010"), [0, 255, 0, 255, 0, 255]);
        let row = [0, 255, 0, 255, 255, 255, 255, 255, 255, 0];
        assert_eq!(greys("P4 10 2\n", &[0b1010_0000, 0b0111_1111, 0xFF, 0xFF]), [&row[..], &[0; 10]].concat());
    }

    #[test]
    fn floatmaps_begin_at_the_bottom_in_the_order_of_their_sign() {
        let values = [300.0_f32, 20.7];
        let little = values.map(f32::to_le_bytes).concat();
        let big = values.map(f32::to_be_bytes).concat();
        assert_eq!(greys("Pf 1 2 -1.0\n", &little), [20, 255]);
        assert_eq!(greys("Pf 1 2 1.0\n", &big), [20, 255]);
    }

    #[test]
    fn a_head_has_comments_and_sound_numbers() {
        let size =
            |head: &str| image_size(head.as_bytes(), &DecodeOptions::default()).map_err(|error| error.to_string());
        assert_eq!(size("P5 # wide\n 12#3\n4 # high\n5 255 "), Ok((124, 5)), "a comment inside a word is none of it");
        assert_eq!(size("P4\t3\r7\n"), Ok((3, 7)));
        for (head, cause) in [
            ("P5 -1 1 255 ", "its width is -1"),
            ("P5 1.5 1 255 ", "its width is 1.5"),
            ("P5 4294967296 1 255 ", "its width is 4294967296"),
            ("P5 1 x 255 ", "its height is \"x\""),
            ("P5 1 inf 255 ", "its height is \"inf\""),
            ("P5 1 1 0 ", "its largest value is 0"),
            ("P5 1 1 0.5 ", "its largest value is 0.5"),
            ("P5 1 1 65536 ", "its largest value is 65536"),
            ("Pf 1 1 0 ", "its largest value is 0"),
            ("P5 1 12345678901 ", "too long"),
            ("P5 1 ", "inside its head"),
        ] {
            assert!(size(head).is_err_and(|error| error.contains(cause)), "{head}: {:?} without {cause}", size(head));
        }
    }

    #[test]
    fn pixels_are_all_there_and_no_larger_than_announced() {
        for (head, data, cause) in [
            ("P2 2 1 10\n", &b"1"[..], "expected 2 values, got 1"),
            ("P2 2 1 10\n", b"1 11", "the value"),
            ("P2 2 1 10\n", b"1 -1", "the value"),
            ("P1 2 1\n", b"1", "expected 2 values, got 1"),
            ("P1 2 1\n", b"12", "the digit '2'"),
            ("P4 9 1\n", b"1", "expected 2 values, got 1"),
            ("P5 2 1 255\n", b"1", "expected 2 values, got 1"),
            ("P5 1 1 256\n", b"1", "expected 2 values, got 1"),
            ("P6 1 1 255\n", b"12", "expected 3 values, got 2"),
            ("Pf 1 1 1\n", b"123", "expected 4 values, got 3"),
        ] {
            let error = samples(head, data).expect_err(cause);
            assert!(error.contains(cause), "{head:?}: {error} without {cause}");
        }
    }
}
