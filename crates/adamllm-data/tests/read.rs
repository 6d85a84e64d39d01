//! Records of every form, and records that are wrong.

use std::path::{Path, PathBuf};

use adamllm_core::{CoreError, ImageStore, Reason};
use adamllm_data::{FolderImages, conversations, image_captions};
use serde_json::json;

fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("records.json");
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
    let records = [SHAREGPT, LLAVA].map(|record| record.replace('\n', " "));
    let (_a, array) = file(&format!("\u{feff} [ {} ]", records.join(",")));
    let (_b, lines) = file(&records.join("\n\n"));
    let read =
        |path: &Path| -> Vec<_> { conversations(path).expect("opens").map(|record| record.expect("valid")).collect() };
    assert_eq!(read(&array), read(&lines));
    assert_eq!(read(&array).len(), 2);
    let (_c, empty) = file("");
    assert!(read(&empty).is_empty());
    let (_d, empty) = file(" [ ] ");
    assert!(read(&empty).is_empty());
}

#[test]
fn a_wrong_record_costs_itself_only() {
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
    let text: Vec<_> = wrong.iter().flat_map(|(record, _)| [*record, good]).collect();
    let (_folder, path) = file(&text.join("\n"));
    let records: Vec<_> = image_captions(&path).expect("opens").collect();
    assert_eq!(records.len(), 2 * wrong.len());
    for (i, (record, reason)) in wrong.iter().enumerate() {
        let error = records[2 * i].as_ref().expect_err(record);
        assert_eq!(Reason::from(error), *reason, "{record}: {error}");
        assert!(error.to_string().contains(&format!("records.json record {}", 2 * i + 1)), "{error}");
        assert!(records[2 * i + 1].is_ok());
    }
}

#[test]
fn a_broken_element_of_an_array_costs_itself_only() {
    let (_folder, path) = file(&format!("[{SHAREGPT}, {{\"images\": nonsense, }}, [], {LLAVA}]"));
    let records: Vec<_> = conversations(&path).expect("opens").collect();
    assert!(records[0].is_ok());
    assert!(matches!(records[1], Err(CoreError::Json { number: 2, .. })));
    assert!(matches!(records[2], Err(CoreError::Field { field: "(record)", .. })));
    assert!(records[3].is_ok());
    assert_eq!(records.len(), 4);
}

#[test]
fn a_list_that_ends_early_is_a_file_that_is_cut_off() {
    for cut in [format!("[{SHAREGPT}, {{\"images\": [\"b.pn"), format!("[{SHAREGPT},"), format!("[{SHAREGPT}")] {
        let (_folder, path) = file(&cut);
        let error = conversations(&path).expect_err("cut off").to_string();
        assert!(error.contains("records.json: expected") && error.contains("it is cut off"), "{error}");
    }
}

/// What a record becomes as a conversation: its images and the contents of its turns, or the error.
fn read(record: serde_json::Value) -> Result<(Vec<String>, Vec<String>), String> {
    let (_folder, path) = file(&format!("[{record}]"));
    let mut records = conversations(&path).expect("opens");
    let conversation = records.next().expect("a record").map_err(|error| error.to_string())?;
    let images = conversation.images.iter().map(ToString::to_string).collect();
    Ok((images, conversation.messages.into_iter().map(|turn| turn.content).collect()))
}

fn turns(question: serde_json::Value, answer: serde_json::Value) -> serde_json::Value {
    json!([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])
}

#[test]
fn records_as_other_tools_write_them() {
    let ask = || turns(json!("<image>Q"), json!("A"));
    let one = (vec!["a.png".to_owned()], vec!["<image>Q".to_owned(), "A".to_owned()]);
    let part = |image: serde_json::Value| {
        turns(json!([image, {"type": "text", "text": "Q"}]), json!([{"type": "text", "text": "A"}]))
    };
    for record in [
        json!({"messages": ask(), "image": "a.png", "images": null, "conversations": null, "system": "", "tools": "[]"}),
        json!({"messages": ask(), "images": ["a.png"], "image": "a.png", "videos": [], "audio": null}),
        json!({"conversations": ask(), "messages": [], "images": {"path": "a.png", "bytes": null}}),
        json!({"messages": ask(), "images": [{"path": "a.png"}], "weight": 1, "video": "", "license": {"by": 1}}),
        json!({"messages": part(json!({"type": "image"})), "images": ["a.png"]}),
        json!({"messages": part(json!({"type": "image", "image": "a.png", "text": null}))}),
        json!({"messages": part(json!({"type": "image_url", "image_url": {"url": "a.png"}})), "images": []}),
        json!({"messages": part(json!({"type": "image", "path": "a.png"})), "images": ["a.png"]}),
        json!({"image": "a.png", "messages": [
            {"role": "user", "content": "<image>Q", "weight": 0, "tool_calls": null},
            {"role": "assistant", "content": "A", "weight": 1, "loss": true, "name": null}]}),
        json!({"image": "a.png", "messages": [
            {"from": "human", "value": "<image>Q", "role": null, "content": null}, {"from": "gpt", "value": "A"}]}),
    ] {
        assert_eq!(read(record.clone()), Ok(one.clone()), "{record}");
    }
    let with_system = read(json!({"messages": ask(), "image": "a.png", "system": "Be short."})).expect("reads");
    assert_eq!(with_system.1, ["Be short.", "<image>Q", "A"]);
    assert_eq!(read(json!({"messages": turns(json!("Q"), json!("A")), "image": ""})).expect("reads").0.len(), 0);
}

