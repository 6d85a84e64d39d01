//! A judge of open answers: killed and resumed, unreadable and failed verdicts by name, and its column beside the others.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adamllm_core::testing::{ScriptedError, ScriptedModel};
use adamllm_core::{LedgerEntry, Prompt, Reason, RecordId, Stage, jsonl};
use adamllm_eval::{
    AnswerJudge, BenchmarkDescription, DescribedBenchmark, EvalError, HtmlRun, JsonExamples, JudgeConfig, JudgeForm,
    JudgeReport, JudgedAnswer, Prediction, Report, Scored, files, html_scores, report_table, score_all,
};
use serde_json::json;

/// Twenty open questions and one that is closed; every fourth answer is wrong, every third one says more than the label.
fn benchmark() -> (DescribedBenchmark, Vec<Prediction>) {
    let record = |i: usize| {
        let (label, kind) = if i == 20 { ("yes", "CLOSED") } else { ("left lung", "OPEN") };
        json!({"id": format!("q{i}"), "question": format!("Where is {{answer}} number {i}?"), "label": label, "answer_type": kind})
    };
    let records = (0..21).map(|i| record(i).as_object().cloned().expect("an object"));
    let description = "name = \"lungs\"\nanswer = \"by_example\"\nimage_use = \"none\"";
    let description = BenchmarkDescription::from_toml(description).expect("valid");
    let records = JsonExamples::from_records("lungs.jsonl", records);
    let answer = |i: usize| match (i % 4, i % 3) {
        (0, _) => "<think>left lung?</think>the heart",
        (_, 0) => "the lung on its left",
        _ => "left lung",
    };
    let predictions = (0..21).map(|i| Prediction::new(RecordId::given(format!("q{i}")), answer(i)));
    (DescribedBenchmark::new(description, Box::new(records)).expect("fits"), predictions.collect())
}

fn text(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Chat { conversation, .. } => conversation.messages[0].content.clone(),
        Prompt::Text(text) => format!("text: {text}"),
    }
}

/// Marks by the answer's last line; question 5 it cannot read, on question 6 it fails while `fails`.
fn marker(asked: &Arc<AtomicUsize>, fails: bool) -> ScriptedModel {
    let asked = asked.clone();
    ScriptedModel::new(move |prompt| {
        asked.fetch_add(1, Ordering::SeqCst);
        let text = text(prompt);
        if text.contains("number 6?") && fails {
            return Err(ScriptedError("overloaded".into()));
        }
        Ok(match (text.contains("number 5?"), text.contains("Answer to mark: the heart")) {
            (true, _) => "It depends.".into(),
            (_, true) => "The reference is right, the answer is not. Verdict: incorrect".into(),
            _ => "Verdict: correct".into(),
        })
    })
}

fn judge(folder: &Path, asked: &Arc<AtomicUsize>, fails: bool) -> (JudgeReport, Scored) {
    let (benchmark, predictions) = benchmark();
    let mut scored = score_all(&benchmark, &predictions).expect("scores");
    let config = JudgeConfig { batch_size: 4, ..JudgeConfig::default() };
    let judge = AnswerJudge::with_config(marker(asked, fails), config).expect("ours");
    let report = judge.judge(&benchmark, &scored, &predictions, folder, &mut ()).expect("judges");
    scored.report.judge = Some(report.clone());
    (report, scored)
}

