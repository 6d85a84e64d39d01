//! Folders as other tools and versions leave them: fields of `config.json` left out, renamed or doubled, keys under other
//! prefixes, and folders at fault, which are refused by name and never crash.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adamllm_core::{Conversation, Decoding, Generate, MemoryImages, Message, Prompt, Role};
use adamllm_model::{LocalModel, ModelError, ModelFolder, Processor};
use adamllm_nn::{Eager, VisionEncoder};
use burn::tensor::{DType, Device};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"))
}

/// A copy of a fixture's folder, to be changed.
fn copy(folder: &str) -> TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    for entry in std::fs::read_dir(fixtures().join(folder)).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            std::fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("copies");
        }
    }
    copy
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("reads")).expect("valid JSON")
}

/// Changes `config.json` through a function.
fn edit_config(folder: &Path, edit: impl FnOnce(&mut Value)) {
    let path = folder.join("config.json");
    let mut config = read_json(&path);
    edit(&mut config);
    std::fs::write(path, config.to_string()).expect("writes");
}

/// The section and the name of a dotted path.
fn section_of<'v>(config: &'v mut Value, path: &str) -> (&'v mut serde_json::Map<String, Value>, String) {
    let mut parts: Vec<&str> = path.split('.').collect();
    let last = parts.pop().expect("a name").to_owned();
    let section = parts.into_iter().fold(config, |section, part| &mut section[part]);
    (section.as_object_mut().expect("an object"), last)
}

fn load(folder: &Path) -> LocalModel {
    let folder = ModelFolder::open(folder).unwrap_or_else(|e| panic!("{e}"));
    let images = std::sync::Arc::new(MemoryImages::new());
    LocalModel::load(&folder, DType::F32, &Device::flex(), images).unwrap_or_else(|e| panic!("{e}"))
}

fn load_error(folder: &Path) -> String {
    match ModelFolder::open(folder) {
        Err(error) => error.to_string(),
        Ok(folder) => folder.load(DType::F32, &Device::flex()).expect_err("at fault").to_string(),
    }
}

/// The text prompt of a fixture.
fn text_prompt(folder: &str) -> Prompt {
    let family = folder.split('/').next().expect("a family");
    let cases = read_json(&fixtures().join(family).join("cases.json"));
    let prompts = cases["prompts"].as_array().expect("a list");
    let case = prompts.iter().find(|case| case["name"] == "text_only").expect("recorded");
    let message = |message: &Value| {
        let content = message["content"].as_str().expect("text");
        match message["role"].as_str() {
            Some("assistant") => Message::assistant(content),
            Some("system") => Message::new(Role::System, content),
            _ => Message::user(content),
        }
    };
    let messages = case["messages"].as_array().expect("a list").iter().map(message).collect();
    Prompt::Chat { conversation: Conversation::new(messages, vec![]), open: Role::Assistant }
}

/// Every variant's logits and tokens are those that transformers gives for the changed folder.
#[test]
fn changed_configurations_answer_as_in_transformers() {
    let variants = read_json(&fixtures().join("variants.json"));
    for variant in variants.as_array().expect("a list") {
        let name = variant["name"].as_str().expect("a name");
        let folder = copy(variant["folder"].as_str().expect("a folder"));
        edit_config(folder.path(), |config| {
            for (path, value) in variant["set"].as_object().expect("fields") {
                let (section, field) = section_of(config, path);
                section.insert(field, value.clone());
            }
            for path in variant["remove"].as_array().expect("fields") {
                let (section, field) = section_of(config, path.as_str().expect("a path"));
                section.remove(&field);
            }
        });
        let ids: Vec<u32> = serde_json::from_value(variant["input_ids"].clone()).expect("tokens");
        let expected: Vec<f32> = serde_json::from_value(variant["logits_last"].clone()).expect("numbers");
        let greedy: Vec<u32> = serde_json::from_value(variant["greedy_ids"].clone()).expect("tokens");
        let model = load(folder.path());
        let prompt = text_prompt(variant["folder"].as_str().expect("a folder"));
        let encoded = model.processor().encode_prompt(&prompt, model.images()).expect("encodes");
        assert_eq!(encoded.tokens, ids, "{name}");
        let logits = model.last_logits(&encoded);
        let largest = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        let apart = logits.iter().zip(&expected).fold(0.0_f32, |max, (a, b)| max.max((a - b).abs())) / largest;
        assert!(apart < 1e-4, "{name}: logits differ by {apart}");
        let options = Decoding { keep_special_tokens: true, ..Decoding::greedy(greedy.len()) };
        let text = model.generate(&[prompt], &options).remove(0).expect("answers").text;
        let expected = model.processor().text().decode(&greedy, true).expect("decodes");
        assert!(expected.starts_with(&text) && !text.is_empty(), "{name}: {text:?} is not {expected:?}");
    }
}

