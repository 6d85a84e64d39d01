//! The comparisons that every family goes through.

use adamllm_core::{Decoding, Generate, Prompt, ScoreRequest, Supervision};
use adamllm_model::{BatchLimits, LocalModel, Padding, Processor, VisionLanguageModel, VlmBatch};
use adamllm_nn::{LanguageBackbone, ModulePath, Objective};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::fixture::{Fixture, conversation, images, name, numbers, prompt, read_tensor};

/// The largest difference, relative to the largest expected value.
pub(crate) fn difference(got: &[f32], expected: &[f32]) -> f32 {
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

pub(crate) fn check_prompts(fixture: &Fixture) {
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

pub(crate) fn greedy_ids(local: &LocalModel, prompts: &[Prompt], n: usize) -> Vec<String> {
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
pub(crate) fn check_generation(fixture: &Fixture) {
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
pub(crate) fn check_gradients(fixture: &Fixture, gradients_of: Option<(&str, &[u8])>) {
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

pub(crate) fn named_gradients(model: &VisionLanguageModel, gradients: &GradientsParams) -> Vec<(String, Vec<f32>)> {
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
pub(crate) fn check_pixels(fixture: &Fixture) {
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

/// The features of every recorded image within 1e-4.
pub(crate) fn check_features(fixture: &Fixture) {
    let local = fixture.local();
    for case in fixture.list("images") {
        let image = local.processor().encode_image(&name(case).into(), local.images()).expect("encodes");
        let got = local.model().encode_images(&[image]).features.into_data().try_to_vec().expect("f32");
        let (_, expected) = fixture.tensor(&format!("image.{}.features", name(case)));
        let worst = difference(&got, &expected);
        assert!(worst < 1e-4, "{}: features differ by {worst}", name(case));
    }
}

/// Plain texts of a base model: ids, logits, greedy tokens, and the log-probabilities of given continuations.
pub(crate) fn check_raw(fixture: &Fixture) {
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
