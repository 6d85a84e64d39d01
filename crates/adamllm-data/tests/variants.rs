//! One file of every kind that public tools write, against Pillow (`tools/fixtures/image_variants.py`): equal, or refused
//! by name. Pillow's refusals are not all followed: what is listed here is read all the same.

use std::path::{Path, PathBuf};

use adamllm_core::RgbImage;
use adamllm_data::{DecodeError, DecodeOptions, decode, image_size};
use serde::Deserialize;

#[derive(Deserialize)]
struct Variant {
    file: String,
    /// What Pillow reads; `None` where it refuses.
    reference: Option<String>,
}

/// Read by Pillow and refused here, with the words that name the cause.
const REFUSED: &[(&str, &str)] = &[
    ("avif.avif", "an AVIF image"),
    ("depth-i16-lzw-strip-be.tif", "compressed, black-is-zero grey pixels of big-endian signed 16 bits"),
    ("jp2-u16.jp2", "16 bits a sample"),
    ("jpeg-12bit.jpg", "12 bits a sample"),
    ("jpeg-arithmetic.jpg", "arithmetic coding"),
    ("jpeg-restart-lost.jpg", "between two restart markers"),
    ("lab-u8-raw-strip.tif", "CIE L*a*b*"),
    ("pillow-F-lzma.tif", "LZMA"),
    ("pillow-I16-lzma.tif", "LZMA"),
    ("pillow-RGBA-lzma.tif", "LZMA"),
];

/// Refused by both: the name of what they are, or of what they lack.
const NAMED: &[(&str, &str)] = &[
    ("empty.jpg", "empty file"),
    ("heic.heic", "a HEIC image"),
    ("html.jpg", "an HTML page"),
    ("jxl.jxl", "a JPEG XL image"),
    ("jxl-box.jxl", "a JPEG XL image"),
    ("lfs.png", "a Git LFS pointer"),
    ("pdf.jpg", "a PDF document"),
    ("svg.svg", "an SVG drawing"),
    ("zeros.jpg", "a file of zeros"),
    ("zip.png", "a zip archive"),
    ("jpeg-two-components.jpg", "2 colour components"),
    ("jpeg-factors-fraction-small.jpg", "fractional sampling"),
    ("jpeg-cut90-progressive.jpg", "ends too early"),
    ("cut-raw.tif", "ends too early"),
    ("gif-cut.gif", "End of File"),
    ("png-bad-crc-ihdr.png", "checksum of chunk IHDR"),
    ("pnm-p7.pam", "a PAM image"),
];

/// Lossy codecs and blending whose rounding differs by one level.
const WITHIN_ONE: &[&str] = &["jp2-l-lossy.jp2", "webp-moving-part.webp"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/variants")
}

fn variants() -> Vec<Variant> {
    let text = std::fs::read_to_string(folder().join("variants.json")).expect("a committed file");
    serde_json::from_str(&text).expect("a list of variants")
}

fn reference(name: &str) -> RgbImage {
    let file = std::io::BufReader::new(std::fs::File::open(folder().join("references").join(name)).expect("committed"));
    let mut reader = png::Decoder::new(file).read_info().expect("a header");
    let mut pixels = vec![0; reader.output_buffer_size().expect("small")];
    reader.next_frame(&mut pixels).expect("pixels");
    RgbImage::from_raw(reader.info().width, reader.info().height, pixels).expect("RGB")
}

fn words_for(list: &[(&'static str, &'static str)], file: &str) -> Option<&'static str> {
    list.iter().find(|(name, _)| *name == file).map(|(_, words)| *words)
}

/// What is wrong with a variant's result, if anything.
fn judged(variant: &Variant, result: Result<RgbImage, DecodeError>) -> Option<String> {
    let expected_words = words_for(REFUSED, &variant.file).or(words_for(NAMED, &variant.file));
    match (result, &variant.reference, expected_words) {
        (Err(error), _, Some(words)) if error.to_string().contains(words) => None,
        (Err(error), None, None) => (error.to_string().contains("gave up")).then(|| error.to_string()),
        (Err(error), ..) => Some(error.to_string()),
        (Ok(_), _, Some(words)) => Some(format!("read, expected a refusal that names {words:?}")),
        (Ok(_), None, None) => None,
        (Ok(image), Some(name), None) => {
            let reference = reference(name);
            if image.dimensions() != reference.dimensions() {
                return Some(format!("{:?}, expected {:?}", image.dimensions(), reference.dimensions()));
            }
            let largest = image.iter().zip(reference.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
            let tolerance = u8::from(WITHIN_ONE.contains(&variant.file.as_str()));
            (largest > tolerance).then(|| format!("{largest} levels off"))
        }
    }
}

#[test]
fn every_variant_is_what_pillow_makes_of_it_or_is_refused_by_name() {
    let variants = variants();
    assert!(variants.len() > 150, "{} variants", variants.len());
    let mut wrong = Vec::new();
    for variant in &variants {
        let bytes = std::fs::read(folder().join(&variant.file)).expect("a committed file");
        let result = decode(&bytes, &DecodeOptions::default());
        if let Some(what) = judged(variant, result) {
            wrong.push(format!("{}: {what}", variant.file));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_header_announces_the_size_that_is_decoded() {
    for variant in variants() {
        let bytes = std::fs::read(folder().join(&variant.file)).expect("a committed file");
        if let Ok(image) = decode(&bytes, &DecodeOptions::default()) {
            assert_eq!(image_size(&bytes, &DecodeOptions::default()), Ok(image.dimensions()), "{}", variant.file);
            let from_file = adamllm_data::image_size_of_file(folder().join(&variant.file), &DecodeOptions::default());
            assert_eq!(from_file, Ok(image.dimensions()), "{}", variant.file);
        }
    }
}

#[test]
fn the_lists_name_files_that_are_there() {
    let variants = variants();
    let names = REFUSED.iter().chain(NAMED).map(|(name, _)| name).chain(WITHIN_ONE);
    for name in names {
        assert!(variants.iter().any(|variant| variant.file == *name), "{name}");
    }
}

/// The inputs that reports of users were made of, where they lie beside the repository.
#[test]
fn inputs_from_the_field_are_read_or_refused() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/field");
    let Ok(folders) = std::fs::read_dir(shared) else { return };
    for entry in folders.flatten().flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten()).flatten() {
        let path = entry.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((stem, kind)) = name.rsplit_once('.') else { continue };
        let reference = path.with_file_name(format!("{stem}.REF.png"));
        if ["png", "jpg", "tif", "webp"].contains(&kind) && reference.exists() {
            let ours = decode(&std::fs::read(&path).expect("readable"), &DecodeOptions::default()).expect(&name);
            let pillows = decode(&std::fs::read(reference).expect("readable"), &DecodeOptions::default());
            assert!(ours == pillows.expect("a plain PNG"), "{name}");
        }
    }
}