/// Renames the keys of `model.safetensors`.
fn rename_keys(folder: &Path, rename: impl Fn(&str) -> String) {
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).expect("reads");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    let renamed: BTreeMap<String, Value> = header
        .into_iter()
        .map(|(key, value)| (if key == "__metadata__" { key } else { rename(&key) }, value))
        .collect();
    let header = serde_json::to_vec(&renamed).expect("plain values");
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    out.extend(&bytes[8 + length..]);
    std::fs::write(path, out).expect("writes");
}

/// `key` with the first of the prefixes that it has replaced.
fn swapped(key: &str, prefixes: &[(&str, &str)]) -> String {
    let found = prefixes.iter().find_map(|(from, to)| key.strip_prefix(from).map(|rest| format!("{to}{rest}")));
    found.unwrap_or_else(|| key.to_owned())
}

type Prefixes = &'static [(&'static str, &'static str)];

/// The mixtures that `save_pretrained` of 4.45 to 5.23 and wrapped training loops write; answers stay, and an export has the
/// base's keys.
#[test]
fn every_part_may_have_each_of_its_prefixes() {
    let mixtures: [(&str, Prefixes); 13] = [
        ("qwen2_vl", &[("model.language_model.", "model.")]),
        ("qwen2_vl", &[("model.visual.", "visual.")]),
        ("qwen2_vl", &[("model.language_model.", "language_model.model."), ("lm_head.", "language_model.lm_head.")]),
        ("qwen2_5_vl", &[("model.language_model.", "model."), ("model.visual.", "visual.")]),
        ("llava_next", &[("model.vision_tower.", "model.vision_tower.vision_model.")]),
        ("llava_next", &[("model.language_model.", "language_model.model."), ("model.", "")]),
        ("llava_next", &[("model.vision_tower.", "vision_tower."), ("lm_head.", "language_model.lm_head.")]),
        ("mllama", &[("model.language_model.", "language_model.model."), ("model.vision_model.", "vision_model.")]),
        ("smolvlm", &[("model.vision_model.", "vision_model."), ("model.connector.", "connector.")]),
        ("smolvlm", &[("model.", "model.model.")]),
        ("llama", &[("model.", "")]),
        ("qwen2_vl", &[("", "_orig_mod.")]),
        ("llama", &[("model.layers.0.", "base_model.model.model.layers.0._orig_mod."), ("", "base_model.model.")]),
    ];
    for (family, prefixes) in mixtures {
        let folder = copy(&format!("{family}/model"));
        let text = "What is it?";
        let prompt = [Prompt::Text(text.into())];
        let logits = |model: &LocalModel| {
            model.last_logits(&model.processor().encode_prompt(&prompt[0], model.images()).expect("encodes"))
        };
        let expected = logits(&load(folder.path()));
        rename_keys(folder.path(), |key| swapped(key, prefixes));
        let opened = ModelFolder::open(folder.path()).expect("opens");
        assert_eq!(logits(&load(folder.path())), expected, "{family} {prefixes:?}");

        let out = tempfile::tempdir().expect("a temporary folder");
        let model = opened.load(DType::F32, &Device::flex()).expect("loads");
        opened.save(&model, out.path()).expect("saves");
        let saved = ModelFolder::open(out.path()).expect("opens");
        assert_eq!(saved.verify(&opened).expect("reads"), [], "{family} {prefixes:?}");
        assert_eq!(logits(&load(out.path())), expected, "{family} {prefixes:?}");
    }
}

