//! What the strict scorings read out of answers, against what a careful person reads (`fixtures/choice_answers.jsonl`).

use adamllm_eval::metrics::{choice_strict, closed_strict, name_strict, open_recall_strict, yes_no};
use adamllm_eval::{OptionSet, score_answer, tasks};
use serde_json::Value;

#[test]
fn multiple_choices_are_read_as_a_person_reads_them() {
    let records = table();
    assert!(records.len() >= 500);
    let misread: Vec<String> = records.iter().filter_map(misread).collect();
    assert!(misread.is_empty(), "{} of {} misread:\n{}", misread.len(), records.len(), misread.join("\n"));
}

fn table() -> Vec<Value> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/choice_answers.jsonl");
    adamllm_core::jsonl::read_all(file).expect("the table parses")
}

fn misread(record: &Value) -> Option<String> {
    let texts = record["options"].as_array().expect("options").iter().map(|text| text.as_str().expect("a text"));
    let options = OptionSet::lettered(texts);
    let answer = record["answer"].as_str().expect("an answer");
    let read = choice_strict(answer, options.keys(), options.texts()).map(|index| options.keys()[index].as_ref());
    (read != record["read"].as_str()).then(|| format!("{read:?} instead of {} in {answer:?}", record["read"]))
}

/// One fact, written differently.
#[test]
fn spelling_does_not_change_a_score() {
    let same = [
        ("X-ray", "x ray"),
        ("X\u{2011}ray, seen - here", "x-ray"),
        ("Crème brûlée", "creme brulee"),
        ("cre\u{300}me", "crème"),
        ("ＭＲＩ", "mri"),
        ("Alzheimer’s disease", "Alzheimer's disease"),
        ("“left lung”", "left lung"),
        ("1,000 cells", "1000 cells"),
        ("3.50 cm", "3.5 cm"),
        ("٣ cm", "3 cm"),
        ("three", "3"),
        ("Straße", "STRASSE"),
        ("ﬁbrosis", "fibrosis"),
        ("CO₂", "CO2"),
        ("U.S.", "US"),
        ("不是，是左肺。", "左肺"),
        ("<think>right?</think>left", "left"),
        ("\u{feff}left", "left"),
    ];
    for (answer, label) in same {
        assert_eq!(open_recall_strict(answer, label), 100.0, "{answer:?} {label:?}");
        assert_eq!(closed_strict(answer, label), Some(true), "{answer:?} {label:?}");
    }
    let other = [("35 cm", "3,5 cm"), ("left", "<think>left</think>"), ("13.5", "3.5"), ("5", "-5"), ("x", "й")];
    for (answer, label) in other {
        assert!(open_recall_strict(answer, label) < 100.0, "{answer:?} {label:?}");
    }
    assert_eq!(open_recall_strict("<think>left lung", "left lung"), 0.0);
    assert_eq!(open_recall_strict("右肺", "左肺"), 50.0);
}

#[test]
fn names_are_read_with_their_denials_and_declarations() {
    let names = ["pho", "ramen", "crème brûlée", "hot dog"].map(str::to_owned);
    let options = OptionSet::numbered(names);
    let table = [
        ("Ramen, not pho.", Some(1)),
        ("It looks like pho, but the answer is ramen.", Some(1)),
        ("creme brulee", Some(2)),
        ("<think>pho?</think>\nA hot-dog", Some(3)),
        ("pho or ramen", None),
        ("not pho", None),
        ("Ramen. Wrong guesses cost points.", Some(1)),
        ("Ramen\nIncorrect ones were left out.", Some(1)),
        ("Ramen is clearly wrong. Pho", Some(0)),
        ("Ramen: pho is wrong", Some(1)),
        ("Pho, ramen and hot dog are all excluded: creme brulee", Some(2)),
        ("(1)", None),
        ("<think>pho", None),
    ];
    for (answer, name) in table {
        assert_eq!(name_strict(answer, options.texts()), name, "{answer}");
    }
    assert_eq!(options.texts().whole_words("HOT‑DOG, Creme Brûlée & ｒａｍｅｎ"), [3, 2, 1]);
    assert_eq!(options.texts().whole_words("phở, hot dogs"), [0]);
}

