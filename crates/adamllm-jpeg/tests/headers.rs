//! Files that are put together from the segments of sound ones: what decoders must read alike, and what is refused with its cause.

use adamllm_jpeg::{JpegError, JpegImage, decode_components, decode_rgb};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

const SOF0: u8 = 0xC0;
const SOF2: u8 = 0xC2;
const DHT: u8 = 0xC4;
const SOS: u8 = 0xDA;
const DQT: u8 = 0xDB;
const DRI: u8 = 0xDD;

/// A marker, its segment, and for a scan the coded pixels after it.
#[derive(Clone)]
struct Segment {
    marker: u8,
    content: Vec<u8>,
    pixels: Vec<u8>,
}

/// A colour image of 24 by 17 pixels, its colour planes half as wide and high.
fn file(progressive: bool) -> Vec<u8> {
    let samples: Vec<u8> = (0..24 * 17 * 3).map(|i| (i * 7 % 251) as u8).collect();
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, 85);
    encoder.set_progressive(progressive);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode(&samples, 24, 17, ColorType::Rgb).expect("encodes");
    jpeg
}

fn segments(progressive: bool) -> Vec<Segment> {
    let jpeg = file(progressive);
    let (mut rest, mut found) = (&jpeg[2..], Vec::new());
    while rest[1] != 0xD9 {
        let length = 2 + usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        let (content, tail) = (rest[4..length].to_vec(), &rest[length..]);
        // Coded pixels end at the first marker; a zero after FF makes it none.
        let is_marker = |pair: &[u8]| pair[0] == 0xFF && pair[1] != 0;
        let n = if rest[1] == SOS { tail.windows(2).position(is_marker).expect("a marker") } else { 0 };
        found.push(Segment { marker: rest[1], content, pixels: tail[..n].to_vec() });
        rest = &tail[n..];
    }
    found
}

fn joined(segments: &[Segment], before_each: &[u8], end: &[u8]) -> Vec<u8> {
    let mut jpeg = vec![0xFF, 0xD8];
    for Segment { marker, content, pixels } in segments {
        jpeg.extend(before_each);
        jpeg.extend([0xFF, *marker]);
        jpeg.extend((content.len() as u16 + 2).to_be_bytes());
        jpeg.extend(content.iter().chain(pixels));
    }
    jpeg.extend(end);
    jpeg
}

const END: [u8; 2] = [0xFF, 0xD9];

fn decoded(segments: &[Segment]) -> Result<JpegImage, JpegError> {
    decode_rgb(&joined(segments, &[], &END), u64::MAX)
}

fn whole(progressive: bool) -> JpegImage {
    decode_rgb(&file(progressive), u64::MAX).expect("decodes")
}

/// The file with one kind of its segments changed.
fn changed(progressive: bool, marker: u8, change: impl Fn(&mut Vec<u8>)) -> Result<JpegImage, JpegError> {
    let mut all = segments(progressive);
    all.iter_mut().filter(|segment| segment.marker == marker).for_each(|segment| change(&mut segment.content));
    decoded(&all)
}

fn without(progressive: bool, marker: u8) -> Result<JpegImage, JpegError> {
    let mut all = segments(progressive);
    all.retain(|segment| segment.marker != marker);
    decoded(&all)
}

fn cause(result: Result<JpegImage, JpegError>) -> String {
    result.expect_err("is refused").to_string()
}

#[test]
fn segments_put_together_again_are_the_file() {
    for progressive in [false, true] {
        assert_eq!(joined(&segments(progressive), &[], &END), file(progressive));
    }
}

