//! Logs that lm-eval 0.4.13 and lmms-eval 0.7.3 wrote (`fixtures/harness/make_logs.py`), and logs of our own in their form.

use std::path::{Path, PathBuf};

use adamllm_core::RecordId;
use adamllm_eval::{
    AnswerType, BenchmarkDescription, DescribedBenchmark, EvalError, JsonExamples, LogFormat, LoggedTask, Prediction,
    Scored, evaluate_answers, files, find_logs, is_log, read_log, read_predictions, read_report, score_file,
    write_logs,
};
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/harness")
}

fn description() -> BenchmarkDescription {
    let text = "name = \"Cells\"\nanswer = \"by_example\"\nimage_use = \"none\"";
    BenchmarkDescription::from_toml(text).expect("valid")
}

fn cells() -> DescribedBenchmark {
    let records = JsonExamples::read(fixtures().join("cells.jsonl")).expect("reads");
    DescribedBenchmark::new(description(), Box::new(records)).expect("fits")
}

fn log(tool: &str, task: &str) -> PathBuf {
    let mut found = find_logs(&fixtures().join(tool), task, false).expect("one log");
    found.pop().unwrap_or_else(|| panic!("{tool} has no log of {task}"))
}

fn scored(log: &Path) -> (Scored, tempfile::TempDir) {
    let out = tempfile::tempdir().expect("a temporary folder");
    (evaluate_answers("scripted", &cells(), &[log], out.path()).expect("scores"), out)
}

/// The stand-in for a model is right but for every fourth cell.
const RIGHT: [bool; 12] = [false, true, true, true, false, true, true, true, false, true, true, true];

#[test]
fn both_tools_logs_give_the_same_answers_and_scores() {
    for tool in ["lm-eval", "lmms-eval"] {
        let (scored, out) = scored(&log(tool, "cells"));
        assert!(scored.rejected.is_empty() && scored.unanswered.is_empty(), "{tool}: {:?}", scored.rejected);
        let right: Vec<bool> = scored.outcomes.iter().map(|outcome| outcome.strict == 100.0).collect();
        assert_eq!(right, RIGHT, "{tool}");
        assert_eq!(scored.report.by_type[&AnswerType::Choice].n, 4);

        let (predictions, _) = read_predictions(out.path().join(files::PREDICTIONS)).expect("reads");
        assert_eq!(predictions[9].answer, "<think>Let me look at cell 9.</think>\nThe answer is green");
        // The tool's own score, which takes "(C)" for another answer than "C".
        let run = read_report(out.path().join(files::REPORT)).expect("reads").run.expect("a run");
        assert_eq!(run.reported_scores.keys().collect::<Vec<_>>(), ["exact_match,none"]);
        assert_eq!(run.reported_scores["exact_match,none"], 5.0 / 12.0);
    }
}

#[test]
fn several_filters_records_are_one_answer() {
    let (predictions, rejected) = read_log(log("lm-eval", "cells_two_filters"), &cells()).expect("reads");
    assert!(rejected.is_empty(), "{rejected:?}");
    let (expected, _) = read_log(log("lm-eval", "cells"), &cells()).expect("reads");
    assert_eq!(predictions, expected);
}

#[test]
fn options_compared_by_likelihood_belong_to_the_questions_that_the_log_names() {
    // The tool asked the choice questions alone: its numbers are not the benchmark's.
    let (predictions, rejected) = read_log(log("lm-eval", "cells_choice"), &cells()).expect("reads");
    assert!(rejected.is_empty(), "{rejected:?}");
    let expected = [("cell-2", "blue"), ("cell-5", "green"), ("cell-8", "green"), ("cell-11", "white")];
    assert_eq!(predictions, expected.map(|(id, answer)| Prediction::new(RecordId::given(id), answer)));
}

#[test]
fn a_log_of_other_data_is_refused_record_by_record() {
    let text = std::fs::read_to_string(fixtures().join("cells.jsonl")).expect("reads");
    let mut records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    records.swap(0, 3);
    records[1]["label"] = json!("no");
    records[1]["id"] = json!("cell-one");
    records.truncate(11);
    let records = records.into_iter().filter_map(|record| record.as_object().cloned());
    let records = JsonExamples::from_records("other.jsonl", records);
    let other = DescribedBenchmark::new(description(), Box::new(records)).expect("fits");

    // Without ids, by number: two questions changed places, one has another label, one is missing.
    let (predictions, rejected) = read_log(log("lmms-eval", "cells"), &other).expect("reads");
    assert_eq!((predictions.len(), rejected.len()), (8, 4));
    let details: Vec<_> = rejected.iter().map(|rejected| rejected.detail.as_str()).collect();
    assert!(details[0].contains("asks another question than the benchmark's example cell-3"), "{}", details[0]);
    assert!(details[1].contains("the log's right answer is \"yes\", and \"no\""), "{}", details[1]);
    assert!(details[3].contains("doc_id 11: the benchmark has 11 examples"), "{}", details[3]);
    // With ids, those that changed places are found.
    let (predictions, rejected) = read_log(log("lm-eval", "cells"), &other).expect("reads");
    assert_eq!((predictions.len(), rejected.len()), (10, 2));
}

#[test]
fn a_log_of_lm_eval_is_scored_without_the_data() {
    let whole = score_file(&description(), log("lm-eval", "cells")).expect("scores").summary;
    assert_eq!((whole.n, whole.rejected), (12, 0));
    assert_eq!(whole.strict["acc"], 75.0);
    let filtered = score_file(&description(), log("lm-eval", "cells_two_filters")).expect("scores").summary;
    assert_eq!(filtered.strict, whole.strict);
    let likeliest = score_file(&description(), log("lm-eval", "cells_choice")).expect("scores").summary;
    assert_eq!((likeliest.n, likeliest.strict["acc"]), (4, 75.0));

    let error = score_file(&description(), log("lmms-eval", "cells")).expect_err("holds no records").to_string();
    assert!(error.contains("record 1 field `doc`") && error.contains("evaluate them"), "{error}");
}

