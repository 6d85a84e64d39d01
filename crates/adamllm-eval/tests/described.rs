//! Benchmarks without code: descriptions and rows on disk, good and bad.

use std::path::Path;

use adamllm_core::RecordId;
use adamllm_eval::{
    AnswerType, Benchmark, BenchmarkDescription, DescribedBenchmark, EvalError, Expected, JsonRows, Prediction, score,
    score_rows, tasks,
};

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).expect("writes");
    }
    folder
}

const PLATES: &[u8] = br#"
name = "plates"
rows = "questions.json"
answer = "labels"
label_metric = "f1"
names_file = "foods.txt"
max_new_tokens = 32
[columns]
id = "key"
label = "foods"
group = "plate"
[prompts]
all = "Which of {options} are on plate {plate}? {{one line}}"
"#;

#[test]
fn a_description_and_its_files() {
    let folder = folder(&[
        ("plates.toml", PLATES),
        ("foods.txt", b"rice\nfried rice\n\npeas\n"),
        (
            "questions.json",
            br#"[{"key": 7, "foods": ["peas", "fried rice"], "plate": 3, "image": ["a.png", "b.png"]}]"#,
        ),
    ]);
    let plates = DescribedBenchmark::open(folder.path().join("plates.toml")).expect("opens");
    assert_eq!(plates.description().images_path(), folder.path().join("images"));
    let example = plates.example(0).expect("a row");
    assert_eq!(example.prompt, "Which of rice, fried rice, peas are on plate 3? {one line}");
    assert_eq!((example.id.as_str(), example.images.len(), example.cluster().as_str()), ("7", 2, "3"));
    let report = score(&plates, &[Prediction::new(RecordId::given("7"), "Fried rice.")]).expect("scores");
    let mean = report.by_type[&AnswerType::Labels].strict.expect("a row").mean;
    assert!((mean - 200.0 / 3.0).abs() < 1e-9, "one of two names, nothing wrong: {mean}");
    assert!(matches!(plates.example(1), Err(EvalError::OutOfRange { index: 1, len: 1, .. })));
}

#[test]
fn json_describes_as_well() {
    let description = br#"{"name": "cells", "answer": "by_row", "answer_types": ["open", "closed"]}"#;
    let rows = br#"{"question": "How many?", "label": 2, "answer_type": "OPEN"}"#;
    let folder = folder(&[("cells.json", description), ("rows.jsonl", rows)]);
    let cells = DescribedBenchmark::open(folder.path().join("cells.json")).expect("opens");
    let example = cells.example(0).expect("a row");
    assert!(matches!(&example.expected, Expected::Open(label) if label == "2"));
    let report = score(&cells, &[Prediction::new(example.id, "Two.")]).expect("scores");
    assert_eq!(report.by_type[&AnswerType::Open].strict.map(|s| s.mean), Some(100.0));
    assert_eq!(report.by_type[&AnswerType::Closed].strict, None, "an empty group has no score");
}

fn open(description: &str, rows: &[u8]) -> Result<DescribedBenchmark, EvalError> {
    let folder = folder(&[("d.toml", description.as_bytes()), ("rows.jsonl", rows)]);
    DescribedBenchmark::open(folder.path().join("d.toml"))
}

/// The error of one row, in words, without the folder.
fn row_error(description: &str, rows: &[u8], index: usize) -> String {
    let error = open(description, rows).expect("the file is not at fault").example(index).expect_err("the row is");
    assert!(error.is_row(), "{error}");
    let text = error.to_string();
    text[text.find("rows.jsonl").unwrap_or(0)..].to_owned()
}

