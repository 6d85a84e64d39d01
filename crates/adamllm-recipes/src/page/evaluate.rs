use std::path::{Path, PathBuf};

use adamllm_eval::{HtmlSection, RunInfo, html_scores};

use super::inputs::Inputs;
use super::{Page, answers, count, ledger};
use crate::RecipeError;
use crate::evaluate::EvaluationSettings;

/// The page of an evaluation in `folder`: a section for each benchmark, its first run the intact one.
pub(crate) fn write(
    settings: &EvaluationSettings,
    sections: &[HtmlSection<'_>],
    ledgers: &[PathBuf],
    folder: &Path,
) -> Result<PathBuf, RecipeError> {
    let (name, n_tasks) = (&settings.name, sections.len());
    let title = format!("Evaluation of {name}");
    let lead = "Each question was asked once, and each answer is scored both ways: as the paper's code scores it, and strictly.";
    let intact: Vec<_> = sections.iter().filter_map(|section| Some((section, section.runs.first()?))).collect();
    let n: usize = intact.iter().map(|(_, run)| run.report.overall.n).sum();
    let mut tiles = vec![("benchmarks", count(n_tasks as u64)), ("questions answered", count(n as u64))];
    // More than a few would not be found at a glance: they are in their sections.
    for (section, run) in intact.iter().take(6) {
        let strict = run.report.overall.strict.map_or("–".into(), |estimate| estimate.to_string());
        tiles.push((section.benchmark.name(), strict));
    }
    let mut page =
        Page::new(&title, lead).tiles(tiles).section("inputs", "What went in", &inputs(settings, &intact[..]).html());
    for (i, section) in sections.iter().enumerate() {
        let name = section.benchmark.name();
        page = page.section(&format!("scores-{i}"), &format!("Scores: {name}"), &html_scores(&section.runs));
        let cards =
            answers::cards(&format!("answers-{i}"), section.benchmark, &section.runs[..section.runs.len().min(1)])?;
        page = page.section(&format!("examples-{i}"), &format!("Answers: {name}"), &cards);
    }
    page = page.section("ledger", "Ledger by reason", &ledger::by_reason(ledgers.iter().map(PathBuf::as_path))?);
    let links = [
        ("report.html", "all questions with their answers, with filters"),
        ("tables.html", "the paper's tables with this run below their own"),
        ("evaluate.json", "all the numbers above"),
    ];
    Ok(page.links(folder, &links).write(folder)?)
}

fn inputs(settings: &EvaluationSettings, intact: &[(&HtmlSection<'_>, &adamllm_eval::HtmlRun<'_>)]) -> Inputs {
    let mut inputs = Inputs::default();
    let run = intact.iter().find_map(|(_, run)| run.report.run.as_ref());
    if let Some(RunInfo { model, .. }) = run {
        inputs = inputs.name("model", model);
    }
    for description in &settings.benchmarks.descriptions {
        inputs = inputs.path("benchmark", description);
    }
    if let Some(data) = &settings.benchmarks.data {
        inputs = inputs.path("data", data);
    }
    for (section, run) in intact {
        let dataset = run.report.run.as_ref().and_then(|run| run.dataset.as_deref()).unwrap_or("not recorded");
        inputs = inputs.name(&format!("examples of {}", section.benchmark.name()), dataset);
    }
    inputs.settings(settings)
}