#[test]
fn what_stands_between_segments_is_passed_over() {
    for progressive in [false, true] {
        let (all, image) = (segments(progressive), whole(progressive));
        // Fill bytes; a marker without a segment; a restart marker and a stuffed zero; bytes that are no marker.
        for between in [&[0xFF, 0xFF][..], &[0xFF, 0x01], &[0xFF, 0xD3], &[0xFF, 0xD8], &[0xFF, 0x00], &[0x12, 0x34]] {
            // After the pixels of a sequential scan those would belong to it.
            let n_tables = all.iter().position(|segment| segment.marker == SOS).expect("a scan") + 1;
            let head = joined(&all[..n_tables], between, &[]);
            let rest = joined(&all[n_tables..], &[], &END);
            assert_eq!(decode_rgb(&[&head, &rest[2..]].concat(), u64::MAX), Ok(image.clone()), "{between:x?}");
        }
        let mut noted = all.clone();
        noted.insert(1, Segment { marker: 0xFE, content: b"a note".to_vec(), pixels: vec![] });
        assert_eq!(decoded(&noted), Ok(image));
    }
}

#[test]
fn an_end_marker_is_needed_where_scans_may_follow() {
    for end in [&[][..], &[0xFF], &[0xFF, 0xFE, 0x00]] {
        let broken_off = |progressive| decode_rgb(&joined(&segments(progressive), &[], end), u64::MAX);
        assert_eq!(broken_off(false), Ok(whole(false)), "{end:x?}");
        assert!(matches!(broken_off(true), Err(JpegError::Truncated { .. })), "{end:x?}");
    }
    let mut all = segments(true);
    all.pop();
    assert!(decoded(&all).is_ok(), "a finer scan may be left out on purpose");
    assert!(cause(decoded(&segments(true)[..4])).contains("before the last scan"));
    assert!(cause(decode_rgb(&[0xFF, 0xD8, 0xFF, 0xD9], 1)).contains("no frame header"));
}

#[test]
fn a_frame_header_says_what_is_not_read() {
    let frame = |change: &dyn Fn(&mut Vec<u8>)| cause(changed(false, SOF0, change));
    assert!(frame(&|frame| frame.truncate(5)).contains("short frame header"));
    assert!(frame(&|frame| frame.truncate(12)).contains("3 colour components"), "the third is not there");
    assert!(frame(&|frame| frame[0] = 12).contains("12 bits a sample"));
    assert!(frame(&|frame| frame[1..3].fill(0)).contains("24x0 pixels"));
    assert!(frame(&|frame| frame[3..5].fill(0)).contains("0x17 pixels"));
    assert!(frame(&|frame| frame[5] = 2).contains("2 colour components"));
    for factors in [0x02, 0x20, 0x52, 0x25] {
        assert!(frame(&|frame| frame[7] = factors).contains("sampling factors out of range"), "{factors:x}");
    }
    for factors in [0x32, 0x23] {
        assert!(frame(&|frame| (frame[7], frame[10]) = (factors, 0x22)).contains("fractional sampling"), "{factors:x}");
    }
    for (marker, what) in [(0xC3, "lossless"), (0xC9, "arithmetic"), (0xCC, "arithmetic"), (0xC5, "hierarchical")] {
        let mut all = segments(false);
        all.iter_mut().filter(|segment| segment.marker == SOF0).for_each(|segment| segment.marker = marker);
        assert!(cause(decoded(&all)).contains(what), "{marker:x}");
    }
    // Baseline and extended sequential files differ in nothing that is read here.
    let mut all = segments(false);
    let at = all.iter().position(|segment| segment.marker == SOF0).expect("a frame");
    all[at].marker = 0xC1;
    assert_eq!(decoded(&all), Ok(whole(false)));
    all.insert(at, all[at].clone());
    assert!(cause(decoded(&all)).contains("a second frame"));
}

#[test]
fn a_scan_names_components_once_each() {
    let scan = |change: &dyn Fn(&mut Vec<u8>)| cause(changed(false, SOS, change));
    assert!(scan(&|scan| scan.truncate(4)).contains("short scan header"));
    assert!(scan(&|scan| scan.clear()).contains("short scan header"));
    assert!(scan(&|scan| scan.truncate(8)).contains("short scan header"));
    assert!(scan(&|scan| scan[1] = 99).contains("unknown component"));
    assert!(scan(&|scan| scan[5] = scan[1]).contains("one twice"));
    assert!(scan(&|scan| *scan = vec![0, 0, 63, 0]).contains("without components"));
    // A sequential scan's band is always whole, whatever its header says.
    assert_eq!(changed(false, SOS, |scan| scan[7..].fill(0)), Ok(whole(false)));
}

