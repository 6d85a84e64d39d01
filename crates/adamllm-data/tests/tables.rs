//! A table that the `datasets` library wrote, as a folder and as parquet (`tools/fixtures/make_tables.py`).

use std::path::{Path, PathBuf};

use adamllm_core::{CoreError, ImageRef, ImageStore};
use adamllm_data::Table;
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables")
}

fn expected() -> Vec<Value> {
    let text = std::fs::read_to_string(fixtures().join("rows.json")).expect("a committed file");
    serde_json::from_str(&text).expect("JSON")
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

/// Puts the checksum of an image's bytes in place of its reference.
fn summed(table: &Table, reference: &Value) -> Value {
    let image = ImageRef::from(reference.as_str().expect("a reference"));
    let pixels = table.open(&image).expect("decodes");
    assert_eq!(table.size(&image).expect("has a header"), pixels.dimensions());
    json!(crc32(&table.bytes(&image).expect("is there").expect("has bytes")))
}

#[test]
fn rows_and_images_of_both_forms() {
    for name in ["saved", "rows.parquet", "saved/data-00000-of-00002.arrow"] {
        let table = Table::open(fixtures().join(name)).expect("opens");
        let rows: Vec<_> = table.rows().map(|row| row.expect("a row")).collect();
        let expected = &expected()[..if name.ends_with(".arrow") { 4 } else { 7 }];
        assert_eq!((table.len() as usize, rows.len()), (expected.len(), expected.len()), "{name}");
        for (i, (row, expected)) in rows.iter().zip(expected).enumerate() {
            assert_eq!(row["image"], json!(format!("{i}/image")));
            let mut row = row.clone();
            row["image"] = summed(&table, &row["image"]);
            row["more"] = row["more"].as_array().expect("a list").iter().map(|image| summed(&table, image)).collect();
            assert_eq!(&row, expected, "{name} row {i}");
        }
    }
}

#[test]
fn rows_are_records_too() {
    let table = Table::open(fixtures().join("saved")).expect("opens");
    let pairs: Vec<_> = table.image_captions().map(|pair| pair.expect("valid")).collect();
    assert_eq!(pairs[5].caption, "Plate number 5.");
    assert_eq!(pairs[5].request.as_deref(), Some("What is it?"));
    assert!(table.open(&pairs[5].image).is_ok());
    assert!(table.conversations().all(|conversation| conversation.is_ok_and(|c| c.messages.len() == 2)));
}

#[test]
fn references_that_lead_nowhere() {
    let table = Table::open(fixtures().join("rows.parquet")).expect("opens");
    for image in ["7/image", "0/none", "0/more/0", "1/more/x", "0/question", "image", "0", "-1/image"] {
        assert!(matches!(table.open(&image.into()), Err(CoreError::ImageMissing { .. })), "{image}");
    }
}

#[test]
fn broken_tables_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(Table::open(folder.path()).expect_err("empty").to_string().contains("find .arrow"));
    assert!(matches!(Table::open(folder.path().join("none.arrow")), Err(CoreError::Io { action: "open", .. })));
    for (name, source) in [("cut.parquet", "rows.parquet"), ("cut.arrow", "saved/data-00000-of-00002.arrow")] {
        let whole = std::fs::read(fixtures().join(source)).expect("a committed file");
        let path = folder.path().join(name);
        std::fs::write(&path, &whole[..whole.len() / 2]).expect("written");
        let error = Table::open(&path).expect_err(name).to_string();
        assert!(error.contains(name) && error.contains("read the table"), "{error}");
    }
}
