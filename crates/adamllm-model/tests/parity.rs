//! Equality with Hugging Face transformers, by the fixtures that `tools/fixtures` made. The formats are described in
//! `tools/fixtures/README.md`. One long file, since every family goes through the same comparisons.

use std::path::PathBuf;

use adamllm_core::{Conversation, Decoding, Generate, ImageStore, Message, Prompt, Role, ScoreRequest, Supervision};
use adamllm_data::FolderImages;
use adamllm_model::{
    BatchLimits, Difference, LocalModel, ModelFolder, Padding, Processor, VisionLanguageModel, VlmBatch,
};
use adamllm_nn::{Eager, LanguageBackbone};
use adamllm_nn::{LoraConfig, ModulePath, Objective, snapshots};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device};
use safetensors::SafeTensors;
use serde_json::Value;

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"))
}

/// One folder of a family, and what transformers answered for it.
struct Fixture {
    folder: ModelFolder,
    cases: Value,
    tensors: Vec<u8>,
}

impl Fixture {
    fn open(family: &str, folder: &str, cases: &str, tensors: &str) -> Self {
        let path = fixtures().join(family);
        let read = |name: &str| std::fs::read(path.join(name)).expect("a committed fixture");
        Self {
            folder: ModelFolder::open(path.join(folder)).expect("opens"),
            cases: serde_json::from_slice(&read(cases)).expect("valid JSON"),
            tensors: read(tensors),
        }
    }

    fn tensor(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        read_tensor(&self.tensors, name)
    }

    fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.tensors).expect("whole").tensor(name).is_ok()
    }

    fn list(&self, name: &str) -> &[Value] {
        self.cases[name].as_array().map_or(&[], Vec::as_slice)
    }

    fn local(&self) -> LocalModel {
        LocalModel::load(&self.folder, DType::F32, &Device::flex(), std::sync::Arc::new(images())).expect("loads")
    }
}

fn read_tensor(bytes: &[u8], name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensors = SafeTensors::deserialize(bytes).expect("whole");
    let view = tensors.tensor(name).unwrap_or_else(|_| panic!("no tensor {name}"));
    let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes")));
    (view.shape().to_vec(), values.collect())
}

/// The images under their names, exactly as the reference decoded them.
struct Decoded(FolderImages);

impl ImageStore for Decoded {
    fn open(&self, image: &adamllm_core::ImageRef) -> Result<adamllm_core::RgbImage, adamllm_core::CoreError> {
        self.0.open(&file_of(image.as_str()).into())
    }
}

fn file_of(name: &str) -> String {
    let list = std::fs::read_to_string(fixtures().join("images/images.json")).expect("a committed fixture");
    let list: Value = serde_json::from_str(&list).expect("valid JSON");
    let entry = list.as_array().expect("a list").iter().find(|entry| entry["name"] == name);
    let entry = entry.unwrap_or_else(|| panic!("no image {name}"));
    entry["decoded"].as_str().or(entry["file"].as_str()).expect("a file").to_owned()
}

fn images() -> Decoded {
    Decoded(FolderImages::new(fixtures().join("images")))
}

fn messages(case: &Value) -> Vec<Message> {
    serde_json::from_value(case["messages"].clone()).expect("messages")
}

fn conversation(case: &Value) -> Conversation {
    let images = strings(&case["images"]).into_iter().map(Into::into).collect();
    Conversation::new(messages(case), images)
}

fn prompt(case: &Value) -> Prompt {
    Prompt::Chat { conversation: conversation(case), open: Role::Assistant }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().map_or(vec![], |list| list.iter().map(|v| v.as_str().expect("text").to_owned()).collect())
}

fn numbers(value: &Value) -> Vec<i64> {
    value.as_array().expect("a list").iter().map(|v| v.as_i64().expect("a whole number")).collect()
}

fn name(case: &Value) -> &str {
    case["name"].as_str().expect("a name")
}

