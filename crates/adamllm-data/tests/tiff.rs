//! TIFF files of one pixel, field by field.

use adamllm_data::{DecodeOptions, decode};

/// The values of a field.
enum Values<'a> {
    Shorts(&'a [u16]),
    /// Numerators; each denominator is 1000.
    Thousandths(&'a [u32]),
}
use Values::{Shorts, Thousandths};

/// A file with these fields, ascending, and the pixel's samples at byte 8.
fn file(fields: &[(u16, Values<'_>)], samples: [u8; 4]) -> Vec<u8> {
    let directory = 12;
    let mut behind = directory + 2 + fields.len() * 12 + 4;
    let mut head = [&b"II*\0"[..], &(directory as u32).to_le_bytes(), &samples].concat();
    let mut rest = Vec::new();
    head.extend((fields.len() as u16).to_le_bytes());
    for (tag, values) in fields {
        let (kind, n, data): (u16, usize, Vec<u8>) = match values {
            Shorts(values) => (3, values.len(), values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Thousandths(values) => (
                5,
                values.len(),
                values.iter().flat_map(|v| [v.to_le_bytes(), 1000_u32.to_le_bytes()].concat()).collect(),
            ),
        };
        head.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        head.extend((n as u32).to_le_bytes());
        match data.len() {
            0..=4 => head.extend([&data[..], &[0; 4]].concat()[..4].iter()),
            length => {
                head.extend((behind as u32).to_le_bytes());
                behind += length;
                rest.extend(data);
            }
        }
    }
    [head, vec![0; 4], rest].concat()
}

const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const COLOURS: u16 = 262;
const OFFSET: u16 = 273;
const SAMPLES: u16 = 277;
const ROWS: u16 = 278;
const LENGTH: u16 = 279;
const COEFFICIENTS: u16 = 529;
const SUBSAMPLING: u16 = 530;
const BLACK_AND_WHITE: u16 = 532;

/// A pixel of YCbCr with these fields beside the usual ones.
fn ycbcr(more: Vec<(u16, Values<'_>)>) -> Result<Vec<u8>, String> {
    let mut fields = vec![
        (WIDTH, Shorts(&[1])),
        (HEIGHT, Shorts(&[1])),
        (BITS, Shorts(&[8, 8, 8])),
        (COMPRESSION, Shorts(&[1])),
        (COLOURS, Shorts(&[6])),
        (OFFSET, Shorts(&[8])),
        (SAMPLES, Shorts(&[3])),
        (ROWS, Shorts(&[1])),
        (LENGTH, Shorts(&[3])),
    ];
    fields.extend(more);
    fields.sort_by_key(|(tag, _)| *tag);
    let image = decode(&file(&fields, [100, 128, 128, 0]), &DecodeOptions::default());
    image.map(|image| image.into_raw()).map_err(|error| error.to_string())
}

#[test]
fn ycbcr_is_read_with_the_standard_coefficients_alone() {
    let grey = || Ok(vec![100; 3]);
    let standard = || (COEFFICIENTS, Thousandths(&[299, 587, 114]));
    let range = || (BLACK_AND_WHITE, Thousandths(&[0, 255_000, 128_000, 255_000, 128_000, 255_000]));
    assert_eq!(ycbcr(vec![]), grey());
    assert_eq!(ycbcr(vec![(SUBSAMPLING, Shorts(&[1, 1])), standard(), range()]), grey());
    for other in [
        vec![(COEFFICIENTS, Thousandths(&[213, 715, 72]))],
        vec![(COEFFICIENTS, Thousandths(&[299, 587]))],
        vec![standard(), (BLACK_AND_WHITE, Thousandths(&[16_000, 235_000, 128_000, 240_000, 128_000, 240_000]))],
        vec![(COEFFICIENTS, Thousandths(&[213, 715, 72])), range()],
    ] {
        assert!(ycbcr(other).is_err_and(|error| error.contains("other coefficients")));
    }
    for factors in [[2, 2], [2, 1], [1, 2]] {
        let error = ycbcr(vec![(SUBSAMPLING, Shorts(&factors))]).expect_err("is not read");
        assert!(error.contains(&format!("subsampling [{}, {}]", factors[0], factors[1])), "{error}");
    }
}
