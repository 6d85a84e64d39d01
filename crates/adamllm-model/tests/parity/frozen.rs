//! Weights that are not trained, in smaller forms: those of bitsandbytes' folders, and our own.

use std::sync::Arc;

use adamllm_core::Supervision;
use adamllm_model::{FrozenLayers, LocalModel, ModelFolder, Padding, Processor, VisionLanguageModel, VlmBatch};
use adamllm_nn::{FrozenForm, LinearWeight, LoraConfig, Objective, Parameters, snapshots};
use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device};
use serde_json::Value;

use crate::checks::{difference, named_gradients};
use crate::fixture::{Fixture, conversation, fixtures, images, prompt, qwen2_vl};

/// What a model answers after token ids, and the ids and logits that transformers recorded.
fn answer(model: VisionLanguageModel, recorded: &Value) -> (Vec<f32>, Vec<f32>) {
    let base = Fixture::open("llama", "model", "cases.json", "expected.safetensors");
    let processor = Processor::read(&base.folder).expect("reads");
    let local = LocalModel::new(model, processor, Arc::new(images()), "frozen".into());
    let mut encoded = local.processor().encode_prompt(&prompt(base.case("prompts", "text_only")), local.images());
    let encoded = encoded.as_mut().expect("encodes");
    encoded.tokens = serde_json::from_value(recorded["input_ids"].clone()).expect("ids");
    encoded.targets = vec![false; encoded.tokens.len()];
    let expected = serde_json::from_value(recorded["logits_last"].clone()).expect("numbers");
    (local.last_logits(encoded), expected)
}

fn recorded(folder: &str) -> Value {
    let path = fixtures().join("quantised").join(folder).join("expected.json");
    serde_json::from_slice(&std::fs::read(path).expect("a committed fixture")).expect("valid JSON")
}

fn quantised(folder: &str) -> VisionLanguageModel {
    let opened = ModelFolder::open(fixtures().join("quantised").join(folder)).expect("opens");
    opened.load(DType::F32, &Device::flex()).expect("loads")
}

/// The linear layers' weights in f32.
fn weights(model: &VisionLanguageModel) -> Vec<(String, Vec<f32>)> {
    let mut model = model.clone();
    let layers = model.linear_layers_mut().into_iter().map(|(name, linear)| {
        let data = match &linear.weight {
            LinearWeight::Parameter(weight) => weight.val().into_data(),
            LinearWeight::Frozen(weight) => weight.to_data(),
        };
        (name, data.try_into_vec().expect("f32"))
    });
    layers.collect()
}

fn n_frozen(model: &VisionLanguageModel) -> usize {
    model.clone().linear_layers_mut().iter().filter(|(_, linear)| linear.weight.parameter().is_none()).count()
}

#[test]
fn folders_that_bitsandbytes_packed() {
    for folder in ["nf4", "plain", "fp4"] {
        let model = quantised(folder);
        assert_eq!(n_frozen(&model), 14, "{folder}");
        let (got, expected) = answer(model, &recorded(folder));
        let worst = difference(&got, &expected);
        assert!(worst < 1e-4, "{folder}: {worst}");
        let (whole, _) = answer(quantised("base"), &recorded(folder));
        assert!(difference(&whole, &expected) > 1e-2, "{folder}: 4 bits change something");
    }
}

/// The codes are bitsandbytes'. Of the scales' own codes it picks the second nearest now and then on the CPU.
#[test]
fn our_nf4_is_that_of_bitsandbytes() {
    let base = ModelFolder::open(fixtures().join("quantised/base")).expect("opens");
    let frozen = FrozenLayers::all(FrozenForm::Nf4);
    let ours = base.load_frozen(DType::F32, &Device::flex(), &frozen, &mut ()).expect("loads");
    let (mut n, mut n_equal) = (0, 0);
    for ((name, ours), (_, theirs)) in weights(&ours).iter().zip(weights(&quantised("nf4"))) {
        for (a, b) in ours.iter().zip(theirs) {
            assert!((a - b).abs() <= 0.02 * b.abs(), "{name}: {a} against {b}");
            n += 1;
            n_equal += usize::from((a - b).abs() <= 1e-6 * b.abs());
        }
    }
    assert!(n > 50_000 && n_equal > n * 98 / 100, "{n_equal} of {n}");
}