#[test]
fn broken_records_cost_themselves_only() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("samples_cells_2026-01-01.jsonl");
    let sample = |doc_id: u64, filter: &str, answer: Value| {
        let doc = json!({"id": format!("cell-{doc_id}")});
        json!({"doc_id": doc_id, "doc": doc, "target": "", "arguments": [[format!("Is cell {doc_id} round?"), {}]],
            "resps": [answer.clone()], "filtered_resps": answer, "filter": filter})
    };
    let lines = [
        sample(1, "none", json!(["yes"])).to_string(),
        "{\"doc_id\": 7, \"resps\": [[\"yes".into(),
        sample(1, "none", json!(["no"])).to_string(),
        sample(4, "first", json!([["a", "b"]])).to_string(),
        sample(7, "first", json!(["no"])).to_string(),
        sample(7, "second", json!(["yes"])).to_string(),
        "{\"doc_id\": 10}".into(),
    ];
    std::fs::write(&path, lines.join("\n")).expect("written");
    assert!(is_log(&path).expect("reads"));
    let (predictions, rejected) = read_log(&path, &cells()).expect("reads");
    let ids: Vec<_> = predictions.iter().map(|prediction| prediction.id.as_str()).collect();
    assert_eq!(ids, ["cell-1", "cell-1", "cell-7"]);
    let expected =
        ["invalid JSON", "2 responses", "filter `second` gives another answer than filter `first`", "0 responses"];
    assert_eq!(rejected.len(), expected.len(), "{rejected:?}");
    for (rejected, expected) in rejected.iter().zip(expected) {
        assert!(rejected.detail.contains(expected), "{rejected:?}");
    }
    let (scored, _out) = scored(&path);
    assert_eq!((scored.outcomes.len(), scored.rejected.len()), (2, 5));
}

#[test]
fn our_logs_are_read_back_and_have_what_their_readers_look_for() {
    let (run, out) = scored(&log("lm-eval", "cells"));
    let (predictions, _) = read_predictions(out.path().join(files::PREDICTIONS)).expect("reads");
    let (cells, model) = (cells(), "org/../our:model");
    let task =
        [LoggedTask { benchmark: &cells, predictions: &predictions, outcomes: &run.outcomes, report: &run.report }];
    for format in [LogFormat::LmEval, LogFormat::LmmsEval] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let written = write_logs(folder.path(), format, model, &task).expect("writes");
        let again = write_logs(folder.path(), format, model, &task).expect("writes");
        assert_eq!(written, again, "the first files keep their date");
        let digits =
            |path: &Path| path.file_name().map(|name| name.to_string_lossy().matches(char::is_numeric).count());
        assert!(digits(&written[0]) >= Some(14), "{written:?}: a year to a second");
        assert!(written[0].starts_with(folder.path().join("org__our__model")), "{written:?}");

        assert_eq!(find_logs(folder.path(), "cells", false).expect("lists"), written[1..]);
        let (read, rejected) = read_log(&written[1], &cells).expect("reads");
        assert_eq!((read.as_slice(), rejected.as_slice()), (predictions.as_slice(), [].as_slice()));

        let results: Value = serde_json::from_slice(&std::fs::read(&written[0]).expect("reads")).expect("JSON");
        let scores = &results["results"]["Cells"];
        assert_eq!(scores["strict,none"], json!(0.75));
        assert_eq!(scores["strict_choice,none"], json!(0.75));
        let error =
            run.report.overall.strict.and_then(|strict| strict.standard_error).expect("twelve clusters") / 100.0;
        assert_eq!(scores["strict_stderr,none"], json!(error));
        assert_eq!(results["n-samples"]["Cells"], json!({"original": 12, "effective": 12}));
        let text = std::fs::read_to_string(&written[1]).expect("reads");
        let samples: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let right: Vec<bool> = samples.iter().map(|sample| sample["strict"] == json!(1.0)).collect();
        assert_eq!(right, RIGHT);
    }
}

#[test]
fn logs_of_two_runs_in_one_folder_are_not_mixed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let name = |date: &str| folder.path().join(format!("org__m/samples_cells_{date}.jsonl"));
    std::fs::create_dir(folder.path().join("org__m")).expect("made");
    std::fs::write(name("2026-01-01T00-00-00"), "").expect("written");
    assert_eq!(find_logs(folder.path(), "CELLS", false).expect("lists").len(), 1);
    std::fs::create_dir(folder.path().join("samples_cells_2025-01-01T00-00-00.jsonl")).expect("made");
    std::fs::write(folder.path().join("org__m/cells.jsonl"), "").expect("written");
    assert_eq!(
        find_logs(folder.path(), "cells", true).expect("lists").len(),
        1,
        "a folder is no log, nor is another name"
    );
    assert!(find_logs(folder.path(), "slides", false).expect("lists").is_empty());
    assert_eq!(find_logs(folder.path(), "slides", true).expect("lists").len(), 1, "nothing else is asked for");
    std::fs::write(name("2026-01-02T00-00-00"), "").expect("written");
    let error = find_logs(folder.path(), "cells", false).expect_err("two runs");
    assert!(matches!(&error, EvalError::Core(_)) && error.to_string().contains("name the one"), "{error}");
}
