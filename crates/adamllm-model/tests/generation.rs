//! What `generation_config.json` does to answers, equal to transformers' (`tools/fixtures/make_generation.py`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adamllm_core::{Decoding, Generate, MemoryImages, Prompt};
use adamllm_model::{LocalModel, ModelFolder};
use burn::tensor::{DType, Device};
use serde_json::{Value, json};

fn fixture() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/llama")).to_owned()
}

/// The model with these generation settings.
fn model(settings: &Value) -> (tempfile::TempDir, LocalModel) {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(fixture().join("model")).expect("lists") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("copies");
    }
    std::fs::write(folder.path().join("generation_config.json"), settings.to_string()).expect("writes");
    let opened = ModelFolder::open(folder.path()).expect("opens");
    let images = Arc::new(MemoryImages::new());
    let local = LocalModel::load(&opened, DType::F32, &Device::flex(), images).expect("loads");
    (folder, local)
}

fn recorded() -> Value {
    let text = std::fs::read_to_string(fixture().join("generation.json")).expect("committed");
    serde_json::from_str(&text).expect("valid JSON")
}

fn answer(model: &LocalModel, decoding: &Decoding) -> Result<Vec<u32>, String> {
    let prompt = Prompt::Text(recorded()["text"].as_str().expect("text").into());
    model.generate(&[prompt], decoding).remove(0).map(|c| c.tokens).map_err(|e| e.to_string())
}

#[test]
fn answers_follow_the_folder() {
    let recorded = recorded();
    let greedy = Decoding::greedy(recorded["max_new_tokens"].as_u64().expect("a number") as usize);
    let cases = recorded["cases"].as_array().expect("a list");
    assert!(cases.len() > 10);
    for case in cases {
        let (_folder, model) = model(&case["settings"]);
        assert_eq!(json!(answer(&model, &greedy)), json!({"Ok": case["output_ids"]}), "{}", case["settings"]);
    }
}

#[test]
fn requests_come_before_the_folder() {
    let recorded = recorded();
    let of = |settings: &Value| {
        let mut cases = recorded["cases"].as_array().expect("a list").iter();
        let case = cases.find(|case| case["settings"] == *settings).expect("recorded");
        serde_json::from_value::<Vec<u32>>(case["output_ids"].clone()).expect("ids")
    };
    let greedy = Decoding::greedy(24);
    let (_folder, penalised) = model(&json!({"repetition_penalty": 1.5}));
    let own = Decoding { repetition_penalty: Some(1.05), ..greedy.clone() };
    assert_eq!(answer(&penalised, &own), Ok(of(&json!({"repetition_penalty": 1.05}))));
    let without = Decoding { model_defaults: false, ..greedy.clone() };
    assert_eq!(answer(&penalised, &without), Ok(of(&json!({}))));

    // What is not done here is said, and can be passed over.
    let (_folder, beams) = model(&json!({"num_beams": 4}));
    let error = answer(&beams, &greedy).expect_err("refused");
    assert!(error.contains("num_beams") && error.contains("generation_config.json"), "{error}");
    assert_eq!(answer(&beams, &without), Ok(of(&json!({}))));
}

#[test]
fn the_identity_changes_with_the_settings() {
    let (_first, plain) = model(&json!({}));
    let (_second, penalised) = model(&json!({"repetition_penalty": 1.5}));
    assert_ne!(plain.identity(), penalised.identity());
    assert_eq!(penalised.generation_defaults().summary().as_deref(), Some("repetition_penalty = 1.5"));
    assert_eq!(plain.generation_defaults().summary(), None);
}
