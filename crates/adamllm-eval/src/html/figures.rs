use std::collections::BTreeMap;

use adamllm_report::head;
use maud::{Markup, html};

use super::{HtmlRun, HtmlSection};
use crate::{AnswerType, Estimate, GroupScore, Outcome};

/// A benchmark's bars, numbers and confusion tables.
pub(super) fn section(index: usize, section: &HtmlSection<'_>) -> Markup {
    html! {
        section class="benchmark" id=(format!("b{index}")) {
            h2 { (section.benchmark.name()) }
            (html_scores(&section.runs))
            div class="confusions" { @for run in &section.runs { (confusion(run)) } }
        }
    }
}

/// The scores of runs on one benchmark as a part of a page with [`adamllm_report::STYLE`]: each type of answer with both scorings
/// and their intervals, what is in no score, and where there are several runs their differences from the first.
pub fn html_scores(runs: &[HtmlRun<'_>]) -> Markup {
    let mut types: Vec<AnswerType> = runs.iter().flat_map(|run| run.report.by_type.keys().copied()).collect();
    types.sort_unstable();
    types.dedup();
    html! {
        table class="scores" {
            thead {
                tr {
                    th { "answers" } th { "run" } th { "n" } th { "scoring" }
                    th class="wide" { "score with interval, 0 to 100" }
                    th { "mean" } th { "interval" } th { "note" }
                }
            }
            @for &answer_type in &types {
                (groups(answer_type.as_str(), runs, |run| run.report.by_type.get(&answer_type)))
                @if answer_type == AnswerType::Open {
                    @for run in runs { (judge(run)) }
                }
            }
            @if types.len() > 1 { (groups("all", runs, |run| Some(&run.report.overall))) }
        }
        @for run in runs { (left_out(run)) }
        (super::summary::differences(runs))
    }
}

/// One type of answer: for each run a line of each scoring.
fn groups<'a>(
    answers: &str,
    runs: &'a [HtmlRun<'_>],
    group: impl Fn(&'a HtmlRun<'_>) -> Option<&'a GroupScore>,
) -> Markup {
    let groups: Vec<_> = runs.iter().filter_map(|run| Some((run, group(run)?))).collect();
    let note = |n: usize, what: &str| if n > 0 { format!("{n} {what}") } else { String::new() };
    html! {
        tbody {
            @for (i, (run, group)) in groups.iter().enumerate() {
                tr {
                    @if i == 0 { td rowspan=(2 * groups.len()) { (answers) } }
                    td rowspan="2" { (run.name) }
                    td rowspan="2" { (group.n) }
                    (score_cells("paper", group.paper, &note(group.random, "drawn at random")))
                }
                tr { (score_cells("strict", group.strict, &note(group.unparsed, "unparsed"))) }
            }
        }
    }
}

/// The judge's line below the open answers' two scorings.
fn judge(run: &HtmlRun<'_>) -> Markup {
    html! {
        @if let Some(judge) = &run.report.judge {
            tbody {
                tr {
                    td { "open, by a judge" } td { (run.name) } td { (judge.n_judged) }
                    (score_cells("judge", judge.score, &judge.sentence()))
                }
            }
        }
    }
}

/// Cells with the scoring's name, a bar with its interval as a whisker, the numbers, and a note.
fn score_cells(scoring: &str, estimate: Option<Estimate>, note: &str) -> Markup {
    let whisker = |low: f64, high: f64| format!("left:{low:.2}%;width:{:.2}%", (high - low).max(0.0));
    let Some(Estimate { mean, interval, .. }) = estimate else {
        return html! { td { (scoring) } td {} td { "–" } td {} td { (note) } };
    };
    html! {
        td { (scoring) }
        td {
            div class=(format!("track {scoring}")) {
                b style=(format!("width:{mean:.2}%")) {}
                @if let Some(interval) = interval { i style=(whisker(interval.low, interval.high)) {} }
            }
        }
        td { (format!("{mean:.1}")) }
        td { @if let Some(interval) = interval { (format!("{:.1}–{:.1}", interval.low, interval.high)) } }
        td { (note) }
    }
}

fn left_out(run: &HtmlRun<'_>) -> Markup {
    let (unanswered, rejected) = (run.report.unanswered, run.report.rejected);
    html! {
        @if unanswered + rejected > 0 {
            p class="warning" {
                (run.name) ": " (unanswered) " unanswered and " (rejected) " rejected examples are in no score."
            }
        }
    }
}

/// What closed questions were answered with: right answers down, answers as the strict scoring read them across.
fn confusion(run: &HtmlRun<'_>) -> Markup {
    const COLUMNS: [&str; 4] = ["yes", "no", "other", "unparsed"];
    let mut counts: BTreeMap<String, BTreeMap<&'static str, usize>> = BTreeMap::new();
    for outcome in run.outcomes.iter().filter(|outcome| outcome.answer_type == AnswerType::Closed) {
        let label = crate::metrics::answer_words(&outcome.expected);
        *counts.entry(label).or_default().entry(said(outcome)).or_default() += 1;
    }
    let most = counts.values().flat_map(|said| said.values()).copied().max().unwrap_or(1) as f64;
    let n = |said: &BTreeMap<&str, usize>, column: &str| said.get(column).copied().unwrap_or(0);
    html! {
        @if !counts.is_empty() {
            table class="confusion" {
                caption { (run.name) ": closed questions" }
                (head(&["label \\ answer", COLUMNS[0], COLUMNS[1], COLUMNS[2], COLUMNS[3]]))
                tbody {
                    @for (label, said) in &counts {
                        tr {
                            th { (label) }
                            @for n in COLUMNS.map(|column| n(said, column)) {
                                td style=(format!("--share:{:.3}", n as f64 / most)) { (n) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn said(outcome: &Outcome) -> &'static str {
    match outcome.strict_read.as_deref() {
        Some("yes") => "yes",
        Some("no") => "no",
        _ if outcome.unparsed => "unparsed",
        _ => "other",
    }
}
