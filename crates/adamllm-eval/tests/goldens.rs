//! Scores that others computed, example by example: examples of ours scored by Python (`fixtures/make_fixtures.py`), and the reference's own
//! numbers where their folder is at hand.

use std::path::{Path, PathBuf};

use adamllm_eval::metrics::{self, ChoiceParse, NameSet, choice_paper};
use adamllm_eval::{JsonExamples, ScoredExamples, score_examples, tasks};
use serde_json::{Map, Value, json};

const TASKS: [&str; 8] = ["SLAKE", "VQA_RAD", "PathVQA", "PMC_VQA", "Recipe1M", "Nutrition5K", "Food101", "FoodSeg103"];

fn files(task: &str) -> Vec<PathBuf> {
    let folders = ["tests/fixtures", "../../../shared/goldens/metrics"];
    let file = |folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(format!("{task}.jsonl"));
    folders.map(file).into_iter().filter(|file| file.exists()).collect()
}

fn records(task: &str) -> Vec<Value> {
    let read = |file| adamllm_core::jsonl::read_all::<Value>(file).expect("golden records parse");
    files(task).into_iter().flat_map(read).collect()
}

fn text<'a>(record: &'a Value, column: &str) -> &'a str {
    record[column].as_str().unwrap_or_else(|| panic!("{column} in {record}"))
}

#[test]
fn open_and_closed_questions() {
    let records: Vec<Value> = ["SLAKE", "VQA_RAD", "PathVQA"].into_iter().flat_map(records).collect();
    assert!(records.len() >= 60);
    for record in records {
        let (answer, label) = (text(&record, "pred"), text(&record, "label"));
        assert_eq!(metrics::normalise_answer(answer), text(&record, "normalized_pred"), "{record}");
        assert_eq!(metrics::normalise_answer(label), text(&record, "normalized_label"), "{record}");
        let (score, expected) = match text(&record, "answer_type") {
            "OPEN" => {
                let (answer, label) = (metrics::normalise_answer(answer), metrics::normalise_answer(label));
                (metrics::open_recall_paper(&answer, &label), &record["score"]["recall"])
            }
            _ => (metrics::closed_paper(answer, label), &record["score"]["yes/no accuracy"]),
        };
        assert_eq!(Some(score), expected.as_f64(), "{record}");
    }
}

#[test]
fn multiple_choices() {
    for record in records("PMC_VQA") {
        let keys = ["A", "B", "C", "D"];
        let options = NameSet::new(keys.map(|key| text(&record, key)));
        let parse = choice_paper(text(&record, "pred"), &keys, &options, record["syn_id"].as_u64().expect("a number"));
        assert_eq!(keys[parse.index()], text(&record, "pred_option"), "{record}");
        assert_eq!(Some(matches!(parse, ChoiceParse::Random(_))), record["random_selected"].as_bool(), "{record}");
    }
}

#[test]
fn food101_names() {
    let names: Vec<&str> = include_str!("../data/food101_classes.txt").lines().collect();
    let keys: Vec<String> = (0..names.len()).map(|i| i.to_string()).collect();
    let names = NameSet::new(names);
    for record in records("Food101") {
        let parse = choice_paper(text(&record, "pred"), &keys, &names, record["syn_id"].as_u64().expect("a number"));
        let option = &record["pred_option"];
        let expected = option.as_u64().or_else(|| option.as_str().and_then(|o| o.parse().ok())).expect("an option");
        assert_eq!(parse.index() as u64, expected, "{record}");
        assert_eq!(matches!(parse, ChoiceParse::ByText(_)), option.is_u64(), "{record}");
    }
}

#[test]
fn lists_of_names() {
    let lists = [
        // The reference's numbers begin with the background, which is not among the names.
        ("FoodSeg103", include_str!("../data/foodseg103_classes.txt"), 1),
        ("Nutrition5K", include_str!("../data/nutrition5k_ingredients.txt"), 0),
    ];
    for (task, list, first) in lists {
        let names = NameSet::new(list.lines());
        for record in records(task) {
            let found: Vec<_> = names.cut_out(text(&record, "pred")).iter().map(|index| index + first).collect();
            assert_eq!(json!(found), record["pred_classes_on_image"], "{record}");
        }
    }
}

