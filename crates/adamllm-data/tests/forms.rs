//! The same records in every form that Python's tools write (`tools/fixtures/make_forms.py`).

use std::path::{Path, PathBuf};

use adamllm_core::json::{JsonFile, unreadable_text};
use adamllm_core::{CoreError, ImageStore, JsonObject, RecordSource};
use adamllm_data::{LocalDataset, Table, ZipImages, conversations, images_at};
use serde_json::Value;

fn forms(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/forms").join(folder)
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(forms(folder)).expect("committed files");
    let mut files: Vec<_> =
        entries.map(|entry| entry.expect("readable").path()).filter(|path| path.is_file()).collect();
    files.sort();
    assert!(files.len() > 4, "{files:?}");
    files
}

fn objects(path: PathBuf) -> Vec<JsonObject> {
    serde_json::from_slice(&std::fs::read(path).expect("a committed file")).expect("JSON")
}

#[test]
fn json_files() {
    let expected = objects(forms("json/records.json"));
    for path in files("json") {
        let file = JsonFile::open(&path).expect("opens");
        assert_eq!(file.len(), expected.len(), "{}", path.display());
        for (i, expected) in expected.iter().enumerate().rev() {
            let record = file.record(i).expect("a record");
            for (key, value) in expected {
                // Python's pandas and datasets leave the null of a column of nulls out, or write it.
                assert_eq!(record.get(key).unwrap_or(&Value::Null), value, "{} {key}", path.display());
            }
        }
        let read: Result<Vec<_>, _> = conversations(&path).expect("opens").collect();
        let read = read.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((read.len(), read[2].id.as_str(), read[2].images[0].as_str()), (3, "2", "2.png"));
        assert_eq!(read[2].messages[0].content, "<image>\nÄ \"2\" ]},?");
    }
    let scored = JsonFile::open(forms("json/nan.jsonl")).expect("opens");
    let record = scored.record(1).expect("a record").into_owned();
    assert_eq!((unreadable_text(&record["score"]), record["odd"].as_str()), (Some("NaN"), Some("\u{FFFD}")));
}

#[test]
fn json_files_that_are_refused_whole() {
    for path in files("json/refused") {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let cause = match name.split('.').next().expect("a name") {
            "utf-16" => "UTF-16",
            "behind" => "after the closing bracket",
            "table" => "text that begins with",
            _ => "cut off",
        };
        let error = conversations(&path).expect_err(&name);
        assert!(matches!(error, CoreError::Layout { .. }), "{error:?}");
        assert!(error.to_string().contains(&name) && error.to_string().contains(cause), "{error}");
    }
}

#[test]
fn tables_of_every_kind_of_column() {
    let expected = objects(forms("tables/kinds.json"));
    let mut n_files = 0;
    for path in files("tables") {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name.starts_with("images") || name.ends_with(".json") || name.ends_with(".png") {
            continue;
        }
        n_files += 1;
        let set = LocalDataset::open(&path, "test").unwrap_or_else(|error| panic!("{error}"));
        let table = set.records();
        assert_eq!(table.len(), expected.len(), "{name}");
        for (i, expected) in expected.iter().enumerate().rev() {
            let row = table.record(i).expect("a row").into_owned();
            for (column, value) in expected {
                assert_eq!(&row[column], value, "{name} row {i} {column}");
            }
        }
    }
    assert_eq!(n_files, 15);
}

#[test]
fn images_as_tables_keep_them() {
    for name in ["images.parquet", "images.arrow"] {
        let table = Table::open(forms("tables").join(name)).expect("opens");
        let rows: Vec<_> = table.rows().map(|row| row.expect("a row")).collect();
        let references = [
            (&rows[0]["image"], "1.png", 4),
            (&rows[1]["image"], "1/image", 3),
            (&rows[1]["large"], "1/large", 4),
            (&rows[0]["plain"], "0/plain", 3),
            (&rows[1]["large_plain"], "1/large_plain", 4),
            (&rows[0]["listed"][1], "0/listed/1", 4),
        ];
        for (value, reference, height) in references {
            assert_eq!(value, reference, "{name}");
            assert_eq!(table.open(&reference.into()).expect("decodes").dimensions(), (4, height), "{name} {reference}");
        }
        let unreadable = |column: &str| unreadable_text(&rows[0][column]).expect("no form in JSON").to_owned();
        assert!(unreadable("no_image").contains("begin with 74657874") && unreadable("duration").contains("Duration"));

        let pairs: Result<Vec<_>, _> = table.image_captions().collect();
        assert_eq!(pairs.expect("nobody asks for the duration")[0].image.as_str(), "1.png");
        let row = table.with_columns(["caption".to_owned()]).record(1).expect("a row").into_owned();
        assert_eq!(row.into_iter().collect::<Vec<_>>(), [("caption".to_owned(), Value::from("Two."))]);
    }
}

