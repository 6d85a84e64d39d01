//! Answers made elsewhere, files with nothing in them, and what the report says about all that.

use std::collections::BTreeSet;
use std::path::Path;

use adamllm_core::testing::ScriptedModel;
use adamllm_core::{CoreError, Shard};
use adamllm_eval::{
    AnswerType, BenchmarkDescription, DescribedBenchmark, EvalError, JsonExamples, PredictOptions, evaluate,
    evaluate_answers, files, read_outcomes, read_report, score_file, tasks,
};
use serde_json::{Value, json};

fn lungs() -> DescribedBenchmark {
    let records = (0..12).map(|i| {
        let record = json!({"id": i, "question": format!("Is it clear? {i}"), "label": "yes", "image": format!("{}.png", i / 3)});
        record.as_object().cloned().expect("an object")
    });
    let description = BenchmarkDescription::from_toml("name = \"lungs\"\nanswer = \"closed\"").expect("valid");
    DescribedBenchmark::new(description, Box::new(JsonExamples::from_records("lungs.jsonl", records))).expect("fits")
}

fn model() -> ScriptedModel {
    ScriptedModel::new(|_| Ok("Yes".into()))
}

#[test]
fn shards_join_to_the_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path_of = |name: &str| folder.path().join(name);
    let whole = evaluate(&model(), &lungs(), &path_of("whole"), &PredictOptions::default(), &mut ()).expect("runs");
    let mut parts = Vec::new();
    for i in 0..3 {
        let shard = Shard::new(i, 3).expect("in range");
        let options = PredictOptions { shard, ..PredictOptions::default() };
        let part = evaluate(&model(), &lungs(), &path_of(&i.to_string()), &options, &mut ()).expect("runs");
        assert!(part.report.overall.n < 12);
        parts.push(path_of(&i.to_string()).join(files::PREDICTIONS));
    }
    let joined = evaluate_answers("joined", &lungs(), &parts, &path_of("joined")).expect("scores");
    assert_eq!(joined.outcomes, whole.outcomes);
    assert_eq!(joined.report.overall, whole.report.overall);
    let info = |report: &adamllm_eval::Report| report.run.clone().expect("what was run");
    assert_eq!(info(&joined.report).dataset, info(&whole.report).dataset);
    assert_eq!(info(&joined.report).model, "joined");
    assert_eq!(read_report(path_of("joined").join(files::REPORT)).expect("reads"), joined.report);
    assert_eq!(read_outcomes(path_of("joined").join(files::OUTCOMES)).expect("reads"), joined.outcomes);
}

#[test]
fn every_odd_answer_is_counted_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("answers.jsonl");
    let lines = [
        r#"{"id": 0, "pred": "Yes"}"#,
        r#"{"id": "1", "answer": ""}"#,
        r#"{"id": 2, "pred": null}"#,
        r#"{"id": 0, "pred": "No"}"#,
        r#"{"id": "unknown", "pred": "No"}"#,
        r#"{"id": 3}"#,
        "{\"id\": 4, \"pred\"",
    ];
    std::fs::write(&file, lines.join("\n")).expect("written");
    let scored = evaluate_answers("odd", &lungs(), &[file], &folder.path().join("out")).expect("scores");
    assert_eq!((scored.report.overall.n, scored.report.unanswered, scored.report.rejected), (3, 9, 4));
    assert_eq!((scored.report.overall.unparsed, scored.rejected.len()), (2, 4), "empty answers are wrong, not lost");
    let mean = scored.report.overall.strict.expect("three records").mean;
    assert!((mean - 100.0 / 3.0).abs() < 1e-9);
    let reasons: Vec<_> = scored.rejected.iter().map(|rejected| rejected.detail.as_str()).collect();
    for (reason, part) in reasons.iter().zip(["missing field `answer`", "record 7", "second prediction", "unknown id"])
    {
        assert!(reason.contains(part), "{reason}");
    }
}

