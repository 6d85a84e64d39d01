use adamllm_report::head;
use maud::{Markup, html};

use super::{HtmlRun, HtmlSection};
use crate::{BootstrapConfig, Comparison, Estimate, PairedGroup, PairedScore, RunInfo, compare};

/// All benchmarks and runs in one table, and what was run.
pub(super) fn section(sections: &[HtmlSection<'_>]) -> Markup {
    let line = |index: usize, section: &HtmlSection<'_>, run: &HtmlRun<'_>| {
        let all = &run.report.overall;
        html! {
            tr {
                td { a href=(format!("#b{index}")) { (section.benchmark.name()) } }
                td { (run.name) } td { (all.n) } td { (estimate(all.paper)) } td { (estimate(all.strict)) }
                td { (all.unparsed) } td { (all.random) }
            }
        }
    };
    html! {
        section {
            h2 { "At a glance" }
            table class="glance" {
                (head(&["benchmark", "run", "n", "paper", "strict", "unparsed", "random"]))
                tbody {
                    @for (index, section) in sections.iter().enumerate() {
                        @for run in &section.runs { (line(index, section, run)) }
                    }
                }
            }
            details {
                summary { "What was run" }
                @for section in sections {
                    @for run in &section.runs { (run_info(section.benchmark.name(), run)) }
                }
            }
        }
    }
}

fn estimate(estimate: Option<Estimate>) -> Markup {
    html! {
        @match estimate {
            None => "–",
            Some(Estimate { mean, interval, .. }) => {
                (format!("{mean:.1}"))
                @if let Some(i) = interval { " " small { (format!("{:.1}–{:.1}", i.low, i.high)) } }
            }
        }
    }
}

fn run_info(benchmark: &str, run: &HtmlRun<'_>) -> Markup {
    html! {
        @if let Some(info) = &run.report.run {
            h3 { (benchmark) ", " (run.name) }
            dl { @for (name, text) in facts(info) { dt { (name) } dd { (text) } } }
        }
    }
}

fn facts(info: &RunInfo) -> Vec<(&'static str, String)> {
    let decoding = info.decoding.as_ref().and_then(|decoding| serde_json::to_string(decoding).ok());
    let seconds = |seconds: Option<f64>| seconds.map(|seconds| format!("{seconds:.1} s"));
    let software =
        info.software.iter().map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", ");
    let facts = [
        ("model", Some(info.model.clone())),
        ("examples", info.dataset.clone()),
        ("images", info.images.clone()),
        ("first prompt", info.prompt.clone()),
        ("decoding", decoding),
        ("prompts asked", info.n_asked.map(|n| n.to_string())),
        ("tokens written", info.n_new_tokens.map(|n| n.to_string())),
        ("inside the model", seconds(info.generate_seconds)),
        ("in all", seconds(info.seconds)),
        ("software", Some(software).filter(|software| !software.is_empty())),
    ];
    facts.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
}

/// The other runs against the first one, question by question; nothing where there is one run only.
pub(super) fn differences(runs: &[HtmlRun<'_>]) -> Markup {
    let Some((first, others)) = runs.split_first().filter(|(_, others)| !others.is_empty()) else {
        return Markup::default();
    };
    let compared = |run: &HtmlRun<'_>| compare(first.outcomes, run.outcomes, &BootstrapConfig::default());
    html! {
        table class="differences" {
            caption { "Against " (first.name) ", on the same questions (strict)" }
            (head(&["run", "answers", "n", "difference", "interval", "p", ""]))
            tbody { @for run in others { (comparison(run.name, &compared(run))) } }
        }
    }
}

/// A line for each type of answer, and one for all where there are several.
fn comparison(run: &str, comparison: &Comparison) -> Markup {
    let types = comparison.by_type.iter().map(|(answer_type, group)| (answer_type.as_str(), group));
    let overall = (comparison.by_type.len() != 1).then_some(("all", &comparison.overall));
    let line = |answers: &str, group: &PairedGroup, score: &PairedScore| {
        let interval = score.interval.map_or("–".into(), |interval| interval.signed());
        let p = score.p_value.map_or("–".into(), |p| if p < 0.001 { "<0.001".into() } else { format!("{p:.3}") });
        let (class, verdict) = verdict(score);
        html! {
            tr {
                td { (run) } td { (answers) } td { (group.n) } td { (format!("{:+.1}", score.difference)) }
                td { (interval) } td { (p) } td class=(class) { (verdict) }
            }
        }
    };
    html! {
        @for (answers, group) in types.chain(overall) {
            @if let Some(score) = &group.strict { (line(answers, group, score)) }
        }
    }
}

fn verdict(score: &PairedScore) -> (&'static str, &'static str) {
    match (score.is_gain(), score.is_regression()) {
        (true, _) => ("good", "better"),
        (_, true) => ("bad", "worse"),
        _ => ("muted", "no clear difference"),
    }
}