#[test]
fn a_column_that_cannot_be_read_costs_nothing_until_it_is_asked_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("damaged.parquet");
    let mut damaged = std::fs::read(forms("tables/none.parquet")).expect("a committed file");
    // The page headers of the first column, which stand first in the file.
    damaged[4..24].fill(0xFF);
    std::fs::write(&path, damaged).expect("written");
    let table = Table::open(&path).expect("the footer is whole");
    let row = RecordSource::record(&table, 0).expect("a row").into_owned();
    assert!(unreadable_text(&row["bool"]).is_some_and(|why| why.contains("cannot be read")), "{:?}", row["bool"]);
    assert_eq!(row["string"], "ä");
}

#[test]
fn archives_of_every_compression() {
    let mut n_files = 0;
    for path in files("archives") {
        n_files += 1;
        let store = images_at(&path).unwrap_or_else(|error| panic!("{error}"));
        for i in 0..3 {
            for name in [format!("a/{i}.png"), format!("./a/{i}.png"), format!("a\\{i}.png"), format!("b/../a/{i}.png")]
            {
                let image = name.as_str().into();
                let size =
                    store.open(&image).unwrap_or_else(|error| panic!("{}: {error}", path.display())).dimensions();
                assert_eq!((size, store.size(&image).expect("a header")), ((4, 3 + i), size), "{}", path.display());
                assert!(store.bytes(&image).expect("there").expect("bytes").starts_with(b"\x89PNG"));
            }
        }
        assert!(matches!(store.open(&"3.png".into()), Err(CoreError::ImageMissing { .. })));
        assert!(matches!(store.open(&"/a/0.png".into()), Err(CoreError::ImageMissing { .. })));
        assert!(matches!(store.open(&"../a/0.png".into()), Err(CoreError::Field { .. })));
    }
    assert_eq!(n_files, 7);
    let under = ZipImages::open(forms("archives/stored.zip")).expect("opens").under("a");
    assert!(under.open(&"1.png".into()).is_ok() && under.open(&"2.png".into()).is_ok());
}

/// Changes a few bytes of a file, most of them in its last third, where its footer is.
fn damaged(whole: &[u8], seed: &mut u64) -> Vec<u8> {
    let mut next = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as usize
    };
    let mut bytes = whole.to_vec();
    for _ in 0..1 + next() % 4 {
        let at = if next() % 2 == 0 { bytes.len() - 1 - next() % (bytes.len() / 3) } else { next() % bytes.len() };
        bytes[at] = if next() % 3 == 0 { 0xFF } else { next() as u8 };
    }
    bytes
}

#[test]
fn damaged_tables_end_no_job() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut seed, mut n_refused) = (7, 0);
    for path in files("tables").iter().filter(|path| path.extension().is_some_and(|e| e != "json" && e != "png")) {
        let whole = std::fs::read(path).expect("a committed file");
        let path = folder.path().join(path.file_name().expect("a name"));
        for _ in 0..20 {
            std::fs::write(&path, damaged(&whole, &mut seed)).expect("written");
            match Table::open(&path) {
                Ok(table) => {
                    (0..table.len().min(9)).for_each(|i| drop(RecordSource::record(&table, i as usize)));
                    drop(table.open(&"0/plain".into()));
                }
                Err(_) => n_refused += 1,
            }
        }
    }
    assert!(n_refused > 100, "{n_refused}");
}

#[test]
fn damaged_archives_end_no_job() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut seed, mut n_refused) = (11, 0);
    for path in files("archives") {
        let whole = std::fs::read(&path).expect("a committed file");
        let path = folder.path().join(path.file_name().expect("a name"));
        for _ in 0..40 {
            std::fs::write(&path, damaged(&whole, &mut seed)).expect("written");
            let Ok(store) = images_at(&path) else {
                n_refused += 1;
                continue;
            };
            for i in 0..3 {
                let error = store.open(&format!("a/{i}.png").as_str().into()).err();
                assert!(!matches!(error, Some(CoreError::Io { .. })), "{error:?}");
                n_refused += usize::from(error.is_some());
            }
        }
    }
    assert!(n_refused > 60, "{n_refused}");
}
