//! Every recipe's settings: written and read back, partly given, misspelt, and kept with a run.
#![cfg(feature = "train")]

use std::path::Path;

use adamllm_model::{ModelFolder, PixelRange};
use adamllm_recipes::adapt::Adaptation;
use adamllm_recipes::settings::{read, write};
use adamllm_recipes::{
    AdaptSettings, EvaluationSettings, PostTrainSettings, RecipeError, RunOptions, SynthesisSettings,
    TuneSynthesizerSettings,
};
use burn::tensor::Device;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn comes_back<T: Serialize + DeserializeOwned + Default + PartialEq + std::fmt::Debug>() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("settings.toml");
    std::fs::write(&file, write(&T::default()).expect("TOML")).expect("written");
    assert_eq!(read::<T>(Some(&file), &[]).expect("its own output"), T::default());
    assert_eq!(read::<T>(None, &[]).expect("no file"), T::default());
}

fn fault<T: DeserializeOwned + std::fmt::Debug>(assignment: &str) -> String {
    read::<T>(None, &[assignment.into()]).expect_err("at fault").to_string()
}

#[test]
fn defaults_come_back_from_what_is_written() {
    comes_back::<AdaptSettings>();
    comes_back::<EvaluationSettings>();
    comes_back::<PostTrainSettings>();
    comes_back::<SynthesisSettings>();
    comes_back::<TuneSynthesizerSettings>();
}

#[test]
fn what_is_left_out_has_the_recipe_s_default() {
    let settings: TuneSynthesizerSettings = read(None, &["epochs=1".into()]).expect("one setting");
    assert_eq!(settings, TuneSynthesizerSettings { epochs: 1.0, ..TuneSynthesizerSettings::default() });
    let settings: EvaluationSettings = read(None, &["benchmarks.domain=food".into()]).expect("one setting");
    assert_eq!(settings.benchmarks.domain.as_deref(), Some("food"));
    assert_eq!((settings.batch_size, settings.html), (8, true));
}

#[test]
fn a_likely_key_is_named() {
    let meant = |fault: String, likely: &str| assert!(fault.ends_with(&format!("did you mean `{likely}`?")), "{fault}");
    meant(fault::<AdaptSettings>("lerning_rate=1"), "learning_rate");
    meant(fault::<SynthesisSettings>("hygene=true"), "hygiene");
    meant(fault::<EvaluationSettings>("benchmarks.dmain=food"), "benchmarks.domain");
    meant(fault::<TuneSynthesizerSettings>("dev_shar=0.2"), "dev_share");
    assert!(fault::<SynthesisSettings>("judge_mode.scored.threshold=high").contains("threshold"));
}

/// Another bound would be other images than those that the checkpoint was trained on.
#[test]
fn an_adaptation_goes_on_with_its_own_bounds_of_pixels() {
    let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mini");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = AdaptSettings { images: mini.join("plates/images"), ..AdaptSettings::default() };
    let base = ModelFolder::open(mini.join("models/base")).expect("opens");
    let device = Device::flex();
    let begin = |max_pixels, resume| {
        let base = base.clone().with_pixel_range(PixelRange { min_pixels: None, max_pixels });
        let run = RunOptions { resume, ..RunOptions::new(folder.path().join("out")) };
        Adaptation::new(&settings, &base, &device, &run).map(drop)
    };
    begin(Some(6272), false).expect("a new run");
    begin(Some(6272), true).expect("with the same bounds");
    let error = begin(None, true).expect_err("with others");
    let RecipeError::OtherSettings { file, key, before, now } = &error else { panic!("{error}") };
    assert_eq!((key.as_str(), before.as_str(), now.as_str()), ("max_pixels", "6272", "none"));
    assert!(file.ends_with("out/pixels.json") && file.exists(), "{error}");
    begin(None, false).expect("a run that starts anew");
    begin(None, true).expect("with the same bounds");
}
