//! Questions that show images: what the column may be called, what may stand in it, and what is said where there is none.

use adamllm_core::testing::ScriptedModel;
use adamllm_core::{Ledger, Prompt};
use adamllm_eval::{
    Benchmark, BenchmarkDescription, CorruptedBenchmark, Corruption, DescribedBenchmark, EvalError, JsonExamples,
    JsonObject, PredictOptions, RecordSource, evaluate, predict, tasks,
};
use serde_json::{Value, json};

fn source(records: &[Value]) -> Box<dyn RecordSource> {
    let objects: Vec<JsonObject> =
        records.iter().map(|record| record.as_object().cloned().expect("an object")).collect();
    Box::new(JsonExamples::from_records("examples.jsonl", objects))
}

fn open(settings: &str, records: &[Value]) -> DescribedBenchmark {
    let description = BenchmarkDescription::from_toml(&format!("name = \"t\"\nanswer = \"open\"\n{settings}"));
    DescribedBenchmark::new(description.expect("valid"), source(records)).expect("the records fit")
}

fn record(columns: Value) -> Value {
    let mut record = json!({"question": "What?", "label": "red"});
    record.as_object_mut().expect("an object").extend(columns.as_object().cloned().expect("an object"));
    record
}

fn images(benchmark: &DescribedBenchmark, index: usize) -> Vec<String> {
    let example = benchmark.question(index).unwrap_or_else(|error| panic!("{error}"));
    example.images.iter().map(ToString::to_string).collect()
}

/// A model that nobody may ask.
fn nobody() -> ScriptedModel {
    ScriptedModel::new(|_: &Prompt| panic!("asked"))
}

#[test]
fn known_columns_are_found_and_every_form_of_a_name_is_read() {
    for column in ["image", "images", "img", "img_name", "image_path", "image_file", "file_name", "picture"] {
        let benchmark = open("", &[record(json!({column: "a.png"}))]);
        benchmark.check().expect("there is an image");
        assert_eq!(images(&benchmark, 0), ["a.png"], "{column}");
    }
    let forms = [
        (json!("a.png"), vec!["a.png"]),
        (json!(["a.png", "b.png"]), vec!["a.png", "b.png"]),
        (json!({"bytes": null, "path": "a.png"}), vec!["a.png"]),
        (json!({"path": "a.png"}), vec!["a.png"]),
        (json!([{"path": "a.png", "bytes": null}, "b.png"]), vec!["a.png", "b.png"]),
        (json!(17), vec!["17"]),
    ];
    for (value, names) in forms {
        assert_eq!(images(&open("", &[record(json!({"images": value}))]), 0), names);
    }
    // The likeliest of several, unless it is empty; the description's own before all.
    let both = [record(json!({"file_name": "f.png", "image": "i.png"}))];
    assert_eq!(images(&open("", &both), 0), ["i.png"]);
    assert_eq!(images(&open("columns.image = \"file_name\"", &both), 0), ["f.png"]);
    assert_eq!(images(&open("", &[record(json!({"image": null, "img": "i.png"}))]), 0), ["i.png"]);
    assert_eq!(images(&open("columns.image = \"slide\"", &[record(json!({"slide": "s.svs"}))]), 0), ["s.svs"]);

    let published = r#"{"img_name": "a.png", "question": "Is this a lung?", "label": "yes", "answer_type": "CLOSED"}"#;
    let slake =
        tasks::open("SLAKE", source(&[serde_json::from_str(published).expect("a record")])).expect("the task's record");
    assert_eq!(images(&slake, 0), ["a.png"]);
}

#[test]
fn a_benchmark_without_images_is_refused_before_anything_is_asked() {
    let error_of = |settings: &str, records: &[Value]| {
        let benchmark = open(settings, records);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let error = evaluate(&nobody(), &benchmark, folder.path(), &PredictOptions::default(), &mut ());
        let error = error.expect_err("no image");
        assert!(matches!(error, EvalError::NoImages { .. }) && !error.is_example_error(), "{error}");
        let corrupted = CorruptedBenchmark::new(&benchmark, Corruption::Blank, 0);
        assert!(predict(&nobody(), &corrupted, &PredictOptions::default(), &mut Ledger::new(), &mut ()).is_err());
        error.to_string()
    };
    let misspelt = [record(json!({"image": "a.png"})), record(json!({"image": "b.png"}))];
    let text = error_of("columns.image = \"picture\"", &misspelt);
    assert!(
        text.starts_with("examples.jsonl record 1: no record of t has an image in `picture`; did you mean `image`?"),
        "{text}"
    );
    assert!(text.contains("its columns are question, label, image") && text.contains("image_use = \"none\""), "{text}");
    let text = error_of("", &[record(json!({"slide": "a.png", "scan": {"path": "b.TIF"}, "n": 3}))]);
    assert!(text.contains("did you mean `slide` or `scan`?"), "{text}");
    let text = error_of("columns.image = \"scna\"", &[record(json!({"scan": "17"}))]);
    assert!(text.contains("did you mean `scan`?"), "{text}");
    let text = error_of("", &[record(json!({})), record(json!({"image": ""})), record(json!({"images": [null]}))]);
    assert!(!text.contains("did you mean"), "{text}");
    error_of("", &[record(json!({"image": {"bytes": null, "path": null}}))]);
}

#[test]
fn a_record_without_an_image_among_others_is_its_own_error() {
    let records = [
        record(json!({"image": "a.png"})),
        record(json!({"image": null, "img": "b.png"})),
        record(json!({"image": {"bytes": null, "path": ""}})),
        record(json!({"image": {"bytes": "aGk=", "path": "c.png"}})),
        record(json!({"image": ["a.png", null]})),
        record(json!({"image": true})),
    ];
    let benchmark = open("", &records);
    benchmark.check().expect("some have one");
    let error_of = |index: usize| {
        let error = benchmark.question(index).expect_err("no image");
        assert!(error.is_example_error(), "{error}");
        error.to_string()
    };
    assert_eq!(error_of(1), "examples.jsonl record 2: no image in `image`; did you mean `img`?");
    assert_eq!(error_of(2), "examples.jsonl record 3: no image in `image`");
    for index in 3..6 {
        assert!(error_of(index).contains("column `image`: expected an image's name"), "{}", error_of(index));
    }
    assert!(benchmark.example(1).expect("answers are scored without it").images.is_empty());
}

#[test]
fn descriptions_say_where_questions_show_no_image() {
    let records = [record(json!({})), record(json!({"image": "a.png"}))];
    let some = open("image_use = \"some\"", &records);
    some.check().expect("allowed");
    assert_eq!((images(&some, 0).len(), images(&some, 1).len()), (0, 1));
    let none = open("image_use = \"none\"", &records);
    none.check().expect("allowed");
    assert_eq!((images(&none, 0).len(), images(&none, 1).len()), (0, 0));
    open("", &[]).check().expect("nothing to ask");
}