/// The reference compares a name's number with the label's as text.
#[test]
fn a_number_that_is_read_out_is_the_names_number_in_the_paper_scoring() {
    let record = r#"{"image": "1.jpg", "label": "samosa"}"#;
    let records =
        adamllm_eval::JsonExamples::from_records("examples.jsonl", [serde_json::from_str(record).expect("a record")]);
    let food = tasks::open("Food101", Box::new(records)).expect("the task's record");
    let example = adamllm_eval::Benchmark::example(&food, 0).expect("a record");
    let paper = |answer: &str| score_answer(&example.expected, 0, answer).paper;
    let names: Vec<&str> = include_str!("../data/food101_classes.txt").lines().collect();
    let number = names.iter().position(|name| *name == "samosa").expect("a dish");
    assert_eq!(paper(&format!("({number})")), Some(100.0));
    assert_eq!(paper(&format!("it is {number} here")), Some(100.0));
    assert_eq!(paper(&format!("({})", number + 1)), Some(0.0));
    let strict = score_answer(&example.expected, 0, &format!("({number})"));
    assert!(strict.unparsed && strict.strict == 0.0, "the question shows no numbers");
}

/// What nobody hears does not change what is said.
#[test]
fn reasoning_and_width_change_no_reading() {
    for record in table() {
        let answer = record["answer"].as_str().expect("an answer").to_owned();
        if !answer.contains(['<', '[', '◁']) {
            let mut thought = record.clone();
            thought["answer"] = format!("<think>A? The answer is C.</think>\n{answer}").into();
            assert_eq!(misread(&thought), None);
        }
        if !answer.contains(['<', '[', '◁', '|']) {
            let full_width = |c: char| match c {
                '!'..='~' => char::from_u32(c as u32 + 0xfee0).expect("a full-width form"),
                other => other,
            };
            let mut wide = record.clone();
            wide["answer"] = answer.chars().map(full_width).collect::<String>().into();
            assert_eq!(misread(&wide), None);
        }
    }
}

/// Answers made of everything that the reader looks at, long ones too: a reading, and soon.
#[test]
fn no_answer_is_too_strange_or_too_long() {
    use adamllm_core::random::named_stream;
    use rand::Rng;
    const PARTS: [&str; 48] = [
        "A",
        "B",
        "b",
        "(C)",
        "E",
        "I",
        "a",
        "the",
        "answer",
        "is",
        "not",
        "option",
        "or",
        "and",
        ",",
        ".",
        ":",
        "\n",
        " ",
        " ",
        " ",
        "-",
        "'",
        "left lung",
        "hepatitis",
        "if",
        "so",
        "final",
        "boxed{",
        "}",
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "[THINK]",
        "答案",
        "是",
        "不",
        "。",
        "é",
        "e\u{301}",
        "\u{301}",
        "ß",
        "3.5",
        "1,000",
        "wrong",
        "correct",
        "\u{200b}",
    ];
    let options = OptionSet::lettered(["chest", "left lung", "hepatitis B", "3.5"]);
    let mut random = named_stream(7, "answers", "");
    for _ in 0..4000 {
        let n = 1 + random.next_u64() % 24;
        let answer: String = (0..n).map(|_| PARTS[(random.next_u64() % PARTS.len() as u64) as usize]).collect();
        let read = choice_strict(&answer, options.keys(), options.texts());
        assert!(read.is_none_or(|index| index < 4), "{answer:?}");
        yes_no(&answer);
        open_recall_strict(&answer, "left lung");
    }
    let start = std::time::Instant::now();
    for part in [
        "A ",
        "A, ",
        "the ",
        "(B) ",
        "left lung ",
        "not A or ",
        "if A\n",
        "<think>",
        "answer is ",
        "答",
        "A\n",
        "1,",
        ".",
    ] {
        choice_strict(&part.repeat(20_000), options.keys(), options.texts());
    }
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
