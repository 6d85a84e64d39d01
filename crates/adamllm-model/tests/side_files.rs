//! Side files of a folder against each other and against the model.

use std::path::{Path, PathBuf};

use adamllm_core::{Conversation, ImageRef, MemoryImages, Message, Prompt, RgbImage, Role, Supervision};
use adamllm_model::{ModelFolder, PixelRange, Processor};
use serde_json::{Value, json};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

/// A folder's files without its weights.
fn copy(name: &str) -> TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(fixture(name)).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_file() && path.extension().is_none_or(|end| end != "safetensors") {
            std::fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("copies");
        }
    }
    copy
}

fn read(folder: &Path) -> Result<Processor, String> {
    ModelFolder::open(folder).and_then(|folder| Processor::read(&folder)).map_err(|error| error.to_string())
}

fn change(path: &Path, edit: impl FnOnce(&mut Value)) {
    let text = std::fs::read_to_string(path).expect("reads");
    let mut json: Value = serde_json::from_str(&text).expect("valid JSON");
    edit(&mut json);
    std::fs::write(path, json.to_string()).expect("writes");
}

fn images() -> MemoryImages {
    let mut images = MemoryImages::new();
    images.insert("a.png", RgbImage::from_fn(50, 30, |x, y| [x as u8, y as u8, 7].into()));
    images
}

