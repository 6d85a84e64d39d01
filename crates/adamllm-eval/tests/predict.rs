//! Runs that survive: predictions against a scripted model.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adamllm_core::testing::{ScriptedError, ScriptedModel};
use adamllm_core::{ImageStore, Ledger, MemoryImages, Prompt, Reason, RgbImage, Stage};
use adamllm_eval::{
    AnswerType, Benchmark, BenchmarkDescription, DescribedBenchmark, JsonExamples, PredictOptions, Prediction, predict,
    score, score_all,
};
use serde_json::json;

const DESCRIPTION: &str = r#"
name = "cells"
answer = "by_example"
max_new_tokens = 16
[prompts]
choice = "{question}\nThe choices are:\n{options}"
all = "{question}"
"#;

fn images() -> Arc<dyn ImageStore> {
    let mut images = MemoryImages::new();
    for i in 0..4u8 {
        images.insert(format!("{i}.png"), RgbImage::from_pixel(2, 2, image_rgb(i)));
    }
    Arc::new(images)
}

fn image_rgb(i: u8) -> image::Rgb<u8> {
    image::Rgb([i, 0, 0])
}

fn cells() -> DescribedBenchmark {
    let records = (0..12).map(|i| {
        let mut record = match i % 3 {
            0 => json!({"question": format!("Is it round? {i}"), "label": "yes", "answer_type": "CLOSED"}),
            1 => json!({"question": format!("What is seen? {i}"), "label": "two nuclei", "answer_type": "OPEN"}),
            _ => json!({"question": format!("Which? {i}"), "label": "B", "answer_type": "CHOICE",
                        "options": ["one", "two"]}),
        };
        record["id"] = json!(format!("q{i}"));
        record["image"] = json!(format!("{}.png", i / 3));
        record.as_object().cloned().expect("an object")
    });
    let description = BenchmarkDescription::from_toml(DESCRIPTION).expect("a description");
    let benchmark = DescribedBenchmark::new(description, Box::new(JsonExamples::from_records("cells.jsonl", records)));
    benchmark.expect("the records fit").with_images(images())
}

fn text(prompt: &Prompt) -> &str {
    match prompt {
        Prompt::Chat { conversation, .. } => &conversation.messages[0].content,
        Prompt::Text(text) => text,
    }
}

fn answer(prompt: &Prompt) -> String {
    match text(prompt) {
        t if t.contains("round") => "Yes.".into(),
        t if t.contains("seen") => "one nucleus and two nuclei".into(),
        _ => "The answer is B".into(),
    }
}

/// A model that counts the prompts it answers.
fn counting() -> (ScriptedModel, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let model = ScriptedModel::new(move |prompt| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(answer(prompt))
    });
    (model, calls)
}

fn run(model: &ScriptedModel, benchmark: &dyn Benchmark, options: &PredictOptions) -> Vec<Prediction> {
    predict(model, benchmark, options, &mut Ledger::new(), &mut ()).expect("no file fails")
}

#[test]
fn asks_answers_and_scores() {
    let benchmark = cells();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("predictions.jsonl");
    let options = PredictOptions { predictions: Some(file.clone()), ..PredictOptions::default() };
    let predictions = run(&counting().0, &benchmark, &options);
    assert_eq!(adamllm_core::jsonl::read_all::<Prediction>(&file).expect("reads"), predictions);

    let prompt = benchmark.example(2).expect("a record").to_prompt();
    assert_eq!(text(&prompt), "<image>\nWhich? 2\nThe choices are:\nA: one\nB: two");
    let report = score(&benchmark, &predictions).expect("scores");
    assert_eq!((report.overall.n, report.overall.n_clusters), (12, 4));
    let mean = |t| report.by_type[&t].strict.map(|s| s.mean);
    assert_eq!(mean(AnswerType::Closed), Some(100.0));
    assert_eq!(mean(AnswerType::Open), Some(100.0));
    assert_eq!(mean(AnswerType::Choice), Some(100.0));
}

#[test]
fn the_batch_size_changes_nothing() {
    let of = |batch_size| run(&counting().0, &cells(), &PredictOptions { batch_size, ..PredictOptions::default() });
    assert_eq!(of(1), of(2));
    assert_eq!(of(1), of(8));
}

