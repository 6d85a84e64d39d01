//! Questions and answers as files of the batch interface. `fixtures/batch_output.jsonl` has the form of the lines in OpenAI's batch guide
//! and API reference (an answer, a refused request, an expired one).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use adamllm_core::{
    Decoding, Generate, ImageRef, LedgerEntry, MemoryImages, Prompt, Reason, RgbImage, ScoreRequest, jsonl,
};
use adamllm_remote::{BatchModel, BatchReport, Dialect, RemoteConfig, RemoteError, batch_files};
use serde_json::{Value, json};

fn open(folder: &Path) -> BatchModel {
    let mut images = MemoryImages::new();
    images.insert("a.png", RgbImage::new(2, 2));
    let config = RemoteConfig::new(Vec::<String>::new());
    BatchModel::open(folder, "gpt-x", Dialect::OpenAi, config, Arc::new(images)).expect("opens")
}

fn prompts() -> Vec<Prompt> {
    let text = |n: usize| Prompt::Text(format!("Question {n}:"));
    vec![Prompt::ask(&ImageRef::from("a.png"), "What?"), text(1), text(2), text(3), text(1)]
}

fn requests(folder: &Path) -> Vec<Value> {
    jsonl::read_all(folder.join(batch_files::REQUESTS)).expect("JSON Lines")
}

/// A line as the batch interface writes it for a request.
fn answer(custom_id: &str, text: &str) -> Value {
    json!({"id": "batch_req_1", "custom_id": custom_id, "error": null, "response": {
        "status_code": 200, "request_id": "r", "body": {"id": "c", "object": "chat.completion", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}}}})
}

fn put(folder: &Path, name: &str, lines: &[String]) {
    std::fs::write(folder.join(name), lines.join("\n")).expect("written");
}

/// What the ledger says, by id.
fn ledger(folder: &Path) -> BTreeMap<String, (Reason, String)> {
    let entries: Vec<LedgerEntry> = jsonl::read_all(folder.join(batch_files::LEDGER)).expect("a ledger");
    entries.into_iter().map(|entry| (entry.id.to_string(), (entry.reason, entry.detail))).collect()
}

#[test]
fn requests_go_out_once_each_in_the_form_of_the_interface() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = open(folder.path());
    let answers = model.generate(&prompts(), &Decoding::greedy(7));
    assert!(answers.iter().all(|answer| matches!(answer, Err(RemoteError::Waiting { .. }))), "{answers:?}");
    assert!(!folder.path().join(batch_files::REQUESTS).exists(), "not before they are whole");
    let report = model.finish().expect("writes");
    assert_eq!((report.waiting, report.taken, report.missing), (4, 0, 0));

    let written = requests(folder.path());
    assert_eq!(written.len(), 4, "the same question is asked once");
    for request in &written {
        let fields: Vec<_> = request.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(fields, ["custom_id", "method", "url", "body"]);
        assert_eq!((&request["method"], &request["url"]), (&json!("POST"), &json!("/v1/chat/completions")));
        assert_eq!((&request["body"]["model"], &request["body"]["max_tokens"]), (&json!("gpt-x"), &json!(7)));
        assert!(request["custom_id"].as_str().is_some_and(|id| id.len() <= 64));
    }
    assert_eq!(written[1]["body"]["messages"], json!([{"role": "user", "content": "Question 1:"}]));
    let image = &written[0]["body"]["messages"][0]["content"][0]["image_url"]["url"];
    assert!(image.as_str().is_some_and(|url| url.starts_with("data:image/png;base64,")), "{image}");

    let score = ScoreRequest { prompt: Prompt::Text("x".into()), continuations: vec![" Yes".into()] };
    assert!(matches!(&model.score(&[score])[..], [Err(RemoteError::Unsupported { .. })]));
}