/// The largest difference, relative to the largest expected value.
fn difference(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(0f32, |max, v| max.max(v.abs()));
    let worst = got.iter().zip(expected).fold(0f32, |max, (a, b)| max.max((a - b).abs()));
    worst / scale.max(f32::MIN_POSITIVE)
}

/// `[n, vocab]` logits of every position of a prompt.
fn all_logits(local: &LocalModel, prompt: &Prompt) -> Vec<Vec<f32>> {
    let encoded = local.processor().encode_prompt(prompt, local.images()).expect("encodes");
    let batch = VlmBatch::collate(&[&encoded], Padding::Left, local.processor());
    let hidden = batch.with_input(|input| local.model().hidden(input, batch.padding()));
    let logits = local.model().language.logits(hidden.flatten(0, 1));
    let [_, vocab] = logits.dims();
    let values: Vec<f32> = logits.into_data().try_to_vec().expect("f32");
    values.chunks(vocab).map(<[f32]>::to_vec).collect()
}

fn check_prompts(fixture: &Fixture) {
    let local = fixture.local();
    assert!(!fixture.list("prompts").is_empty());
    for case in fixture.list("prompts") {
        let name = name(case);
        let prompt = prompt(case);
        let rendered = local.processor().render(&prompt).expect("renders").text;
        assert_eq!(rendered, case["rendered"].as_str().expect("text"), "{name}");
        let encoded = local.processor().encode_prompt(&prompt, local.images()).expect("encodes");
        let ids: Vec<i64> = encoded.tokens.iter().map(|&t| i64::from(t)).collect();
        assert_eq!(ids, numbers(&case["input_ids"]), "{name}");

        let logits = all_logits(&local, &prompt);
        let (_, last) = fixture.tensor(&format!("prompt.{name}.logits_last"));
        let worst = difference(logits.last().expect("logits"), &last);
        assert!(worst < 1e-4, "{name}: last logits differ by {worst}");
        let (shape, probe) = fixture.tensor(&format!("prompt.{name}.logits_probe"));
        let step = logits[0].len().div_ceil(shape[1]);
        let got: Vec<f32> = logits.iter().flat_map(|logits| logits.iter().step_by(step).copied()).collect();
        let worst = difference(&got, &probe);
        assert!(worst < 1e-4, "{name}: logits of all positions differ by {worst}");
        if fixture.has(&format!("prompt.{name}.logits")) {
            let (_, whole) = fixture.tensor(&format!("prompt.{name}.logits"));
            assert!(difference(&logits.concat(), &whole) < 1e-4, "{name}");
        }
    }
}

fn greedy_ids(local: &LocalModel, prompts: &[Prompt], n: usize) -> Vec<String> {
    let options = Decoding {
        max_new_tokens: n,
        keep_special_tokens: true,
        stop: vec![],
        // The fixtures go on after end tokens.
        min_new_tokens: 0,
        ..Decoding::default()
    };
    local.generate(prompts, &options).into_iter().map(|c| c.expect("answers").text).collect()
}

/// Greedy answers as text; the recorded ids are cut after the first end token, as generation is.
fn expected_greedy(local: &LocalModel, ids: &Value, n: usize) -> String {
    let mut ids: Vec<u32> = numbers(ids).into_iter().take(n).map(|id| id as u32).collect();
    if let Some(end) = ids.iter().position(|id| local.processor().text().end_tokens().contains(id)) {
        ids.truncate(end + 1);
    }
    local.processor().text().decode(&ids, true).expect("decodes")
}

/// Greedy answers equal transformers', alone and in batches of any size and mixture.
fn check_generation(fixture: &Fixture) {
    let cases = fixture.list("prompts");
    let prompts: Vec<Prompt> = cases.iter().map(prompt).collect();
    for n in [1, 2, 8] {
        let local = fixture.local().with_limits(BatchLimits { prompts: n, ..BatchLimits::default() });
        let answers = greedy_ids(&local, &prompts, 16);
        for (case, answer) in cases.iter().zip(answers) {
            assert_eq!(answer, expected_greedy(&local, &case["greedy_ids"], 16), "{} in batches of {n}", name(case));
        }
    }
}

