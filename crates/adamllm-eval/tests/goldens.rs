//! The reference's own numbers, row by row. Skipped where the folder of golden files is absent; `own_goldens.rs` has the same
//! form with rows of ours.

use std::path::{Path, PathBuf};

use adamllm_eval::metrics::{self, NameSet, choice_paper};
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
        ("FoodSeg103", include_str!("../data/foodseg103_classes.txt")),
        ("Nutrition5K", include_str!("../data/nutrition5k_ingredients.txt")),
    ];
    for (task, list) in lists {
        let names = NameSet::new(list.lines());
        for row in rows(task) {
            let found = names.cut_out(text(&row, "pred"));
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
