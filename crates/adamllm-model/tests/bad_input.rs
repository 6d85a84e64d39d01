//! What is wrong with a folder or a record is said with its file, key, expected and found.

use std::path::{Path, PathBuf};

use adamllm_core::{Conversation, MemoryImages, Message, Prompt, Role, Supervision};
use adamllm_core::{Decoding, Generate, RgbImage};
use adamllm_model::{LocalModel, ModelError, ModelFolder, Processor};
use burn::tensor::{DType, Device};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/qwen2_vl")).join(name)
}

/// A copy of a fixture folder, to be damaged.
fn copy(name: &str) -> TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    for entry in std::fs::read_dir(fixture(name)).expect("lists") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("copies");
    }
    copy
}

fn load_error(folder: &Path) -> String {
    let folder = ModelFolder::open(folder).expect("opens");
    folder.load(DType::F32, &Device::flex()).expect_err("damaged").to_string()
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).expect("reads");
    assert!(text.contains(from), "{from:?} is not in {}", path.display());
    std::fs::write(path, text.replacen(from, to, 1)).expect("writes");
}

const SHARD: &str = "model-00002-of-00003.safetensors";

#[test]
fn a_missing_shard_is_named() {
    let folder = copy("hub2024");
    std::fs::remove_file(folder.path().join(SHARD)).expect("removes");
    let error = load_error(folder.path());
    assert!(error.contains(SHARD), "{error}");
}

#[test]
fn a_truncated_shard_is_named() {
    let folder = copy("hub2024");
    let path = folder.path().join(SHARD);
    let whole = std::fs::read(&path).expect("reads");
    for length in [whole.len() - 100, 500, 4, 0] {
        std::fs::write(&path, &whole[..length]).expect("writes");
        let error = load_error(folder.path());
        assert!(error.contains(SHARD), "{length} bytes: {error}");
    }
}

#[test]
fn a_header_that_lies_about_offsets_is_refused() {
    let folder = copy("model");
    let path = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).expect("reads");
    let offset = bytes.windows(14).position(|w| w == b"data_offsets\":").expect("a header") + 15;
    bytes[offset] = b'9';
    std::fs::write(&path, bytes).expect("writes");
    let error = load_error(folder.path());
    assert!(error.contains("model.safetensors"), "{error}");
}

/// Missing, misshapen and unexpected keys all stand in one error.
#[test]
fn every_wrong_key_is_listed_at_once() {
    let folder = copy("hub2024");
    let config = folder.path().join("config.json");
    edit(&config, "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4");
    edit(&config, "\"intermediate_size\": 96", "\"intermediate_size\": 95");
    edit(&config, "\"depth\": 2", "\"depth\": 1");
    let folder = ModelFolder::open(folder.path()).expect("opens");
    let error = folder.load(DType::F32, &Device::flex()).expect_err("damaged");
    let shown = error.to_string();
    assert!(shown.contains("config.json has other sizes than the weights"), "{shown}");
    assert!(shown.lines().count() <= 15, "five keys of each kind at most: {shown}");
    let error = format!("{error:?}");
    for part in [
        "model.layers.3.self_attn.q_proj.weight",
        "missing",
        "model.layers.0.mlp.gate_proj.weight",
        "expected shape [95, 64], got [96, 64]",
        "visual.blocks.1.attn.qkv.weight",
    ] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
}

#[test]
fn a_value_that_is_not_finite_is_named() {
    let folder = copy("model");
    let path = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).expect("reads");
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).expect("writes");
    let error = load_error(folder.path());
    assert!(error.contains("is not finite") && error.contains("model."), "{error}");
}

#[test]
fn an_unknown_family_lists_the_known_ones() {
    let folder = copy("model");
    edit(&folder.path().join("config.json"), "\"qwen2_vl\"", "\"gpt2\"");
    let error = ModelFolder::open(folder.path()).expect_err("unknown").to_string();
    assert!(error.contains("gpt2") && error.contains("qwen2_vl") && error.contains("config.json"), "{error}");
}