/// Gradients of this norm and less are rounding noise of sums that cancel.
const NOISE: f64 = 5e-6;

/// Loss within 1e-5, every gradient within 1e-3.
fn check_gradients(fixture: &Fixture, gradients_of: Option<(&str, &[u8])>) {
    let device = Device::flex().autodiff();
    let model = fixture.folder.load(DType::F32, &device).expect("loads");
    let processor = Processor::read(&fixture.folder).expect("reads");
    assert!(!fixture.list("conversations").is_empty());
    for case in fixture.list("conversations") {
        let name = name(case);
        let encoded = processor.encode(&conversation(case), Supervision::Replies, &images()).expect("encodes");
        let labels: Vec<i64> = encoded
            .tokens
            .iter()
            .zip(&encoded.targets)
            .map(|(&t, &target)| if target { i64::from(t) } else { -100 })
            .collect();
        assert_eq!(labels, numbers(&case["labels"]), "{name}");
        let batch = VlmBatch::collate(&[&encoded], Padding::Right, &processor);
        let loss = model.loss_sum(&batch);
        let got = f64::from(loss.clone().into_scalar::<f32>());
        let expected = case["loss_sum"].as_f64().expect("a number");
        assert!((got - expected).abs() < 1e-5 * expected, "{name}: loss {got}, expected {expected}");

        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let gradients = named_gradients(&model, &gradients);
        let mut checked = 0;
        for (ours, values) in &gradients {
            let theirs = transformers_name(fixture, ours);
            let summary = &case["gradients"][&theirs];
            let norm = summary["norm"].as_f64().unwrap_or_else(|| panic!("{name}: no gradient {theirs}"));
            let (got_norm, got_projection) = summarise(values);
            let projection = summary["projection"].as_f64().expect("a number");
            // Zero by mathematics (the biases of keys, layers that nothing reads): what is left is rounding.
            if norm < NOISE {
                assert!(got_norm < NOISE, "{name} {theirs}: norm {got_norm}, expected none");
                checked += 1;
                continue;
            }
            assert!((got_norm - norm).abs() <= 1e-3 * norm + 1e-7, "{name} {theirs}: norm {got_norm}, expected {norm}");
            assert!((got_projection - projection).abs() <= 1e-3 * norm + 1e-7, "{name} {theirs}: projection");
            if let Some((_, whole)) = gradients_of.filter(|(of, _)| *of == name) {
                let (_, expected) = read_tensor(whole, &theirs);
                let worst = difference(values, &expected);
                assert!(worst < 1e-3, "{name} {theirs}: differs by {worst}");
            }
            checked += 1;
        }
        let expected = case["gradients"].as_object().expect("an object").values();
        let nonzero = expected.filter(|g| g["norm"].as_f64() != Some(0.0)).count();
        assert!(checked >= nonzero, "{name}: {checked} gradients, expected {nonzero}");
    }
}

fn named_gradients(model: &VisionLanguageModel, gradients: &GradientsParams) -> Vec<(String, Vec<f32>)> {
    struct Visitor<'a>(ModulePath, &'a GradientsParams, Vec<(String, Vec<f32>)>);
    impl burn::module::ModuleVisitor for Visitor<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, container: &str) {
            self.0.exit(container);
        }
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<burn::tensor::Tensor<D>>) {
            if let Some(gradient) = self.1.get::<D>(param.id) {
                self.2.push((self.0.name(), gradient.into_data().try_to_vec().expect("f32")));
            }
        }
    }
    let mut visitor = Visitor(ModulePath::default(), gradients, Vec::new());
    burn::module::Module::visit(model, &mut visitor);
    visitor.2
}

