//! The three seed files, in their published layouts, to conversations.

use std::path::Path;

use adamllm_core::{Conversation, LedgerEntry, Reason, jsonl};
use adamllm_synth::seed::{SeedConfig, SeedIndex, SeedSources};
use serde_json::{Value, json};

fn turns(question: &str, answer: &str) -> Value {
    json!([{"from": "human", "value": question}, {"from": "gpt", "value": answer}])
}

fn sources(folder: &Path, n_images: usize) -> SeedSources {
    let name = |i: usize| format!("task+{}_{i}.jpg", i % 3);
    let nested = |i: usize| format!("allava_vflan/images/images_191task_1k/{}", name(i));
    let mut precise: Vec<_> = (0..n_images)
        .map(|i| {
            let question = format!("Is it number {i}?\n<image>");
            json!({"id": i, "image": name(i), "conversations": turns(&question, "Yes"), "task_name": format!("task {}", i % 3)})
        })
        .collect();
    let mut captions: Vec<_> = (0..n_images)
        .map(|i| json!({"id": format!("cap_{i}"), "image": nested(i), "conversations": turns("<image>\nDescribe.", "A \"[thing]\", {big}.")}))
        .collect();
    let mut informative: Vec<_> = (0..n_images)
        .map(|i| json!({"id": format!("inst_{i}"), "image": nested(i), "conversations": turns("<image>\nWhy?", "Because of its \\ shape.")}))
        .collect();
    captions.remove(4);
    informative.remove(5);
    precise.push(json!({"id": "x", "image": 7}));
    precise.push(json!({"id": "y", "image": "y.jpg", "conversations": [{"from": "gpt", "value": "Yes"}]}));
    captions.push(json!({"id": "z", "image": "nowhere.jpg", "conversations": turns("Describe.", "A thing.")}));
    captions.push(json!({"id": "again", "image": nested(0), "conversations": turns("Describe.", "A thing.")}));
    informative[0]["conversations"][1]["value"] = json!("Because <|eot_id|>");
    let write = |file: &str, records: &[Value]| {
        let path = folder.join(file);
        std::fs::write(&path, serde_json::to_string_pretty(records).expect("JSON")).expect("written");
        path
    };
    SeedSources {
        precise: write("metadata.json", &precise),
        captions: write("ALLaVA-Caption-VFLAN-4V.json", &captions),
        informative: write("ALLaVA-Instruct-VFLAN-4V.json", &informative),
    }
}

#[test]
fn joins_splits_and_accounts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let index = SeedIndex::build(sources(folder.path(), 60)).expect("reads");
    let summary = index.write(&folder.path().join("out"), &SeedConfig::default(), &mut ()).expect("writes");
    assert_eq!(summary.records_in, 62 + 61 + 59);
    assert_eq!(summary.train + summary.dev, 57);
    assert_eq!(summary.records_used, 57 * 3);
    assert_eq!(summary.dev, 6, "two of the about twenty images of each of the three tasks");
    for (blank_share, n) in [(0.0, 0), (1.0, 57)] {
        let config = SeedConfig { blank_share, ..SeedConfig::default() };
        assert_eq!(index.write(&folder.path().join("blank"), &config, &mut ()).expect("writes").blank, n);
    }
    let ledger = jsonl::read_all::<LedgerEntry>(folder.path().join("out/ledger.jsonl")).expect("reads");
    let count = |reason: Reason| ledger.iter().filter(|entry| entry.reason == reason).count();
    let counts = [Reason::Unmatched, Reason::InvalidJson, Reason::InvalidField, Reason::Duplicate, Reason::ForgedTurn];
    assert_eq!(counts.map(count), [2 + 2 + 1, 0, 2, 1, 3]);
    let train = jsonl::read_all::<Conversation>(folder.path().join("out/train.jsonl")).expect("reads");
    let first = &train[0];
    assert_eq!(first.messages.len(), 6);
    assert_eq!(first.messages[1].content, "A \"[thing]\", {big}.");
    assert!(train.iter().all(|example| example.validate().is_ok()));
    let precise = first.messages.iter().find(|turn| turn.content.starts_with("Answer with a precise response.\n"));
    assert!(precise.expect("a precise question").content.contains("Is it number"), "the image marker is gone");
}

#[test]
fn the_same_seed_gives_the_same_examples_and_another_does_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let index = SeedIndex::build(sources(folder.path(), 60)).expect("reads");
    let examples = |seed: u64| -> Vec<_> {
        let config = SeedConfig { seed, ..SeedConfig::default() };
        index.conversations(&config).expect("opens").collect()
    };
    assert_eq!(examples(1), examples(1));
    assert_ne!(examples(1), examples(2));
}