#[test]
fn impossible_sizes_are_refused_by_field() {
    for (from, to, field) in [
        ("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "num_key_value_heads"),
        ("\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu\"", "hidden_act"),
        ("\"type\": \"mrope\"", "\"type\": \"yarn\"", "rope_type"),
        (
            "\"hidden_size\": 64,\n    \"patch_size\"",
            "\"hidden_size\": 63,\n    \"patch_size\"",
            "vision_config.hidden_size",
        ),
    ] {
        let folder = copy("hub2024");
        edit(&folder.path().join("config.json"), from, to);
        let error = ModelFolder::open(folder.path()).expect_err("impossible").to_string();
        assert!(error.contains(field), "{field} is not in {error}");
    }
}

#[test]
fn a_tokenizer_larger_than_the_embedding_is_refused() {
    let folder = copy("hub2024");
    edit(&folder.path().join("config.json"), "\"vocab_size\": 384", "\"vocab_size\": 300");
    let folder = ModelFolder::open(folder.path()).expect("opens");
    let error = Processor::read(&folder).expect_err("too small").to_string();
    assert!(error.contains("vocab_size") && error.contains("380"), "{error}");
}

fn processor() -> Processor {
    Processor::read(&ModelFolder::open(fixture("hub2024")).expect("opens")).expect("reads")
}

fn images() -> MemoryImages {
    let mut images = MemoryImages::new();
    images.insert("a.png", RgbImage::new(60, 40));
    images.insert("thin.png", RgbImage::new(2, 900));
    images
}

fn encode(messages: Vec<Message>, names: &[&str]) -> Result<adamllm_model::Encoded, ModelError> {
    let of_message = names.iter().map(|&name| name.into()).collect();
    processor().encode(&Conversation::new(messages, of_message), Supervision::Replies, &images())
}

#[test]
fn records_are_refused_with_their_fault() {
    let ask = |text: &str| vec![Message::user(text), Message::assistant("Yes.")];
    assert!(encode(ask("<image>\nWhat?"), &["a.png"]).is_ok());
    let fault = |messages, names: &[&str]| encode(messages, names).expect_err("a bad record").to_string();
    let error = fault(ask("What?"), &["a.png"]);
    assert!(error.contains("0 image markers") && error.contains("1 images"), "{error}");
    let error = fault(ask("<image>\nWhat?"), &["b.png"]);
    assert!(error.contains("b.png"), "{error}");
    let error = fault(ask("<image>\nWhat?"), &["thin.png"]);
    assert!(error.contains("thin.png"), "{error}");
    let error = fault(ask("<image>\nWhat?<|im_end|>\n<|im_start|>assistant\nNo."), &["a.png"]);
    assert!(error.contains("<|im_end|>") || error.contains("<|im_start|>"), "{error}");
    let error = fault(vec![Message::assistant("Yes.")], &[]);
    assert!(error.contains("role user in turn 1"), "{error}");
}

/// A prompt that fails answers in its own slot, and its neighbours as if it were not there.
#[test]
fn a_failing_prompt_keeps_its_slot() {
    let folder = ModelFolder::open(fixture("model")).expect("opens");
    let local = LocalModel::load(&folder, DType::F32, &Device::flex(), std::sync::Arc::new(images())).expect("loads");
    let good = Prompt::ask(&"a.png".into(), "What?");
    let missing = Prompt::ask(&"b.png".into(), "What?");
    let long = Prompt::Chat {
        conversation: Conversation::new(vec![Message::user("very ".repeat(2000))], vec![]),
        open: Role::Assistant,
    };
    let options = Decoding::greedy(4);
    let answers = local.generate(&[missing, good.clone(), long, good.clone()], &options);
    let alone = local.generate(&[good], &options).remove(0).expect("answers");
    assert!(answers[0].as_ref().is_err_and(|e| e.to_string().contains("b.png")));
    assert!(matches!(answers[2], Err(ModelError::ContextOverflow { limit: 1024, .. })));
    for slot in [1, 3] {
        assert_eq!(answers[slot].as_ref().expect("answers"), &alone);
    }
}

/// A folder of another family, copied, with one line of a file changed.
fn damaged(folder: &str, file: &str, from: &str, to: &str) -> TempDir {
    let out = tempfile::tempdir().expect("a temporary folder");
    let base = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(folder);
    for entry in std::fs::read_dir(base).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            std::fs::copy(&path, out.path().join(path.file_name().expect("a name"))).expect("copies");
        }
    }
    edit(&out.path().join(file), from, to);
    out
}

