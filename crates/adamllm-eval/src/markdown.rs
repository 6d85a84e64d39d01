//! Tables for people.

use std::fmt::Write;

use crate::grid::markdown_cell;
use crate::{AnswerType, Comparison, Estimate, GroupScore, PairedGroup, PairedScore, Report};

/// Reports of several runs as one Markdown table: a row per benchmark, answer type and run, both scorings with their
/// intervals, and what could not be read. Absent scores are a dash. Where a judge was asked about some run, a column of its own follows.
pub fn report_table(runs: &[(&str, &Report)]) -> String {
    let judged = runs.iter().any(|(_, report)| report.judge.is_some());
    let (head, rule) = if judged { (" judge (95 % interval) |", "--:|") } else { ("", "") };
    let mut out = format!(
        "| benchmark | answers | run | n | paper (95 % interval) | strict (95 % interval) | unparsed | random |{head}\n\
         |---|---|---|--:|--:|--:|--:|--:|{rule}\n",
    );

    // In the order in which the runs name them first.
    let mut benchmarks: Vec<&str> = Vec::new();
    for (_, report) in runs {
        if !benchmarks.contains(&report.benchmark.as_str()) {
            benchmarks.push(&report.benchmark);
        }
    }

    for benchmark in benchmarks {
        let of_benchmark: Vec<_> = runs.iter().filter(|(_, report)| report.benchmark == benchmark).collect();
        let mut types: Vec<AnswerType> = of_benchmark.iter().flat_map(|(_, r)| r.by_type.keys().copied()).collect();
        types.sort_unstable();
        types.dedup();

        let several = types.len() > 1;
        for answer_type in types {
            for (run, report) in &of_benchmark {
                if let Some(group) = report.by_type.get(&answer_type) {
                    let judge = report.judge.as_ref().filter(|_| answer_type == AnswerType::Open);
                    let judge = judged.then(|| estimate(judge.and_then(|judge| judge.score)));
                    push_group(&mut out, benchmark, answer_type.as_str(), run, group, judge);
                }
            }
        }

        // With a single type the group of all would say the same twice. The judge reads open answers only, so that it
        // has no score over all.
        for (run, report) in of_benchmark.iter().filter(|_| several) {
            push_group(&mut out, benchmark, "all", run, &report.overall, judged.then(|| estimate(None)));
        }

        for (run, report) in of_benchmark.iter().filter(|(_, r)| r.unanswered + r.rejected > 0) {
            let (unanswered, rejected) = (report.unanswered, report.rejected);
            let note = format!("{unanswered} unanswered, {rejected} rejected: in no score");
            let last = if judged { " |" } else { "" };
            let _ =
                writeln!(out, "| {} | *{note}* | {} | | | | | |{last}", markdown_cell(benchmark), markdown_cell(run));
        }
    }

    out
}

fn push_group(out: &mut String, benchmark: &str, answers: &str, run: &str, group: &GroupScore, judge: Option<String>) {
    let judge = judge.map_or(String::new(), |judge| format!(" {judge} |"));
    let (paper, strict) = (estimate(group.paper), estimate(group.strict));
    let (n, unparsed, random) = (group.n, group.unparsed, group.random);
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "| {} | {answers} | {} | {n} | {paper} | {strict} | {unparsed} | {random} |{judge}",
        markdown_cell(benchmark),
        markdown_cell(run)
    );
}

fn estimate(estimate: Option<Estimate>) -> String {
    estimate.map_or("–".into(), |estimate| estimate.to_string())
}

/// Two runs side by side as a Markdown table: means, their difference with its interval, and whether it is more than chance.
pub fn comparison_table(first: &str, second: &str, comparison: &Comparison) -> String {
    let mut out = format!(
        "| answers | scoring | n | {} | {} | difference (95 % interval) | p | McNemar p |  |\n\
         |---|---|--:|--:|--:|--:|--:|--:|---|\n",
        markdown_cell(first),
        markdown_cell(second)
    );
    let types = comparison.by_type.iter().map(|(t, group)| (t.as_str(), group));
    let overall = (comparison.by_type.len() != 1).then_some(("all", &comparison.overall));
    for (answers, group) in types.chain(overall) {
        push_pair(&mut out, answers, "paper", group, group.paper);
        push_pair(&mut out, answers, "strict", group, group.strict);
    }
    out
}

fn push_pair(out: &mut String, answers: &str, scoring: &str, group: &PairedGroup, score: Option<PairedScore>) {
    let Some(score) = score else {
        let _ = writeln!(out, "| {answers} | {scoring} | {} | – | – | – | – | – | |", group.n);
        return;
    };

    let p =
        |value: Option<f64>| value.map_or("–".into(), |p| if p < 0.001 { "<0.001".into() } else { format!("{p:.3}") });
    let verdict = match (score.is_gain(), score.is_regression()) {
        (true, _) => "better",
        (_, true) => "worse",
        _ => "",
    };

    let _ = writeln!(
        out,
        "| {answers} | {scoring} | {} | {:.1} | {:.1} | {} | {} | {} | {verdict} |",
        group.n,
        score.first,
        score.second,
        score.shown_difference(),
        p(score.p_value),
        p(score.mcnemar.map(|m| m.p_value)),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BootstrapConfig, Outcome, compare};

    fn outcomes() -> Vec<Outcome> {
        let outcome = |i: usize| Outcome {
            id: adamllm_core::RecordId::given(i.to_string()),
            answer_type: if i.is_multiple_of(2) { AnswerType::Open } else { AnswerType::Closed },
            cluster: i.to_string(),
            paper: Some(100.0),
            strict: 50.0,
            unparsed: i == 0,
            random: false,
            expected: String::new(),
            strict_read: None,
            paper_read: None,
        };
        (0..10).map(outcome).collect()
    }

    #[test]
    fn both_scorings_stand_side_by_side() {
        let report = Report::new("a|b", &[AnswerType::Text], &outcomes(), &BootstrapConfig::default());
        let table = report_table(&[("run", &report)]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[2], "| a\\|b | open | run | 5 | 100.0 (100.0–100.0) | 50.0 (50.0–50.0) | 1 | 0 |");
        assert_eq!(lines[4], "| a\\|b | text | run | 0 | – | – | 0 | 0 |");
        assert_eq!(lines[5], "| a\\|b | all | run | 10 | 100.0 (100.0–100.0) | 50.0 (50.0–50.0) | 1 | 0 |");

        let same = compare(&outcomes(), &outcomes(), &BootstrapConfig::default());
        let table = comparison_table("a", "b", &same);
        let last = table.lines().last();
        assert_eq!(last, Some("| all | strict | 10 | 50.0 | 50.0 | +0.0 (+0.0 to +0.0) | 1.000 | – |  |"));
    }
}
