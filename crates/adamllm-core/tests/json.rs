//! Files of records in every form that tools write, whole and damaged.

use std::io::Write;
use std::path::PathBuf;

use adamllm_core::json::{JsonFile, JsonRecords};
use adamllm_core::{CoreError, RecordSource};
use serde_json::{Value, json};

fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("records.json");
    std::fs::write(&path, content).expect("written");
    (folder, path)
}

/// The records with their numbers, `None` for one that is no JSON; both readers must say the same.
fn read(content: &[u8]) -> Result<Vec<(u64, Option<Value>)>, String> {
    let (_folder, path) = file(content);
    let all = JsonRecords::open(&path).map(|mut records| {
        let mut all = Vec::new();
        while let Some(record) = records.next() {
            match record {
                Ok(value) => all.push((records.number(), Some(value))),
                Err(CoreError::Json { number, .. }) => all.push((number, None)),
                Err(other) => panic!("{other}: after the file was looked through"),
            }
        }
        all
    });
    match (all, JsonFile::open(&path)) {
        (Ok(all), Ok(file)) => {
            assert_eq!(file.len(), all.len());
            for (i, (number, value)) in all.iter().enumerate().rev() {
                assert_eq!(file.number(i), *number);
                match (file.record(i), value) {
                    (Ok(record), Some(Value::Object(value))) => assert_eq!(record.as_ref(), value),
                    (Err(CoreError::Json { .. }), None) => {}
                    (Err(CoreError::Field { .. }), Some(value)) => assert!(!value.is_object()),
                    (record, value) => panic!("{record:?} and {value:?}"),
                }
            }
            Ok(all)
        }
        (Err(first), Err(second)) => {
            assert!(matches!(first, CoreError::Layout { .. } | CoreError::Io { .. }), "{first:?}");
            assert_eq!(first.to_string(), second.to_string());
            Err(first.to_string())
        }
        (first, second) => panic!("{first:?} and {second:?}"),
    }
}

fn values(content: &str) -> Vec<Option<Value>> {
    let read = read(content.as_bytes()).unwrap_or_else(|error| panic!("{content}: {error}"));
    read.into_iter().map(|(_, value)| value).collect()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(content).expect("in memory");
    packed.finish().expect("in memory")
}

const RECORDS: [&str; 3] = [r#"{"a": "],}\"{"}"#, r#"{"a": [{"b": "ä"}, []], "c": {}}"#, r#"{"a": 3}"#];

#[test]
fn every_form_holds_the_same_records() {
    let [a, b, c] = RECORDS;
    let pretty =
        |text: &str| serde_json::to_string_pretty(&serde_json::from_str::<Value>(text).expect("JSON")).expect("JSON");
    let forms = [
        format!("[{a},{b},{c}]"),
        format!(" [\n{a} ,\n{b}\n,{c}\n]\n"),
        format!("[{a},{b},{c},]"),
        format!("[{a}]\n[{b},{c}]"),
        format!("[][{a},{b}][{c}]"),
        format!("{a}\n{b}\n{c}"),
        format!("\n{a}\n\n {b}\n{c}\n\n"),
        format!("{a},\n{b},\n{c}\n"),
        format!("{a}{b} {c}"),
        format!("{}\n{}\n{}\n", pretty(a), pretty(b), pretty(c)),
        format!("{},\n{}\n,{}\n", pretty(a), pretty(b), pretty(c)),
        format!("[{},{},{}]", pretty(a), pretty(b), pretty(c)),
        format!("{{\"data\": [{a},{b},{c}]}}"),
        format!("{{\"version\": {{\"n\": [1]}}, \"data\": [\n{a},\n{b},{c}\n], \"n\": 3}}\n"),
        format!("{{\"rows\":[{a},{b},{c}],\"note\":\"]\"}}"),
        format!("{{\"predictions\":[{a},{b},{c}],\"config\":[1,2]}}"),
    ];
    let expected: Vec<_> =
        RECORDS.iter().map(|text| Some(serde_json::from_str::<Value>(text).expect("JSON"))).collect();
    for form in forms {
        let with_returns = form.replace('\n', "\r\n");
        for content in [form.clone(), format!("\u{feff}{form}"), with_returns] {
            assert_eq!(values(&content), expected, "{content}");
            let packed = read(&gzip(content.as_bytes())).expect("gzip");
            assert_eq!(packed.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), expected, "{content}");
        }
    }
    let two_members = [gzip(format!("{a}\n{b}\n").as_bytes()), gzip(c.as_bytes())].concat();
    assert_eq!(read(&two_members).expect("gzip").len(), 3);
}

#[test]
fn files_without_records() {
    for empty in ["", "\n \n", "[]", " [ ] \n", "\u{feff}", "{\"data\": []}", "[] []"] {
        assert_eq!(read(empty.as_bytes()), Ok(vec![]), "{empty:?}");
    }
}

