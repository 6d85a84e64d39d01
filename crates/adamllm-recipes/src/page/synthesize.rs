use std::path::{Path, PathBuf};

use adamllm_core::ImageStore;
use adamllm_synth::RunSummary;

use super::funnel::Funnel;
use super::inputs::Inputs;
use super::{Page, count, ledger, records};
use crate::RecipeError;
use crate::synthesize::SynthesisSettings;

/// The page of a synthesis in `folder`.
pub(crate) fn write(
    settings: &SynthesisSettings,
    asked: &[(&str, Option<String>)],
    summary: &RunSummary,
    images: &dyn ImageStore,
    folder: &Path,
) -> Result<PathBuf, RecipeError> {
    let title = format!("Synthesis from {}", settings.captions.display());
    let captioned =
        if settings.images_only { "There were images alone: a captioner wrote the captions first. " } else { "" };
    let lead = "A synthesizer proposes a question with an informative and a precise answer for each image and its caption, a judge keeps \
                those whose two answers agree, and they become tasks. Every other record is in the ledger with its reason.";
    let mut inputs = Inputs::default().path("captions", &settings.captions).path("images", &settings.images);
    for (role, identity) in asked {
        inputs = identity.iter().fold(inputs, |inputs, identity| inputs.name(role, identity));
    }
    inputs = settings.caption_prompt.iter().fold(inputs, |inputs, file| inputs.path("captioner's prompt", file));
    inputs = settings.judge_prompt.iter().fold(inputs, |inputs, file| inputs.path("judge's prompt", file));
    inputs = settings.benchmarks.iter().fold(inputs, |inputs, file| inputs.path("compared with", file));

    let funnel = Funnel::synthesis(summary, settings.variant).html();
    let cards = records::cards(folder, &settings.captions, images, settings.seed, summary)?;
    let ledgers = [
        "ledger.jsonl",
        "conversations-ledger.jsonl",
        "conversations-stage1-ledger.jsonl",
        "conversations-stage2-ledger.jsonl",
    ];
    let ledgers = ledgers.map(|name| folder.join(name));
    let page = Page::new(&title, &format!("{captioned}{lead}"))
        .tiles([
            ("pairs", count(summary.records_in)),
            ("triplets", count(summary.triplets)),
            ("tasks", count(summary.records_out)),
            ("in the ledger", count(summary.ledger_entries)),
        ])
        .section("inputs", "What went in", &inputs.settings(settings).html())
        .section("funnel", "From pairs to tasks", &funnel)
        .section("samples", "Records", &cards)
        .section("ledger", "Ledger by reason", &ledger::by_reason(ledgers.iter().map(PathBuf::as_path))?);
    let links = [
        ("report.html", "records with images and filters, charts over all of them"),
        ("tasks.jsonl", "the tasks"),
        ("judged.jsonl", "triplets with their verdicts"),
        ("ledger.jsonl", "every record that left"),
        ("conversations.jsonl", "what is trained on"),
        ("llama_factory", "the same for LLaMA-Factory"),
    ];
    Ok(page.links(folder, &links).write(folder)?)
}