#[test]
fn verdicts_are_counted_named_and_kept() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let asked = Arc::new(AtomicUsize::new(0));
    let (report, scored) = judge(folder.path(), &asked, true);
    assert_eq!((report.n, report.n_judged, report.n_unreadable, report.n_failed), (20, 18, 1, 1));
    // Of 20, number 5 and 6 have no verdict; 0, 4, 8, 12, 16 are wrong.
    let mean = report.score.expect("a score").mean;
    assert!((mean - 100.0 * 13.0 / 18.0).abs() < 1e-9, "{mean}");
    // The lexical scores find both words of the label in "the lung on its left".
    let strict = report.agreement["strict"];
    assert_eq!((strict.n, strict.percent, strict.kappa), (18, 100.0, Some(1.0)));
    // The paper's scoring reads the reasoning, so it takes wrong answers for right.
    let paper = report.agreement["paper"];
    assert!((paper.percent - 100.0 * 13.0 / 18.0).abs() < 1e-9 && paper.kappa == Some(0.0), "{paper:?}");

    let ledger: Vec<LedgerEntry> = jsonl::read_all(folder.path().join(files::JUDGE_LEDGER)).expect("reads");
    let lost: Vec<_> = ledger.iter().map(|entry| (entry.id.as_str(), entry.stage, entry.reason)).collect();
    assert_eq!(lost, [("q5", Stage::Judge, Reason::UnclearVerdict), ("q6", Stage::Judge, Reason::ModelError)]);
    assert!(ledger[0].detail.contains("It depends.") && ledger[1].detail.contains("overloaded"));
    let judged: Vec<JudgedAnswer> = jsonl::read_all(folder.path().join(files::JUDGED)).expect("reads");
    assert_eq!(judged.len(), 19);
    assert_eq!((judged[5].id.as_str(), judged[5].right), ("q5", None));

    // Its column stands beside the others, and changes none of their numbers.
    let mut plain = scored.report.clone();
    plain.judge = None;
    let (table, without) = (report_table(&[("run", &scored.report)]), report_table(&[("run", &plain)]));
    let open = |table: &str| table.lines().find(|line| line.contains("| open |")).expect("a line").to_owned();
    assert!(open(&table).starts_with(&open(&without)) && open(&table).contains("| 72.2 ("), "{table}");
    let run = HtmlRun { name: "run", report: &scored.report, outcomes: &scored.outcomes, predictions: &[] };
    let html = html_scores(&[run]).into_string();
    assert!(html.contains("open, by a judge") && html.contains("1 verdicts unreadable, 1 failed"), "{html}");
    let read: Report = serde_json::from_value(json!(scored.report)).expect("reads");
    assert_eq!(read.judge.expect("judged").n_judged, 18);
}

#[test]
fn a_run_that_goes_on_asks_only_what_has_no_verdict() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let asked = Arc::new(AtomicUsize::new(0));
    judge(folder.path(), &asked, true);
    assert_eq!(asked.swap(0, Ordering::SeqCst), 20);

    // Killed in the middle of a line.
    let journal = folder.path().join(files::JUDGE_JOURNAL);
    let bytes = std::fs::read(&journal).expect("reads");
    std::fs::write(&journal, &bytes[..bytes.len() - 5]).expect("writes");
    let (resumed, _) = judge(folder.path(), &asked, false);
    assert_eq!(asked.swap(0, Ordering::SeqCst), 2, "the torn one, and the one that failed");

    let whole = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(judge(whole.path(), &asked, false).0, resumed);
    let of = |folder: &Path, file: &str| std::fs::read(folder.join(file)).expect("reads");
    for file in [files::JUDGED, files::JUDGE_LEDGER] {
        assert_eq!(of(folder.path(), file), of(whole.path(), file), "{file}");
    }
}

#[test]
fn a_prompt_of_ones_own_is_filled_in_one_pass() {
    let (benchmark, predictions) = benchmark();
    let scored = score_all(&benchmark, &predictions).expect("scores");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let echo = ScriptedModel::new(|prompt| Ok(text(prompt)));
    let prompt = "Q {question} E {expected} A {answer}: \n".to_owned();
    let config = JudgeConfig { prompt, form: JudgeForm::Text, ..JudgeConfig::default() };
    let judge = AnswerJudge::with_config(echo, config).expect("complete");
    judge.judge(&benchmark, &scored, &predictions, folder.path(), &mut ()).expect("judges");
    let judged: Vec<JudgedAnswer> = jsonl::read_all(folder.path().join(files::JUDGED)).expect("reads");
    assert_eq!(judged[0].text, "text: Q Where is {answer} number 0? E left lung A the heart:");

    let lacking = JudgeConfig { prompt: "{question} {answer}".into(), ..JudgeConfig::default() };
    let error = AnswerJudge::with_config(ScriptedModel::new(|_| Ok(String::new())), lacking).expect_err("lacks one");
    assert!(matches!(error, EvalError::Placeholder { placeholder: "{expected}" }), "{error}");
}