/// Fixtures name tensors as the family's `model/` folder does.
fn transformers_name(fixture: &Fixture, ours: &str) -> String {
    adamllm_model::KeyLayout::Transformers5.key(fixture.folder.config(), ours)
}

fn summarise(values: &[f32]) -> (f64, f64) {
    let weight = |i: usize| f64::from((i as u32).wrapping_mul(2_654_435_761)) / 2_147_483_648.0 - 1.0;
    let norm = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let projection = values.iter().enumerate().map(|(i, &v)| f64::from(v) * weight(i)).sum();
    (norm, projection)
}

fn qwen2_vl(folder: &str) -> Fixture {
    Fixture::open("qwen2_vl", folder, "cases.json", "expected.safetensors")
}

#[test]
fn qwen2_vl_prompts_in_both_layouts() {
    check_prompts(&qwen2_vl("model"));
    check_prompts(&qwen2_vl("hub2024"));
}

#[test]
fn qwen2_vl_generation() {
    check_generation(&qwen2_vl("model"));
}

#[test]
fn qwen2_vl_gradients() {
    let whole = std::fs::read(fixtures().join("qwen2_vl/gradients.safetensors")).expect("a committed fixture");
    check_gradients(&qwen2_vl("model"), Some(("one_image", &whole)));
}

#[test]
fn qwen2_vl_with_a_tied_head() {
    let fixture = Fixture::open("qwen2_vl", "tied", "tied_cases.json", "tied_expected.safetensors");
    check_prompts(&fixture);
    check_generation(&fixture);
    check_gradients(&fixture, None);
}

const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Three numbers of the folder's image settings, in whichever of its files they stand.
fn channels(fixture: &Fixture, name: &str, default: [f32; 3]) -> Vec<f32> {
    let read = |file: &str| {
        let text = std::fs::read_to_string(fixture.folder.path().join(file)).ok()?;
        serde_json::from_str::<Value>(&text).ok()
    };
    let settings = read("processor_config.json").map(|json| json["image_processor"].clone());
    let settings = settings.filter(|settings| !settings.is_null());
    let settings = settings.or_else(|| read("preprocessor_config.json")).expect("a committed file");
    let Some(values) = settings[name].as_array() else { return default.to_vec() };
    values.iter().map(|value| value.as_f64().expect("a number") as f32).collect()
}

/// Pixel values of every image within one level of 255, and the features counted from the size alone.
fn check_pixels(fixture: &Fixture) {
    let local = fixture.local();
    let (mean, std) = (channels(fixture, "image_mean", CLIP_MEAN), channels(fixture, "image_std", CLIP_STD));
    let tensors = SafeTensors::deserialize(&fixture.tensors).expect("whole");
    let mut worst = 0.0f32;
    assert!(!fixture.list("images").is_empty());
    for case in fixture.list("images") {
        let name = name(case);
        let encoded = local.processor().encode_image(&name.into(), local.images()).expect("encodes");
        let size = |key: &str| case[key].as_u64().expect("a number") as u32;
        let layout = local.processor().layout(&name.into(), (size("width"), size("height"))).expect("fits");
        assert_eq!(*encoded.layout(), layout, "{name}");
        let levels = tensors.tensor(&format!("image.{name}.levels")).expect("recorded");
        let metadata: Vec<i64> = layout.metadata.iter().map(|&n| n as i64).collect();
        let n_features = match (&case["grid_thw"], &case["aspect_ratio_id"]) {
            (Value::Null, Value::Null) => {
                assert_eq!(layout.pixel_shape[0], levels.shape()[0], "{name}: tiles");
                case["n_image_rows"].as_u64().expect("a number") as usize
            }
            (Value::Null, id) => {
                assert_eq!(metadata[2], id.as_i64().expect("a number"), "{name}");
                let (shape, _) = fixture.tensor(&format!("image.{name}.features"));
                shape[0] * shape[1]
            }
            (grid, _) => {
                assert_eq!(metadata, numbers(grid), "{name}");
                case["n_image_rows"].as_u64().expect("a number") as usize
            }
        };
        assert_eq!(layout.n_features, n_features, "{name}");

        // `levels` is [n, 3, side, side]; the model's values repeat each channel for every frame.
        let area = levels.shape()[2] * levels.shape()[3];
        let frames = encoded.pixels.values.len() / levels.data().len();
        assert_eq!(encoded.pixels.values.len(), levels.data().len() * frames, "{name}");
        for (i, value) in encoded.pixels.values.iter().enumerate() {
            let (n, channel, pixel) = (i / (3 * frames * area), i / (frames * area) % 3, i % area);
            let expected = f32::from(levels.data()[(n * 3 + channel) * area + pixel]);
            let got = (value * std[channel] + mean[channel]) * 255.0;
            worst = worst.max((got - expected).abs());
        }
    }
    assert!(worst < 1.01, "largest difference {worst} levels of 255");
}