#[test]
fn what_would_be_lost_is_refused_by_name() {
    let ask = || turns(json!("<image>Q"), json!("A"));
    let reply = |key: &str, value: serde_json::Value| {
        let mut turns = ask();
        turns[1][key] = value;
        json!({"image": "a.png", "messages": turns})
    };
    for (record, cause) in [
        (
            json!({"messages": turns(json!("<video>Q"), json!("A")), "video": "x.mp4"}),
            "field `video`: expected no video",
        ),
        (json!({"messages": turns(json!("<video>Q"), json!("A"))}), "no `<video>`: videos and sounds are not read"),
        (json!({"messages": ask(), "image": "a.png", "audios": ["x.wav"]}), "sounds are not read"),
        (json!({"messages": ask(), "image": "a.png", "tools": "[{}]"}), "tool calls"),
        (json!({"messages": ask(), "image": "a.png", "chosen": "x"}), "preference pair"),
        (json!({"messages": ask(), "image": "a.png", "weight": 0.5}), "field `weight`"),
        (json!({"messages": ask(), "image": "a.png", "system": 3}), "field `system`: expected text"),
        (json!({"messages": ask(), "image": "a.png", "images": ["b.png"]}), "one value under `images` and `image`"),
        (
            json!({"messages": ask(), "conversations": turns(json!("x"), json!("y")), "image": "a.png"}),
            "one value under",
        ),
        (json!({"messages": ask(), "images": [{"bytes": "iVBO", "path": null}]}), "bytes inside JSON"),
        (json!({"messages": ask(), "images": ["data:image/png;base64,iVBO"]}), "images inside JSON"),
        (json!({"messages": ask(), "images": ["a.png", null]}), "expected a path, got null"),
        (json!({"messages": ask(), "image": ""}), "1 image markers `<image>` but 0 images"),
        (reply("weight", json!(0)), "replies that all count for the loss"),
        (reply("loss", json!(false)), "`loss`: false"),
        (reply("train", json!(0.0)), "`train`"),
        (reply("function_call", json!({"name": "x"})), "tool call"),
        (reply("reasoning_content", json!("hm")), "reasoning"),
        (reply("role", json!("observation")), "role \"observation\""),
        (reply("content", json!([{"type": "video"}])), "parts of type text or image"),
        (reply("content", json!(null)), "a turn with `content` or `value`"),
        (reply("value", json!("B")), "one text under"),
        (
            json!({"messages": turns(json!([{"type": "image", "image": "b.png"}]), json!("A")), "image": "a.png"}),
            "named in the turns",
        ),
        (json!({"prompt": "Q", "answer": "A"}), "`messages` or `conversations`, got neither"),
    ] {
        let error = read(record.clone()).expect_err(cause);
        assert!(error.contains("records.json record 1") && error.contains(cause), "{error} without {cause}: {record}");
    }
}

#[test]
fn captions_hold_no_marker() {
    let records = [
        json!({"image": "a.png", "caption": "see <image> here"}),
        json!({"image": "a.png", "messages": turns(json!("What?"), json!("<image> it is"))}),
        json!({"image": "a.png", "caption": 7}),
        json!({"image": "a.png", "caption": "A cell.", "request": "<image>\nWhat?"}),
        json!({"image": "a.png", "caption": null, "messages": turns(json!("<image>What?"), json!("A cell."))}),
    ];
    let (_folder, path) = file(&json!(records).to_string());
    let mut pairs = image_captions(&path).expect("opens");
    for _ in 0..2 {
        let error = pairs.next().expect("a record").expect_err("a marker");
        assert_eq!(Reason::from(&error), Reason::ImageCountMismatch, "{error}");
    }
    let error = pairs.next().expect("a record").expect_err("a number");
    assert_eq!(Reason::from(&error), Reason::InvalidField);
    assert!(error.to_string().contains("field `caption`: expected text, got 7"), "{error}");
    for pair in pairs {
        let pair = pair.expect("a caption");
        assert_eq!((pair.caption.as_str(), pair.request.as_deref()), ("A cell.", Some("What?")));
    }
}

#[test]
fn images_where_the_records_say() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let inner = folder.path().join("in side");
    std::fs::create_dir(&inner).expect("made");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images/rgb.png"), inner.join("a.png"))
        .expect("copied");
    let absolute = inner.join("a.png").display().to_string();
    let url = format!("file://{}", absolute.replace(' ', "%20"));
    let store = FolderImages::new(folder.path().join("in side"));
    for name in ["a.png", "./a.png", "no/../a.png", "x\\..\\a.png", &absolute, &url] {
        assert!(store.open(&name.into()).is_ok(), "{name}");
    }
    let long = "x".repeat(5000);
    for name in ["b.png", "/no/such/a.png", "sub/a.png", "a.png/b.png", ".", "a\0.png", &long] {
        assert!(matches!(store.open(&name.into()), Err(CoreError::ImageMissing { .. })), "{name}");
    }
    for name in ["", "../in side/a.png", "https://example.org/a.png", "C:\\a.png"] {
        assert!(matches!(store.open(&name.into()), Err(CoreError::Field { .. })), "{name}");
    }
}

#[test]
fn real_food_photographs() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/food-samples"));
    if !folder.exists() {
        return;
    }
    let images = FolderImages::new(folder.join("images"));
    let pairs: Vec<_> =
        image_captions(folder.join("image_caption_pairs.json")).expect("opens").map(|p| p.expect("valid")).collect();
    assert_eq!(pairs.len(), 24);
    for pair in &pairs {
        assert!(pair.caption.len() > 100 && !pair.request.as_ref().expect("a request").contains("<image>"));
        let pixels = images.open(&pair.image).expect("decodes");
        assert_eq!(images.size(&pair.image).expect("has a header"), pixels.dimensions());
    }
}