#[test]
fn what_is_wrong_with_a_whole_file() {
    let [a, b, _] = RECORDS;
    let utf16: Vec<u8> = format!("[{a}]").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let packed = gzip(format!("[{a},{b}]").as_bytes());
    let cases: [(Vec<u8>, &str); 19] = [
        (format!("[{a},{b}").into_bytes(), "cut off"),
        (format!("[{a},{b},").into_bytes(), "cut off"),
        (format!("[{a},{{\"a\": [").into_bytes(), "cut off"),
        (format!("[{a},{{\"a\": \"b").into_bytes(), "cut off"),
        (b"[".to_vec(), "cut off"),
        (format!("[{a}] [{b}").into_bytes(), "cut off"),
        (format!("{{\"data\": [{a},{b}").into_bytes(), "cut off"),
        (format!("{{\"data\": [\n{a},\n{b}\n]").into_bytes(), "cut off"),
        (format!("[{a}] {b}").into_bytes(), "`{` after the closing bracket"),
        (format!("[{a}],[{b}]").into_bytes(), "`,` after"),
        (format!("[{a}]]").into_bytes(), "`]` after"),
        (format!("[{a}]\nend").into_bytes(), "`e` after"),
        (utf16.clone(), "UTF-16"),
        ([&[0xFF, 0xFE], &utf16[..]].concat(), "UTF-16"),
        (packed[..packed.len() - 9].to_vec(), "cut off"),
        (b"image,caption\na.png,x\n".to_vec(), "text that begins with \"image,caption\""),
        (b"PK\x03\x04 and so on".to_vec(), "zip archive"),
        (b"PAR1 and so on".to_vec(), "parquet"),
        (format!("{{\"train\": [{a}], \"test\": [{b}]}}").into_bytes(), "`train`, `test`"),
    ];
    for (content, cause) in cases {
        let error = read(&content).expect_err(cause);
        assert!(error.contains("records.json: expected") && error.contains(cause), "{error} without {cause}");
    }
    assert!(JsonRecords::open("no/such/file").is_err());
}

#[test]
fn a_broken_record_costs_itself_only() {
    let good = json!({"a": 3});
    let count = |content: &str| {
        let values = values(content);
        (values.len(), values.iter().filter(|value| **value == Some(good.clone())).count())
    };
    for (broken, costs) in [
        ("{\"a\": nonsense}", 1),
        ("{\"a\": 1", 1),
        ("{\"a\": [1}", 1),
        ("{\"a\": \"x}", 1),
        ("{\"a\" 1}", 1),
        ("{\"a\": {\"b\": 1}", 1),
        ("{\"a\": [{\"b\": 1}, \"c\": 2}", 1),
        ("nonsense", 1),
        ("\"text\"", 1),
        ("", 1),
        ("{\"a\": \"\\q\"}", 1),
    ] {
        let list = format!("[\n{good},\n{broken},\n{good},\n{good}\n]");
        assert_eq!(count(&list), (3 + costs, 3), "{list}");
        if !broken.is_empty() {
            let lines = format!("{good}\n{broken}\n{good}\n{good}\n");
            assert_eq!(count(&lines), (3 + costs, 3), "{lines}");
            let first = format!("{broken}\n{good}\n{good}\n");
            assert_eq!(count(&first), (2 + costs, 2), "{first}");
        }
    }
    assert_eq!(count(&format!("[{good} {good},{good}]")), (3, 3), "a comma that is missing");
    assert_eq!(count(&format!("{{\n \"a\": 3\n}}\n{{\n \"a\": \n}}\n{good}\n")), (3, 2), "objects of several lines");
    assert_eq!(count("{\n \"a\": 3\n}\n{\n \"a\": [1,"), (2, 1), "the last object is cut off");
}

#[test]
fn an_object_of_its_own_is_a_record() {
    for record in [
        json!({"images": ["a.png"], "messages": [{"role": "user", "content": "x"}], "data": [{"x": 1}]}),
        json!({"image": "a.png", "items": [{"x": 1}]}),
        json!({"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": "x"}]}),
        json!({"image": {"0": "a.png"}, "caption": {"0": "x"}}),
        json!({"data": {"x": 1}}),
        json!({"data": [1, 2]}),
    ] {
        for text in [record.to_string(), serde_json::to_string_pretty(&record).expect("JSON")] {
            assert_eq!(values(&text), [Some(record.clone())], "{text}");
        }
    }
}

#[test]
fn lines_are_counted_as_an_editor_does() {
    let numbers: Vec<_> =
        read(b"\n{\"a\": 1}\r\n\n{\"a\": 2}\n{").expect("lines").iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [2, 4, 5]);
}