/// Beside weights as the files have them, adapters train as beside parameters, and the merged folder is the same.
#[test]
fn adapters_train_beside_frozen_weights() {
    let fixture = qwen2_vl("model");
    let config = LoraConfig { modules_to_save: vec!["connector".into()], ..LoraConfig::new(2, 4.0) };
    let device = Device::flex().autodiff();
    let with_adapter = |model: VisionLanguageModel| {
        device.seed(5);
        let mut model = model.with_lora(&config).expect("fits");
        // Not zero, as a new one is.
        for (_, linear) in model.linear_layers_mut() {
            if let Some(lora) = &mut linear.lora {
                // Drawn now, in the order of the layers.
                drop(lora.a.val());
                let b = lora.b.val().ones_like() * 0.02;
                lora.b = Param::from_tensor(b).set_require_grad(true);
            }
        }
        model
    };
    let plain = with_adapter(fixture.folder.load(DType::F32, &device).expect("loads"));
    let frozen = |form| {
        let frozen = FrozenLayers { form, adapter: Some(&config) };
        with_adapter(fixture.folder.load_frozen(DType::F32, &device, &frozen, &mut ()).expect("loads"))
    };
    let stored = frozen(FrozenForm::Stored);
    let parameters = |model: &VisionLanguageModel| Parameters::of(model).n_elements();
    assert!(n_frozen(&stored) > 10 && parameters(&stored) < parameters(&plain));
    let tables = |model: &VisionLanguageModel| {
        Parameters::of(model)
            .names()
            .iter()
            .filter(|name| ["language.embedding", "language.head.weight"].contains(name))
            .count()
    };
    assert_eq!((tables(&plain) > 0, tables(&stored)), (true, 0), "embedding and head stay in the file");
    let saved = |name: &str| name.contains("connector") && name.ends_with(".weight");
    assert_eq!(
        snapshots(&stored).iter().filter(|s| saved(&s.info.name)).count(),
        snapshots(&plain).iter().filter(|s| saved(&s.info.name)).count(),
        "what is trained in full stays a parameter"
    );

    let processor = Processor::read(&fixture.folder).expect("reads");
    let case = fixture.case("conversations", "text_only");
    let encoded = processor.encode(&conversation(case), Supervision::Replies, &images()).expect("encodes");
    let batch = VlmBatch::collate(&[&encoded], Padding::Right, &processor);
    let passed = |model: &VisionLanguageModel| {
        let loss = model.loss_sum(&batch);
        let gradients = GradientsParams::from_grads(loss.clone().backward(), model);
        (loss.into_scalar::<f32>(), named_gradients(model, &gradients))
    };
    let ((expected_loss, expected), (loss, got)) = (passed(&plain), passed(&stored));
    assert!((loss - expected_loss).abs() < 1e-5 * expected_loss, "{loss} against {expected_loss}");
    assert_eq!(got.len(), expected.len());
    for ((name, got), (_, expected)) in got.iter().zip(&expected) {
        assert!(difference(got, expected) < 1e-4, "{name}");
    }
    // In 4 bits it is another model (the more so with random weights), and its adapters have gradients all the same.
    let (loss, got) = passed(&frozen(FrozenForm::Nf4));
    assert!(
        loss != expected_loss && (loss - expected_loss).abs() < 0.15 * expected_loss,
        "{loss} against {expected_loss}"
    );
    assert!(got.len() == expected.len() && got.iter().all(|(_, values)| values.iter().all(|v| v.is_finite())));

    // Written tensor by tensor, and merged before: the same bytes.
    let out = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    fixture.folder.save(&stored, out[0].path()).expect("saves");
    fixture.folder.save(&plain.merge_lora(), out[1].path()).expect("saves");
    let [tensor_by_tensor, whole] =
        out.each_ref().map(|out| std::fs::read(out.path().join("model.safetensors")).expect("written"));
    assert!(tensor_by_tensor == whole);
    // A model that has an adapter gets no second one.
    let error = stored.with_lora(&config).expect_err("has one").to_string();
    assert!(error.contains("merge it first"), "{error}");
}

/// What was quantised elsewhere cannot be written as weights in its own layout.
#[test]
fn a_packed_folder_is_not_written_over_with_wider_weights() {
    let folder = ModelFolder::open(fixtures().join("quantised/nf4")).expect("opens");
    let model = folder.load(DType::F32, &Device::flex()).expect("loads");
    let out = tempfile::tempdir().expect("a temporary folder");
    let error = folder.save(&model, out.path()).expect_err("packed").to_string();
    assert!(error.contains("quantization_config"), "{error}");
}
