//! The layouts of folders, what a saved one keeps, and models loaded in another way than the fixtures'.

use adamllm_core::{Conversation, ImageStore, Message, Prompt, Role};
use adamllm_model::{BatchLimits, Difference, LocalModel, ModelFolder, Processor};
use adamllm_nn::snapshots;
use burn::tensor::{DType, Device};
use serde_json::Value;

use crate::checks::{check_pixels, check_prompts, difference, greedy_ids};
use crate::fixture::{Decoded, Fixture, fixtures, images, prompt};

/// A fixture's folder as the Hub has it: `config.json` as `change` leaves it, image settings and the template in files of their own.
fn published(fixture: &Fixture, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let read = |name: &str| std::fs::read(fixture.folder.path().join(name)).expect("a committed fixture");
    let json = |name: &str| serde_json::from_slice::<Value>(&read(name)).expect("valid JSON");
    let write = |name: &str, bytes: Vec<u8>| std::fs::write(folder.path().join(name), bytes).expect("writes");
    for name in ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        write(name, read(name));
    }
    let mut config = json("config.json");
    change(&mut config);
    write("config.json", config.to_string().into_bytes());
    write("preprocessor_config.json", json("processor_config.json")["image_processor"].to_string().into_bytes());
    let template = String::from_utf8(read("chat_template.jinja")).expect("text");
    write("chat_template.json", serde_json::json!({ "chat_template": template }).to_string().into_bytes());
    folder
}

/// The base of the angles outside `rope_scaling`, another `model_type` inside `vision_config`.
#[test]
fn qwen3_vl_as_published() {
    let mut fixture = Fixture::open("qwen3_vl", "model", "cases.json", "expected.safetensors");
    let folder = published(&fixture, |config| {
        let text = config["text_config"].as_object_mut().expect("a section");
        let mut rope = text.remove("rope_parameters").expect("written");
        let theta = rope.as_object_mut().expect("an object").remove("rope_theta").expect("written");
        text.insert("rope_theta".into(), theta);
        text.insert("rope_scaling".into(), rope);
        config["vision_config"]["model_type"] = "qwen3_vl".into();
    });
    fixture.folder = ModelFolder::open(folder.path()).expect("opens");
    check_prompts(&fixture);
    check_pixels(&fixture);
}

/// The base of the angles outside `rope_parameters`, fields that no class knows, the number of placeholders alone in
/// `processor_config.json`.
#[test]
fn smolvlm_as_published() {
    let mut fixture = Fixture::open("smolvlm", "model", "cases.json", "expected.safetensors");
    let folder = published(&fixture, |config| {
        let text = config["text_config"].as_object_mut().expect("a section");
        let rope = text.remove("rope_parameters").expect("written");
        text.insert("rope_theta".into(), rope["rope_theta"].clone());
        text.insert("architectures".into(), serde_json::json!(["VLlama3ForCausalLM"]));
        for (field, value) in [("qk_layer_norms", false), ("rope_interleaved", false), ("is_llama_config", true)] {
            text.insert(field.into(), value.into());
        }
        config["pad_token_id"] = 128_002.into();
        config["vision_config"]["size"] = serde_json::json!({ "longest_edge": 72 });
    });
    let settings = br#"{"image_seq_len": 9, "processor_class": "SmolVLMProcessor"}"#;
    std::fs::write(folder.path().join("processor_config.json"), settings).expect("writes");
    fixture.folder = ModelFolder::open(folder.path()).expect("opens");
    check_prompts(&fixture);
    check_pixels(&fixture);
}