/// As pandas, PowerShell and `json.dump` write them.
#[test]
fn answers_in_every_form_that_tools_write() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lines: Vec<String> = (0..12).map(|i| format!(r#"{{"id": "{i}", "answer": "Yes"}}"#)).collect();
    let floats: Vec<String> = (0..12).map(|i| format!(r#"{{"id": {i}.0, "pred": true, "answer": null}}"#)).collect();
    let files = [
        ("bom.jsonl", format!("\u{feff}{}\r\n", lines.join("\r\n"))),
        ("array.json", format!("[{}]", lines.join(", "))),
        ("pretty.json", format!("\u{feff}[\n  {}\n]\n", lines.join(",\n  "))),
        ("floats.jsonl", floats.join("\n")),
    ];
    for (name, content) in files {
        let file = folder.path().join(name);
        std::fs::write(&file, content).expect("written");
        let scored = evaluate_answers("m", &lungs(), &[file], &folder.path().join("out")).expect("scores");
        assert_eq!((scored.report.overall.n, scored.report.unanswered, scored.rejected.len()), (12, 0, 0), "{name}");
    }
}

/// A record's id is the same whether it is written as `1`, `1.0` or `"1"`, on either side.
#[test]
fn ids_of_records_are_read_as_those_of_predictions() {
    let records = [json!(0), json!(1.0), json!("2"), json!(null), json!(12345678901234567890123_f64)];
    let records = records.into_iter().map(|id| {
        json!({"id": id, "syn_id": "s", "question": "q", "label": "yes"}).as_object().cloned().expect("an object")
    });
    let description = BenchmarkDescription::from_toml("name = \"ids\"\nanswer = \"closed\"").expect("valid");
    let ids =
        DescribedBenchmark::new(description, Box::new(JsonExamples::from_records("ids.jsonl", records))).expect("fits");
    let id = |index: usize| adamllm_eval::Benchmark::example(&ids, index).map(|example| example.id.to_string());
    assert_eq!([0, 1, 2, 3].map(|index| id(index).expect("an id")), ["0", "1", "2", "s"]);
    assert!(id(4).is_err_and(|error| error.is_example_error() && error.to_string().contains("too large")));
}

#[test]
fn nothing_is_neither_nought_nor_nan() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("empty.jsonl");
    std::fs::write(&file, "").expect("written");
    let scored = evaluate_answers("empty", &lungs(), &[&file], &folder.path().join("out")).expect("scores");
    assert_eq!((scored.report.overall.n, scored.report.unanswered), (0, 12));
    let group = &scored.report.by_type[&AnswerType::Closed];
    assert!(group.paper.is_none() && group.strict.is_none());
    for task in tasks::all() {
        let summary = score_file(task, &file).expect("an empty file is of any task").summary;
        assert_eq!((summary.n, summary.paper.len(), summary.strict.len()), (0, 0, 0), "{}", task.name);
    }
}

#[test]
fn a_report_from_the_future_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    evaluate(&model(), &lungs(), folder.path(), &PredictOptions::default(), &mut ()).expect("runs");
    let file = folder.path().join(files::REPORT);
    let text = std::fs::read_to_string(&file).expect("reads");
    std::fs::write(&file, text.replacen("\"version\": 1", "\"version\": 2", 1)).expect("written");
    let error = read_report(&file).expect_err("newer");
    assert!(matches!(error, EvalError::Core(CoreError::Field { field: "version", .. })), "{error}");
}

/// All keys of an object and of what is in it, except where names are data.
fn keys(value: &Value, out: &mut BTreeSet<String>) {
    if let Value::Object(members) = value {
        for (key, member) in members {
            out.insert(key.clone());
            if key != "software" {
                keys(member, out);
            }
        }
    }
}

#[test]
fn every_field_of_the_report_is_documented() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let scored = evaluate(&model(), &lungs(), folder.path(), &PredictOptions::default(), &mut ()).expect("runs");
    let mut names = BTreeSet::new();
    keys(&serde_json::to_value(&scored.report).expect("serialises"), &mut names);
    assert!(names.len() > 30 && names.contains("standard_error"), "{names:?}");
    let guide = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides/report.md"));
    let guide = guide.expect("the guide");
    let missing: Vec<_> = names.iter().filter(|name| !guide.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "not in docs/guides/report.md: {missing:?}");
}