#[test]
fn qwen2_vl_pixels() {
    check_pixels(&qwen2_vl("model"));
}

/// All that is compared for a family with images; `gradients.safetensors` holds those of `one_image`.
fn check_family(family: &str) {
    let whole = std::fs::read(fixtures().join(family).join("gradients.safetensors")).expect("a committed fixture");
    for folder in ["model", "hub2024"] {
        let fixture = Fixture::open(family, folder, "cases.json", "expected.safetensors");
        check_prompts(&fixture);
        check_pixels(&fixture);
    }
    let fixture = Fixture::open(family, "model", "cases.json", "expected.safetensors");
    check_generation(&fixture);
    check_gradients(&fixture, Some(("one_image", &whole)));
}

#[test]
fn qwen2_5_vl() {
    check_family("qwen2_5_vl");
}

#[test]
fn qwen3_vl() {
    let fixture = Fixture::open("qwen3_vl", "model", "cases.json", "expected.safetensors");
    check_prompts(&fixture);
    check_pixels(&fixture);
    check_generation(&fixture);
    check_gradients(&fixture, None);
}

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

#[test]
fn llava_next() {
    check_family("llava_next");
}

#[test]
fn smolvlm() {
    let whole = std::fs::read(fixtures().join("smolvlm/gradients.safetensors")).expect("a committed fixture");
    let fixture = Fixture::open("smolvlm", "model", "cases.json", "expected.safetensors");
    check_prompts(&fixture);
    check_pixels(&fixture);
    check_features(&fixture);
    check_generation(&fixture);
    check_gradients(&fixture, Some(("two_images", &whole)));
}

