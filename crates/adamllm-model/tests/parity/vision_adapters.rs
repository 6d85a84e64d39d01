//! Adapters in vision encoders and connectors, and whole modules beside them: PEFT's, and new ones.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use adamllm_core::Supervision;
use adamllm_model::{KeyLayout, LocalModel, ModelFolder, Padding, Processor, VisionLanguageModel, VlmBatch};
use adamllm_nn::{LoraConfig, LoraTargets, Objective, Parameters, with_dropout};
use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::checks::{difference, named_gradients};
use crate::fixture::{Fixture, conversation, fixtures, images, prompt};

/// As close as f32 lets the logits of two implementations be.
const CLOSE: f32 = 2e-4;

const FAMILIES: [&str; 6] = ["qwen2_vl", "llava_next", "smolvlm", "qwen3_vl", "qwen2_5_vl", "mllama"];

fn family(name: &str) -> Fixture {
    Fixture::open(name, "model", "cases.json", "expected.safetensors")
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a committed fixture")).expect("valid JSON")
}

/// The last logits of the fixture's prompt with an image.
fn logits(fixture: &Fixture, model: VisionLanguageModel) -> Vec<f32> {
    let processor = Processor::read(&fixture.folder).expect("reads");
    let local = LocalModel::new(model, processor, Arc::new(images()), "adapted".into());
    let case = fixture.case("prompts", "photo");
    let encoded = local.processor().encode_prompt(&prompt(case), local.images()).expect("encodes");
    local.last_logits(&encoded)
}

fn base(folder: &ModelFolder) -> VisionLanguageModel {
    folder.load(DType::F32, &Device::flex()).expect("loads")
}

fn tensors(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(folder.join("adapter_model.safetensors")).expect("written");
    let tensors = SafeTensors::deserialize(&bytes).expect("whole");
    tensors.tensors().into_iter().map(|(key, view)| (key, view.data().to_vec())).collect()
}

/// What PEFT computes with its adapter in a family's encoder, connector and decoder, beside the weights and merged into them; a
/// merged folder answers the same.
#[test]
fn adapters_of_peft_in_every_family() {
    for name in FAMILIES {
        let fixture = family(name);
        let path = fixtures().join("adapters").join(name);
        let expected: Vec<f32> =
            serde_json::from_value(read_json(&path.join("expected.json"))["logits_last"].clone()).expect("numbers");
        assert!(difference(&logits(&fixture, base(&fixture.folder)), &expected) > 1e-2, "{name}: it changes something");
        let adapted = fixture.folder.load_adapter(base(&fixture.folder), &path).expect("fits");
        let worst = difference(&logits(&fixture, adapted.clone()), &expected);
        assert!(worst < CLOSE, "{name}: {worst}");
        let worst = difference(&logits(&fixture, adapted.merge_lora()), &expected);
        assert!(worst < CLOSE, "{name}, merged: {worst}");

        let folder = ModelFolder::open(&path).expect("the base stands where the adapter says");
        let out = tempfile::tempdir().expect("a temporary folder");
        folder.save(&base(&folder), out.path()).expect("saves");
        let merged = ModelFolder::open(out.path()).expect("opens");
        assert_eq!(merged.verify(&fixture.folder).expect("reads"), [], "{name}");
        let bf16 = fixture.folder.tensors().expect("reads").values().any(|(_, dtype)| dtype == "BF16");
        let worst = difference(&logits(&fixture, base(&merged)), &expected);
        assert!(worst < if bf16 { 3e-2 } else { CLOSE }, "{name}, merged folder: {worst}");
    }
}

/// The configuration with which ours and PEFT's adapters of a family are the same.
fn configuration(name: &str) -> LoraConfig {
    let pattern = |pattern: &str| LoraTargets::Pattern(pattern.into());
    match name {
        "qwen2_vl" => LoraConfig {
            targets: LoraTargets::AllLinear,
            rslora: true,
            rank_pattern: [(r"vision\.blocks\..*".to_owned(), 3)].into(),
            alpha_pattern: [(r"merger\.mlp\.fc1".to_owned(), 5.0)].into(),
            ..LoraConfig::new(2, 8.0)
        },
        "llava_next" => LoraConfig {
            targets: pattern(r"vision\.encoder\..*(query|output|fc1)|vision\.projector\.fc1|language\..*(query|down)"),
            modules_to_save: ["language.norm", "projector.fc2", "lm_head"].map(String::from).to_vec(),
            ..LoraConfig::new(3, 6.0)
        },
        "qwen3_vl" => LoraConfig {
            modules_to_save: vec!["vision.merger".into()],
            ..LoraConfig::new(2, 4.0).with_targets(["vision.qkv", "vision.linear_fc2", "connector.fc2", "o_proj"])
        },
        other => panic!("no configuration for {other}"),
    }
}