#[test]
fn a_progressive_scan_has_a_possible_band() {
    let is_first = |scan: &[u8]| scan[scan.len() - 3] == 0;
    let band = |first: bool, band: [u8; 3]| {
        changed(true, SOS, move |scan| {
            let n = scan.len();
            if is_first(scan) == first {
                scan[n - 3..].copy_from_slice(&band);
            }
        })
    };
    for (first, values) in [
        (true, [0, 5, 0]),     // DC and AC values in one scan
        (false, [1, 64, 0]),   // there are 64
        (false, [9, 5, 0]),    // the end before the start
        (false, [1, 5, 0x0E]), // a bit that no value has
        (false, [1, 5, 0xF0]),
    ] {
        assert!(cause(band(first, values)).contains("impossible coefficients"), "{values:?}");
    }
    let mut all = segments(true);
    let names = all.iter().find(|s| s.marker == SOF2).map(|s| [s.content[6], s.content[9]]).expect("a frame");
    all.iter_mut().filter(|s| s.marker == SOS && !is_first(&s.content)).for_each(|s| {
        s.content = vec![2, names[0], 0x00, names[1], 0x11, 1, 5, 0];
    });
    assert!(cause(decoded(&all)).contains("impossible coefficients"), "AC values of two components at once");
}

#[test]
fn tables_are_needed_where_they_are_used() {
    for progressive in [false, true] {
        assert!(cause(without(progressive, DHT)).contains("without its Huffman tables"));
        assert!(without(progressive, DQT).is_err());
    }
    assert!(cause(without(false, DQT)).contains("without its quantisation table"));
    assert!(cause(without(false, SOF0)).contains("a scan before the frame header"));
    // Those of means and those of the other values, each alone.
    for (progressive, class) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
        let mut all = segments(progressive);
        let n = all.len();
        all.retain(|segment| segment.marker != DHT || segment.content[0] >> 4 != class);
        assert!(all.len() < n && cause(decoded(&all)).contains("without its Huffman tables"), "{progressive} {class}");
    }
    // A scan of AC values alone needs no table for means, nor the other way round.
    let unused = |scan: &mut Vec<u8>| {
        let first = scan[scan.len() - 3] == 0;
        let n_parts = usize::from(scan[0]);
        for part in 0..n_parts {
            let tables = &mut scan[2 + part * 2];
            *tables = if first { *tables | 0x03 } else { *tables | 0x30 };
        }
    };
    assert_eq!(changed(true, SOS, unused), Ok(whole(true)));
    assert!(cause(changed(false, SOS, |scan| scan[2] |= 0x03)).contains("without its Huffman tables"));
}

#[test]
fn damaged_tables_are_errors() {
    let huffman = |change: &dyn Fn(&mut Vec<u8>)| cause(changed(false, DHT, change));
    assert!(huffman(&|table| table.truncate(10)).contains("Huffman table"));
    assert!(huffman(&|table| table.truncate(table.len() - 1)).contains("Huffman table"));
    assert!(huffman(&|table| table[0] |= 0x04).contains("Huffman table's number"));
    // Three codes of one bit; two are all there are.
    let crowded = |n: u8| [&[0x00, n], &[0; 15][..], &vec![1; usize::from(n)]].concat();
    assert!(huffman(&|table| *table = crowded(3)).contains("too many codes"));
    assert!(!huffman(&|table| *table = crowded(2)).contains("too many codes"));
    assert!(cause(changed(false, DQT, |table| table.truncate(64))).contains("quantisation table"));
    assert!(cause(changed(false, DQT, |table| table[0] |= 0x04)).contains("quantisation table"));
    let mut short = segments(false);
    short.insert(0, Segment { marker: DRI, content: vec![0], pixels: vec![] });
    assert!(cause(decoded(&short)).contains("restart interval"));
    let jpeg = [&[0xFF, 0xD8, 0xFF, 0xFE, 0x00, 0x01][..], &END].concat();
    assert!(cause(decode_rgb(&jpeg, 1)).contains("shorter than its own length"));
    assert!(matches!(decode_rgb(&[0xFF, 0xD8, 0xFF, 0xFE, 0x00], 1), Err(JpegError::Truncated { .. })));
}