/// Tiles of another side than the encoder's own, places of tiles that are words, a tied head.
#[test]
fn idefics3() {
    let fixture = Fixture::open("idefics3", "model", "cases.json", "expected.safetensors");
    check_prompts(&fixture);
    check_pixels(&fixture);
    check_features(&fixture);
    check_generation(&fixture);
    check_gradients(&fixture, None);
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

/// The features of every recorded image within 1e-4.
fn check_features(fixture: &Fixture) {
    let local = fixture.local();
    for case in fixture.list("images") {
        let image = local.processor().encode_image(&name(case).into(), local.images()).expect("encodes");
        let got = local.model().encode_images(&[image]).features.into_data().try_to_vec().expect("f32");
        let (_, expected) = fixture.tensor(&format!("image.{}.features", name(case)));
        let worst = difference(&got, &expected);
        assert!(worst < 1e-4, "{}: features differ by {worst}", name(case));
    }
}

#[test]
fn mllama() {
    check_family("mllama");
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

/// The same logits in bf16 and f16, but for their rounding: norms, rotary angles and softmax run in f32.
#[test]
fn half_precision_stays_close() {
    for family in ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava_next", "mllama", "smolvlm", "idefics3"] {
        let fixture = Fixture::open(family, "model", "cases.json", "expected.safetensors");
        for (dtype, band) in [(DType::BF16, 0.06), (DType::F16, 0.01)] {
            let store = std::sync::Arc::new(images());
            let local = LocalModel::load(&fixture.folder, dtype, &Device::flex(), store).expect("loads");
            assert_eq!(local.model().dtype(), dtype);
            let case = fixture.list("prompts").iter().find(|case| name(case) == "photo").expect("recorded");
            let encoded = local.processor().encode_prompt(&prompt(case), local.images()).expect("encodes");
            let (_, expected) = fixture.tensor("prompt.photo.logits_last");
            let worst = difference(&local.last_logits(&encoded), &expected);
            assert!(worst < band, "{family} in {dtype:?}: differs by {worst}");
        }
    }
}

/// A PEFT adapter, beside the weights and merged into them; written again, it reads the same.
#[test]
fn an_adapter_of_peft() {
    let fixture = qwen2_vl("model");
    let path = fixtures().join("adapter");
    let expected: Value =
        serde_json::from_slice(&std::fs::read(path.join("expected.json")).expect("a committed fixture"))
            .expect("valid JSON");
    let expected: Vec<f32> = serde_json::from_value(expected["logits_last"].clone()).expect("numbers");
    let case = fixture.list("prompts").iter().find(|case| name(case) == "text_only").expect("recorded");
    let logits = |model: VisionLanguageModel| {
        let processor = Processor::read(&fixture.folder).expect("reads");
        let local = LocalModel::new(model, processor, std::sync::Arc::new(images()), "adapted".into());
        let encoded = local.processor().encode_prompt(&prompt(case), local.images()).expect("encodes");
        local.last_logits(&encoded)
    };
    let base = |folder: &ModelFolder| folder.load(DType::F32, &Device::flex()).expect("loads");
    let adapted = fixture.folder.load_adapter(base(&fixture.folder), &path).expect("fits");
    assert!(difference(&logits(base(&fixture.folder)), &expected) > 1e-2, "the adapter changes something");
    assert!(difference(&logits(adapted.clone()), &expected) < 1e-4);
    assert!(difference(&logits(adapted.clone().merge_lora()), &expected) < 1e-4);

    let config = LoraConfig { rank: 4, alpha: 8.0, targets: ["query", "value", "down"].map(String::from).to_vec() };
    let out = tempfile::tempdir().expect("a temporary folder");
    fixture.folder.save_adapter(&adapted, &config, out.path()).expect("saves");
    let again = fixture.folder.load_adapter(base(&fixture.folder), out.path()).expect("fits");
    assert_eq!(logits(again), logits(adapted));
    let tensors = |path: &std::path::Path| {
        let bytes = std::fs::read(path.join("adapter_model.safetensors")).expect("written");
        let tensors = SafeTensors::deserialize(&bytes).expect("whole");
        let mut list: Vec<_> = tensors.tensors().into_iter().map(|(k, v)| (k, v.data().to_vec())).collect();
        list.sort();
        list
    };
    assert_eq!(tensors(out.path()), tensors(&path), "PEFT's own keys and bytes");
    // Another layout of the same model takes it, too; another family does not.
    let hub = qwen2_vl("hub2024");
    let of_hub = hub.folder.load_adapter(base(&hub.folder), &path).expect("fits");
    hub.folder.save_adapter(&of_hub, &config, out.path()).expect("saves");
    assert_eq!(tensors(out.path()), tensors(&path), "PEFT asks for the names in memory, whatever the files' layout");
    let llama = ModelFolder::open(fixtures().join("llama/model")).expect("opens");
    let error = llama.load_adapter(base(&llama), &path).expect_err("does not fit").to_string();
    assert!(error.contains("adapter"), "{error}");
}

/// Ranks and alphas by pattern, a factor of alpha over the rank's root; the folder names its base, which is opened with it.
#[test]
fn an_adapter_of_peft_with_patterns() {
    let fixture = qwen2_vl("model");
    let path = fixtures().join("adapter_patterns");
    let expected: Value =
        serde_json::from_slice(&std::fs::read(path.join("expected.json")).expect("a committed fixture"))
            .expect("valid JSON");
    let expected: Vec<f32> = serde_json::from_value(expected["logits_last"].clone()).expect("numbers");
    let case = fixture.list("prompts").iter().find(|case| name(case) == "text_only").expect("recorded");
    let folder = ModelFolder::open(&path).expect("the base stands where the adapter says");
    assert_eq!(folder.adapter(), Some(path.as_path()));
    let local = LocalModel::load(&folder, DType::F32, &Device::flex(), std::sync::Arc::new(images())).expect("loads");
    let encoded = local.processor().encode_prompt(&prompt(case), local.images()).expect("encodes");
    assert!(difference(&local.last_logits(&encoded), &expected) < 1e-4);
    assert_ne!(folder.fingerprint().expect("hashes"), fixture.folder.fingerprint().expect("hashes"));

    // A model that has one already: merged, it is a folder like its base.
    let out = tempfile::tempdir().expect("a temporary folder");
    let model = folder.load(DType::F32, &Device::flex()).expect("loads");
    folder.save(&model, out.path()).expect("saves");
    let merged = ModelFolder::open(out.path()).expect("opens");
    assert_eq!(merged.verify(&fixture.folder).expect("reads"), []);
    let local = LocalModel::load(&merged, DType::F32, &Device::flex(), std::sync::Arc::new(images())).expect("loads");
    assert!(difference(&local.last_logits(&encoded), &expected) < 1e-4);
}

/// What a merged adapter leaves can be trained on: its weights are leaves of the graph, and get gradients in every pass.
#[test]
fn a_base_with_an_adapter_trains() {
    let folder = ModelFolder::open(fixtures().join("adapter_patterns")).expect("opens");
    let device = Device::flex().autodiff();
    let model = folder.load(DType::F32, &device).expect("loads");
    let query = |model: &VisionLanguageModel| model.language.layers[0].attention.query.weight.val();
    for _ in 0..2 {
        let tokens = burn::tensor::Tensor::<2, burn::tensor::Int>::from_data([[1, 2, 3, 4]], &device);
        let positions = adamllm_nn::Positions::MRope { batch: 1, position_ids: (0..4).map(|p| [p; 3]).collect() };
        let mask = adamllm_nn::AttentionMask::causal(&[0], 0, 4, &device);
        let input = adamllm_nn::BackboneInput {
            embeddings: model.language.embed(tokens),
            positions: &positions,
            mask,
            cross: None,
            layer_features: Vec::new(),
        };
        let gradients = model.language.forward(input, &mut Eager).sum().backward();
        let gradient = query(&model).grad(&gradients).expect("the merged weight is trained");
        assert!(gradient.abs().max().into_scalar::<f32>() > 0.0);
    }
}

#[test]
fn an_adapter_that_would_train_nothing_is_refused() {
    let model = || VisionLanguageModel::init(qwen2_vl("model").folder.config(), &Device::flex());
    let good = LoraConfig { rank: 4, alpha: 8.0, targets: vec!["q_proj".into()] };
    assert!(model().with_lora(&good).is_ok(), "a target by its name in checkpoints");
    for (config, said) in [
        (LoraConfig { targets: vec![], ..good.clone() }, "targets"),
        (LoraConfig { targets: vec!["querry".into()], ..good.clone() }, "querry"),
        (LoraConfig { alpha: 0.0, ..good.clone() }, "alpha"),
        (LoraConfig { rank: 0, ..good.clone() }, "rank"),
    ] {
        let error = model().with_lora(&config).expect_err("trains nothing").to_string();
        assert!(error.contains(said), "{error}");
    }
    let all: LoraConfig = serde_json::from_str(r#"{"rank": 2, "alpha": 4}"#).expect("targets may be left out");
    let n = model().with_lora(&all).expect("all linear layers").language.linear_layers_mut().len();
    assert_eq!(n, 7 * qwen2_vl("model").folder.config().decoder.n_layers);
}

/// Only the factors of a new adapter get gradients.
#[test]
fn a_new_adapter_trains_alone() {
    let fixture = qwen2_vl("model");
    let config = LoraConfig { rank: 2, alpha: 4.0, targets: ["query", "up"].map(String::from).to_vec() };
    let model =
        fixture.folder.load(DType::F32, &Device::flex().autodiff()).expect("loads").with_lora(&config).expect("fits");
    let processor = Processor::read(&fixture.folder).expect("reads");
    let case = fixture.list("conversations").iter().find(|case| name(case) == "text_only").expect("recorded");
    let encoded = processor.encode(&conversation(case), Supervision::Replies, &images()).expect("encodes");
    let loss = model.loss_sum(&VlmBatch::collate(&[&encoded], Padding::Right, &processor));
    let expected = case["loss_sum"].as_f64().expect("a number");
    let got = f64::from(loss.clone().into_scalar::<f32>());
    assert!((got - expected).abs() < 1e-5 * expected, "a new adapter changes nothing");
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    let named = named_gradients(&model, &gradients);
    assert_eq!(named.len(), 3 * 2 * 2, "three layers, two targets, two factors");
    assert!(named.iter().all(|(name, _)| name.contains(".lora.")));
    assert!(named.iter().any(|(name, values)| name.ends_with(".lora.b") && values.iter().any(|v| *v != 0.0)));
    let unknown = LoraConfig { targets: vec!["qkv".into()], ..config };
    assert!(fixture.folder.load(DType::F32, &Device::flex()).expect("loads").with_lora(&unknown).is_err());
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

/// Plain texts of a base model: ids, logits, greedy tokens, and the log-probabilities of given continuations.
fn check_raw(fixture: &Fixture) {
    let local = fixture.local();
    assert!(!fixture.list("raw").is_empty());
    for (i, case) in fixture.list("raw").iter().enumerate() {
        let text = case["text"].as_str().expect("text");
        let prompt = Prompt::Text(text.to_owned());
        let encoded = local.processor().encode_prompt(&prompt, local.images()).expect("encodes");
        let ids: Vec<i64> = encoded.tokens.iter().map(|&t| i64::from(t)).collect();
        assert_eq!(ids, numbers(&case["input_ids"]), "{text}");
        let (_, expected) = fixture.tensor(&format!("raw.{i}.logits"));
        let worst = difference(&all_logits(&local, &prompt).concat(), &expected);
        assert!(worst < 1e-4, "{text}: logits differ by {worst}");
        let answer = &greedy_ids(&local, std::slice::from_ref(&prompt), 16)[0];
        assert_eq!(*answer, expected_greedy(&local, &case["greedy_ids"], 16), "{text}");

        let scores = case["scores"].as_array().expect("a list");
        let continuations = scores.iter().map(|s| s["continuation"].as_str().expect("text").to_owned()).collect();
        let request = ScoreRequest { prompt, continuations };
        let got = local.score(&[request]).remove(0).expect("scores");
        for (got, score) in got.iter().zip(scores) {
            let expected = score["log_probability"].as_f64().expect("a number");
            assert!((got - expected).abs() < 1e-4 * expected.abs(), "{text}: {got}, expected {expected}");
        }
    }
}

#[test]
fn text_families() {
    for family in ["llama", "qwen2", "qwen3"] {
        let fixture = Fixture::open(family, "model", "cases.json", "expected.safetensors");
        check_prompts(&fixture);
        check_generation(&fixture);
        check_raw(&fixture);
        check_gradients(&fixture, None);
    }
}