/// Ours, written for PEFT: its own keys and bytes, and a configuration that gives the same numbers.
#[test]
fn adapters_are_written_as_peft_writes_them() {
    for name in ["qwen2_vl", "llava_next", "qwen3_vl"] {
        let fixture = family(name);
        let path = fixtures().join("adapters").join(name);
        let config = configuration(name);
        let adapted = fixture.folder.load_adapter(base(&fixture.folder), &path).expect("fits");
        let out = tempfile::tempdir().expect("a temporary folder");
        fixture.folder.save_adapter(&adapted, &config, out.path()).expect("saves");
        assert_eq!(tensors(out.path()), tensors(&path), "{name}");
        let again = fixture.folder.load_adapter(base(&fixture.folder), out.path()).expect("fits");
        assert_eq!(logits(&fixture, again), logits(&fixture, adapted.clone()), "{name}");

        // Names of older versions are found as well.
        fixture.folder.save_adapter_as(&adapted, &config, KeyLayout::Hub2024, out.path()).expect("saves");
        let older = fixture.folder.load_adapter(base(&fixture.folder), out.path()).expect("fits");
        assert_eq!(logits(&fixture, older), logits(&fixture, adapted.clone()), "{name}");

        // The same layers get one where it is made here, and a configuration of other numbers is refused.
        let made = base(&fixture.folder).with_lora(&config).expect("fits");
        assert_eq!(Parameters::of(&made).names(), Parameters::of(&adapted).names(), "{name}");
        let other = LoraConfig { rank: 7, ..config };
        let error = fixture.folder.save_adapter(&adapted, &other, out.path()).expect_err("not its own").to_string();
        assert!(error.contains("rank"), "{error}");
    }
}

/// Only the factors and the whole modules get gradients, in every part; a new adapter changes no loss.
#[test]
fn adapters_train_in_every_part() {
    for name in ["qwen2_vl", "llava_next", "qwen3_vl"] {
        let fixture = family(name);
        let config = configuration(name);
        let model = fixture.folder.load(DType::F32, &Device::flex().autodiff()).expect("loads");
        let model = model.with_lora(&config).expect("fits");
        let processor = Processor::read(&fixture.folder).expect("reads");
        let case = fixture.case("conversations", "one_image");
        let encoded = processor.encode(&conversation(case), Supervision::Replies, &images()).expect("encodes");
        let batch = VlmBatch::collate(&[&encoded], Padding::Right, &processor);
        let loss = model.loss_sum(&batch);
        let expected = case["loss_sum"].as_f64().expect("a number");
        let got = f64::from(loss.clone().into_scalar::<f32>());
        assert!((got - expected).abs() < 1e-5 * expected, "{name}: {got} {expected}");

        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let named: Vec<String> = named_gradients(&model, &gradients).into_iter().map(|(name, _)| name).collect();
        let whole: Vec<&String> = named.iter().filter(|name| !name.contains(".lora.")).collect();
        assert!(named.iter().any(|name| name.starts_with("vision.") && name.ends_with(".lora.b")), "{name}");
        assert!(named.iter().any(|name| name.starts_with("language.") && name.ends_with(".lora.b")), "{name}");
        match name {
            "qwen2_vl" => assert!(whole.is_empty(), "{whole:?}"),
            "llava_next" => assert_eq!(
                whole,
                [
                    "vision.projector.fc2.weight",
                    "vision.projector.fc2.bias",
                    "language.norm.weight",
                    "language.head.weight"
                ]
            ),
            _ => assert!(!whole.is_empty() && whole.iter().all(|name| name.starts_with("vision.merger.")), "{whole:?}"),
        }
    }
}

/// Dropout acts in training passes alone, and is the same for the same seed.
#[test]
fn dropout_is_for_training() {
    let fixture = family("qwen2_vl");
    let path = fixtures().join("adapters/qwen2_vl");
    let config = LoraConfig { dropout: 0.3, ..configuration("qwen2_vl") };
    let out = tempfile::tempdir().expect("a temporary folder");
    // A new adapter adds nothing, so the factors come from PEFT's.
    let source = fixture.folder.load_adapter(base(&fixture.folder), &path).expect("fits");
    let mut model = base(&fixture.folder).with_lora(&config).expect("fits");
    let mut source = source;
    for ((_, to), (_, from)) in model.linear_layers_mut().into_iter().zip(source.linear_layers_mut()) {
        if let (Some(to), Some(from)) = (&mut to.lora, &from.lora) {
            (to.a, to.b) = (from.a.clone(), from.b.clone());
        }
    }
    let answer = |model: &VisionLanguageModel| logits(&fixture, model.clone());
    let plain = answer(&source);
    assert_eq!(answer(&model), plain, "no pass, no dropout");
    let dropped = with_dropout(3, || answer(&model));
    assert!(difference(&dropped, &plain) > 1e-3);
    assert_eq!(with_dropout(3, || answer(&model)), dropped);
    assert_ne!(with_dropout(4, || answer(&model)), dropped);

    fixture.folder.save_adapter(&model, &config, out.path()).expect("saves");
    assert_eq!(read_json(&out.path().join("adapter_config.json"))["lora_dropout"], 0.3);
}

