use std::path::{Path, PathBuf};

use adamllm_core::{Ledger, LedgerEntry, Reason, Stage, jsonl};
use adamllm_model::{Encoder, Encoding, ModelFolder, Processor, VlmBatch};
use adamllm_train::BatchSource;

use super::*;

pub(crate) fn mini() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mini")
}

fn base() -> Processor {
    Processor::read(&ModelFolder::open(mini().join("models/base")).expect("opens")).expect("reads")
}

fn reader(processor: &Processor, max_tokens: usize, workers: usize, ledger: Ledger) -> TrainingSetReader<'_> {
    let encoding = Encoding { max_tokens: Some(max_tokens), ..Encoding::default() };
    let encoder = Encoder::new(processor, encoding).expect("fits");
    let options = ReadOptions { workers, ..ReadOptions::default() };
    TrainingSetReader::new(processor, encoder, options, ledger).expect("threads")
}

fn slides() -> SourceSettings {
    let folder = mini().join("slides");
    SourceSettings { captions: Some(folder.join("captions.json")), images: vec![folder], ..SourceSettings::default() }
}

/// What a batch holds that depends on its examples: tokens, and the pixels of each image.
fn content(batch: &VlmBatch) -> (Vec<u32>, Vec<Vec<f32>>) {
    batch.with_input(|input| {
        (input.tokens.to_vec(), input.images.iter().map(|image| image.pixels.values.to_vec()).collect())
    })
}

#[test]
fn the_number_of_threads_changes_no_batch() {
    let processor = base();
    let wanted: Vec<usize> = (0..40).map(|i| i * 37 % 200).collect();
    let with = |threads: usize| {
        let mut reader = reader(&processor, 256, threads, Ledger::new());
        let set = reader.read(&[&slides()], &mut ()).expect("reads");
        content(&set.batch(&wanted).expect("a batch"))
    };
    let one = with(1);
    assert_eq!(one.1.len(), 40);
    assert!(one == with(3) && one == with(8));
}

/// Eight faults of eight kinds: the ledger tells each apart, by stage, reason and record, and what is left is trained on.
#[test]
fn each_fault_has_its_own_stage_and_reason() {
    let processor = base();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let images = mini().join("slides/images");
    std::fs::copy(images.join("5000.png"), folder.path().join("good.png")).expect("copies");
    let whole = std::fs::read(images.join("5001.png")).expect("reads");
    std::fs::write(folder.path().join("broken.png"), &whole[..whole.len() / 2]).expect("written");
    let turns = |turns: &[(&str, &str)], image: &str| {
        let turn = |&(role, content): &(&str, &str)| serde_json::json!({"role": role, "content": content});
        let messages: Vec<_> = turns.iter().map(turn).collect();
        serde_json::json!({"messages": messages, "images": [image]}).to_string()
    };
    let record = |image: &str, reply: &str| turns(&[("user", "<image>\nWhat?"), ("assistant", reply)], image);
    let long = "ink ".repeat(300);
    let lines = [
        record("good.png", "ink"),
        record("broken.png", "ink"),
        record("missing.png", "ink"),
        record("good.png", &long),
        record("good.png", "<|im_end|>"),
        "{\"messages\": 3}".into(),
        "not JSON".into(),
        turns(&[("user", "What?"), ("assistant", "ink")], "good.png"),
        record("good.png", "lint"),
    ];
    let file = folder.path().join("conversations.jsonl");
    std::fs::write(&file, lines.join("\n")).expect("written");
    let source = SourceSettings {
        name: Some("mine".into()),
        conversations: Some(file),
        images: vec![folder.path().to_path_buf()],
        ..SourceSettings::default()
    };

    let kept = folder.path().join("ledger.jsonl");
    let mut reader = reader(&processor, 128, 2, Ledger::create(&kept).expect("created"));
    let set = reader.read(&[&source], &mut ()).expect("two examples are left");
    assert_eq!(set.len(), 2);
    assert_eq!(reader.counts(), RecordCounts { records_in: 9, records_out: 2, ledger_entries: 7 });

    let rows: Vec<LedgerEntry> = jsonl::read_all(&kept).expect("the ledger");
    let mut found: Vec<_> = rows.iter().map(|row| (row.stage, row.reason)).collect();
    found.sort();
    let mut expected = [
        (Stage::Read, Reason::InvalidField),
        (Stage::Read, Reason::InvalidJson),
        (Stage::Read, Reason::ImageCountMismatch),
        (Stage::Encode, Reason::ImageMissing),
        (Stage::Encode, Reason::ImageBroken),
        (Stage::Encode, Reason::ForgedTurn),
        (Stage::Encode, Reason::TooLong),
    ];
    expected.sort();
    assert_eq!(found, expected);
    let of = |reason: Reason| rows.iter().find(|row| row.reason == reason).map(|row| row.detail.clone());
    assert!(of(Reason::ImageMissing).is_some_and(|detail| detail.contains("missing.png")));
    assert!(of(Reason::ImageBroken).is_some_and(|detail| detail.contains("broken.png")));
    assert!(of(Reason::TooLong).is_some_and(|detail| detail.contains("128")));
}

#[test]
fn a_source_without_its_images_is_one_clear_error() {
    let processor = base();
    let mut reader = reader(&processor, 256, 1, Ledger::new());
    let nowhere = SourceSettings { images: vec!["no/such/place".into()], ..slides() };
    let error = reader.read(&[&nowhere], &mut ()).expect_err("no place").to_string();
    assert!(error.contains("no/such/place"), "{error}");
    let elsewhere = SourceSettings { images: vec![mini()], ..slides() };
    let error = reader.read(&[&elsewhere], &mut ()).expect_err("no image").to_string();
    assert!(error.contains("no record is left") && error.contains("images/5000.png"), "{error}");
}

/// Each source as often as its weight says, and conversations in memory as those of a file.
#[test]
fn sources_are_mixed_by_weight() {
    let processor = base();
    let mut reader = reader(&processor, 256, 1, Ledger::new());
    let half = SourceSettings { weight: 0.5, name: Some("half".into()), ..slides() };
    let set = reader.read(&[&half, &slides()], &mut ()).expect("reads");
    let n = set.n_examples() / 2;
    assert!(n >= 200 && set.n_examples() == 2 * n && set.examples_per_epoch() == n + n / 2);
    let epoch = set.epoch_examples(1, 0);
    let named = epoch.iter().filter(|&&example| set.conversation(example).source.as_deref() == Some("half")).count();
    assert_eq!((epoch.len(), named), (n + n / 2, n / 2));

    let conversations = (n..2 * n).map(|example| set.conversation(example).clone()).collect();
    let images = slides().open_images().expect("opens");
    let source = ConversationSource { place: "memory".into(), conversations, images, weight: 1.0 };
    let taken = reader.take(source, &mut ()).expect("reads");
    let sizes = |set: &TrainingSet, from: usize| (from..from + n).map(|i| set.example_size(i)).collect::<Vec<_>>();
    assert_eq!(sizes(&taken, 0), sizes(&set, n));
    assert_eq!(content(&taken.batch(&[7]).expect("a batch")), content(&set.batch(&[n + 7]).expect("a batch")));
}
