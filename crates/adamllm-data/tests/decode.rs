//! Every image in `tests/images` against what Pillow made of it (`tools/fixtures/make_images.py`).

use std::path::{Path, PathBuf};

use adamllm_core::{CoreError, ImageRef, ImageStore, RgbImage};
use adamllm_data::{Alpha, DecodeError, DecodeOptions, FolderImages, ImageFormat, decode, image_size};
use serde::Deserialize;

#[derive(Deserialize)]
struct ListedImage {
    file: String,
    stored_width: u32,
    stored_height: u32,
    width: u32,
    height: u32,
    has_alpha: bool,
}

impl ListedImage {
    fn bytes(&self) -> Vec<u8> {
        std::fs::read(folder().join(&self.file)).expect("a committed file")
    }

    fn reference(&self, kind: &str) -> RgbImage {
        let path = folder().join(format!("{}.{kind}.png", self.file));
        let file = std::io::BufReader::new(std::fs::File::open(path).expect("a committed file"));
        let mut reader = png::Decoder::new(file).read_info().expect("a header");
        let mut pixels = vec![0; reader.output_buffer_size().expect("small")];
        reader.next_frame(&mut pixels).expect("pixels");
        RgbImage::from_raw(reader.info().width, reader.info().height, pixels).expect("RGB")
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images")
}

fn images() -> Vec<ListedImage> {
    let text = std::fs::read_to_string(folder().join("images.json")).expect("a committed file");
    serde_json::from_str(&text).expect("a list of images")
}

fn largest_difference(a: &RgbImage, b: &RgbImage) -> u8 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.iter().zip(b.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn every_form_is_what_pillow_makes_of_it() {
    let mut wrong = Vec::new();
    for image in images() {
        match decode(&image.bytes(), &DecodeOptions::default()) {
            Ok(decoded) => {
                let difference = largest_difference(&decoded, &image.reference("rgb"));
                if difference > 0 {
                    wrong.push(format!("{}: {difference} levels", image.file));
                }
            }
            Err(error) => wrong.push(format!("{}: {error}", image.file)),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn transparency_over_white_is_pillows() {
    let options = DecodeOptions { alpha: Alpha::OverWhite, ..DecodeOptions::default() };
    let mut wrong = Vec::new();
    for image in images() {
        let Ok(decoded) = decode(&image.bytes(), &options) else { continue };
        let reference = image.reference(if image.has_alpha { "white" } else { "rgb" });
        let difference = largest_difference(&decoded, &reference);
        if difference > 0 {
            wrong.push(format!("{}: {difference} levels", image.file));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn headers_tell_the_upright_size() {
    let as_stored = DecodeOptions { upright: false, ..DecodeOptions::default() };
    for image in images() {
        let size = image_size(&image.bytes(), &DecodeOptions::default()).expect(&image.file);
        assert_eq!(size, (image.width, image.height), "{}", image.file);
        if !image.file.ends_with(".tiff") {
            let size = image_size(&image.bytes(), &as_stored).expect(&image.file);
            assert_eq!(size, (image.stored_width, image.stored_height), "{}", image.file);
        }
    }
}

#[test]
fn a_cut_file_is_an_error_and_never_a_panic() {
    // Of a moving image only the first frame is read.
    for image in images().into_iter().filter(|image| image.file != "moving.gif") {
        let whole = image.bytes();
        for length in (0..whole.len().saturating_sub(64)).step_by(whole.len() / 40 + 1) {
            let result = decode(&whole[..length], &DecodeOptions::default());
            assert!(result.is_err(), "{} cut to {length} of {} bytes", image.file, whole.len());
        }
        assert_eq!(decode(&[], &DecodeOptions::default()), Err(DecodeError::Empty));
    }
}

#[test]
fn damaged_files_never_panic() {
    for image in images() {
        let mut bytes = image.bytes();
        for at in (0..bytes.len()).step_by(bytes.len() / 60 + 1) {
            let kept = bytes[at];
            for damage in [0x00, 0xFF, kept ^ 0x40] {
                bytes[at] = damage;
                let options = DecodeOptions { max_pixels: 1 << 20, ..DecodeOptions::default() };
                let _ = decode(&bytes, &options);
            }
            bytes[at] = kept;
        }
    }
}

#[test]
fn bombs_are_refused_by_their_header() {
    let mut png = images().into_iter().find(|p| p.file == "rgb.png").expect("listed").bytes();
    png[16..24].copy_from_slice(&[0, 0, 0x9C, 0x40, 0, 0, 0x9C, 0x40]); // 40000 x 40000
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let refused = DecodeError::TooLarge { width: 40_000, height: 40_000, limit: 178_956_970 };
    assert_eq!(decode(&png, &DecodeOptions::default()), Err(refused.clone()));
    assert_eq!(image_size(&png, &DecodeOptions::default()), Err(refused));
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[test]
fn other_bytes_are_named() {
    let error = decode(b"<html>not found</html>", &DecodeOptions::default());
    assert!(matches!(error, Err(DecodeError::NotRead { found: "an HTML page", .. })), "{error:?}");
    let error = decode(b"nonsense", &DecodeOptions::default());
    assert_eq!(error, Err(DecodeError::UnknownFormat { got: "6e6f6e73656e7365".into() }));
    assert_eq!(ImageFormat::of(b"GIF89a"), Ok(ImageFormat::Gif));
    assert_eq!(decode(b"", &DecodeOptions::default()), Err(DecodeError::Empty));
}

#[test]
fn a_folder_opens_what_is_inside_it() {
    let store = FolderImages::new(folder());
    let image = ImageRef::from("./exif6.jpg");
    assert_eq!(store.size(&image).expect("a header"), (18, 29));
    assert_eq!(store.open(&image).expect("decodes").dimensions(), (18, 29));
    assert_eq!(store.bytes(&image).expect("reads").expect("has a file")[..2], [0xFF, 0xD8]);
    let missing = store.open(&"nowhere.png".into());
    assert!(matches!(missing, Err(CoreError::ImageMissing { .. })));
    for outside in ["../images/rgb.png", "https://example.org/rgb.png", ""] {
        assert!(matches!(store.open(&outside.into()), Err(CoreError::Field { field: "image", .. })), "{outside}");
    }
    assert!(matches!(store.open(&"images.json".into()), Err(CoreError::ImageDecode { .. })));
}