/// The vision encoder of each family, read by itself, gives the features that it gives inside its model.
#[test]
fn the_vision_encoder_can_be_read_alone() {
    let more = ["llava_next/model", "mllama/hub2024", "smolvlm/model"];
    for family in ["qwen2_vl/hub2024", "qwen2_5_vl/model", "qwen3_vl/model"].into_iter().chain(more) {
        let folder = ModelFolder::open(fixtures().join(family)).expect("opens");
        let device = Device::flex();
        let mut images = MemoryImages::new();
        let mut image = adamllm_core::RgbImage::new(70, 60);
        image.enumerate_pixels_mut().for_each(|(x, y, pixel)| pixel.0 = [(x * 3) as u8, (y * 4) as u8, (x * y) as u8]);
        images.insert("a.png", image);
        let processor = Processor::read(&folder).expect("reads");
        let image = processor.encode_image(&"a.png".into(), &images).expect("encodes");
        let alone = folder.load_vision(DType::F32, &device).expect("loads");
        let whole = folder.load(DType::F32, &device).expect("loads");
        let features = alone.encode(&[&image.pixels], &mut Eager);
        let expected = whole.encode_images(std::slice::from_ref(&image)).features;
        assert_eq!(features.dims()[1], folder.config().decoder.d_model, "{family}");
        assert_eq!(features.into_data(), expected.into_data(), "{family}");
    }
    let text = ModelFolder::open(fixtures().join("llama/model")).expect("opens");
    assert!(matches!(text.load_vision(DType::F32, &Device::flex()), Err(ModelError::NoVision { .. })));
}

#[test]
fn two_names_of_one_field_may_stand_side_by_side() {
    let both = |value: u64| {
        let folder = copy("qwen2_vl/hub2024");
        edit_config(folder.path(), |config| {
            config["vision_config"]["in_channels"] = json!(3);
            config["vision_config"]["in_chans"] = json!(3);
            config["image_token_index"] = json!(value);
        });
        let token = read_json(&folder.path().join("config.json"))["image_token_id"].as_u64();
        (ModelFolder::open(folder.path()), token)
    };
    let (_, token) = both(0);
    assert!(both(token.expect("a token")).0.is_ok());
    let error = both(1).0.expect_err("unequal").to_string();
    assert!(error.contains("image_token_id") && error.contains("image_token_index"), "{error}");
}