/// A number of placeholders, a side of tiles and a tokenizer that do not fit the encoder are errors that name the field.
#[test]
fn smolvlm_settings_that_do_not_fit() {
    let refused = |file: &str, change: fn(&mut Value)| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for entry in std::fs::read_dir(fixtures().join("smolvlm/model")).expect("a committed folder") {
            let path = entry.expect("an entry").path();
            std::fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("copies");
        }
        let path = folder.path().join(file);
        let mut json: Value = serde_json::from_slice(&std::fs::read(&path).expect("reads")).expect("valid JSON");
        change(&mut json);
        std::fs::write(&path, json.to_string()).expect("writes");
        let folder = ModelFolder::open(folder.path()).expect("opens");
        Processor::read(&folder).expect_err("refused").to_string()
    };
    let settings = "processor_config.json";
    let error = refused(settings, |json| json["image_seq_len"] = 8.into());
    assert!(error.contains("image_seq_len") && error.contains('9'), "{error}");
    let error = refused(settings, |json| drop(json.as_object_mut().expect("an object").remove("image_seq_len")));
    assert!(error.contains("image_seq_len") && error.contains("169"), "the default of the class: {error}");
    let error = refused(settings, |json| json["image_processor"]["max_image_size"]["longest_edge"] = 20.into());
    assert!(error.contains("max_image_size.longest_edge") && error.contains("scale_factor"), "{error}");
    let error = refused("tokenizer_config.json", |json| json["global_image_token"] = "<whole>".into());
    assert!(error.contains("global_image_token") && error.contains("<whole>"), "{error}");
    let error = refused("tokenizer.json", |json| {
        let tokens = json["added_tokens"].as_array_mut().expect("a list");
        tokens.iter_mut().filter(|token| token["content"] == "<fake_token_around_image>").for_each(|token| {
            token["content"] = "<another>".into();
        });
    });
    assert!(error.contains("<fake_token_around_image>"), "{error}");
}

/// The first authors' layout holds the same model: the same weights under other keys, the same canvases (written the
/// other way round), and a prompt with the system line that the folder does not bring.
#[test]
fn llava_next_in_its_first_layout() {
    let hub = ModelFolder::open(fixtures().join("llava_next/model")).expect("opens");
    let first = ModelFolder::open(fixtures().join("llava_next/llava_llama")).expect("opens");
    let load = |folder: &ModelFolder| folder.load(DType::F32, &Device::flex()).expect("loads");
    let (a, b) = (load(&hub), load(&first));
    for (a, b) in snapshots(&a).iter().zip(snapshots(&b)) {
        assert_eq!((&a.info.name, a.read()), (&b.info.name, b.read()));
    }
    let [hub, first] = [&hub, &first].map(|folder| Processor::read(folder).expect("reads"));
    let conversation = Conversation::new(
        vec![Message::new(Role::System, "Look."), Message::user("<image>\nWhat is it?")],
        vec!["wide".into()],
    );
    let prompt = Prompt::Chat { conversation, open: Role::Assistant };
    let [expected, got] = [&hub, &first].map(|p| p.encode_prompt(&prompt, &images()).expect("encodes"));
    assert_eq!(got.tokens, expected.tokens);
    assert_eq!(got.images[0].pixels, expected.images[0].pixels);
    let without = Prompt::ask(&"wide".into(), "What is it?");
    let text = first.render(&without).expect("renders").text;
    assert!(
        text.starts_with("<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are a helpful"),
        "{text}"
    );
}

/// Keys, dtypes and side files of a saved folder are the base's, and its tensors come back equal.
#[test]
fn saving_keeps_the_folder() {
    let folders = ["qwen2_vl/model", "qwen2_vl/hub2024", "qwen2_vl/tied", "qwen2_5_vl/hub2024", "llava_next/model"];
    let more = [
        "llava_next/hub2024",
        "llava_next/llava_llama",
        "mllama/model",
        "mllama/hub2024",
        "qwen3/model",
        "qwen3_vl/model",
        "smolvlm/model",
        "idefics3/model",
    ];
    for name in folders.iter().chain(&more) {
        let base = ModelFolder::open(fixtures().join(name)).expect("opens");
        let model = base.load(DType::F32, &Device::flex()).expect("loads");
        let out = tempfile::tempdir().expect("a temporary folder");
        base.save(&model, out.path()).expect("saves");
        let saved = ModelFolder::open(out.path()).expect("opens");
        assert_eq!(saved.verify(&base).expect("headers"), [], "{name}");
        let again = saved.load(DType::F32, &Device::flex()).expect("loads");
        for (a, b) in snapshots(&model).iter().zip(snapshots(&again)) {
            assert_eq!(a.read(), b.read(), "{name} {}", a.info.name);
        }
    }
}