#[test]
fn answers_come_in_and_the_rest_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = open(folder.path());
    first.generate(&prompts(), &Decoding::greedy(7));
    first.finish().expect("writes");
    let ids: Vec<String> = requests(folder.path())
        .iter()
        .map(|request| request["custom_id"].as_str().expect("an id").to_owned())
        .collect();

    // One answered twice, one refused, one left out; one that nobody asked, a line that is none, one of another kind.
    let refused = json!({"custom_id": ids[2], "response": {"status_code": 400, "body": {"error": {"message": "too long"}}}, "error": null});
    let lines = [
        answer(&ids[1], "Two").to_string(),
        answer("elsewhere", "x").to_string(),
        refused.to_string(),
        answer(&ids[1], "Three").to_string(),
        "{\"custom_id\": ".to_owned(),
        json!({"id": "batch_req_2"}).to_string(),
        answer(&ids[0], "A cell").to_string(),
    ];
    put(folder.path(), batch_files::RESULTS, &lines);
    let second = open(folder.path());
    let answers = second.generate(&prompts(), &Decoding::greedy(7));
    let texts: Vec<_> = answers.iter().map(|answer| answer.as_ref().ok().map(|answer| answer.text.as_str())).collect();
    assert_eq!(texts, [Some("A cell"), Some("Two"), None, None, Some("Two")]);
    assert_eq!(answers[0].as_ref().map(|answer| (answer.n_prompt_tokens, answer.n_new_tokens)).ok(), Some((9, 2)));
    assert!(matches!(&answers[2], Err(RemoteError::Batch { message, .. }) if message == "status 400: too long"));
    let report = second.finish().expect("writes");
    let expected = BatchReport {
        requests: folder.path().join(batch_files::REQUESTS),
        waiting: 2,
        taken: 3,
        failed: 1,
        unknown: 1,
        missing: 1,
        duplicate: 1,
        unreadable: 2,
    };
    assert_eq!(report, expected);
    let named = ledger(folder.path());
    let reason = |id: &str| named.get(id).map(|(reason, _)| *reason);
    assert_eq!(reason(&ids[1]), Some(Reason::DuplicateId));
    assert_eq!(named[&ids[2]], (Reason::ModelError, "status 400: too long".into()));
    assert_eq!([reason(&ids[3]), reason("elsewhere")], [Some(Reason::Unmatched); 2]);
    assert_eq!([reason("results.jsonl:5"), reason("results.jsonl:6")], [Some(Reason::InvalidJson); 2]);
    assert_eq!(named.len(), 6);

    // What waits is exactly what is to be sent again; a second file answers it.
    let left = requests(folder.path());
    assert_eq!(left.iter().map(|request| &request["custom_id"]).collect::<Vec<_>>(), [&json!(ids[2]), &json!(ids[3])]);
    put(folder.path(), "results-2.jsonl", &[answer(&ids[2], "Four").to_string(), answer(&ids[3], "Five").to_string()]);
    let third = open(folder.path());
    assert!(third.generate(&prompts(), &Decoding::greedy(7)).iter().all(Result::is_ok));
    let report = third.finish().expect("writes");
    assert_eq!((report.waiting, report.taken, report.failed, report.missing), (0, 5, 0, 0));
    assert_eq!(requests(folder.path()).len(), 0);
}

/// Lines in the published form, with our ids in them.
#[test]
fn lines_in_the_published_form_are_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = open(folder.path());
    first.generate(&prompts(), &Decoding::greedy(7));
    first.finish().expect("writes");
    let published = include_str!("fixtures/batch_output.jsonl");
    let lines = published.lines().zip(requests(folder.path())).map(|(line, request)| {
        let mut line: Value = serde_json::from_str(line).expect("JSON");
        line["custom_id"] = request["custom_id"].clone();
        line.to_string()
    });
    put(folder.path(), batch_files::RESULTS, &lines.collect::<Vec<_>>());
    let answers = open(folder.path()).generate(&prompts(), &Decoding::greedy(7));
    assert_eq!(answers[0].as_ref().expect("answered").text, "Hello, how can I assist you today?");
    let said = |index: usize| answers[index].as_ref().expect_err("failed").to_string();
    assert!(said(1).contains("status 400: Invalid value"), "{}", said(1));
    assert!(
        said(2).contains("This request could not be executed before the completion window expired."),
        "{}",
        said(2)
    );
}

#[test]
fn other_settings_are_other_requests() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = open(folder.path());
    model.generate(&prompts()[1..2], &Decoding::greedy(7));
    model.generate(&prompts()[1..2], &Decoding::greedy(8));
    assert_eq!(model.finish().expect("writes").waiting, 2);
    assert_eq!(model.identity(), open(folder.path()).identity());
}
