//! The page's tables: every number against outcomes that can be counted by hand.

use adamllm_core::RecordId;
use adamllm_eval::{
    BenchmarkDescription, DescribedBenchmark, HtmlOptions, HtmlRun, HtmlSection, JsonExamples, Prediction, Scored,
    html_report, score_all,
};
use serde_json::json;

/// Ten closed questions: six to be answered yes, four no.
fn ten() -> DescribedBenchmark {
    let record = |i: usize| {
        let label = if i < 6 { "yes" } else { "no" };
        let record = json!({"id": format!("q{i}"), "label": label, "question": format!("Is cell {i} round?")});
        record.as_object().cloned().expect("an object")
    };
    let text = "name = \"ten\"\nanswer = \"closed\"\nimage_use = \"none\"";
    let description = BenchmarkDescription::from_toml(text).expect("valid");
    let records = JsonExamples::from_records("ten.jsonl", (0..10).map(record));
    DescribedBenchmark::new(description, Box::new(records)).expect("fits")
}

fn answered(answers: &[&str]) -> (Vec<Prediction>, Scored) {
    let predictions: Vec<Prediction> = answers
        .iter()
        .enumerate()
        .map(|(i, answer)| Prediction::new(RecordId::given(format!("q{i}")), *answer))
        .collect();
    let scored = score_all(&ten(), &predictions).expect("scores");
    (predictions, scored)
}

fn page(runs: &[(&str, &(Vec<Prediction>, Scored))]) -> String {
    let benchmark = ten();
    let mut shown = Vec::new();
    for (name, (predictions, scored)) in runs {
        shown.push(HtmlRun { name, report: &scored.report, outcomes: &scored.outcomes, predictions });
    }
    let runs = shown;
    html_report("t", &[HtmlSection { benchmark: &benchmark, runs }], &HtmlOptions::default()).expect("a page")
}

#[test]
fn tables_count_what_was_answered() {
    // Of six to be answered yes, four are, one is no and one says neither; of four noes one is right, two are yes, one is not there.
    let base = answered(&["Yes", "Yes", "yes.", "Yes", "No", "Perhaps it is.", "Yes", "Yes", "No"]);
    let tuned = answered(&["Yes", "Yes", "Yes", "Yes", "Yes", "Yes", "No", "No", "No", "No"]);
    let page = page(&[("base", &base), ("tuned", &tuned)]);
    let has = |part: &str| assert!(page.contains(part), "{part}");

    let interval = base.1.report.overall.strict.and_then(|strict| strict.interval).expect("nine clusters");
    let (low, high) = (interval.low, interval.high);
    assert!(low > 0.0 && low < 500.0 / 9.0 && high > 500.0 / 9.0 && high < 100.0, "{low} to {high}");
    has(&format!("<td>base</td><td>9</td><td>55.6 <small>{low:.1}–{high:.1}</small></td>"));
    has("<td>100.0 <small>100.0–100.0</small></td><td>0</td><td>0</td></tr>");
    has("<td rowspan=\"4\">closed</td><td rowspan=\"2\">base</td><td rowspan=\"2\">9</td><td>paper</td>");
    has(&format!("<b style=\"width:55.56%\"></b><i style=\"left:{low:.2}%;width:{:.2}%\"></i>", high - low));
    has(&format!("<td>55.6</td><td>{low:.1}–{high:.1}</td><td>1 unparsed</td>"));
    has("<td>100.0</td><td>100.0–100.0</td><td></td>");
    has("<p class=\"warning\">base: 1 unanswered and 0 rejected examples are in no score.</p>");
    assert_eq!(page.matches("class=\"warning\"").count(), 1);

    // Four of the nine that both answered are won.
    has("<caption>Against base, on the same questions (strict)</caption>");
    has("<tr><td>tuned</td><td>closed</td><td>9</td><td>+44.4</td>");
    has("<td class=\"good\">better</td>");
    assert!(!page.contains("<td>all</td>") && !page.contains(">all</td>"), "one kind of answers is all of them");

    // Shares are of the largest count of the table.
    let cell = |n: usize, share: &str| format!("<td style=\"--share:{share}\">{n}</td>");
    let row = |label: &str, cells: [(usize, &str); 4]| {
        format!("<tr><th>{label}</th>{}</tr>", cells.map(|(n, share)| cell(n, share)).concat())
    };
    has("<caption>base: closed questions</caption>");
    has(&row("yes", [(4, "1.000"), (1, "0.250"), (0, "0.000"), (1, "0.250")]));
    has(&row("no", [(2, "0.500"), (1, "0.250"), (0, "0.000"), (0, "0.000")]));
    has(&row("no", [(0, "0.000"), (4, "0.667"), (0, "0.000"), (0, "0.000")]));
}

#[test]
fn a_worse_run_and_an_equal_one_are_called_so() {
    let right = answered(&["Yes", "Yes", "Yes", "Yes", "Yes", "Yes", "No", "No", "No", "No"]);
    let wrong = answered(&["No", "No", "No", "No", "No", "No", "Yes", "Yes", "Yes", "Yes"]);
    let page = page(&[("first", &right), ("same", &right), ("worse", &wrong)]);
    let differences = page.split("<table class=\"differences\">").nth(1).expect("a table");
    assert!(differences.contains("<tr><td>same</td><td>closed</td><td>10</td><td>+0.0</td>"), "{differences}");
    assert!(differences.contains("<td class=\"muted\">no clear difference</td>"));
    assert!(
        differences.contains("<td>-100.0</td><td>-100.0 to -100.0</td><td>0.001</td><td class=\"bad\">worse</td>"),
        "{differences}"
    );
}

#[test]
fn one_run_has_nothing_to_be_compared_with() {
    let right = answered(&["Yes"]);
    let page = page(&[("first", &right)]);
    assert!(!page.contains("class=\"differences\""));
    assert!(page.contains("<td>100.0</td><td></td><td></td>"), "one cluster has no interval");
}