#[test]
fn a_bad_row_is_named_and_costs_itself() {
    let category = "name = \"c\"\nanswer = \"category\"\nnames = [\"red\", \"blue\"]";
    let rows = b"{\"question\": \"q\", \"label\": \"red\"}\n\n{\"question\": \"q\", \"label\": \"gr\xc3\xbcn\"}\n{\"label\": \"\xff\"}\n[]\n{\"question\": \"q\", \"label\": {}}";
    assert_eq!(row_error(category, rows, 1), "rows.jsonl row 3 column `label`: expected one of the names, got grün");
    assert!(row_error(category, rows, 2).starts_with("rows.jsonl row 4: invalid JSON: "));
    assert!(row_error(category, rows, 3).starts_with("rows.jsonl row 5"));
    assert_eq!(row_error(category, rows, 4), "rows.jsonl row 6 column `label`: expected text, got {}");

    let choice = "name = \"c\"\nanswer = \"choice\"";
    let rows = br#"{"question": "q", "label": "E", "options": ["x", "y"]}"#;
    assert_eq!(row_error(choice, rows, 0), "rows.jsonl row 1 column `label`: expected an option or its letter, got E");
    let rows = br#"{"question": "q", "label": "A", "options": []}"#;
    assert_eq!(row_error(choice, rows, 0), "rows.jsonl row 1 column `options`: expected at least one option, got none");

    let by_row = "name = \"c\"\nanswer = \"by_row\"\nprompts = { all = \"{gone}\" }";
    let rows = br#"{"label": "a", "answer_type": "ESSAY"}
{"label": "a", "answer_type": "OPEN"}"#;
    assert_eq!(row_error(by_row, rows, 0), "rows.jsonl row 1 column `answer_type`: expected an answer type, got ESSAY");
    assert_eq!(row_error(by_row, rows, 1), "rows.jsonl row 2 column `gone`: expected a value, got no such column");
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let error = open("name = \"c\"\nanswer = \"choice\"", br#"{"text": 1, "label": "A"}"#).expect_err("no options");
    assert!(matches!(&error, EvalError::OtherTask { benchmark, got, .. } if benchmark == "c" && got == "text, label"));
    assert!(!error.is_row());
    let error = open("name = \"c\"\nanswers = \"open\"", b"").expect_err("a misspelt field");
    assert!(matches!(&error, EvalError::Description { detail, .. } if detail.contains("answers")), "{error}");
    assert!(DescribedBenchmark::open(Path::new("gone.toml")).is_err());

    let golden = JsonRows::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/SLAKE.jsonl")).expect("reads");
    let error = score_rows(tasks::named("PMC-VQA").expect("a task"), Box::new(golden)).expect_err("no options");
    assert!(error.to_string().contains("expected rows of PMC_VQA with the columns label, A, B, C, D"), "{error}");
    let unanswered = br#"{"label": "yes", "answer_type": "CLOSED", "input": "q"}"#;
    let file = folder(&[("rows.jsonl", unanswered)]);
    let rows = JsonRows::read(file.path().join("rows.jsonl")).expect("reads");
    let error = score_rows(tasks::named("SLAKE").expect("a task"), Box::new(rows)).expect_err("no answers");
    assert!(error.to_string().contains("column `pred`"), "{error}");
}

#[test]
fn descriptions_survive_the_round_trip() {
    for task in tasks::all() {
        let json = serde_json::to_string(task).expect("serialises");
        let read: BenchmarkDescription = serde_json::from_str(&json).expect("reads");
        assert_eq!(&read, task);
    }
}

/// Every task with one row of its own, in the form that was published.
#[test]
fn every_task_reads_its_rows() {
    let rows = [
        ("SLAKE", r#"{"image": "1.jpg", "input": "Is it a CT?", "label": "Yes", "answer_type": "CLOSED"}"#, "yes"),
        ("VQA_RAD", r#"{"image": "1.jpg", "input": "Which organ?", "label": "liver", "answer_type": "OPEN"}"#, "liver"),
        ("PathVQA", r#"{"image": "1.jpg", "input": "What?", "label": "a cell", "answer_type": "OPEN"}"#, "cell"),
        (
            "PMC-VQA",
            r#"{"image": "1.jpg", "question": "Q?", "A": "w", "B": "x", "C": "y", "D": "z", "label": "B"}"#,
            "B",
        ),
        ("Recipe1M", r#"{"image": "1.jpg", "input": "Recipe?", "label": "Boil rice."}"#, "boil rice"),
        ("Nutrition5K", r#"{"image": "1.jpg", "label": ["bacon", "olives"]}"#, "olives and bacon"),
        ("Food101", r#"{"image": "1.jpg", "label": "apple_pie"}"#, "apple pie"),
        ("FoodSeg103", r#"{"image": "1.jpg", "label": ["candy"]}"#, "[candy]"),
        ("CLRS", r#"{"image": "1.jpg", "label": "storage-tank"}"#, "Storage tank."),
        ("UCM", r#"{"image": "1.jpg", "label": "denseresidential"}"#, "dense residential"),
        ("FloodNet", r#"{"image": "1.jpg", "input": "How many?", "label": 4}"#, "4"),
        ("NWPU-Captions", r#"{"image": "1.jpg", "label": ["A plane.", "Two planes."]}"#, "two planes"),
    ];
    for (name, row, answer) in rows {
        let row: serde_json::Map<_, _> = serde_json::from_str(row).expect("a row");
        let task = tasks::open(name, Box::new(JsonRows::from_rows("rows.jsonl", [row]))).expect("the task's row");
        let example = task.example(0).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!example.prompt.is_empty() && !example.prompt.contains('{'), "{name}: {}", example.prompt);
        let outcome = task.score(&example, answer);
        assert!((outcome.strict - 100.0).abs() < 1e-9 && !outcome.unparsed, "{name}: {outcome:?}");
        let wrong = task.score(&example, "");
        assert!(wrong.strict == 0.0 && wrong.unparsed, "{name}: {wrong:?}");
    }
    let pmc = r#"{"question": "Q?", "A": "w", "B": "x", "C": "y", "D": "z", "label": "B"}"#;
    let rows = JsonRows::from_rows("rows.jsonl", [serde_json::from_str(pmc).expect("a row")]);
    let example = tasks::open("PMC_VQA", Box::new(rows)).and_then(|task| task.example(0)).expect("reads");
    assert_eq!(example.prompt, "Question: Q?\nThe choices are: A: w\nB: x\nC: y\nD: z");
}

/// The paper counts every row.
#[test]
fn rows_that_stand_twice_count_twice() {
    let row = r#"{"image": "1.jpg", "input": "Is it a CT?", "label": "Yes", "answer_type": "CLOSED"}"#;
    let other = row.replace("1.jpg", "2.jpg");
    let rows = [row, &other, row, row].map(|row| serde_json::from_str(row).expect("a row"));
    let task = tasks::open("SLAKE", Box::new(JsonRows::from_rows("rows.jsonl", rows))).expect("the task's rows");
    let examples: Vec<_> = (0..4).map(|index| task.example(index).expect("a row")).collect();
    let ids: std::collections::HashSet<_> = examples.iter().map(|example| example.id.clone()).collect();
    assert_eq!(ids.len(), 4);
    let answers: Vec<_> = examples.iter().map(|example| Prediction::new(example.id.clone(), "yes")).collect();
    let report = score(&task, &answers).expect("scores");
    assert_eq!((report.overall.n, report.overall.n_clusters, report.rejected), (4, 2, 0));
}
