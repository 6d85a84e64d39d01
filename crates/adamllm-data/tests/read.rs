//! Rows of every form, and rows that are wrong.

use std::path::{Path, PathBuf};

use adamllm_core::{CoreError, ImageStore, Reason};
use adamllm_data::{FolderImages, conversations, image_captions};

fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("rows.json");
    std::fs::write(&path, content).expect("written");
    (folder, path)
}

const SHAREGPT: &str = r#"{"images": ["a.png"], "messages": [
    {"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "A [round] \"{cell}\", ok"}]}"#;
const LLAVA: &str = r#"{"id": 7, "image": "b.png", "conversations": [
    {"from": "human", "value": "What is it?\n<image>"}, {"from": "gpt", "value": "A plate."}]}"#;
const NATIVE: &str = r#"{"id": "n1", "image": "c.png", "caption": "A slide.", "request": "Describe."}"#;

#[test]
fn every_form_becomes_a_pair() {
    let (_folder, path) = file(&format!("[{SHAREGPT},\n {LLAVA} ,{NATIVE}]\n"));
    let pairs: Vec<_> = image_captions(&path).expect("opens").map(|pair| pair.expect("valid")).collect();
    let shown: Vec<_> = pairs.iter().map(|p| (p.image.as_str(), p.caption.as_str(), p.request.as_deref())).collect();
    assert_eq!(
        shown,
        [
            ("a.png", "A [round] \"{cell}\", ok", Some("What is it?")),
            ("b.png", "A plate.", Some("What is it?")),
            ("c.png", "A slide.", Some("Describe.")),
        ]
    );
    assert_eq!([pairs[1].id.as_str(), pairs[2].id.as_str()], ["7", "n1"]);
    assert_eq!(pairs[0].id.as_str().len(), 32);
}

#[test]
fn arrays_and_lines_are_the_same() {
    let rows = [SHAREGPT, LLAVA].map(|row| row.replace('\n', " "));
    let (_a, array) = file(&format!("\u{feff} [ {} ]", rows.join(",")));
    let (_b, lines) = file(&rows.join("\n\n"));
    let read = |path: &Path| -> Vec<_> { conversations(path).expect("opens").map(|row| row.expect("valid")).collect() };
    assert_eq!(read(&array), read(&lines));
    assert_eq!(read(&array).len(), 2);
    let (_c, empty) = file("");
    assert!(read(&empty).is_empty());
    let (_d, empty) = file(" [ ] ");
    assert!(read(&empty).is_empty());
}

#[test]
fn a_wrong_row_costs_itself_only() {
    let wrong = [
        (r#"{"images": "#, Reason::InvalidJson),
        (r#"{"images": [1], "messages": []}"#, Reason::InvalidField),
        (r#"{"images": ["a.png"], "messages": [{"role": "user", "content": "none"}]}"#, Reason::ImageCountMismatch),
        (r#"{"image": "a.png", "caption": "  "}"#, Reason::EmptyCaption),
        (r#"{"image": "a.png", "messages": [{"role": "robot", "content": "<image>"}]}"#, Reason::InvalidField),
        (r#"{"image": "a.png", "messages": [{"role": "user", "content": "<image>"}]}"#, Reason::InvalidField),
        (r#"{"image": "a.png"}"#, Reason::InvalidField),
        (r#"{"caption": "no image"}"#, Reason::InvalidField),
        (r#"{"id": [], "image": "a.png", "caption": "x"}"#, Reason::InvalidField),
        ("17", Reason::InvalidField),
    ];
    let good = NATIVE;
    let text: Vec<_> = wrong.iter().flat_map(|(row, _)| [*row, good]).collect();
    let (_folder, path) = file(&text.join("\n"));
    let rows: Vec<_> = image_captions(&path).expect("opens").collect();
    assert_eq!(rows.len(), 2 * wrong.len());
    for (i, (row, reason)) in wrong.iter().enumerate() {
        let error = rows[2 * i].as_ref().expect_err(row);
        assert_eq!(Reason::from(error), *reason, "{row}: {error}");
        assert!(error.to_string().contains(&format!("rows.json row {}", 2 * i + 1)), "{error}");
        assert!(rows[2 * i + 1].is_ok());
    }
}

#[test]
fn a_broken_element_of_an_array_costs_itself_only() {
    let (_folder, path) = file(&format!("[{SHAREGPT}, {{\"images\": nonsense, }}, [], {LLAVA}]"));
    let rows: Vec<_> = conversations(&path).expect("opens").collect();
    assert!(rows[0].is_ok());
    assert!(matches!(rows[1], Err(CoreError::Json { row: 2, .. })));
    assert!(matches!(rows[2], Err(CoreError::Field { field: "(row)", .. })));
    assert!(rows[3].is_ok());
    assert_eq!(rows.len(), 4);
}

#[test]
fn a_list_that_ends_early_is_a_file_that_is_cut_off() {
    for cut in [format!("[{SHAREGPT}, {{\"images\": [\"b.pn"), format!("[{SHAREGPT},"), format!("[{SHAREGPT}")] {
        let (_folder, path) = file(&cut);
        let error = conversations(&path).expect_err("cut off").to_string();
        assert!(error.contains("rows.json: expected") && error.contains("it is cut off"), "{error}");
    }
}

#[test]
fn real_food_photographs() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/food-samples"));
    if !folder.exists() {
        return;
    }
    let pictures = FolderImages::new(folder.join("images"));
    let pairs: Vec<_> =
        image_captions(folder.join("image_caption_pairs.json")).expect("opens").map(|p| p.expect("valid")).collect();
    assert_eq!(pairs.len(), 24);
    for pair in &pairs {
        assert!(pair.caption.len() > 100 && !pair.request.as_ref().expect("a request").contains("<image>"));
        let picture = pictures.open(&pair.image).expect("decodes");
        assert_eq!(pictures.size(&pair.image).expect("has a header"), picture.dimensions());
    }
}