/// `verify` names each kind of difference.
#[test]
fn differences_to_the_base_are_listed() {
    let path = |name: &str| fixtures().join("qwen2_vl").join(name);
    let [model, hub] = ["model", "hub2024"].map(|name| ModelFolder::open(path(name)).expect("opens"));
    let found = model.verify(&hub).expect("headers");
    let has = |wanted: Difference| found.contains(&wanted);
    assert!(has(Difference::Missing("visual.merger.ln_q.weight".into())));
    assert!(has(Difference::Unexpected("model.visual.merger.ln_q.weight".into())));
    assert!(has(Difference::SideFile("preprocessor_config.json".into())));
    let dtype = |d: &Difference| matches!(d, Difference::Dtype { key, expected, got } if key == "lm_head.weight" && expected == "BF16" && got == "F32");
    assert!(found.iter().any(dtype), "{found:?}");
}

/// The same logits in bf16 and f16, but for their rounding: norms, rotary angles and softmax run in f32.
#[test]
fn half_precision_stays_close() {
    for family in ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava_next", "mllama", "smolvlm", "idefics3"] {
        let fixture = Fixture::open(family, "model", "cases.json", "expected.safetensors");
        for (dtype, band) in [(DType::BF16, 0.06), (DType::F16, 0.01)] {
            let store = std::sync::Arc::new(images());
            let local = LocalModel::load(&fixture.folder, dtype, &Device::flex(), store).expect("loads");
            assert_eq!(local.model().dtype(), dtype);
            let case = fixture.case("prompts", "photo");
            let encoded = local.processor().encode_prompt(&prompt(case), local.images()).expect("encodes");
            let (_, expected) = fixture.tensor("prompt.photo.logits_last");
            let worst = difference(&local.last_logits(&encoded), &expected);
            assert!(worst < band, "{family} in {dtype:?}: differs by {worst}");
        }
    }
}

/// Prompts about one image in several batches: the encoder reads it once, and the answers are those of single prompts.
#[test]
fn one_image_is_opened_once_for_all_its_prompts() {
    struct Counting(Decoded, std::sync::atomic::AtomicUsize);
    impl ImageStore for Counting {
        fn open(&self, image: &adamllm_core::ImageRef) -> Result<adamllm_core::RgbImage, adamllm_core::CoreError> {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.0.open(image)
        }
    }
    for family in ["qwen2_vl", "qwen3_vl", "llava_next", "mllama", "smolvlm"] {
        let folder = ModelFolder::open(fixtures().join(family).join("model")).expect("opens");
        let store = std::sync::Arc::new(Counting(images(), Default::default()));
        let local = LocalModel::load(&folder, DType::F32, &Device::flex(), store.clone())
            .expect("loads")
            .with_limits(BatchLimits { prompts: 2, ..BatchLimits::default() });
        let questions = ["What is it?", "Is it red or blue?", "How many are there in the image?", "Where?", "Why?"];
        let prompts: Vec<Prompt> = questions.iter().map(|question| Prompt::ask(&"wide".into(), question)).collect();
        let together = greedy_ids(&local, &prompts, 6);
        assert_eq!(store.1.load(std::sync::atomic::Ordering::Relaxed), 1, "{family}");
        let alone: Vec<String> =
            prompts.iter().map(|prompt| greedy_ids(&local, std::slice::from_ref(prompt), 6).remove(0)).collect();
        assert_eq!(together, alone, "{family}");
    }
}
