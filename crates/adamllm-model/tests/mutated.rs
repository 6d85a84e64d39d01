//! Side files with something wrong in them: an error or an answer, never a panic.

use std::path::{Path, PathBuf};

use adamllm_core::{Conversation, MemoryImages, Message, Prompt, RgbImage, Role, Supervision};
use adamllm_model::{ModelFolder, Processor};
use proptest::prelude::*;
use serde_json::{Value, json};

const FOLDERS: &[&str] = &[
    "qwen2_vl/hub2024",
    "qwen2_vl/model",
    "qwen2_5_vl/model",
    "qwen3_vl/model",
    "llava_next/model",
    "mllama/model",
    "smolvlm/model",
    "idefics3/model",
    "llama/model",
];
const FILES: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.json",
    "chat_template.jinja",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

/// A copy of a folder's side files, one of them changed.
fn changed(folder: &str, file: &str, change: &Change) -> Option<tempfile::TempDir> {
    let original = std::fs::read(fixture(folder).join(file)).ok()?;
    let copy = tempfile::tempdir().expect("a folder");
    for name in FILES.iter().chain(&["config.json"]) {
        let path = fixture(folder).join(name);
        if path.exists() {
            std::fs::copy(&path, copy.path().join(name)).expect("copies");
        }
    }
    std::fs::write(copy.path().join(file), change.apply(original)).expect("writes");
    Some(copy)
}

#[derive(Clone, Debug)]
enum Change {
    /// The byte at this part of the file becomes another.
    Byte(f64, u8),
    /// The file ends here.
    Cut(f64),
    /// The member of this number becomes another value.
    Member(f64, Value),
    /// The member of this number is gone.
    Gone(f64),
}

impl Change {
    fn apply(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let offset = |part: f64| ((bytes.len() - 1) as f64 * part) as usize;
        match self {
            Self::Byte(part, byte) => {
                let offset = offset(*part);
                bytes[offset] = *byte;
                bytes
            }
            Self::Cut(part) => {
                bytes.truncate(offset(*part));
                bytes
            }
            Self::Member(part, value) => edited(&bytes, *part, Some(value)),
            Self::Gone(part) => edited(&bytes, *part, None),
        }
    }
}

fn edited(bytes: &[u8], part: f64, value: Option<&Value>) -> Vec<u8> {
    let Ok(mut json) = serde_json::from_slice::<Value>(bytes) else { return bytes.to_vec() };
    let n = count(&json);
    let mut left = (part * n as f64) as usize;
    edit(&mut json, &mut left, value);
    json.to_string().into_bytes()
}

fn count(json: &Value) -> usize {
    match json {
        Value::Object(members) => members.values().map(|value| 1 + count(value)).sum(),
        Value::Array(items) => items.iter().map(|value| 1 + count(value)).sum(),
        _ => 0,
    }
}

/// Changes the value that is `left` values away; whether it was reached.
fn edit(json: &mut Value, left: &mut usize, value: Option<&Value>) -> bool {
    let keys: Vec<String> = json.as_object().map(|members| members.keys().cloned().collect()).unwrap_or_default();
    for key in keys {
        if *left == 0 {
            match value {
                Some(value) => json[&key] = value.clone(),
                None => drop(json.as_object_mut().and_then(|members| members.remove(&key))),
            }
            return true;
        }
        *left -= 1;
        if edit(&mut json[&key], left, value) {
            return true;
        }
    }
    for i in 0..json.as_array().map_or(0, Vec::len) {
        if *left == 0 {
            match value {
                Some(value) => json[i] = value.clone(),
                None => drop(json.as_array_mut().map(|items| items.remove(i))),
            }
            return true;
        }
        *left -= 1;
        if edit(&mut json[i], left, value) {
            return true;
        }
    }
    false
}

fn change() -> impl Strategy<Value = Change> {
    let odd = prop_oneof![
        Just(json!(null)),
        Just(json!(0)),
        Just(json!(-1)),
        Just(json!(13)),
        Just(json!(1e300)),
        Just(json!(u64::MAX)),
        Just(json!(4_000_000_000_u32)),
        Just(json!(0.5)),
        Just(json!("")),
        Just(json!("{{ messages[")),
        Just(json!("{% for i in range(1000000000) %}{% for j in range(1000000000) %}{% endfor %}{% endfor %}")),
        Just(json!([])),
        Just(json!([0, 0, 0])),
        Just(json!({})),
        Just(json!(true)),
    ];
    let part = || 0.0..1.0_f64;
    prop_oneof![
        (part(), any::<u8>()).prop_map(|(part, byte)| Change::Byte(part, byte)),
        part().prop_map(Change::Cut),
        (part(), odd).prop_map(|(part, value)| Change::Member(part, value)),
        part().prop_map(Change::Gone),
    ]
}

/// Everything that side files decide. Only panics are faults.
fn use_it(folder: &Path) {
    let Ok(folder) = ModelFolder::open(folder) else { return };
    let Ok(processor) = Processor::read(&folder) else { return };
    let mut images = MemoryImages::new();
    images.insert("a.png", RgbImage::from_fn(50, 30, |x, y| [x as u8, y as u8, 7].into()));
    let images_of = |n: usize| vec!["a.png".into(); n];
    for n in [0, 1] {
        let text = format!("{}What?", "<image>".repeat(n));
        let messages = vec![Message::user(text), Message::assistant("A bowl.")];
        let prompt = Prompt::chat(messages[..1].to_vec(), images_of(n));
        drop(processor.encode_prompt(&prompt, &images));
        let open = Conversation::new(messages.clone(), images_of(n));
        drop(processor.render(&Prompt::Chat { conversation: open.clone(), open: Role::User }));
        drop(processor.encode(&open, Supervision::Replies, &images));
    }
    drop(processor.text().generation().sampling(0));
    drop(processor.text().decode(&[0, 5, 370, 4_000_000_000], true));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_side_file_panics(folder in 0..FOLDERS.len(), file in 0..FILES.len(), change in change()) {
        if let Some(copy) = changed(FOLDERS[folder], FILES[file], &change) {
            use_it(copy.path());
        }
    }
}
