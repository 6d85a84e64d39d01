use std::path::{Path, PathBuf};

use adamllm_eval::html_scores;

use super::inputs::Inputs;
use super::{Page, answers, count};
use crate::RecipeError;
use crate::benchmarks::OpenedBenchmark;
use crate::compare::RunComparison;
use crate::kept::Kept;

/// The page of a comparison in `folder`: the scores of both runs with their differences, and where the questions are at hand the answers
/// that changed.
pub(crate) fn write(
    compared: &RunComparison,
    [first, second]: [&Path; 2],
    (opened, kept): (&[OpenedBenchmark], &[Kept]),
    folder: &Path,
) -> Result<PathBuf, RecipeError> {
    let [a, b] = &compared.names;

    let regressions = compared.regressions();
    let lead = match &regressions[..] {
        [] => format!("No group of questions is answered worse by {b} than by {a}, beyond chance (strict scoring)."),
        worse => {
            let groups: Vec<_> = worse.iter().map(|(task, group)| format!("{task} ({group})")).collect();
            format!("{b} answers worse than {a}, by more than chance (strict scoring): {}.", groups.join(", "))
        }
    };

    let n: usize = compared.tasks.iter().map(|task| task.comparison.overall.n).sum();
    let mut inputs = Inputs::default().path("first run", first).path("second run", second);
    for (run, tasks) in
        [("only in the first run", &compared.only_first), ("only in the second run", &compared.only_second)]
    {
        inputs = tasks.iter().fold(inputs, |inputs, task| inputs.name(run, task));
    }

    for task in compared.tasks.iter().filter(|task| !task.same_data()) {
        inputs = inputs.name("asked from different data", task.name());
    }

    let page = Page::new(&format!("{a} and {b}"), &lead)
        .tiles([
            ("tasks", count(compared.tasks.len() as u64)),
            ("questions in both", count(n as u64)),
            ("groups worse", count(regressions.len() as u64)),
        ])
        .section("inputs", "What went in", &inputs.html());

    let page = super::kept::section(page, kept, [a, b]);
    let page = scores(page, compared, opened)?;

    let links = [
        ("comparison.html", "both runs question by question, with filters"),
        ("tables.html", "the paper's tables with both runs below its own"),
        ("compare.json", "all the numbers above"),
    ];

    Ok(page.links(folder, &links).write(folder)?)
}

/// Sections with the scores of each task, and with answers before and after.
pub(crate) fn scores(
    mut page: Page,
    compared: &RunComparison,
    opened: &[OpenedBenchmark],
) -> Result<Page, RecipeError> {
    for (i, task) in compared.tasks.iter().enumerate() {
        let runs = task.runs(&compared.names);
        page = page.section(&format!("scores-{i}"), &format!("Scores: {}", task.name()), &html_scores(&runs));
        if let Some(OpenedBenchmark { benchmark, .. }) = opened.iter().find(|opened| task.is_of(opened)) {
            let cards = answers::cards(&format!("answers-{i}"), benchmark, &runs)?;
            page = page.section(
                &format!("before-after-{i}"),
                &format!("Answers before and after: {}", task.name()),
                &cards,
            );
        }
    }
    Ok(page)
}
