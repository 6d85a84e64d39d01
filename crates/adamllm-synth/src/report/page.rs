use adamllm_core::html;

use super::chart::{self, Polyline};
use super::{Counts, RecordCard, ReportConfig};
use crate::{RunSummary, Sweep, TaskType};

const PAGE: &str = include_str!("page.html");

/// The whole page. The template's marks are filled in one pass, so that texts of the run cannot be taken for marks.
pub(super) fn render(
    summary: &RunSummary,
    counts: &Counts,
    cards: &[RecordCard],
    sweep: Option<&Sweep>,
    config: &ReportConfig,
) -> String {
    let examples = serde_json::to_string(cards).expect("texts and finite numbers are JSON");
    let fill = |mark: &str| match mark {
        "style" => html::STYLE.into(),
        "title" => html::escape(&config.title),
        "summary" => tiles(summary),
        "ledger" => ledger(summary),
        "yield" => yield_curve(counts, sweep),
        "kinds" => kinds(counts),
        "lengths" => lengths(counts),
        // Inside a script element, `<` could end it.
        "examples" => examples.replace('<', "\\u003c"),
        other => unreachable!("the page has no mark {other:?}"),
    };
    let mut page = String::with_capacity(PAGE.len() + examples.len());
    let mut pieces = PAGE.split("@@");
    page.extend(pieces.next());
    while let (Some(mark), Some(text)) = (pieces.next(), pieces.next()) {
        page += &fill(mark);
        page += text;
    }
    page
}

fn tiles(summary: &RunSummary) -> String {
    let tile = |(name, n): (&str, u64)| format!("<div class=\"tile\"><b>{n}</b><span>{name}</span></div>");
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
    counts.into_iter().filter(is_shown).map(tile).collect()
}

fn ledger(summary: &RunSummary) -> String {
    let name = |key: &str| key.rsplit('/').next().unwrap_or(key).replace('_', " ");
    let mut bars: Vec<_> = summary.ledger.iter().map(|(key, n)| (name(key), *n, 0)).collect();
    bars.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    bars.insert(0, ("tasks out".into(), summary.records_out, summary.records_out));
    chart::bars(&bars)
}

fn kinds(counts: &Counts) -> String {
    let of = |kind: TaskType| {
        let whole = counts.kinds.get(&kind).copied().unwrap_or_default();
        (kind.as_str().to_owned(), whole, counts.kept_kinds.get(&kind).copied().unwrap_or_default())
    };
    let bars: Vec<_> = TaskType::ALL.into_iter().map(of).filter(|(_, whole, _)| *whole > 0).collect();
    chart::bars(&bars)
}

fn lengths(counts: &Counts) -> String {
    let names = ["Caption", "Question", "Informative answer", "Precise answer"];
    let chart = |(name, lengths): (&str, &chart::Lengths)| {
        let bars: Vec<_> = lengths.bars().into_iter().map(|(label, n)| (label, n, 0)).collect();
        let mean = lengths.mean();
        format!("<figure><figcaption>{name}: {mean:.1} words on average</figcaption>{}</figure>", chart::bars(&bars))
    };
    names.into_iter().zip(&counts.lengths).map(chart).collect()
}

fn yield_curve(counts: &Counts, sweep: Option<&Sweep>) -> String {
    if counts.p_yes.is_empty() {
        return "<p class=\"note\">The judge wrote its answers: there are no probabilities to draw a curve of.</p>"
            .into();
    }

    let mut p_yes = counts.p_yes.clone();
    p_yes.sort_by(f32::total_cmp);
    let kept = |step: u32| {
        let threshold = f64::from(step) / 100.0;
        let below = p_yes.partition_point(|p| f64::from(*p) < threshold);
        (threshold, (p_yes.len() - below) as f64 / p_yes.len() as f64)
    };

    let mut curves = vec![Polyline { class: "kept", name: "share kept", points: (0..=100).map(kept).collect() }];
    if let Some(sweep) = sweep.filter(|sweep| sweep.n_labelled > 0) {
        // At a threshold that no labelled example reaches, there is no precision.
        let labelled = sweep.points.iter().filter(|point| point.precision.n > 0);
        let points = labelled.map(|point| (point.threshold, point.precision.value)).collect();
        curves.push(Polyline { class: "precision", name: "precision, by people", points });
        let points = sweep.points.iter().map(|point| (point.threshold, point.agreement.value)).collect();
        curves.push(Polyline { class: "agreement", name: "agreement", points });
    }

    let suggested = sweep.and_then(|sweep| sweep.suggested);
    let note = suggested.map(|t| format!("<p class=\"note\">Suggested threshold: {t:.2}</p>")).unwrap_or_default();
    chart::curves(&curves, suggested) + &note
}
