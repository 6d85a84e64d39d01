use std::collections::BTreeMap;
use std::path::Path;

use adamllm_core::ImageStore;
use adamllm_synth::{RecordCard, ReportConfig, RunSummary, record_cards};
use maud::{Markup, html};

use super::answers::{image_of, shortened};
use super::filtered_cards;
use crate::RecipeError;
use crate::captions::caption_records;

/// Records that are shown, over all outcomes.
const SHOWN: usize = 18;
/// The longest text of a card.
const TEXT: usize = 600;

/// Some records of a synthesis with their images: caption, question and both answers, the task that was made of them, or why there is
/// none. Each outcome says how many it stands for.
///
/// # Errors
/// Files of the run, and the captions.
pub(crate) fn cards(
    folder: &Path,
    captions: &Path,
    images: &dyn ImageStore,
    seed: u64,
    summary: &RunSummary,
) -> Result<Markup, RecipeError> {
    let config = ReportConfig { max_examples: SHOWN, image_side: 192, seed, ..ReportConfig::default() };

    let mut groups: BTreeMap<String, Vec<Markup>> = BTreeMap::new();
    for record in record_cards(folder, caption_records(captions)?.flatten(), images, &config)? {
        groups.entry(record.outcome.clone()).or_default().push(card(&record));
    }

    // The ledger counts by `stage/reason`; a card has the reason alone, in words.
    let total = |outcome: &str| match outcome {
        "kept" => summary.records_out,
        reason => {
            let of_reason = |cause: &str| super::words(cause.rsplit('/').next().unwrap_or(cause)) == reason;
            summary.ledger.iter().filter(|(cause, _)| of_reason(cause)).map(|(_, n)| n).sum()
        }
    };

    let mut groups: Vec<super::CardGroup> =
        groups.into_iter().map(|(outcome, cards)| (outcome.clone(), total(&outcome), cards)).collect();
    groups.sort_by_key(|(outcome, n, _)| (outcome != "kept", std::cmp::Reverse(*n)));

    Ok(filtered_cards("records", "show records that were", &groups))
}

fn card(record: &RecordCard) -> Markup {
    let class = match record.outcome.as_str() {
        "kept" => "is-good",
        "inconsistent" => "is-bad",
        "open" => "is-warn",
        _ => "",
    };
    // The id says nothing to a reader.
    let named = format!("{}: ", record.id);
    let why = record.detail.as_ref().map(|detail| detail.strip_prefix(&named).unwrap_or(detail));
    let lines = [
        ("why", why),
        ("caption", Some(&*record.caption).filter(|caption| !caption.is_empty())),
        ("question", record.question.as_deref()),
        ("informative", record.informative.as_deref()),
        ("precise", record.precise.as_deref()),
    ];
    let line = |name: &str, text: &str| html! { dt { (name) } dd { (shortened(text, TEXT)) } };
    html! {
        (image_of(record.thumbnail.clone(), &record.image))
        div {
            span class=(format!("verdict {class}")) { (record.outcome) }
            @if let Some(kind) = record.kind { " " span class="small" { (kind) } }
            @if let Some([yes, no, open]) = record.p {
                " " span class="small" { (format!("judge: yes {yes:.2}, no {no:.2}, open {open:.2}")) }
            }
        }
        dl { @for (name, text) in lines { @if let Some(text) = text { (line(name, text)) } } }
        @if let (Some(instruction), Some(response)) = (&record.instruction, &record.response) {
            details {
                summary { "the task made of it" }
                dl { (line("instruction", instruction)) (line("response", response)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_shows_what_there_is_as_text() {
        let dropped = RecordCard {
            image: "a<b>.png".into(),
            caption: "<script>".into(),
            outcome: "no triplet".into(),
            detail: Some("\"none\" & nothing".into()),
            ..RecordCard::default()
        };
        let html = card(&dropped).into_string();
        assert!(
            html.contains("no image") && html.contains("<dt>why</dt><dd>&quot;none&quot; &amp; nothing</dd>"),
            "{html}"
        );
        assert!(html.contains("<dt>caption</dt><dd>&lt;script&gt;</dd>"));
        assert!(!html.contains("<script>") && !html.contains("question") && !html.contains("the task"));

        let kept = RecordCard {
            thumbnail: Some("data:x".into()),
            outcome: "kept".into(),
            question: Some("How many?".into()),
            instruction: Some("Q <1>".into()),
            response: Some("A".into()),
            p: Some([0.75, 0.2, 0.05]),
            kind: Some("counting"),
            ..dropped
        };
        let html = card(&kept).into_string();
        assert!(html.contains("src=\"data:x\"") && html.contains("alt=\"a&lt;b&gt;.png\"") && html.contains("is-good"));
        assert!(html.contains("judge: yes 0.75, no 0.20, open 0.05") && html.contains("counting"));
        assert!(html.contains("<dt>instruction</dt><dd>Q &lt;1&gt;</dd><dt>response</dt><dd>A</dd>"));
    }
}
