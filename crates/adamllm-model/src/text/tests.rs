//! Tokens, templates and settings of a folder, against what transformers makes of them.

use adamllm_core::{Conversation, Message, Supervision};
use chrono::TimeZone;

use super::*;

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"))
}

/// What `tools/fixtures/make_templates.py` recorded of transformers.
struct Recorded {
    cases: Vec<Value>,
    tokens: TemplateTokens,
    codec: TextCodec,
}

impl Recorded {
    fn read() -> Self {
        let file = read_json(&fixtures().join("templates/cases.json")).expect("parses").expect("committed");
        let tokens = TemplateTokens::from_config(&file["tokens"], &Value::Null);
        let codec = TextCodec::read(&fixtures().join("llama/model")).expect("reads");
        Self { cases: file["cases"].as_array().expect("a list").clone(), tokens, codec }
    }

    fn template(&self, case: &Value) -> ChatTemplate {
        let name = format!("templates/{}.jinja", case["template"].as_str().expect("a name"));
        let source = std::fs::read_to_string(fixtures().join(name)).expect("committed");
        let now = chrono::Local.with_ymd_and_hms(2025, 3, 7, 12, 34, 56).single().expect("a time");
        ChatTemplate::of_date(source, self.tokens.clone(), now).expect("compiles")
    }
}

fn conversation(case: &Value) -> Conversation {
    let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).expect("messages");
    let images = messages.iter().map(|m| m.content.matches(IMAGE_MARKER).count()).sum();
    Conversation::new(messages, (0..images).map(|i| format!("{i}.png").into()).collect())
}

fn label(case: &Value) -> String {
    format!("{} of {}", case["template"], case["conversation"])
}

#[test]
fn templates_render_as_transformers_renders_them() {
    let recorded = Recorded::read();
    for case in &recorded.cases {
        let template = recorded.template(case);
        let conversation = conversation(case);
        let open = &conversation.messages[..conversation.messages.len() - 1];
        if case["error"].is_string() {
            let shown = template.segments(&conversation, Supervision::Replies, recorded.codec.special_tokens());
            assert!(shown.is_err(), "{}: {shown:?}", label(case));
            continue;
        }
        let opened = template.render_open(open, adamllm_core::Role::Assistant).expect("renders");
        assert_eq!(opened, case["open"].as_str().expect("text"), "{}", label(case));
        let segments = template
            .segments(&conversation, Supervision::Replies, recorded.codec.special_tokens())
            .unwrap_or_else(|error| panic!("{}: {error}", label(case)));
        let whole: String = segments.iter().map(|segment| segment.text.as_str()).collect();
        assert_eq!(whole, case["text"].as_str().expect("text"), "{}", label(case));
    }
}

/// Ids of the whole text, and the mask that transformers gives where `{% generation %}` stands around the replies.
#[test]
fn ids_and_masks_are_those_of_transformers() {
    let recorded = Recorded::read();
    let mut masked = 0;
    for case in recorded.cases.iter().filter(|case| case["input_ids"].is_array()) {
        let segments = recorded
            .template(case)
            .segments(&conversation(case), Supervision::Replies, recorded.codec.special_tokens())
            .expect("renders");
        let pieces = recorded.codec.encode_segments(&segments).expect("encodes");
        let ids: Vec<u32> = pieces.iter().flat_map(|piece| piece.tokens.clone()).collect();
        assert_eq!(serde_json::json!(ids), case["input_ids"], "{}", label(case));
        if case["assistant_masks"].is_array() {
            masked += 1;
            let mask: Vec<u8> = pieces.iter().flat_map(|p| vec![u8::from(p.target); p.tokens.len()]).collect();
            assert_eq!(serde_json::json!(mask), case["assistant_masks"], "{}", label(case));
        }
    }
    assert!(masked > 10, "{masked} masks");
}