#[test]
fn a_table_of_two_bytes_a_value_says_the_same() {
    let wide = |table: &mut Vec<u8>| {
        let mut tables = Vec::new();
        for one in table.chunks(65) {
            tables.push(one[0] | 0x10);
            one[1..].iter().for_each(|value| tables.extend([0, *value]));
        }
        *table = tables;
    };
    for progressive in [false, true] {
        assert_eq!(changed(progressive, DQT, wide), Ok(whole(progressive)));
    }
}

#[test]
fn scans_are_counted() {
    // The same scan again leaves the same image; no file has hundreds.
    let mut all = segments(false);
    let scan = all.iter().find(|segment| segment.marker == SOS).expect("a scan").clone();
    all.extend(vec![scan.clone(); 255]);
    assert_eq!(decoded(&all), Ok(whole(false)));
    all.push(scan);
    assert!(cause(decoded(&all)).contains("more than 256 scans"));
}

#[test]
fn components_are_the_planes_behind_the_colours() {
    for progressive in [false, true] {
        let jpeg = file(progressive);
        let planes = decode_components(&jpeg, false, u64::MAX).expect("decodes");
        assert_eq!((planes.width, planes.height, planes.n_channels), (24, 17, 3));
        assert_eq!(decode_components(&jpeg, true, u64::MAX), Ok(whole(progressive)));
        // JFIF's formulas, to the nearest level.
        for (pixel, [y, cb, cr]) in
            whole(progressive).samples.as_chunks::<3>().0.iter().zip(planes.samples.as_chunks::<3>().0)
        {
            let [y, cb, cr] = [f64::from(*y), f64::from(*cb) - 128.0, f64::from(*cr) - 128.0];
            let rgb = [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb];
            for (sample, exact) in pixel.iter().zip(rgb) {
                assert!((f64::from(*sample) - exact.clamp(0.0, 255.0)).abs() <= 0.51, "{sample} for {exact}");
            }
        }
    }
    let is_progressive = |marker| segments(true).iter().any(|segment| segment.marker == marker);
    assert!(is_progressive(SOF2) && !is_progressive(SOF0));
}

/// A white block has a mean of 127 above the middle, 8 of which are a step of its first value: 1016, whatever it is then multiplied by.
#[test]
fn means_far_beyond_white_are_damage() {
    let white = |progressive| {
        let mut jpeg = Vec::new();
        let mut encoder = Encoder::new(&mut jpeg, 100);
        encoder.set_progressive(progressive);
        encoder.encode(&[255; 64], 8, 8, ColorType::Luma).expect("encodes");
        jpeg
    };
    for progressive in [false, true] {
        let decode = |factor: u8| {
            let mut jpeg = white(progressive);
            let table = jpeg.windows(2).position(|pair| pair == [0xFF, DQT]).expect("a table");
            assert_eq!(jpeg[table + 5], 1, "the finest quantisation");
            jpeg[table + 5] = factor;
            decode_rgb(&jpeg, u64::MAX).map(|image| image.samples)
        };
        for factor in [1, 9, 16] {
            assert_eq!(decode(factor), Ok(vec![255; 64 * 3]), "{factor}");
        }
        assert!(decode(17).expect_err("beyond 16384").to_string().contains("values that no encoder writes"));
    }
}
