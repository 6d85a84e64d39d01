//! Decodes every image of a folder and compares it with what Pillow made of it (`tools/fixtures/image_variants.py`):
//! how many are equal, one level off, refused, refused though Pillow reads them, different.
//!
//!     cargo run -p adamllm-data --example compare_images -- FOLDER [all]
//!
//! We will walk the folder, decode each file that has a reference beside it, and list what is not equal.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::Path;

use adamllm_core::RgbImage;
use adamllm_data::{Alpha, DecodeError, DecodeOptions, decode};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: compare_images FOLDER [all]")?;
    let list_all = arguments.next().is_some();
    let mut names: Vec<_> =
        std::fs::read_dir(&folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    let is_image = |name: &&String| ![".rgb.png", ".white.png", ".refused.txt"].iter().any(|end| name.ends_with(end));

    let mut counts = BTreeMap::new();
    for name in names.iter().filter(is_image) {
        for (kind, alpha) in [("rgb", Alpha::Drop), ("white", Alpha::OverWhite)] {
            let reference = Path::new(&folder).join(format!("{name}.{kind}.png"));
            if kind == "white" && !reference.exists() {
                continue;
            }
            let reference = std::fs::read(reference).ok().map(|bytes| decode(&bytes, &DecodeOptions::default()));
            let options = DecodeOptions { alpha, ..DecodeOptions::default() };
            let ours = decode(&std::fs::read(Path::new(&folder).join(name))?, &options);
            let (verdict, detail) = judged(ours, reference.transpose()?);
            *counts.entry((kind, verdict)).or_insert(0) += 1;
            if list_all || !["equal", "both refuse"].contains(&verdict) {
                println!("{verdict:26} {name:40} {kind:6} {detail}");
            }
        }
    }
    for ((kind, verdict), count) in counts {
        println!("{kind:6} {verdict:26} {count}");
    }
    Ok(())
}

fn judged(ours: Result<RgbImage, DecodeError>, reference: Option<RgbImage>) -> (&'static str, String) {
    match (ours, reference) {
        (Ok(ours), Some(reference)) => {
            let largest = ours.iter().zip(reference.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
            match (ours.dimensions() == reference.dimensions(), largest) {
                (false, _) => ("DIFFERENT", format!("{:?}", ours.dimensions())),
                (true, 0) => ("equal", String::new()),
                (true, 1) => ("within 1", String::new()),
                (true, levels) => ("DIFFERENT", format!("{levels} levels")),
            }
        }
        (Err(error), Some(_)) => ("refused, Pillow reads it", error.to_string()),
        (Err(error), None) => ("both refuse", error.to_string()),
        (Ok(_), None) => ("read, Pillow refuses it", String::new()),
    }
}
