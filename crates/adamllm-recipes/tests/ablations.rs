//! Variants of the method, trained and asked one after the other.
#![cfg(feature = "train")]

use std::path::Path;

use adamllm_core::{ImageCaption, LedgerEntry, jsonl};
use adamllm_model::ModelFolder;
use adamllm_recipes::RunOptions;
use adamllm_recipes::adapt::{AblationSettings, AdaptSettings, Adaptation};
use adamllm_synth::{Judged, TaskTriplet, Variant, Verdict};
use burn::tensor::Device;

/// Three pairs, of which the first's image is missing and the second has a task; two questions about an image of the mini world.
fn settings(folder: &Path, mini: &Path) -> AdaptSettings {
    let pairs: Vec<_> = ["gone.png", "0001.png", "0002.png"].map(|name| ImageCaption::new(name, "A plate.")).into();
    jsonl::write(folder.join("pairs.jsonl"), &pairs).expect("written");
    std::fs::create_dir_all(folder.join("images")).expect("made");
    for name in ["0001.png", "0002.png"] {
        std::fs::copy(mini.join("plates/images").join(name), folder.join("images").join(name)).expect("copied");
    }
    let question = |id: &str, label: &str| serde_json::json!({"id": id, "image": "0001.png", "question": "Is it a plate?", "label": label, "answer_type": "CLOSED", "options": []});
    jsonl::write(folder.join("questions.jsonl"), &[question("a", "yes"), question("b", "no")]).expect("written");
    let description = "name = \"two\"\ndomain = \"plates\"\nrows = \"questions.jsonl\"\nimages = \"images\"\nanswer = \"by_example\"\nmax_new_tokens = 2\n";
    std::fs::write(folder.join("two.toml"), description).expect("written");

    let task = TaskTriplet::new(
        pairs[1].id.clone(),
        "0001.png".into(),
        "Is it a plate?",
        "It is. So the answer is yes.",
        "yes",
    );
    let judged = Judged { verdict: Verdict::Consistent, ..Judged::unjudged(task) };
    std::fs::create_dir_all(folder.join("out/synthesis")).expect("made");
    jsonl::write(folder.join("out/synthesis/judged.jsonl"), &[judged]).expect("written");
    AdaptSettings {
        captions: folder.join("pairs.jsonl"),
        images: folder.join("images"),
        benchmark: Some(folder.join("two.toml")),
        batch_size: 2,
        ..AdaptSettings::default()
    }
}

/// What the first stage could not encode is still known when the second has been trained.
#[test]
fn one_ledger_for_all_stages_of_a_variant() {
    let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mini");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = settings(folder.path(), &mini);
    let base = ModelFolder::open(mini.join("models/base")).expect("the mini base");
    let (device, run) = (Device::flex(), RunOptions::new(folder.path().join("out")));
    let job = Adaptation::new(&settings, &base, &device, &run).expect("opens");
    let ablations = AblationSettings { variants: vec![Variant::TwoStage, Variant::CaptionOnly], n_seeds: 1 };
    let report = job.ablate(&ablations, &mut ()).expect("runs");

    assert_eq!(report.results.iter().map(|result| result.n_tasks).collect::<Vec<_>>(), [1, 1, 0]);
    assert!(report.results.iter().all(|result| result.to_full.overall.n == 2), "{report:#?}");
    // The same training for all: each stage's steps are rounded up.
    let n_steps = report.results.iter().map(|result| result.n_steps).collect::<Vec<_>>();
    assert!(n_steps.iter().all(|&n| n >= n_steps[0] && n <= n_steps[0] + 1), "{n_steps:?}");
    for result in &report.results {
        let place = run.out.join("ablations").join(result.variant.as_str()).join("seed-0/encode-ledger.jsonl");
        let lost: Vec<LedgerEntry> = jsonl::read_all(&place).expect("a ledger");
        assert_eq!(lost.len(), 1, "{}: {lost:?}", result.variant.as_str());
    }
}