/// Every template: what is supervised is the answers' words and what ends them.
#[test]
fn what_is_supervised_ends_with_its_token() {
    let recorded = Recorded::read();
    let supervised = |template: &str| {
        let case = recorded.cases.iter().find(|c| c["template"] == template && c["conversation"] == "two");
        let case = case.expect("recorded");
        let segments = recorded
            .template(case)
            .segments(&conversation(case), Supervision::Replies, recorded.codec.special_tokens())
            .expect("renders");
        segments.into_iter().filter(|s| s.target).map(|s| s.text).collect::<Vec<_>>()
    };
    // The tokenizer calls none of these templates' ends special but `<|eot_id|>`.
    assert_eq!(supervised("chatml_default_system"), ["A red bowl.", "  Two\n\nbowls."]);
    assert_eq!(supervised("headers_trim"), ["A red bowl.<|eot_id|>", "Two\n\nbowls.<|eot_id|>"]);
    assert_eq!(supervised("vicuna_eos"), [" A red bowl.<|eot_id|>", "   Two\n\nbowls. <|eot_id|>"]);
    // No token ends these turns: the last word does.
    assert_eq!(supervised("vicuna_parts"), [" A red bowl.", "   Two\n\nbowls."]);
}

fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let source = fixtures().join("llama/model");
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        std::fs::copy(source.join(name), folder.path().join(name)).expect("copies");
    }
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("inside")).expect("makes");
        std::fs::write(path, text).expect("writes");
    }
    folder
}

fn source(files: &[(&str, &str)], processor: bool) -> String {
    let folder = folder_with(files);
    let codec = TextCodec::read_as(folder.path(), FolderKind { processor, ..FolderKind::default() }).expect("reads");
    codec.template().expect("a template").source().to_owned()
}