#[test]
fn a_torn_journal_costs_its_last_answer_only() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let journal = folder.path().join("journal.jsonl");
    let options = PredictOptions { batch_size: 1, journal: Some(journal.clone()), ..PredictOptions::default() };
    let whole = run(&counting().0, &cells(), &options);

    let bytes = std::fs::read(&journal).expect("reads");
    std::fs::write(&journal, &bytes[..bytes.len() - 7]).expect("writes");
    let (model, calls) = counting();
    assert_eq!(run(&model, &cells(), &options), whole);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert_eq!(std::fs::read(&journal).expect("reads"), bytes);
}

#[test]
fn another_image_or_decoding_is_asked_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let journal = Some(folder.path().join("journal.jsonl"));
    let options = PredictOptions { journal, ..PredictOptions::default() };
    run(&counting().0, &cells(), &options);

    let mut changed = MemoryImages::new();
    for i in 0..4u8 {
        changed.insert(format!("{i}.png"), RgbImage::from_pixel(2, 2, image_rgb(if i == 1 { 99 } else { i })));
    }
    let (model, calls) = counting();
    run(&model, &cells().with_images(Arc::new(changed)), &options);
    assert_eq!(calls.load(Ordering::Relaxed), 3, "the three questions about the changed image");

    let (model, calls) = counting();
    let decoding = Some(adamllm_core::Decoding::greedy(5));
    run(&model, &cells(), &PredictOptions { decoding, ..options });
    assert_eq!(calls.load(Ordering::Relaxed), 12);
}

#[test]
fn every_lost_example_is_in_the_ledger() {
    let model = ScriptedModel::new(|prompt| match text(prompt).contains("seen? 4") {
        true => Err(ScriptedError("out of memory".into())),
        false => Ok(answer(prompt)),
    });
    let records = cells_with_bad_records();
    let mut ledger = Ledger::new();
    let predictions = predict(&model, &records, &PredictOptions::default(), &mut ledger, &mut ()).expect("goes on");
    assert_eq!(predictions.len() as u64 + ledger.total(), records.len() as u64);
    for (reason, n) in
        [(Reason::ModelError, 1), (Reason::ImageMissing, 2), (Reason::DuplicateId, 1), (Reason::InvalidField, 1)]
    {
        assert_eq!(ledger.counts()[&(Stage::Predict, reason)], n, "{reason:?}");
    }
    let scored = score_all(&records, &predictions).expect("scores");
    assert_eq!(scored.report.overall.n, predictions.len());
    assert_eq!(scored.report.unanswered, 3, "the failed prompt, the missing image, and the record without one");
    assert_eq!(scored.report.rejected, 2, "the doubled id and the record without a label");
}

fn cells_with_bad_records() -> DescribedBenchmark {
    let text =
        std::iter::once(json!({"id": "q0", "question": "a", "label": "no", "answer_type": "OPEN", "image": "1.png"}))
            .chain((1..6).map(|i| {
                json!({"id": format!("q{i}"), "question": format!("seen? {i}"), "label": "x",
                                     "answer_type": "OPEN", "image": "0.png"})
            }))
            .chain([
                json!({"id": "q0", "question": "again", "label": "no", "answer_type": "OPEN", "image": "1.png"}),
                json!({"id": "q7", "question": "gone", "label": "no", "answer_type": "OPEN", "image": "gone.png"}),
                json!({"id": "q8", "question": "none", "answer_type": "OPEN", "image": "1.png"}),
                json!({"id": "q9", "question": "imageless", "label": "no", "answer_type": "OPEN", "image": null}),
            ]);
    let records = JsonExamples::from_records("bad.jsonl", text.filter_map(|record| record.as_object().cloned()));
    let description = BenchmarkDescription::from_toml(DESCRIPTION).expect("a description");
    DescribedBenchmark::new(description, Box::new(records)).expect("the first record fits").with_images(images())
}

#[test]
fn odd_predictions_cost_themselves_only() {
    let benchmark = cells();
    let mut predictions = run(&counting().0, &benchmark, &PredictOptions::default());
    predictions.truncate(10);
    predictions.push(Prediction::new(predictions[0].id.clone(), "No"));
    predictions.push(Prediction::new(adamllm_core::RecordId::given("unknown"), "No"));
    predictions[1].answer.clear();
    let scored = score_all(&benchmark, &predictions).expect("scores");
    assert_eq!((scored.outcomes.len(), scored.unanswered.len(), scored.rejected.len()), (10, 2, 2));
    assert_eq!(scored.outcomes[0].strict, 100.0, "the first of two answers counts");
    assert!(scored.outcomes[1].unparsed && scored.outcomes[1].strict == 0.0);
}