#[test]
fn every_cut_of_a_file_is_an_error() {
    let [a, b, c] = RECORDS;
    let list = format!("[{a},\n{b}, {c}]");
    for end in 1..list.len() {
        assert!(read(&list.as_bytes()[..end]).is_err_and(|error| error.contains("cut off")), "{end}");
    }
    let packed = gzip(list.as_bytes());
    for end in 2..packed.len() {
        assert!(read(&packed[..end]).is_err_and(|error| error.contains("cut off")), "{end}");
    }
    let wrapped = format!("{{\"n\": 1, \"data\": [{a},{b}], \"m\": 2}}");
    for end in 1..wrapped.len() {
        let result = read(&wrapped.as_bytes()[..end]);
        assert!(
            result.is_err() || result.is_ok_and(|records| records.iter().all(|(_, value)| value.is_none())),
            "{end}"
        );
    }
    let lines = format!("{a}\n{b}\n{c}\n");
    for end in 1..lines.len() {
        let records = read(&lines.as_bytes()[..end]).expect("lines");
        let (whole, broken): (Vec<_>, Vec<_>) = String::from_utf8_lossy(&lines.as_bytes()[..end])
            .lines()
            .map(|line| RECORDS.contains(&line))
            .partition(|ok| *ok);
        let n_whole = records.iter().filter(|(_, value)| value.is_some()).count();
        assert_eq!((n_whole, records.len() - n_whole), (whole.len(), broken.len()), "{end}");
    }
}

#[test]
fn a_record_that_is_missing_in_a_list_has_its_number() {
    let records = read(b"[{\"a\": 1},, {\"a\": 2},\n{\"a\": 3}]").expect("a list");
    let numbers: Vec<_> = records.iter().map(|(number, value)| (*number, value.is_some())).collect();
    assert_eq!(numbers, [(1, true), (2, false), (3, true), (4, true)]);
}

#[test]
fn a_first_line_whose_list_is_broken_costs_itself_only() {
    // Its brackets cross, or what comes after its list is no member: the object is broken, not cut off.
    let good = Some(json!({"a": 3}));
    assert_eq!(values("{\"data\": [{\"x\": 1], \"n\": 2}\n{\"a\": 3}\n"), [None, good.clone()]);
    for rest in ["\"n", "\"n\" 2}", "\"n\": }", "5}", "]"] {
        let first = format!("{{\"data\": [{{\"x\": 1}}], {rest}\n{{\"a\": 3}}\n");
        assert_eq!(values(&first), [None, good.clone()], "{first}");
    }
    for first in ["{\"data\" [1]}", "{\"data\": }"] {
        assert_eq!(values(&format!("{first}\n{{\"a\": 3}}\n")), [None, good.clone()], "{first}");
    }
}

#[test]
fn an_object_with_two_lists_of_records_is_refused_by_their_names() {
    let error = read(b"{\"data\": [{\"a\": 1}], \"rows\": []}").expect_err("two lists");
    assert!(error.contains("one object with lists under `data`, `rows`"), "{error}");
    let error = read(b"{\"test\": [{\"a\": 1}]}").expect_err("a split alone is no list of all");
    assert!(error.contains("`test`"), "{error}");
}

#[test]
fn other_formats_are_named() {
    let utf32: Vec<u8> = "[{}]".chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    let utf32_be: Vec<u8> = "[{}]".chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
    let utf16_be: Vec<u8> = "[{}]".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let cases: [(Vec<u8>, &str); 11] = [
        (b"\x28\xb5\x2f\xfd and so on".to_vec(), "zstd"),
        (b"\xfd7zXZ\0 and so on".to_vec(), "an xz file"),
        (b"BZh91AY&SY and so on".to_vec(), "bzip2"),
        (b"ARROW1\0\0 and so on".to_vec(), ".arrow"),
        ([&[0xFF, 0xFE, 0, 0], &utf32[..]].concat(), "UTF-32"),
        ([&[0, 0, 0xFE, 0xFF], &utf32_be[..]].concat(), "UTF-32"),
        (utf32, "UTF-32"),
        (utf32_be, "UTF-32"),
        ([&[0xFE, 0xFF], &utf16_be[..]].concat(), "UTF-16"),
        (utf16_be, "UTF-16"),
        (b"BZh0 is text".to_vec(), "text that begins with \"BZh0 is text\""),
    ];
    for (content, name) in cases {
        let error = read(&content).expect_err(name);
        assert!(error.contains(name), "{error} without {name}");
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_the_systems_error() {
    let lines = format!("{}\n{}\n", RECORDS[0], RECORDS[1]);
    let (_folder, path) = file(lines.as_bytes());
    let records = JsonFile::open(&path).expect("whole");
    std::fs::write(&path, &lines[..10]).expect("written");
    let error = records.value(1).expect_err("is not there any more");
    assert!(matches!(error, CoreError::Io { .. }), "{error}: no gzip file was cut off");
}
