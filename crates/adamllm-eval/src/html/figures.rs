use std::collections::BTreeMap;
use std::fmt::Write;

use adamllm_core::html::escape;

use super::{HtmlRun, HtmlSection};
use crate::{AnswerType, Estimate, GroupScore, Outcome};

/// A benchmark's bars, numbers and confusion tables.
pub(super) fn section(index: usize, section: &HtmlSection<'_>) -> String {
    let name = escape(section.benchmark.name());
    let mut out = format!("<section class=\"benchmark\" id=\"b{index}\">\n<h2>{name}</h2>\n");
    out.push_str(&html_scores(&section.runs));
    out.push_str("<div class=\"confusions\">\n");
    for run in &section.runs {
        push_confusion(&mut out, run);
    }
    out.push_str("</div>\n</section>\n");
    out
}

/// The scores of runs on one benchmark as a part of a page with [`adamllm_core::html::STYLE`]: each type of answer with both scorings
/// and their intervals, what is in no score, and where there are several runs their differences from the first.
pub fn html_scores(runs: &[HtmlRun<'_>]) -> String {
    let mut types: Vec<AnswerType> = runs.iter().flat_map(|run| run.report.by_type.keys().copied()).collect();
    types.sort_unstable();
    types.dedup();

    let mut out =
        String::from("<table class=\"scores\"><thead><tr><th>answers</th><th>run</th><th>n</th><th>scoring</th>");
    out.push_str("<th class=\"wide\">score with interval, 0 to 100</th><th>mean</th><th>interval</th><th>note</th>");
    out.push_str("</tr></thead>\n");

    for &answer_type in &types {
        let group = |run: &HtmlRun<'_>| run.report.by_type.get(&answer_type).cloned();
        push_groups(&mut out, answer_type.as_str(), runs, group);
        if answer_type == AnswerType::Open {
            runs.iter().for_each(|run| push_judge(&mut out, run));
        }
    }

    // With a single type the group of all would say the same twice.
    if types.len() > 1 {
        push_groups(&mut out, "all", runs, |run| Some(run.report.overall.clone()));
    }

    out.push_str("</table>\n");
    for run in runs {
        push_left_out(&mut out, run);
    }

    out.push_str(&super::summary::differences(runs));
    out
}

fn push_groups(
    out: &mut String,
    answers: &str,
    runs: &[HtmlRun<'_>],
    group: impl Fn(&HtmlRun<'_>) -> Option<GroupScore>,
) {
    out.push_str("<tbody>\n");
    let groups: Vec<_> = runs.iter().filter_map(|run| Some((run, group(run)?))).collect();
    let n_lines = 2 * groups.len();
    for (i, (run, group)) in groups.iter().enumerate() {
        let run = escape(run.name);
        let answers = if i == 0 { format!("<td rowspan=\"{n_lines}\">{answers}</td>") } else { String::new() };
        let (n, random, unparsed) = (group.n, group.random, group.unparsed);
        let note = if random > 0 { format!("{random} drawn at random") } else { String::new() };
        // Writing to a String cannot fail, here and below.
        let _ = write!(
            out,
            "<tr>{answers}<td rowspan=\"2\">{run}</td><td rowspan=\"2\">{n}</td>{}</tr>\n<tr>{}</tr>\n",
            score_cells("paper", group.paper, &note),
            score_cells(
                "strict",
                group.strict,
                &if unparsed > 0 { format!("{unparsed} unparsed") } else { String::new() }
            ),
        );
    }
    out.push_str("</tbody>\n");
}

/// The judge's line below the open answers' two scorings.
fn push_judge(out: &mut String, run: &HtmlRun<'_>) {
    let Some(judge) = &run.report.judge else { return };
    let note = judge.sentence();
    let _ = writeln!(
        out,
        "<tbody><tr><td>open, by a judge</td><td>{}</td><td>{}</td>{}</tr></tbody>",
        escape(run.name),
        judge.n_judged,
        score_cells("judge", judge.score, &escape(&note))
    );
}

fn score_cells(scoring: &str, estimate: Option<Estimate>, note: &str) -> String {
    let Some(estimate) = estimate else {
        return format!("<td>{scoring}</td><td></td><td>–</td><td></td><td>{note}</td>");
    };
    let whisker = estimate.interval.map_or(String::new(), |interval| {
        let (left, width) = (interval.low, (interval.high - interval.low).max(0.0));
        format!("<i style=\"left:{left:.2}%;width:{width:.2}%\"></i>")
    });
    let interval = estimate.interval.map_or(String::new(), |i| format!("{:.1}–{:.1}", i.low, i.high));
    let mean = estimate.mean;
    format!(
        "<td>{scoring}</td><td><div class=\"track {scoring}\"><b style=\"width:{mean:.2}%\"></b>{whisker}</div></td>\
         <td>{mean:.1}</td><td>{interval}</td><td>{note}</td>"
    )
}

fn push_left_out(out: &mut String, run: &HtmlRun<'_>) {
    let (unanswered, rejected) = (run.report.unanswered, run.report.rejected);
    if unanswered + rejected > 0 {
        let name = escape(run.name);
        let _ = writeln!(
            out,
            "<p class=\"warning\">{name}: {unanswered} unanswered and {rejected} rejected examples are in no score.</p>"
        );
    }
}

/// What closed questions were answered with: right answers down, answers as the strict scoring read them across.
fn push_confusion(out: &mut String, run: &HtmlRun<'_>) {
    let mut counts: BTreeMap<String, BTreeMap<&'static str, usize>> = BTreeMap::new();
    for outcome in run.outcomes.iter().filter(|outcome| outcome.answer_type == AnswerType::Closed) {
        let label = crate::metrics::answer_words(&outcome.expected);
        *counts.entry(label).or_default().entry(said(outcome)).or_default() += 1;
    }

    if counts.is_empty() {
        return;
    }

    const COLUMNS: [&str; 4] = ["yes", "no", "other", "unparsed"];
    let most = counts.values().flat_map(|row| row.values()).copied().max().unwrap_or(1) as f64;

    let _ = write!(out, "<table class=\"confusion\"><caption>{}: closed questions</caption>", escape(run.name));
    out.push_str("<thead><tr><th>label \\ answer</th>");
    COLUMNS.iter().for_each(|column| out.push_str(&format!("<th>{column}</th>")));
    out.push_str("</tr></thead>\n<tbody>\n");

    for (label, row) in &counts {
        let _ = write!(out, "<tr><th>{}</th>", escape(label));
        for column in COLUMNS {
            let n = row.get(column).copied().unwrap_or(0);
            let _ = write!(out, "<td style=\"--share:{:.3}\">{n}</td>", n as f64 / most);
        }
        out.push_str("</tr>\n");
    }

    out.push_str("</tbody></table>\n");
}

fn said(outcome: &Outcome) -> &'static str {
    match outcome.strict_read.as_deref() {
        Some("yes") => "yes",
        Some("no") => "no",
        _ if outcome.unparsed => "unparsed",
        _ => "other",
    }
}
