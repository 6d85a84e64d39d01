//! Data sets on disk in every form, opened the same way.

use std::path::{Path, PathBuf};

use adamllm_core::{CoreError, RecordSource};
use adamllm_data::{JsonFile, LocalDataset};

fn folder_of(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, content).expect("written");
    }
    folder
}

fn image(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images").join(name)
}

#[test]
fn json_records_are_read_when_asked_for() {
    let lines = "{\"a\": \"ä\"}\n\n  {\"a\": 2} \nnonsense\n[3]\n{\"a\": 4}";
    let array = "\u{feff} \n[ {\"a\": \"ä\"}, {\"a\": 2},nonsense, [3] ,{\"a\": 4}\n] ";
    let folder = folder_of(&[("lines.jsonl", lines), ("array.json", array), ("empty.jsonl", "\n")]);
    for (name, numbers) in [("lines.jsonl", [1, 3, 4, 5, 6]), ("array.json", [1, 2, 3, 4, 5])] {
        let records = JsonFile::open(folder.path().join(name)).expect("opens");
        assert_eq!(records.len(), 5, "{name}");
        for index in [4, 0, 1, 4] {
            let record = records.record(index).unwrap_or_else(|error| panic!("{name} {index}: {error}"));
            assert_eq!(record["a"], [serde_json::json!("ä"), 2.into(), 0.into(), 0.into(), 4.into()][index], "{name}");
        }
        assert!(matches!(records.record(2), Err(CoreError::Json { number, .. }) if number == numbers[2]), "{name}");
        assert!(matches!(records.record(3), Err(CoreError::Field { .. })), "{name}");
        let locations: Vec<_> = (0..5).map(|index| records.location(index)).collect();
        assert!(
            locations.iter().zip(numbers).all(|(location, n)| location.ends_with(&format!("{name} record {n}"))),
            "{locations:?}"
        );
    }
    assert!(JsonFile::open(folder.path().join("empty.jsonl")).expect("opens").is_empty());
}

#[test]
fn a_file_and_its_images() {
    let folder =
        folder_of(&[("records.jsonl", "{\"image\": \"a.png\"}\n{\"image\": \"images/b.jpg\"}"), ("state.json", "{}")]);
    std::fs::create_dir(folder.path().join("images")).expect("made");
    std::fs::copy(image("grey.jpg"), folder.path().join("images/b.jpg")).expect("copied");
    std::fs::copy(image("bilevel.png"), folder.path().join("images/a.png")).expect("copied");
    for path in [folder.path().to_path_buf(), folder.path().join("records.jsonl")] {
        let set = LocalDataset::open(path, "test").expect("opens");
        assert_eq!(set.records().len(), 2);
        for index in 0..2 {
            let records = set.records();
            let name = records.record(index).expect("a record")["image"].as_str().expect("a name").to_owned();
            assert!(set.images().open(&name.into()).is_ok());
        }
        assert!(matches!(set.images().open(&"gone.png".into()), Err(CoreError::ImageMissing { .. })));
    }
}

#[test]
fn splits_and_what_is_not_clear() {
    let record = "{\"x\": 1}";
    let folder = folder_of(&[("data/train.json", "[]"), ("data/test-0.json", record), ("data/testing.json", "[]")]);
    assert_eq!(LocalDataset::open(folder.path(), "test").expect("opens").records().len(), 1);
    let folder = folder_of(&[("dataset_dict.json", "{}"), ("test/records.jsonl", record), ("train/records.jsonl", "")]);
    assert_eq!(LocalDataset::open(folder.path(), "test").expect("opens").records().len(), 1);
    let folder = folder_of(&[("a.json", "[]"), ("b.jsonl", "")]);
    let error = LocalDataset::open(folder.path(), "test").expect_err("two files").to_string();
    assert!(error.contains("test.jsonl, got a.json, b.jsonl"), "{error}");
    let folder = folder_of(&[("readme.txt", "nothing")]);
    assert!(LocalDataset::open(folder.path(), "test").expect_err("nothing").to_string().contains("find .arrow"));
    assert!(matches!(LocalDataset::open(folder.path().join("gone"), "test"), Err(CoreError::Io { .. })));
}

