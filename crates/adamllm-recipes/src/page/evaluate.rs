use std::path::{Path, PathBuf};

use adamllm_eval::{Comparison, HtmlSection, PairedGroup, RunInfo, html_scores};
use adamllm_report::head;
use maud::{Markup, html};

use super::inputs::Inputs;
use super::{Page, answers, count, finding, ledger, paired_cells};
use crate::RecipeError;
use crate::evaluate::{BlankSample, EvaluationSettings};

/// The page of an evaluation in `folder`: a section for each benchmark, its first run the intact one.
pub(crate) fn write(
    settings: &EvaluationSettings,
    sections: &[HtmlSection<'_>],
    blank: &[BlankSample],
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
    if !blank.is_empty() {
        page = page.section("blank", "Does it look at the image?", &looking(blank));
    }
    page = page.section("ledger", "Ledger by reason", &ledger::by_reason(ledgers.iter().map(PathBuf::as_path))?);
    let links = [
        ("report.html", "all questions with their answers, with filters"),
        ("tables.html", "the paper's tables with this run below their own"),
        ("evaluate.json", "all the numbers above"),
    ];
    Ok(page.links(folder, &links).write(folder)?)
}

/// What white images in place of a benchmark's own change.
fn looking(blank: &[BlankSample]) -> Markup {
    let note = "The same questions with their images and with white ones. Strict scores; the intervals are of the difference, over images.";
    html! {
        p class="note" { (note) }
        @for blank in blank { (finding(!blank.images_add(), &blank.sentence())) }
        table {
            (head(&["benchmark", "answers", "n", "images", "white", "difference", "interval"]))
            tbody { @for blank in blank { (lines(blank)) } }
        }
    }
}

/// A line for each answer type, and one for all where there are several.
fn lines(blank: &BlankSample) -> Markup {
    let Comparison { by_type, overall, .. } = &blank.comparison;
    let types = by_type.iter().map(|(answers, group)| (answers.as_str(), group));
    let all = (by_type.len() > 1).then_some(("all", overall));
    let line = |answers: &str, group: &PairedGroup| {
        html! {
            tr {
                td { (blank.benchmark) } td { (answers) } td { (count(group.n as u64)) }
                (paired_cells(group.strict.as_ref()))
            }
        }
    };
    html! { @for (answers, group) in types.chain(all) { (line(answers, group)) } }
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