#[test]
fn what_changes_the_arithmetic_is_refused_by_name() {
    let cases: [(&str, &str, Value); 33] = [
        ("llama/model", "rope_scaling", json!({"rope_type": "yarn", "factor": 4.0})),
        ("llama/model", "rope_scaling", json!({"rope_type": "dynamic", "factor": 4.0})),
        ("llama/model", "rope_scaling", json!({"rope_type": "linear"})),
        ("llama/model", "rope_scaling", json!({"rope_type": "default", "short_factor": [1.0]})),
        ("llama/model", "attention_bias", json!(true)),
        ("llama/model", "mlp_bias", json!(true)),
        ("qwen3/model", "attention_bias", json!(true)),
        ("qwen3/model", "model_type", json!("qwen3_moe")),
        ("qwen3_vl/model", "model_type", json!("qwen3_vl_moe")),
        ("qwen3_vl/model", "vision_config.deepstack_visual_indexes", json!([0, 3])),
        ("qwen3_vl/model", "vision_config.deepstack_visual_indexes", json!([1, 1])),
        ("qwen3_vl/model", "vision_config.out_hidden_size", json!(24)),
        ("qwen3_vl/model", "text_config.rope_parameters.mrope_interleaved", json!(false)),
        ("qwen3_vl/model", "text_config.rope_parameters.rope_theta", json!(null)),
        ("llama/model", "hidden_act", json!("gelu")),
        ("llama/model", "num_attention_heads", json!(0)),
        ("llama/model", "num_hidden_layers", json!(1_000_000_000_u64)),
        ("llama/model", "hidden_size", json!("64")),
        ("llama/model", "partial_rotary_factor", json!(0.5)),
        ("llava_next/model", "text_config.model_type", json!("granite")),
        ("llava_next/model", "vision_config.model_type", json!("siglip_vision_model")),
        ("llava_next/model", "vision_feature_layer", json!([-2, -1])),
        ("llava_next/model", "vision_feature_select_strategy", json!("full")),
        ("llava_next/model", "multimodal_projector_bias", json!(false)),
        ("mllama/model", "vision_config.supported_aspect_ratios", json!([[1, 1]])),
        ("smolvlm/model", "model_type", json!("idefics2")),
        ("smolvlm/model", "model_type", json!("idefics")),
        ("smolvlm/model", "text_config.model_type", json!("mistral")),
        ("smolvlm/model", "text_config.attention_bias", json!(true)),
        ("smolvlm/model", "scale_factor", json!(0)),
        ("idefics3/model", "vision_config.image_size", json!([32, 32])),
        ("idefics3/model", "vision_config.hidden_act", json!("relu")),
        ("qwen2_vl/model", "vision_config.depth", json!(1_000_000_000_u64)),
    ];
    for (base, path, value) in cases {
        let folder = copy(base);
        edit_config(folder.path(), |config| {
            let (section, field) = section_of(config, path);
            section.insert(field, value.clone());
        });
        let error = load_error(folder.path());
        let field = path.rsplit('.').next().expect("a name");
        assert!(error.contains(field) && error.contains("config.json"), "{path} = {value}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn quantised_folders_are_named() {
    for (config, method) in [
        (json!({"quant_method": "awq", "bits": 4}), "awq"),
        (json!({"quant_method": "fp8"}), "fp8"),
        (json!({"load_in_4bit": true}), "bitsandbytes"),
        (json!({"quant_method": "compressed-tensors"}), "compressed-tensors"),
    ] {
        let folder = copy("llama/model");
        edit_config(folder.path(), |root| root["quantization_config"] = config.clone());
        let error = load_error(folder.path());
        assert!(error.contains(method) && error.contains("quantised") && error.lines().count() == 1, "{error}");
    }
    // Without a word in config.json, the keys decide.
    let folder = copy("llama/model");
    rename_keys(folder.path(), |key| key.replace("q_proj.weight", "q_proj.qweight"));
    let error = load_error(folder.path());
    assert!(error.contains("quantised"), "{error}");
}

#[test]
fn a_single_file_beside_an_index() {
    let folder = copy("qwen2_vl/model");
    let index = |map: Value| {
        let index = json!({"metadata": {}, "weight_map": map});
        std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).expect("writes");
    };
    // A stale index, whose shards are gone: transformers reads the single file.
    index(json!({"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}));
    let opened = ModelFolder::open(folder.path()).expect("opens");
    let model = opened.load(DType::F32, &Device::flex()).expect("loads the single file");
    let out = tempfile::tempdir().expect("a temporary folder");
    opened.save(&model, out.path()).expect("saves");
    // Not over itself: its weights are read while they are written.
    let itself = ModelFolder::open(out.path()).expect("opens");
    assert!(matches!(itself.save(&model, &out.path().join(".")), Err(ModelError::OverItsBase { .. })));
    assert!(!out.path().join("model.safetensors.index.json").exists(), "the stale index is not copied");
    // Both there: ambiguous.
    let single = folder.path().join("model.safetensors");
    std::fs::copy(&single, folder.path().join("model-00001-of-00002.safetensors")).expect("copies");
    let error = load_error(folder.path());
    assert!(error.contains("model.safetensors") && error.contains("model-00001-of-00002.safetensors"), "{error}");
    // A key that the shard does not hold.
    index(json!({"no.such.tensor": "model.safetensors"}));
    let error = load_error(folder.path());
    assert!(error.contains("no.such.tensor"), "{error}");
}

#[test]
fn an_export_takes_along_what_belongs_to_the_model() {
    let folder = copy("llama/model");
    let strange =
        ["pytorch_model.bin", "optimizer.pt", "trainer_state.json", "adapter_config.json", "README.md", "run.log"];
    for name in strange {
        std::fs::write(folder.path().join(name), "{}").expect("writes");
    }
    for name in ["LICENSE.txt", "NOTICE", "added_tokens.json"] {
        std::fs::write(folder.path().join(name), "{}").expect("writes");
    }
    std::fs::create_dir(folder.path().join("additional_chat_templates")).expect("makes");
    std::fs::write(folder.path().join("additional_chat_templates/tool_use.jinja"), "x").expect("writes");
    let opened = ModelFolder::open(folder.path()).expect("opens");
    let model = opened.load(DType::F32, &Device::flex()).expect("loads");
    let out = tempfile::tempdir().expect("a temporary folder");
    opened.save(&model, out.path()).expect("saves");
    for name in strange {
        assert!(!out.path().join(name).exists(), "{name} was copied");
    }
    for name in
        ["LICENSE.txt", "NOTICE", "added_tokens.json", "config.json", "additional_chat_templates/tool_use.jinja"]
    {
        assert!(out.path().join(name).exists(), "{name} was not copied");
    }
}

#[test]
fn folders_that_hold_no_model_say_what_they_hold() {
    let folder = copy("llama/model");
    std::fs::rename(folder.path().join("model.safetensors"), folder.path().join("pytorch_model.bin")).expect("renames");
    let error = load_error(folder.path());
    assert!(error.contains("pickled"), "{error}");
    let error = ModelFolder::open("/no/such/folder").expect_err("nothing there").to_string();
    assert!(error.contains("no such folder"), "{error}");
    let adapter = copy("adapter");
    let error = ModelFolder::open(adapter.path()).expect_err("no base").to_string();
    assert!(error.contains("base_model_name_or_path"), "{error}");
}

/// One change of a JSON value somewhere in a file.
#[derive(Clone, Debug)]
struct Mutation {
    index: prop::sample::Index,
    value: Value,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let values = prop_oneof![
        Just(json!(null)),
        Just(json!(0)),
        Just(json!(-1)),
        Just(json!(1)),
        Just(json!(3)),
        Just(json!(1e30)),
        Just(json!(u64::MAX)),
        Just(json!("")),
        Just(json!("x")),
        Just(json!([])),
        Just(json!([0, 0, 0])),
        Just(json!({})),
        Just(json!(true)),
        Just(json!(0.5)),
        Just(json!(1_000_000_007_u64)),
        Just(json!(65_536)),
    ];
    (any::<prop::sample::Index>(), values).prop_map(|(index, value)| Mutation { index, value })
}

/// Paths of all values below `value`.
fn paths(value: &Value, prefix: &str, found: &mut Vec<String>) {
    let mut add = |name: String, inner: &Value| {
        let path = format!("{prefix}/{}", name.replace('~', "~0").replace('/', "~1"));
        found.push(path.clone());
        paths(inner, &path, found);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(name, inner)| add(name.clone(), inner)),
        Value::Array(list) => list.iter().take(4).enumerate().for_each(|(i, inner)| add(i.to_string(), inner)),
        _ => {}
    }
}

const FAMILIES: [&str; 11] = [
    "qwen2_vl/model",
    "qwen2_vl/hub2024",
    "qwen2_5_vl/hub2024",
    "llava_next/model",
    "mllama/model",
    "llama/model",
    "qwen2/model",
    "qwen3/model",
    "qwen3_vl/model",
    "smolvlm/model",
    "idefics3/model",
];

/// Loads and asks: whatever happens, it is an answer or an error.
fn try_all(folder: &Path) -> Result<(), ModelError> {
    let folder = ModelFolder::open(folder)?;
    let images = std::sync::Arc::new(MemoryImages::new());
    let model = LocalModel::load(&folder, DType::F32, &Device::flex(), images)?;
    model.generate(&[Prompt::Text("What is it?".into())], &Decoding::greedy(1)).remove(0).map(drop)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_configuration_crashes(family in prop::sample::select(&FAMILIES[..]), mutations in prop::collection::vec(mutation(), 1..3)) {
        let folder = copy(family);
        edit_config(folder.path(), |config| {
            for mutation in &mutations {
                let mut all = Vec::new();
                paths(config, "", &mut all);
                let path = &all[mutation.index.index(all.len())];
                *config.pointer_mut(path).expect("a path of it") = mutation.value.clone();
            }
        });
        if let Err(error) = try_all(folder.path()) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn no_header_or_index_crashes(offset in any::<prop::sample::Index>(), byte in any::<u8>(), cut in prop::option::of(any::<prop::sample::Index>())) {
        let folder = copy("llama/model");
        let path = folder.path().join("model.safetensors");
        let mut bytes = std::fs::read(&path).expect("reads");
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        bytes[offset.index(8 + length)] = byte;
        if let Some(cut) = cut {
            let length = cut.index(bytes.len());
            bytes.truncate(length);
        }
        std::fs::write(&path, &bytes).expect("writes");
        if let Err(error) = try_all(folder.path()) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
