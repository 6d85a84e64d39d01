use std::path::{Path, PathBuf};

use adamllm_core::Stage;
use adamllm_train::training_summary;
use maud::html;

use super::funnel::Funnel;
use super::inputs::Inputs;
use super::{Page, count, ledger};
use crate::RecipeError;
use crate::tune_synthesizer::{TuneSynthesizerReport, TuneSynthesizerSettings};

/// The page of a job that made a synthesizer, in `folder`.
pub(crate) fn write(
    settings: &TuneSynthesizerSettings,
    base: &Path,
    report: &TuneSynthesizerReport,
    folder: &Path,
) -> Result<PathBuf, RecipeError> {
    let seeds = &report.seeds;
    let title = format!("A synthesizer of {}", base.display());
    let lead = "Seed files were joined to conversations, one for each image: caption, question, and both answers. The model learns to write \
                what comes after the caption.";
    let inputs = Inputs::default()
        .path("base", base)
        .path("precise responses", &settings.visionflan)
        .path("captions", &settings.allava_captions)
        .path("informative responses", &settings.allava_instructions)
        .path("images", &settings.images);

    let [seeds_ledger, encode_ledger] = ["seeds/ledger.jsonl", "encode-ledger.jsonl"].map(|name| folder.join(name));
    let stages = [(Stage::Read, "records used")];
    let records = Funnel::new("records", seeds.records_in, &ledger::causes([&*seeds_ledger])?, &stages).html();
    let stages = [(Stage::Encode, "encoded")];
    let conversations = seeds.train + seeds.dev;
    let encoded = Funnel::new("conversations", conversations, &ledger::causes([&*encode_ledger])?, &stages).html();
    let training = folder.join("training");
    let page = Page::new(&title, lead)
        .tiles([
            ("records", count(seeds.records_in)),
            ("conversations", count(conversations)),
            ("of them held out", count(seeds.dev)),
            ("steps", count(report.steps as u64)),
            ("held-out loss", report.loss_held_out.map_or_else(|| "–".into(), |loss| format!("{loss:.3}"))),
        ])
        .section("inputs", "What went in", &inputs.settings(settings).html())
        .section("funnel", "From records to conversations", &html! { (records) (encoded) })
        .section("training", "Training", &training_summary(&training)?)
        .section("ledger", "Ledger by reason", &ledger::by_reason([&*seeds_ledger, &*encode_ledger])?);
    let links = [
        ("training/training.html", "losses, rates and memory of every step"),
        ("seeds/train.jsonl", "the conversations that were trained on"),
        ("seeds/dev.jsonl", "those that were held out"),
        ("model", "the synthesizer, a Hugging Face folder"),
        ("tune_synthesizer.json", "all the numbers above"),
    ];
    Ok(page.links(folder, &links).write(folder)?)
}