#[test]
fn what_stands_for_nothing_is_refused() {
    let fixture = family("qwen2_vl");
    let good = LoraConfig::new(2, 4.0);
    let with = |change: &dyn Fn(&mut LoraConfig)| {
        let mut config = good.clone();
        change(&mut config);
        VisionLanguageModel::init(fixture.folder.config(), &Device::flex()).with_lora(&config)
    };
    for (change, said) in [
        (
            &(|c: &mut LoraConfig| c.targets = LoraTargets::Names(vec!["vision.query".into()])) as &dyn Fn(&mut _),
            "vision.query",
        ),
        (&|c: &mut LoraConfig| c.targets = LoraTargets::Pattern("nothing".into()), "nothing"),
        (&|c: &mut LoraConfig| c.targets = LoraTargets::Pattern("(".into()), "regular expression"),
        (&|c: &mut LoraConfig| c.modules_to_save = vec!["projector".into()], "projector"),
        (&|c: &mut LoraConfig| c.modules_to_save = vec!["language".into()], "no layer"),
        (&|c: &mut LoraConfig| c.rank_pattern = [("vision.*".into(), 2)].into(), "vision.*"),
        (&|c: &mut LoraConfig| c.rank_pattern = [("query".into(), 0)].into(), "rank_pattern"),
        (&|c: &mut LoraConfig| c.dropout = 1.0, "dropout"),
    ] {
        let error = with(change).expect_err("stands for nothing").to_string();
        assert!(error.contains(said), "{said}: {error}");
    }

    // What PEFT cannot save is known before training: a bare parameter, and an embedding that is the head.
    for (name, folder, module, said) in [
        ("llava_next", "model", "connector", "image_newline"),
        ("qwen2_vl", "tied", "embeddings", "tie_word_embeddings"),
    ] {
        let folder = ModelFolder::open(fixtures().join(name).join(folder)).expect("opens");
        let config = LoraConfig { modules_to_save: vec![module.into()], ..good.clone() };
        let model = base(&folder).with_lora(&config).expect("can be trained");
        let error = folder.check_adapter(&model, &config).expect_err("cannot be written").to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// Plain gradient descent.
struct Descent<'g> {
    gradients: &'g GradientsParams,
    rate: f64,
}

impl ModuleMapper for Descent<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.gradients.get::<D>(param.id) {
            None => param,
            Some(gradient) => {
                let (id, value) = (param.id, param.val().without_autodiff() - gradient * self.rate);
                param.transform_for_load(Tensor::from_inner(value), id)
            }
        }
    }
}

/// Trains an adapter of each family for some steps and writes it with our logits to `target/tmp/adapters/FAMILY`, for
/// `tools/check_adapter.py`.
#[test]
#[ignore = "writes what tools/check_adapter.py reads"]
fn adapters_for_peft() {
    for name in FAMILIES {
        let fixture = family(name);
        let config = match name {
            "qwen2_vl" | "llava_next" | "qwen3_vl" => configuration(name),
            _ => LoraConfig {
                targets: LoraTargets::AllLinear,
                modules_to_save: vec!["language.norm".into()],
                rank_pattern: [("query".to_owned(), 4)].into(),
                ..LoraConfig::new(2, 4.0)
            },
        };
        let model = fixture.folder.load(DType::F32, &Device::flex().autodiff()).expect("loads");
        let mut model = model.with_lora(&config).expect("fits");
        let processor = Processor::read(&fixture.folder).expect("reads");
        let case = fixture.case("conversations", "one_image");
        let encoded = processor.encode(&conversation(case), Supervision::Replies, &images()).expect("encodes");
        let batch = VlmBatch::collate(&[&encoded], Padding::Right, &processor);
        for _ in 0..4 {
            let gradients = GradientsParams::from_grads(model.loss_sum(&batch).backward(), &model);
            model = model.map(&mut Descent { gradients: &gradients, rate: 0.02 });
        }

        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("adapters").join(name);
        fixture.folder.save_adapter(&model, &config, &out).expect("saves");
        let answer = logits(&fixture, model.valid());
        let moved = difference(&answer, &logits(&fixture, base(&fixture.folder)));
        assert!(moved > 1e-2 && answer.iter().all(|logit| logit.is_finite()), "{name}: {moved}");
        let prompt = fixture.case("prompts", "photo");
        let recorded = serde_json::json!({
            "input_ids": prompt["input_ids"],
            "rendered": prompt["rendered"],
            "images": [fixtures().join("images/photo.jpg")],
            "logits_last": answer,
        });
        std::fs::write(out.join("logits.json"), recorded.to_string()).expect("written");
    }
}
