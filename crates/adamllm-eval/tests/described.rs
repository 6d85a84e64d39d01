//! Benchmarks without code: descriptions and records on disk, good and bad.

use std::path::Path;

use adamllm_core::RecordId;
use adamllm_eval::{
    AnswerType, Benchmark, BenchmarkDescription, DescribedBenchmark, EvalError, Expected, JsonExamples, Prediction,
    score, score_examples, tasks,
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
    let example = plates.example(0).expect("a record");
    assert_eq!(example.prompt, "Which of rice, fried rice, peas are on plate 3? {one line}");
    assert_eq!((example.id.as_str(), example.images.len(), example.cluster().as_str()), ("7", 2, "3"));
    let report = score(&plates, &[Prediction::new(RecordId::given("7"), "Fried rice.")]).expect("scores");
    let mean = report.by_type[&AnswerType::Labels].strict.expect("a record").mean;
    assert!((mean - 200.0 / 3.0).abs() < 1e-9, "one of two names, nothing wrong: {mean}");
    assert!(matches!(plates.example(1), Err(EvalError::OutOfRange { index: 1, len: 1, .. })));
}

#[test]
fn json_describes_as_well() {
    let description = br#"{"name": "cells", "answer": "by_example", "answer_types": ["open", "closed"]}"#;
    let records = br#"{"question": "How many?", "label": 2, "answer_type": "OPEN"}"#;
    let folder = folder(&[("cells.json", description), ("examples.jsonl", records)]);
    let cells = DescribedBenchmark::open(folder.path().join("cells.json")).expect("opens");
    let example = cells.example(0).expect("a record");
    assert!(matches!(&example.expected, Expected::Open(label) if label == "2"));
    let report = score(&cells, &[Prediction::new(example.id, "Two.")]).expect("scores");
    assert_eq!(report.by_type[&AnswerType::Open].strict.map(|s| s.mean), Some(100.0));
    assert_eq!(report.by_type[&AnswerType::Closed].strict, None, "an empty group has no score");
}

#[test]
fn descriptions_with_the_old_names_are_read() {
    let new = "name = \"c\"\nanswer = \"by_example\"\nexamples = \"c.jsonl\"\nn_examples = 3";
    let old = "name = \"c\"\nanswer = \"by_row\"\nrows = \"c.jsonl\"\nn_rows = 3";
    let read = |text| BenchmarkDescription::from_toml(text).expect("valid");
    assert_eq!(read(new), read(old));
    let records = br#"{"question": "How many?", "label": 2, "answer_type": "OPEN"}"#;
    let folder = folder(&[("c.toml", b"name = \"c\"\nanswer = \"open\""), ("rows.jsonl", records)]);
    assert_eq!(DescribedBenchmark::open(folder.path().join("c.toml")).expect("opens").len(), 1);
}

fn open(description: &str, records: &[u8]) -> Result<DescribedBenchmark, EvalError> {
    let folder = folder(&[("d.toml", description.as_bytes()), ("examples.jsonl", records)]);
    DescribedBenchmark::open(folder.path().join("d.toml"))
}

/// The error of one record, in words, without the folder.
fn record_error(description: &str, records: &[u8], index: usize) -> String {
    let error =
        open(description, records).expect("the file is not at fault").example(index).expect_err("the record is");
    assert!(error.is_example_error(), "{error}");
    let text = error.to_string();
    text[text.find("examples.jsonl").unwrap_or(0)..].to_owned()
}