#[test]
fn the_encoder_says_how_images_are_cut() {
    for (field, value, expected) in [("patch_size", 13, "14"), ("merge_size", 3, "2"), ("temporal_patch_size", 1, "2")]
    {
        let folder = copy("qwen2_vl/hub2024");
        change(&folder.path().join("preprocessor_config.json"), |json| json[field] = json!(value));
        let error = read(folder.path()).expect_err("contradicts");
        assert!(error.contains("preprocessor_config.json") && error.contains(field), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_newer_file_of_image_settings_counts() {
    let folder = copy("qwen2_vl/hub2024");
    // A large square image becomes as many features as `max_pixels` allows.
    let most_features = |folder: &TempDir| {
        let processor = read(folder.path()).expect("reads");
        processor.layout(&"any".into(), (10_000, 10_000)).expect("is scaled down").n_features
    };
    let older = most_features(&folder);
    let newer = folder.path().join("processor_config.json");
    // Without the member the older file counts.
    std::fs::write(&newer, r#"{"processor_class": "Qwen2VLProcessor", "image_processor": null}"#).expect("writes");
    assert_eq!(most_features(&folder), older);
    let settings = json!({"image_processor": {"min_pixels": 784, "max_pixels": 784 * 5}});
    std::fs::write(&newer, settings.to_string()).expect("writes");
    assert_ne!(older, 4);
    assert_eq!(most_features(&folder), 4);
}

/// A folder whose placeholder is the token `<image>` reads prompts and examples as the same folder with another name.
#[test]
fn the_marker_may_be_the_placeholders_name() {
    let (plain, renamed) = (copy("llava_next/model"), copy("llava_next/model"));
    for entry in std::fs::read_dir(renamed.path()).expect("lists") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("reads");
        std::fs::write(&path, text.replace("<|reserved_special_token_4|>", "<image>")).expect("writes");
    }
    let [plain, renamed] = [&plain, &renamed].map(|folder| read(folder.path()).expect("reads"));
    let question = Message::user("<image>\nWhat is it?");
    let prompt = Prompt::chat(vec![question.clone()], vec!["a.png".into()]);
    let ids = |processor: &Processor| processor.encode_prompt(&prompt, &images()).expect("encodes").tokens;
    assert_eq!(ids(&plain), ids(&renamed));

    let messages = vec![question, Message::assistant("A bowl.")];
    let example = Conversation::new(messages, vec!["a.png".into()]);
    let encoded = |processor: &Processor| {
        let encoded = processor.encode(&example, Supervision::Replies, &images()).expect("encodes");
        (encoded.tokens, encoded.targets)
    };
    assert_eq!(encoded(&plain), encoded(&renamed));

    // Other special tokens are refused, as before; so is the placeholder where it is not the marker itself.
    let refused = |processor: &Processor, text: &str| {
        let prompt = Prompt::chat(vec![Message::user(text)], vec![]);
        processor.encode_prompt(&prompt, &images()).expect_err("refused").to_string()
    };
    assert!(refused(&renamed, "<|eot_id|>").contains("special token"));
    assert!(refused(&plain, "<|reserved_special_token_4|>").contains("special token"));
}

#[test]
fn tokens_without_an_embedding_are_errors_of_their_text() {
    let folder = copy("llama/model");
    let n = read(folder.path()).expect("reads").text().vocab_size();
    change(&folder.path().join("tokenizer_config.json"), |json| {
        for i in 0..40 {
            let token = json!({"content": format!("<extra{i}>"), "special": false});
            json["added_tokens_decoder"][(n + i).to_string()] = token;
        }
    });
    let processor = read(folder.path()).expect("reads, with a warning");
    let ask = |text: &str| processor.encode_prompt(&Prompt::Text(text.into()), &images());
    ask("Why?").expect("all tokens have embeddings");
    let error = ask("Why <extra39>?").expect_err("no embedding").to_string();
    assert!(error.contains("<extra39>") && error.contains("384"), "{error}");
}

#[test]
fn an_empty_prompt_is_an_error() {
    let processor = read(&fixture("qwen2/model")).expect("reads");
    let error = processor.encode_prompt(&Prompt::Text(String::new()), &images()).expect_err("empty").to_string();
    assert!(error.contains("no token"), "{error}");
}

/// A run's bounds of an image's pixels do what the same bounds in the folder's files do, and nothing where there are none to set.
#[test]
fn bounds_of_an_images_pixels_for_one_run() {
    let range = |min_pixels, max_pixels| PixelRange { min_pixels, max_pixels };
    let request = Message::new(Role::User, "<image> What is it?");
    let prompt = Prompt::chat(vec![request], vec![ImageRef::from("a.png")]);
    let encoded = |folder: ModelFolder| {
        let processor = Processor::read(&folder).expect("reads");
        processor.encode_prompt(&prompt, &images()).expect("encodes")
    };
    let plain = encoded(ModelFolder::open(fixture("qwen2_vl/hub2024")).expect("opens"));
    for (min, max) in [(Some(784 * 16), None), (None, Some(784 * 4)), (Some(784 * 9), Some(784 * 12))] {
        let written = copy("qwen2_vl/hub2024");
        change(&written.path().join("preprocessor_config.json"), |json| {
            min.into_iter().for_each(|min: u64| json["min_pixels"] = json!(min));
            max.into_iter().for_each(|max: u64| json["max_pixels"] = json!(max));
        });
        let expected = encoded(ModelFolder::open(written.path()).expect("opens"));
        let set = ModelFolder::open(fixture("qwen2_vl/hub2024")).expect("opens").with_pixel_range(range(min, max));
        let found = encoded(set);
        assert_eq!((&found.tokens, &found.images[0].pixels), (&expected.tokens, &expected.images[0].pixels));
        assert_eq!(found.tokens != plain.tokens, min.is_some(), "a small image grows, and does not shrink");
    }

    let refused = |name: &str, range| {
        let folder = ModelFolder::open(fixture(name)).expect("opens").with_pixel_range(range);
        Processor::read(&folder).expect_err("refused").to_string()
    };
    let error = refused("qwen2_vl/hub2024", range(Some(784 * 9), Some(784)));
    assert!(error.contains("min_pixels") && error.contains("7056"), "{error}");
    let error = refused("llava_next/model", range(None, Some(784)));
    assert!(error.contains("max_pixels") && error.contains("llava_next") && error.contains("tiles"), "{error}");
    let error = refused("llama/model", range(None, Some(784)));
    assert!(error.contains("llama"), "{error}");
}
