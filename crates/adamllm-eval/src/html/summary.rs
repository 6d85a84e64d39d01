use std::fmt::Write;

use adamllm_core::html::escape;

use super::{HtmlRun, HtmlSection};
use crate::{BootstrapConfig, Comparison, Estimate, PairedScore, RunInfo, compare};

/// All benchmarks and runs in one table, and what was run.
pub(super) fn section(sections: &[HtmlSection<'_>]) -> String {
    let mut out = String::from(
        "<section>\n<h2>At a glance</h2>\n<table class=\"glance\"><thead><tr><th>benchmark</th><th>run</th>",
    );
    out.push_str("<th>n</th><th>paper</th><th>strict</th><th>unparsed</th><th>random</th></tr></thead>\n<tbody>\n");
    for (index, section) in sections.iter().enumerate() {
        for run in &section.runs {
            let all = &run.report.overall;
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(
                out,
                "<tr><td><a href=\"#b{index}\">{}</a></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(section.benchmark.name()),
                escape(run.name),
                all.n,
                estimate(all.paper),
                estimate(all.strict),
                all.unparsed,
                all.random
            );
        }
    }
    out.push_str("</tbody></table>\n<details><summary>What was run</summary>\n");
    for section in sections {
        for run in &section.runs {
            push_run(&mut out, section.benchmark.name(), run);
        }
    }
    out.push_str("</details>\n</section>\n");
    out
}

fn estimate(estimate: Option<Estimate>) -> String {
    let interval =
        |e: Estimate| e.interval.map_or(String::new(), |i| format!(" <small>{:.1}–{:.1}</small>", i.low, i.high));
    estimate.map_or("–".into(), |e| format!("{:.1}{}", e.mean, interval(e)))
}

fn push_run(out: &mut String, benchmark: &str, run: &HtmlRun<'_>) {
    let Some(info) = &run.report.run else { return };
    let _ = write!(out, "<h3>{}, {}</h3>\n<dl>", escape(benchmark), escape(run.name));
    for (name, text) in facts(info) {
        let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(&text));
    }
    out.push_str("</dl>\n");
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
pub(super) fn differences(runs: &[HtmlRun<'_>]) -> String {
    let Some((first, others)) = runs.split_first().filter(|(_, others)| !others.is_empty()) else {
        return String::new();
    };
    let mut out = format!(
        "<table class=\"differences\"><caption>Against {}, on the same questions (strict)</caption>\n<thead><tr><th>run</th>\
         <th>answers</th><th>n</th><th>difference</th><th>interval</th><th>p</th><th></th></tr></thead>\n<tbody>\n",
        escape(first.name)
    );
    for run in others {
        push_comparison(&mut out, run.name, &compare(first.outcomes, run.outcomes, &BootstrapConfig::default()));
    }
    out.push_str("</tbody></table>\n");
    out
}

fn push_comparison(out: &mut String, run: &str, comparison: &Comparison) {
    let types = comparison.by_type.iter().map(|(answer_type, group)| (answer_type.as_str(), group));
    let overall = (comparison.by_type.len() != 1).then_some(("all", &comparison.overall));
    for (answers, group) in types.chain(overall) {
        let Some(score) = group.strict else { continue };
        let interval = score.interval.map_or("–".into(), |interval| interval.signed());
        let p = score.p_value.map_or("–".into(), |p| if p < 0.001 { "&lt;0.001".into() } else { format!("{p:.3}") });
        let (class, verdict) = verdict(&score);
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{answers}</td><td>{}</td><td>{:+.1}</td><td>{interval}</td><td>{p}</td>\
             <td class=\"{class}\">{verdict}</td></tr>",
            escape(run),
            group.n,
            score.difference
        );
    }
}

fn verdict(score: &PairedScore) -> (&'static str, &'static str) {
    match (score.is_gain(), score.is_regression()) {
        (true, _) => ("good", "better"),
        (_, true) => ("bad", "worse"),
        _ => ("muted", "no clear difference"),
    }
}