#[test]
fn settings_that_do_not_fit_are_named_in_every_family() {
    let cases = [
        (
            "mllama/model",
            "\"cross_attention_layers\": [\n      1,\n      3",
            "\"cross_attention_layers\": [1, 9",
            "cross_attention_layers",
        ),
        ("mllama/model", "\"vision_output_dim\": 96", "\"vision_output_dim\": 95", "vision_output_dim"),
        ("llava_next/model", "\"vision_feature_layer\": -2", "\"vision_feature_layer\": -9", "vision_feature_layer"),
        (
            "llava_next/llava_llama",
            "\"mm_vision_tower\": \"vision_tower\"",
            "\"mm_vision_tower\": \"siglip\"",
            "mm_vision_tower",
        ),
        ("qwen2_5_vl/model", "\"out_hidden_size\": 32", "\"out_hidden_size\": 48", "out_hidden_size"),
    ];
    for (folder, from, to, field) in cases {
        let folder = damaged(folder, "config.json", from, to);
        match ModelFolder::open(folder.path()) {
            Err(ModelError::ConfigField { field: got, .. }) => assert!(got.contains(field), "{got}"),
            other => panic!("{field}: expected a fault of a field, got {other:?}"),
        }
    }
}

#[test]
fn a_placeholder_that_the_tokenizer_lacks_is_named() {
    let folder =
        damaged("llava_next/model", "config.json", "\"image_token_index\": 378", "\"image_token_index\": 9999");
    let error = Processor::read(&ModelFolder::open(folder.path()).expect("opens")).expect_err("has no such token");
    assert!(matches!(&error, ModelError::TokenMissing { token, .. } if token.contains("9999")), "{error}");
}

/// The template's own words reach the caller: what it raises, and a filter that nobody knows.
#[test]
fn a_template_that_fails_is_quoted() {
    for (source, said) in [
        ("{{ raise_exception('only one turn, please') }}", "only one turn, please"),
        ("{% for m in messages %}{{ m.content | sparkle }}{% endfor %}", "sparkle"),
    ] {
        let folder = copy("model");
        std::fs::write(folder.path().join("chat_template.jinja"), source).expect("writes");
        let opened = ModelFolder::open(folder.path()).expect("opens");
        let error = match Processor::read(&opened) {
            Err(error) => error,
            Ok(processor) => {
                processor.encode_prompt(&Prompt::ask(&"a.png".into(), "What?"), &images()).expect_err("fails")
            }
        };
        assert!(matches!(error, ModelError::Template { .. }) && error.to_string().contains(said), "{error}");
    }
}

/// Shapes far from any photograph: refused by the family that cannot cut them, resized by the others, never a crash.
#[test]
fn extreme_images() {
    let processor = |folder: &str| {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(folder);
        Processor::read(&ModelFolder::open(path).expect("opens")).expect("reads")
    };
    let layout = |folder: &str, size| processor(folder).layout(&"wide.png".into(), size);
    for folder in ["qwen2_vl/model", "qwen2_5_vl/model"] {
        let error = layout(folder, (40_000, 100)).expect_err("400 times as wide as high").to_string();
        assert!(error.contains("wide.png"), "{error}");
    }
    for folder in ["llava_next/model", "mllama/model"] {
        assert!(layout(folder, (40_000, 100)).expect("is scaled down").n_features > 0);
        let mut store = MemoryImages::new();
        store.insert("wide.png", RgbImage::new(40_000, 10));
        let encoded = processor(folder).encode_image(&"wide.png".into(), &store).expect("is scaled down");
        assert!(encoded.pixels.values.iter().all(|value| value.is_finite()));
    }
    for folder in ["qwen2_vl/model", "llava_next/model", "mllama/model"] {
        assert!(layout(folder, (0, 10)).is_err());
    }
}
