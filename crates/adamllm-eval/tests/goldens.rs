//! The reference's own numbers, row by row. Skipped where the folder of golden files is absent; `own_goldens.rs` has the same
//! form with rows of ours.

use std::path::{Path, PathBuf};

use adamllm_eval::metrics::{self, NameSet, choice_paper};
use adamllm_eval::{JsonRows, score_rows, tasks};
use serde_json::Value;

fn folder() -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/goldens/metrics"));
    folder.exists().then(|| folder.to_path_buf())
}

fn rows(task: &str) -> Vec<Value> {
    folder().map_or(Vec::new(), |folder| {
        adamllm_core::jsonl::read_all(folder.join(format!("{task}.jsonl"))).expect("golden rows parse")
    })
}

fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_else(|| panic!("{column} in {row}"))
}

#[test]
fn open_and_closed_questions() {
    for row in ["SLAKE", "VQA_RAD", "PathVQA"].into_iter().flat_map(rows) {
        let (answer, label) = (text(&row, "pred"), text(&row, "label"));
        assert_eq!(metrics::normalise_answer(answer), text(&row, "normalized_pred"), "{row}");
        assert_eq!(metrics::normalise_answer(label), text(&row, "normalized_label"), "{row}");
        let (score, expected) = match text(&row, "answer_type") {
            "OPEN" => {
                let (answer, label) = (metrics::normalise_answer(answer), metrics::normalise_answer(label));
                (metrics::open_recall_paper(&answer, &label), &row["score"]["recall"])
            }
            _ => (metrics::closed_paper(answer, label), &row["score"]["yes/no accuracy"]),
        };
        assert_eq!(Some(score), expected.as_f64(), "{row}");
    }
}

#[test]
fn multiple_choices() {
    for row in rows("PMC_VQA") {
        let keys = ["A", "B", "C", "D"];
        let options = NameSet::new(keys.map(|key| text(&row, key)));
        let parse = choice_paper(text(&row, "pred"), &keys, &options, row["syn_id"].as_u64().expect("a number"));
        assert_eq!(keys[parse.index()], text(&row, "pred_option"), "{row}");
        assert_eq!(Some(matches!(parse, metrics::ChoiceParse::Random(_))), row["random_selected"].as_bool(), "{row}");
    }
}

#[test]
fn food101_names() {
    let names: Vec<&str> = include_str!("../data/food101_classes.txt").lines().collect();
    let keys: Vec<String> = (0..names.len()).map(|i| i.to_string()).collect();
    let names = NameSet::new(names);
    for row in rows("Food101") {
        let parse = choice_paper(text(&row, "pred"), &keys, &names, row["syn_id"].as_u64().expect("a number"));
        let option = &row["pred_option"];
        let expected = option.as_u64().or_else(|| option.as_str().and_then(|o| o.parse().ok())).expect("an option");
        assert_eq!(parse.index() as u64, expected, "{row}");
        assert_eq!(matches!(parse, metrics::ChoiceParse::ByText(_)), option.is_u64(), "{row}");
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
        for row in rows(task) {
            let found: Vec<_> = names.cut_out(text(&row, "pred")).iter().map(|index| index + first).collect();
            assert_eq!(serde_json::json!(found), row["pred_classes_on_image"], "{row}");
        }
    }
}

#[test]
fn rouge_of_recipes() {
    for row in rows("Recipe1M") {
        let rouge = metrics::rouge_l_package(text(&row, "pred"), text(&row, "label"));
        let score = rouge.map_or(0.0, |rouge| rouge.f * 100.0);
        assert_eq!(Some(score), row["rl"].as_f64(), "{row}");
    }
}

/// The score that a golden row holds, whatever the task calls it.
fn golden_score(row: &Value) -> f64 {
    let score = ["acc", "f1", "recall", "rl"].iter().find_map(|key| row.get(*key));
    let nested = || row["score"].as_object().and_then(|score| score.values().next());
    score.or_else(nested).and_then(Value::as_f64).expect("every row has a score")
}

#[test]
fn whole_files() {
    for task in ["SLAKE", "VQA_RAD", "PathVQA", "PMC_VQA", "Recipe1M", "Nutrition5K", "Food101", "FoodSeg103"] {
        let Some(folder) = folder() else { return };
        let rows = rows(task);
        let source = JsonRows::read(folder.join(format!("{task}.jsonl"))).expect("reads");
        let scored = score_rows(tasks::named(task).expect("a task"), Box::new(source)).expect("the task's rows");
        assert_eq!((scored.rows.len(), scored.rejected.len()), (rows.len(), 0));
        for (score, row) in scored.rows.iter().zip(&rows) {
            assert_eq!(score.paper, Some(golden_score(row)), "{task} {row}");
            assert_eq!(score.random, row.get("random_selected").is_some_and(|random| random == true), "{task} {row}");
        }
        let summary = std::fs::read(folder.join(format!("{task}.summary.json"))).expect("reads");
        let mut summary: serde_json::Map<_, _> = serde_json::from_slice(&summary).expect("parses");
        assert_eq!(summary.remove("test_num").and_then(|n| n.as_u64()), Some(scored.summary.n as u64));
        assert_eq!(summary.len(), scored.summary.paper.len());
        for (name, expected) in summary {
            let difference = scored.summary.paper[&name] - expected.as_f64().expect("a number");
            assert!(difference.abs() < 1e-9, "{task} {name}: off by {difference}");
        }
    }
}
