use std::path::{Path, PathBuf};

use adamllm_core::Stage;
use adamllm_train::training_summary;

use super::funnel::Funnel;
use super::inputs::Inputs;
use super::{Page, count, ledger};
use crate::post_train::{PostTrainReport, PostTrainSettings};
use crate::{RecipeError, SourceSettings};

/// The page of a post-training in `folder`; `training` are the stages' folders below it.
pub(crate) fn write(
    settings: &PostTrainSettings,
    base: &Path,
    report: &PostTrainReport,
    training: &[PathBuf],
    folder: &Path,
) -> Result<PathBuf, RecipeError> {
    let counts = report.plan.counts;
    let title = format!("Post-training of {}", base.display());
    let lead = "The model was trained on the examples below, stage by stage, and written as a folder like the one it came from.";
    let mut inputs = Inputs::default().path("base", base);
    for source in &settings.data.sources {
        inputs = source_files(inputs, source, "");
    }
    if let Some(validation) = &settings.validation {
        inputs = source_files(inputs, &validation.source, "held-out ");
    }

    let causes = ledger::causes([&*folder.join("ledger.jsonl")])?;
    let stages = [(Stage::Read, "readable"), (Stage::Compose, "composed"), (Stage::Encode, "encoded")];
    let funnel = Funnel::new("records", counts.records_in, &causes, &stages).html();
    let mut page = Page::new(&title, lead)
        .tiles([
            ("records", count(counts.records_in)),
            ("used", count(counts.records_out)),
            ("steps", count(report.steps as u64)),
            ("loss", losses(report.loss_first, report.loss_last)),
        ])
        .section("inputs", "What went in", &inputs.settings(settings).html())
        .section("funnel", "From records to examples", &funnel);
    let mut links = Vec::new();
    for (run, stage) in training.iter().zip(&report.training) {
        let heading = if training.len() == 1 { "Training".into() } else { format!("Training, stage {}", stage.stage) };
        page = page.section(&format!("training-{}", stage.stage), &heading, &training_summary(run)?);
        let below = run.strip_prefix(folder).unwrap_or(run).join("training.html");
        links.push((below.to_string_lossy().replace('\\', "/"), "losses, rates and memory of every step"));
    }
    page = page.section("ledger", "Ledger by reason", &ledger::by_reason([&*folder.join("ledger.jsonl")])?);
    let mut links: Vec<(&str, &str)> = links.iter().map(|(path, what)| (path.as_str(), *what)).collect();
    links.extend([
        ("config.toml", "the settings, to run it again"),
        ("model", "the post-trained model, a Hugging Face folder"),
        ("adapter", "the adapter, PEFT's folder"),
        ("post_train.json", "all the numbers above"),
    ]);
    Ok(page.links(folder, &links).write(folder)?)
}

fn source_files(mut inputs: Inputs, source: &SourceSettings, held_out: &str) -> Inputs {
    let files = [("conversations", &source.conversations), ("captions", &source.captions), ("tasks", &source.tasks)];
    for (what, file) in files {
        inputs = file.iter().fold(inputs, |inputs, file| inputs.path(&format!("{held_out}{what}"), file));
    }
    source.images.iter().fold(inputs, |inputs, images| inputs.path(&format!("{held_out}images"), images))
}

/// The first and the last loss.
pub(crate) fn losses(first: Option<f64>, last: Option<f64>) -> String {
    match (first, last) {
        (Some(first), Some(last)) => format!("{first:.3} → {last:.3}"),
        _ => "–".into(),
    }
}