#[test]
fn the_template_comes_from_the_file_that_transformers_takes() {
    let files = [
        ("tokenizer_config.json", r#"{"chat_template": "tokenizer"}"#),
        ("additional_chat_templates/default.jinja", "further"),
        ("chat_template.jinja", "jinja"),
        ("chat_template.json", r#"{"chat_template": "json"}"#),
        ("processor_config.json", r#"{"chat_template": "processor"}"#),
    ];
    let taken = |n: usize, processor: bool| source(&files[..n], processor);
    assert_eq!([1, 2, 3, 4, 5].map(|n| taken(n, true)), ["tokenizer", "further", "jinja", "json", "processor"]);
    assert_eq!([1, 2, 3, 4, 5].map(|n| taken(n, false)), ["tokenizer", "further", "jinja", "jinja", "jinja"]);
    let named = r#"{"chat_template": [{"name": "tools", "template": "a"}, {"name": "default", "template": "b"}]}"#;
    assert_eq!(source(&[("tokenizer_config.json", named)], false), "b");
    let folder = folder_with(&[("tokenizer_config.json", r#"{"chat_template": [{"name": "rag", "template": "a"}]}"#)]);
    let error = TextCodec::read(folder.path()).expect_err("no default").to_string();
    assert!(error.contains("tokenizer_config.json") && error.contains("rag"), "{error}");
}

#[test]
fn tokens_of_other_files_are_added_or_refused() {
    let n = TextCodec::read(&fixtures().join("llama/model")).expect("reads").vocab_size();
    let config =
        |id: usize| format!(r#"{{"added_tokens_decoder": {{"{id}": {{"content": "<dish>", "special": true}}}}}}"#);
    let folder = folder_with(&[("tokenizer_config.json", &config(n))]);
    let codec = TextCodec::read(folder.path()).expect("reads");
    assert_eq!(codec.encode("<dish>", false).expect("encodes"), [n as u32]);
    assert_eq!(codec.special_token_in("a <dish>"), Some("<dish>"));
    let folder = folder_with(&[("tokenizer_config.json", &config(n + 5))]);
    let error = TextCodec::read(folder.path()).expect_err("a gap").to_string();
    assert!(error.contains("<dish>") && error.contains("tokenizer_config.json"), "{error}");
    // The older file counts where the newer one has no list.
    let legacy = [("tokenizer_config.json", "{}"), ("added_tokens.json", &*format!(r#"{{"<cup>": {n}}}"#))];
    let codec = TextCodec::read(folder_with(&legacy).path()).expect("reads");
    assert_eq!(codec.encode("<cup>", false).expect("encodes"), [n as u32]);
    assert_eq!(codec.special_token_in("<cup>"), None);
}

#[test]
fn answers_end_where_the_generation_settings_say() {
    let ends = |generation: Option<&str>, config: &str| {
        let folder = folder_with(&[("config.json", config)]);
        let path = folder.path().join("generation_config.json");
        match generation {
            Some(text) => std::fs::write(&path, text).expect("writes"),
            None => std::fs::remove_file(&path).expect("removes"),
        }
        TextCodec::read(folder.path()).map(|codec| codec.end_tokens().to_vec()).map_err(|e| e.to_string())
    };
    assert_eq!(ends(Some(r#"{"eos_token_id": [5, 6]}"#), r#"{"eos_token_id": 7}"#), Ok(vec![5, 6]));
    assert_eq!(ends(Some("{}"), r#"{"eos_token_id": 7}"#), Ok(vec![]));
    assert_eq!(ends(None, r#"{"eos_token_id": 7}"#), Ok(vec![7]));
    assert_eq!(ends(None, r#"{"text_config": {"eos_token_id": [8, -1]}}"#), Ok(vec![8]));
    let error = ends(Some(r#"{"eos_token_id": "</s>"}"#), "{}").expect_err("a text");
    assert!(error.contains("generation_config.json") && error.contains("eos_token_id"), "{error}");
}

#[test]
fn a_placeholder_that_is_the_marker_itself_is_allowed() {
    let config = r#"{"additional_special_tokens": ["<image>"]}"#;
    let codec = TextCodec::read(folder_with(&[("tokenizer_config.json", config)]).path()).expect("reads");
    assert!(codec.special_tokens().iter().any(|token| token == "<image>"));
    assert_eq!(codec.special_token_in("<image>\nWhat?"), None);
    assert_eq!(codec.special_token_in("<image>\n<|eot_id|>"), Some("<|eot_id|>"));
}

#[test]
fn merges_that_overrun_the_vocabulary_are_named() {
    let folder = folder_with(&[]);
    let path = folder.path().join("tokenizer.json");
    let mut file = read_json(&path).expect("parses").expect("committed");
    file["model"]["merges"] = serde_json::json!([["ab", "cd"]]);
    std::fs::write(&path, file.to_string()).expect("writes");
    let error = TextCodec::read(folder.path()).expect_err("overruns").to_string();
    assert!(error.contains("tokenizer.json") && error.contains("merges[0]"), "{error}");
}

#[test]
fn what_makes_the_library_give_up_is_found_before() {
    let error = |edit: &dyn Fn(&mut Value)| {
        let folder = folder_with(&[]);
        let path = folder.path().join("tokenizer.json");
        let mut file = read_json(&path).expect("parses").expect("committed");
        edit(&mut file);
        std::fs::write(&path, file.to_string()).expect("writes");
        TextCodec::read(folder.path()).expect_err("wrong").to_string()
    };
    let normalizer = |value: Value| error(&|file| file["normalizer"] = value.clone());
    let empty = serde_json::json!({"type": "Replace", "pattern": {"String": ""}, "content": "x"});
    assert!(normalizer(empty.clone()).contains("normalizer"));
    assert!(normalizer(serde_json::json!({"type": "Sequence", "normalizers": [empty]})).contains("Replace"));
    let table = serde_json::json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"});
    assert!(normalizer(table).contains("precompiled_charsmap"));
    assert!(error(&|file| file["model"]["dropout"] = 0.1.into()).contains("dropout"));
    assert!(error(&|file| file["model"]["vocab"]["x"] = 4_000_000_000_u64.into()).contains("vocab"));
}
