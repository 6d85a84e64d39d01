use adamllm_report::Page;
use adamllm_report::chart::{Bar, Curve, bars, curves};
use maud::{Markup, html};

use super::lengths::Lengths;
use super::{Counts, RecordCard, ReportConfig};
use crate::{RunSummary, Sweep, TaskType};

/// The whole page.
pub(super) fn render(
    summary: &RunSummary,
    counts: &Counts,
    cards: &[RecordCard],
    sweep: Option<&Sweep>,
    config: &ReportConfig,
) -> String {
    let chart = |heading: &str, chart: Markup| html! { section class="chart" { h2 { (heading) } (chart) } };
    let lead = "Each record in is an image with its caption. A model proposes a question with an informative and a precise answer (a triplet); \
                a judge says whether both answers come to the same (consistent), disagree (inconsistent), or whether the question has no \
                single answer (open). Consistent triplets are kept and become tasks. Every other record is in the ledger with its reason. \
                The cards below are a sample of all outcomes; the charts count all records.";
    let main = html! {
        div class="tiles" { (tiles(summary)) }
        div class="charts" {
            (chart("What became of the records", ledger(summary)))
            (chart("Yield over the threshold", yield_curve(counts, sweep)))
            (chart("Kinds of tasks (dark: kept)", kinds(counts)))
            section class="chart wide" { h2 { "Lengths in words" } div class="charts" { (lengths(counts)) } }
        }
        form {
            label { "Outcome " select id="outcome" { option value="" { "all" } } }
            label { "Kind " select id="kind" { option value="" { "all" } } }
            input id="words" type="search" placeholder="Words in caption, question or answers" aria-label="Words";
            span id="shown" class="note" {}
        }
        div id="cards" {}
    };
    let page = Page {
        title: &config.title,
        lead: html! { p { (lead) } },
        style: include_str!("page.css"),
        main,
        data: Some(("examples", serde_json::to_string(cards).expect("texts and finite numbers are JSON"))),
        script: include_str!("page.js"),
    };
    page.to_html()
}

fn tiles(summary: &RunSummary) -> Markup {
    let counts = [
        ("records in", summary.records_in),
        ("triplets", summary.triplets),
        ("consistent", summary.consistent),
        ("inconsistent", summary.inconsistent),
        ("open", summary.open),
        ("unclear", summary.unclear),
        ("unjudged", summary.unjudged),
        ("tasks out", summary.records_out),
        ("in the ledger", summary.ledger_entries),
    ];
    let is_shown = |(name, n): &(&str, u64)| *n > 0 || *name != "unjudged";
    html! {
        @for (name, n) in counts.into_iter().filter(is_shown) {
            div class="tile" { b { (n) } span { (name) } }
        }
    }
}

fn ledger(summary: &RunSummary) -> Markup {
    let name = |key: &str| key.rsplit('/').next().unwrap_or(key).replace('_', " ");
    let mut left: Vec<_> = summary.ledger.iter().map(|(key, n)| Bar::new(name(key), *n, 0)).collect();
    left.sort_by(|a, b| b.whole.cmp(&a.whole).then_with(|| a.label.cmp(&b.label)));
    left.insert(0, Bar::new("tasks out", summary.records_out, summary.records_out));
    bars(&left)
}

fn kinds(counts: &Counts) -> Markup {
    let of = |kind: TaskType| {
        let whole = counts.kinds.get(&kind).copied().unwrap_or_default();
        Bar::new(kind.as_str(), whole, counts.kept_kinds.get(&kind).copied().unwrap_or_default())
    };
    bars(&TaskType::ALL.into_iter().map(of).filter(|bar| bar.whole > 0).collect::<Vec<_>>())
}

fn lengths(counts: &Counts) -> Markup {
    let names = ["Caption", "Question", "Informative answer", "Precise answer"];
    let caption = |name: &str, lengths: &Lengths| format!("{name}: {:.1} words on average", lengths.mean());
    html! {
        @for (name, lengths) in names.into_iter().zip(&counts.lengths) {
            figure { figcaption { (caption(name, lengths)) } (bars(&lengths.bars())) }
        }
    }
}

fn yield_curve(counts: &Counts, sweep: Option<&Sweep>) -> Markup {
    if counts.p_yes.is_empty() {
        let why = "The judge wrote its answers: there are no probabilities to draw a curve of.";
        return html! { p class="note" { (why) } };
    }
    let mut p_yes = counts.p_yes.clone();
    p_yes.sort_by(f32::total_cmp);
    let kept = |step: u32| {
        let threshold = f64::from(step) / 100.0;
        let below = p_yes.partition_point(|p| f64::from(*p) < threshold);
        (threshold, (p_yes.len() - below) as f64 / p_yes.len() as f64)
    };
    let mut shares = vec![Curve { class: "kept", name: "share kept", points: (0..=100).map(kept).collect() }];

    if let Some(sweep) = sweep.filter(|sweep| sweep.n_labelled > 0) {
        // At a threshold that no labelled example reaches, there is no precision.
        let labelled = sweep.points.iter().filter(|point| point.precision.n > 0);
        let points = labelled.map(|point| (point.threshold, point.precision.value)).collect();
        shares.push(Curve { class: "precision", name: "precision, by people", points });
        let points = sweep.points.iter().map(|point| (point.threshold, point.agreement.value)).collect();
        shares.push(Curve { class: "agreement", name: "agreement", points });
    }
    let suggested = sweep.and_then(|sweep| sweep.suggested);
    html! {
        (curves(&shares, suggested))
        @if let Some(threshold) = suggested { p class="note" { (format!("Suggested threshold: {threshold:.2}")) } }
    }
}