#[test]
fn rouge_of_texts() {
    for record in records("Recipe1M") {
        let (answer, label) = (text(&record, "pred"), text(&record, "label"));
        let percent = |rouge: Option<metrics::Rouge>| rouge.map_or(0.0, |rouge| rouge.f * 100.0);
        assert_eq!(Some(percent(metrics::rouge_l_package(answer, label))), record["rl"].as_f64(), "{record}");
        if let Some(package) = record.get("package") {
            for (name, n) in [("rouge-1", 1), ("rouge-2", 2)] {
                let score = percent(metrics::rouge_n_package(answer, label, n));
                // The package scores all its variants in one go: one that fails takes the others with it.
                let failed = metrics::rouge_l_package(answer, label).is_none();
                assert_eq!(Some(if failed { 0.0 } else { score }), package[name].as_f64(), "{name} {record}");
            }
        }
        if let Some(standard) = record.get("standard") {
            let near = |name: &str, rouge: metrics::Rouge| {
                let expected = standard[name].as_f64().expect("a number");
                assert!((rouge.f * 100.0 - expected).abs() < 1e-9, "{name} {}: {record}", rouge.f);
            };
            near("rouge1", metrics::rouge_n(answer, label, 1));
            near("rouge2", metrics::rouge_n(answer, label, 2));
            near("rougeL", metrics::rouge_l(answer, label));
        }
    }
}

#[test]
fn bleu_of_texts() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/Recipe1M");
    let records: Vec<Value> = adamllm_core::jsonl::read_all(format!("{file}.jsonl")).expect("reads");
    let labels: Vec<[String; 1]> = records.iter().map(|record| [text(record, "label").to_owned()]).collect();
    let pairs = records.iter().zip(&labels).map(|(record, label)| (text(record, "pred"), &label[..]));
    let bleu = metrics::corpus_bleu(pairs, 4).expect("there are answers");
    let expected = summary(Path::new(&format!("{file}.jsonl")))["bleu"].as_f64().expect("a number");
    assert!((bleu - expected).abs() < 1e-9, "{bleu} instead of {expected}");
}

fn summary(file: &Path) -> Map<String, Value> {
    let bytes = std::fs::read(file.with_extension("summary.json")).expect("reads");
    serde_json::from_slice(&bytes).expect("parses")
}

/// The score that a golden record holds, whatever the task calls it.
fn golden_score(record: &Value) -> f64 {
    let score = ["acc", "f1", "recall", "rl"].iter().find_map(|key| record.get(*key));
    let nested = || record["score"].as_object().and_then(|score| score.values().next());
    score.or_else(nested).and_then(Value::as_f64).expect("every record has a score")
}

fn score_file(task: &str, file: &Path) -> ScoredExamples {
    let task = tasks::named(task).expect("a task");
    let scored = adamllm_eval::score_file(task, file).expect("the task's records");
    let all_columns =
        score_examples(task, Box::new(JsonExamples::read(file).expect("reads"))).expect("the task's records");
    assert_eq!(scored.examples, all_columns.examples);
    scored
}

#[test]
fn whole_files() {
    for (task, file) in TASKS.iter().flat_map(|task| files(task).into_iter().map(move |file| (task, file))) {
        let records: Vec<Value> = adamllm_core::jsonl::read_all(&file).expect("reads");
        let scored = score_file(task, &file);
        assert_eq!((scored.examples.len(), scored.rejected.len()), (records.len(), 0));
        for (score, record) in scored.examples.iter().zip(&records) {
            assert_eq!(score.paper, Some(golden_score(record)), "{task} {record}");
            assert_eq!(
                score.random,
                record.get("random_selected").is_some_and(|random| random == true),
                "{task} {record}"
            );
        }
        let mut summary = summary(&file);
        summary.remove("bleu");
        assert_eq!(summary.remove("test_num").and_then(|n| n.as_u64()), Some(scored.summary.n as u64));
        assert_eq!(summary.len(), scored.summary.paper.len());
        for (name, expected) in summary {
            let difference = scored.summary.paper[&name] - expected.as_f64().expect("a number");
            assert!(difference.abs() < 1e-9, "{task} {name}: off by {difference}");
        }
    }
}

/// The reference takes these for right answers or wrong ones; nobody can tell.
#[test]
fn unreadable_answers_are_wrong_and_counted() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/SLAKE.jsonl");
    let records: Vec<Value> = adamllm_core::jsonl::read_all(&file).expect("reads");
    let scored = score_file("SLAKE", &file);
    let mut checked = 0;
    for (record, score) in records.iter().zip(&scored.examples).filter(|(record, _)| record["answer_type"] == "CLOSED")
    {
        let yes_or_no = ["yes", "no"].contains(&metrics::answer_words(text(record, "label")).as_str());
        if ["yes/no", "knowledge of noise", "No. Yes.", "", "..."].contains(&text(record, "pred")) && yes_or_no {
            assert!(score.unparsed && score.strict == 0.0, "{record}");
            checked += 1;
        }
    }
    assert!(checked >= 2);
    assert_eq!(scored.summary.unparsed, scored.examples.iter().filter(|score| score.unparsed).count());
}