#[cfg(feature = "parquet")]
#[test]
fn tables_are_the_same_in_every_form() {
    let tables = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables");
    let parquet_folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["test-00000-of-00001.parquet", "train-00000-of-00001.parquet"] {
        let n = if name.starts_with("test") { "rows.parquet" } else { "saved/data-00000-of-00002.arrow" };
        std::fs::copy(tables.join(n), parquet_folder.path().join(name)).expect("copied");
    }
    let forms = [tables.join("saved"), tables.join("rows.parquet"), parquet_folder.path().to_path_buf()];
    let sets = forms.map(|path| LocalDataset::open(path, "test").expect("opens"));
    for index in [6, 0, 3, 5, 1, 4, 2] {
        let sources = sets.each_ref().map(LocalDataset::records);
        let [a, b, c] = sources.each_ref().map(|source| source.record(index).expect("a row").into_owned());
        assert_eq!(a, b);
        assert_eq!(a, c);
        let name = a["image"].as_str().expect("a reference");
        let images = sets.each_ref().map(|set| set.images().open(&name.into()).expect("decodes"));
        assert_eq!(images[0], images[1]);
        assert!(sources[1].location(index).ends_with(&format!("rows.parquet row {}", index + 1)));
    }
}

#[cfg(feature = "zip")]
#[test]
fn images_in_a_zip_beside_the_records() {
    let folder = folder_of(&[("test.json", "[{\"image\": \"images/1.png\"}, {\"image\": \"2.png\"}]")]);
    let zip = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables/images.zip");
    std::fs::copy(zip, folder.path().join("images.zip")).expect("copied");
    let set = LocalDataset::open(folder.path(), "test").expect("opens");
    assert!(set.images().open(&"images/1.png".into()).is_ok() && set.images().open(&"2.png".into()).is_ok());
}

/// Memory that belongs to this process, in bytes, mapped files included.
#[cfg(all(feature = "arrow", target_os = "linux"))]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

/// An Arrow stream of eight images of a quarter of a megabyte each, in batches of two.
#[cfg(all(feature = "arrow", target_os = "linux"))]
fn write_stream(path: &Path) {
    use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray, StructArray};
    use std::sync::Arc;
    let batch = |k: u8| {
        let bytes: ArrayRef = Arc::new(BinaryArray::from_vec(vec![&[k; 1 << 18], &[k + 1; 1 << 18]]));
        let path: ArrayRef = Arc::new(StringArray::from(vec!["a.png", "b.png"]));
        let pair = |(name, array): (&str, ArrayRef)| {
            (Arc::new(arrow_schema::Field::new(name, array.data_type().clone(), true)), array)
        };
        let images = StructArray::from(vec![pair(("bytes", bytes)), pair(("path", path))]);
        RecordBatch::try_from_iter([("image", Arc::new(images) as ArrayRef)]).expect("a batch")
    };
    let file = std::fs::File::create(path).expect("created");
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(file, &batch(0).schema()).expect("a schema");
    (0..4).for_each(|k| writer.write(&batch(2 * k)).expect("written"));
    writer.finish().expect("finished");
}

/// Reads all records and images of a folder whose state names one file many times over, as if it were a large table. Gives the
/// bytes that were read, and by how much the process grew at most.
#[cfg(all(feature = "arrow", target_os = "linux"))]
fn growth_over(n_files: usize) -> (usize, usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_stream(&folder.path().join("data.arrow"));
    let files: Vec<_> = (0..n_files).map(|_| serde_json::json!({"filename": "data.arrow"})).collect();
    let state = serde_json::json!({"_data_files": files}).to_string();
    std::fs::write(folder.path().join("state.json"), state).expect("written");
    let before = resident();
    let set = LocalDataset::open(folder.path(), "test").expect("opens");
    let (records, images) = (set.records(), set.images());
    let (mut read, mut most) = (0, 0);
    for index in 0..records.len() {
        let name = records.record(index).expect("a record")["image"].as_str().expect("a reference").to_owned();
        read += images.bytes(&name.into()).expect("there").expect("has bytes").len();
        most = most.max(resident());
    }
    assert_eq!(read, n_files << 21);
    (read, most.saturating_sub(before))
}

/// `ADAMLLM_TABLE_FILES=5000 cargo test --release -p adamllm-data --features arrow --test local large -- --nocapture` reads
/// ten gigabytes.
#[cfg(all(feature = "arrow", target_os = "linux"))]
#[test]
#[allow(clippy::print_stderr, reason = "the growth is a figure of docs/benchmarks.md")]
fn a_large_table_takes_no_more_memory_than_a_small_one() {
    let n_files = std::env::var("ADAMLLM_TABLE_FILES").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let (read, growth) = growth_over(n_files);
    eprintln!("{:.1} GB read, the process grew by {:.1} MB", read as f64 / 1e9, growth as f64 / 1e6);
    assert!(growth < read / 10, "grew by {growth} bytes over {read}");
}