#[test]
fn a_bad_record_is_named_and_costs_itself() {
    let category = "name = \"c\"\nanswer = \"category\"\nnames = [\"red\", \"blue\"]";
    let records = b"{\"question\": \"q\", \"label\": \"red\"}\n\n{\"question\": \"q\", \"label\": \"gr\xc3\xbcn\"}\n{\"label\": \"\xff\"}\n[]\n{\"question\": \"q\", \"label\": {}}";
    assert_eq!(
        record_error(category, records, 1),
        "examples.jsonl record 3 column `label`: expected one of the names, got grün"
    );
    assert!(record_error(category, records, 2).starts_with("examples.jsonl record 4: invalid JSON: "));
    assert!(record_error(category, records, 3).starts_with("examples.jsonl record 5"));
    assert_eq!(record_error(category, records, 4), "examples.jsonl record 6 column `label`: expected text, got {}");

    let choice = "name = \"c\"\nanswer = \"choice\"";
    let records = br#"{"question": "q", "label": "E", "options": ["x", "y"]}"#;
    assert_eq!(
        record_error(choice, records, 0),
        "examples.jsonl record 1 column `label`: expected an option or its letter, got E"
    );
    let records = br#"{"question": "q", "label": "A", "options": []}"#;
    assert_eq!(
        record_error(choice, records, 0),
        "examples.jsonl record 1 column `options`: expected at least one option, got none"
    );

    let by_example = "name = \"c\"\nanswer = \"by_example\"\nprompts = { all = \"{gone}\" }";
    let records = br#"{"label": "a", "answer_type": "ESSAY"}
{"label": "a", "answer_type": "OPEN"}"#;
    assert_eq!(
        record_error(by_example, records, 0),
        "examples.jsonl record 1 column `answer_type`: expected an answer type, got ESSAY"
    );
    assert_eq!(
        record_error(by_example, records, 1),
        "examples.jsonl record 2 column `gone`: expected a value, got no such column"
    );
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let error = open("name = \"c\"\nanswer = \"choice\"", br#"{"text": 1, "label": "A"}"#).expect_err("no options");
    assert!(matches!(&error, EvalError::OtherTask { benchmark, got, .. } if benchmark == "c" && got == "text, label"));
    assert!(!error.is_example_error());
    let error = open("name = \"c\"\nanswers = \"open\"", b"").expect_err("a misspelt field");
    assert!(
        matches!(&error, EvalError::Description { source, .. } if source.to_string().contains("answers")),
        "{error}"
    );
    assert!(DescribedBenchmark::open(Path::new("gone.toml")).is_err());

    let golden = JsonExamples::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/SLAKE.jsonl")).expect("reads");
    let error = score_examples(tasks::named("PMC-VQA").expect("a task"), Box::new(golden)).expect_err("no options");
    assert!(error.to_string().contains("expected records of PMC_VQA with the columns label, A, B, C, D"), "{error}");
    let unanswered = br#"{"label": "yes", "answer_type": "CLOSED", "input": "q"}"#;
    let file = folder(&[("examples.jsonl", unanswered)]);
    let records = JsonExamples::read(file.path().join("examples.jsonl")).expect("reads");
    let error = score_examples(tasks::named("SLAKE").expect("a task"), Box::new(records)).expect_err("no answers");
    assert!(error.to_string().contains("column `pred`"), "{error}");
}

#[test]
fn null_counts_as_absent_and_one_record_costs_itself() {
    let description = "name = \"c\"\nanswer = \"closed\"\ncolumns = { prompt = \"input\", group = \"patient\" }";
    let records = br#"{"question": "no label"}
{"question": "Is it?", "label": "yes", "input": null, "patient": null, "id": null, "syn_id": 3.0}
{"question": "Is it?", "label": "yes", "input": "Look. Is it?", "patient": 7, "id": 4}"#;
    let benchmark = open(description, records).expect("two records fit");
    let error = benchmark.example(0).expect_err("no label");
    assert!(error.is_example_error() && error.to_string().contains("record 1 column `label`"), "{error}");
    let second = benchmark.example(1).expect("nulls are nothing");
    assert_eq!((second.prompt.as_str(), second.group, second.id.as_str(), second.guess_seed), ("Is it?", None, "3", 3));
    let third = benchmark.example(2).expect("a record");
    assert_eq!((third.prompt.as_str(), third.group.as_deref()), ("Look. Is it?", Some("7")));
}

#[test]
fn a_description_names_what_is_wrong_in_it() {
    let error_of = |text: &str| {
        let folder = folder(&[("d.toml", text.as_bytes()), ("examples.jsonl", b""), ("none.txt", b"\n")]);
        match DescribedBenchmark::open(folder.path().join("d.toml")) {
            Err(EvalError::Description { source, .. }) => source.to_string(),
            other => panic!("{text}: {other:?}"),
        }
    };
    let table = [
        (
            "answer = \"opne\"",
            "unknown kind of answer `opne`: expected one of by_example, open, closed, choice, category, labels, short, text; did you mean `open`?",
        ),
        ("answer = 3", "expected a string"),
        ("answer = \"open\"\nrow = \"x.jsonl\"", "unknown field `row`, expected one of `name`"),
        ("answer = \"open\"\ncolumns.imgae = \"x\"", "unknown field `imgae`, expected one of `id`, `image`"),
        ("answer = \"open\"\ncolumns = \"x\"", "ColumnNames"),
        (
            "answer = \"open\"\nimage_use = \"never\"",
            "unknown variant `never`, expected one of `every`, `some`, `none`",
        ),
        (
            "answer = \"by_example\"\nprompts.chioce = \"x\"",
            "unknown key of `prompts` `chioce`: expected one of all, open, closed, choice, category, labels, short, text; did you mean `choice`?",
        ),
        ("answer = \"open\"\nprompts.choice = \"x\"", "unknown key of `prompts` `choice`: expected one of all, open"),
        ("answer = \"open\"\nprompts.all = \"a {b\"", "a brace without its other half at `{b`"),
        ("answer = \"open\"\nprompts.all = \"{{a}} }b\"", "a brace without its other half at `}b`"),
        ("answer = \"category\"", "need `names` or `names_file`"),
        ("answer = \"category\"\nnames = []", "`names` is empty"),
        ("answer = \"labels\"\nnames_file = \"none.txt\"", "holds no name"),
        ("answer = \"labels\"\nnames = [\"a\"]\nnames_file = \"none.txt\"", "both given"),
        ("answer = \"open\"\nnames = [\"a\"]", "all answers are `open`"),
        ("answer = \"open\"\nmax_new_tokens = 0", "`max_new_tokens` is 0"),
        ("answer = \"open\"\nmax_new_tokens = -1", "-1"),
        (
            "answer = \"labels\"\nnames = [\"a\"]\nlabel_metric = \"f2\"",
            "unknown variant `f2`, expected `recall` or `f1`",
        ),
    ];
    for (text, part) in table {
        let detail = error_of(&format!("name = \"d\"\n{text}"));
        assert!(detail.contains(part), "{text}: {detail}");
    }
    assert!(error_of("answer = \"open\"").contains("missing field `name`"));
    assert!(error_of("name = \"d\"").contains("missing field `answer`"));
    assert!(error_of("name = \" \"\nanswer = \"open\"").contains("`name` is empty"));
}

/// Editors on Windows put a byte order mark before a text: it belongs to no name and to no key.
#[test]
fn byte_order_marks_are_no_part_of_descriptions_and_names() {
    let names = "\u{feff}apple pie\r\nramen\r\n".to_owned().into_bytes();
    let utf16: Vec<u8> = "\u{feff}apple pie\nramen\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let description = "\u{feff}name = \"n\"\nanswer = \"category\"\nnames_file = \"names.txt\"".as_bytes();
    let records = "\u{feff}{\"question\": \"q\", \"label\": \"apple pie\"}\n".as_bytes();
    for names in [&names, &utf16] {
        let folder = folder(&[("d.toml", description), ("names.txt", names), ("examples.jsonl", records)]);
        let dishes = DescribedBenchmark::open(folder.path().join("d.toml")).expect("opens");
        let example = dishes.example(0).expect("a record");
        let outcome = dishes.score(&example, "apple pie");
        assert_eq!((outcome.paper, outcome.strict, outcome.random), (Some(100.0), 100.0, false));
    }
}

#[test]
fn descriptions_survive_the_round_trip() {
    for task in tasks::all() {
        let json = serde_json::to_string(task).expect("serialises");
        let read: BenchmarkDescription = serde_json::from_str(&json).expect("reads");
        assert_eq!(&read, task);
    }
}

/// Every task with one record of its own, in the form that was published.
#[test]
fn every_task_reads_its_records() {
    let records = [
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
    for (name, record, answer) in records {
        let record: serde_json::Map<_, _> = serde_json::from_str(record).expect("a record");
        let task = tasks::open(name, Box::new(JsonExamples::from_records("examples.jsonl", [record])))
            .expect("the task's record");
        let example = task.example(0).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!example.prompt.is_empty() && !example.prompt.contains('{'), "{name}: {}", example.prompt);
        let outcome = task.score(&example, answer);
        assert!((outcome.strict - 100.0).abs() < 1e-9 && !outcome.unparsed, "{name}: {outcome:?}");
        let wrong = task.score(&example, "");
        assert!(wrong.strict == 0.0 && wrong.unparsed, "{name}: {wrong:?}");
    }
    let pmc = r#"{"question": "Q?", "A": "w", "B": "x", "C": "y", "D": "z", "label": "B"}"#;
    let records = JsonExamples::from_records("examples.jsonl", [serde_json::from_str(pmc).expect("a record")]);
    let example = tasks::open("PMC_VQA", Box::new(records)).and_then(|task| task.example(0)).expect("reads");
    assert_eq!(example.prompt, "Question: Q?\nThe choices are: A: w\nB: x\nC: y\nD: z");
}

/// The paper counts every record.
#[test]
fn rows_that_stand_twice_count_twice() {
    let record = r#"{"image": "1.jpg", "input": "Is it a CT?", "label": "Yes", "answer_type": "CLOSED"}"#;
    let other = record.replace("1.jpg", "2.jpg");
    let records = [record, &other, record, record].map(|record| serde_json::from_str(record).expect("a record"));
    let task = tasks::open("SLAKE", Box::new(JsonExamples::from_records("examples.jsonl", records)))
        .expect("the task's records");
    let examples: Vec<_> = (0..4).map(|index| task.example(index).expect("a record")).collect();
    let ids: std::collections::HashSet<_> = examples.iter().map(|example| example.id.clone()).collect();
    assert_eq!(ids.len(), 4);
    let answers: Vec<_> = examples.iter().map(|example| Prediction::new(example.id.clone(), "yes")).collect();
    let report = score(&task, &answers).expect("scores");
    assert_eq!((report.overall.n, report.overall.n_clusters, report.rejected), (4, 2, 0));
}
