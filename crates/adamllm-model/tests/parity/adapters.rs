//! Low-rank adapters: PEFT's, and new ones.

use std::path::Path;

use adamllm_core::Supervision;
use adamllm_model::{LocalModel, ModelFolder, Padding, Processor, VisionLanguageModel, VlmBatch};
use adamllm_nn::{Eager, LanguageBackbone, LoraConfig, Objective};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::checks::{difference, named_gradients};
use crate::fixture::{conversation, fixtures, images, prompt, qwen2_vl};

/// The logits that PEFT's adapter in a folder gives after the prompt `text_only`.
fn recorded_logits(adapter: &Path) -> Vec<f32> {
    let file = std::fs::read(adapter.join("expected.json")).expect("a committed fixture");
    let recorded: Value = serde_json::from_slice(&file).expect("valid JSON");
    serde_json::from_value(recorded["logits_last"].clone()).expect("numbers")
}

/// A PEFT adapter, beside the weights and merged into them; written again, it reads the same.
#[test]
fn an_adapter_of_peft() {
    let fixture = qwen2_vl("model");
    let path = fixtures().join("adapter");
    let expected = recorded_logits(&path);
    let case = fixture.case("prompts", "text_only");
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

    let config = LoraConfig::new(4, 8.0).with_targets(["query", "value", "down"]);
    let out = tempfile::tempdir().expect("a temporary folder");
    fixture.folder.save_adapter(&adapted, &config, out.path()).expect("saves");
    let again = fixture.folder.load_adapter(base(&fixture.folder), out.path()).expect("fits");
    assert_eq!(logits(again), logits(adapted));
    let tensors = |path: &Path| {
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
    let expected = recorded_logits(&path);
    let case = fixture.case("prompts", "text_only");
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
    let good = LoraConfig::new(4, 8.0).with_targets(["q_proj"]);
    assert!(model().with_lora(&good).is_ok(), "a target by its name in checkpoints");
    for (config, said) in [
        (good.clone().with_targets([""; 0]), "targets"),
        (good.clone().with_targets(["querry"]), "querry"),
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
    let config = LoraConfig::new(2, 4.0).with_targets(["query", "up"]);
    let model =
        fixture.folder.load(DType::F32, &Device::flex().autodiff()).expect("loads").with_lora(&config).expect("fits");
    let processor = Processor::read(&fixture.folder).expect("reads");
    let case = fixture.case("conversations", "text_only");
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
    let unknown = config.with_targets(["qkv"]);
    assert!(fixture.folder.load(DType::F32, &Device::flex()).expect("loads").with_lora(&unknown).is_err());
}
