use std::path::Path;

use adamllm_core::{CoreError, write_atomically};
use adamllm_eval::{Grid, HtmlOptions, HtmlRun, HtmlSection, Report, TableRun, html_report, tables_beside};
use adamllm_report::Page;
use maud::{PreEscaped, html};

use super::{Evaluation, TaskScores};
use crate::RecipeError;
use crate::benchmarks::OpenedBenchmark;

impl Evaluation<'_> {
    /// Writes the paper's tables with this run below their own, where it has tasks of the paper, and `report.html` and
    /// `index.html` where the settings ask for pages. Gives the names of the files.
    ///
    /// # Errors
    /// Files.
    pub fn write_pages(&self) -> Result<Vec<String>, RecipeError> {
        let reports: Vec<Report> = self.intact().map(|done| done.scored.report.clone()).collect();
        let column = self.settings.pipeline.as_deref();
        let run = TableRun { name: &self.settings.name, reports: &reports, column };
        let mut written = write_tables(&self.out, &tables_beside(&[run]))?;
        if self.settings.html {
            write_atomically(self.out.join("report.html"), self.page()?)?;
            written.push("report.html".into());
            let (names, mut ledgers) = (self.names(), self.unanswered()?.ledgers);
            ledgers.extend(self.judge_ledgers());
            crate::page::evaluate::write(self.settings, &self.sections(&names), &self.blank, &ledgers, &self.out)?;
            written.push("index.html".into());
        }
        Ok(written)
    }

    fn page(&self) -> Result<String, RecipeError> {
        Ok(html_report(&self.settings.name, &self.sections(&self.names()), &HtmlOptions::default())?)
    }

    /// What the done tasks are called: by the run, and by how they were corrupted.
    fn names(&self) -> Vec<String> {
        let run_name = &self.settings.name;
        let name =
            |done: &TaskScores| done.corruption.map_or(run_name.clone(), |c| format!("{run_name}, {}", c.name()));
        self.done.iter().map(name).collect()
    }

    /// Corrupted runs stand beside the intact one, so that the page can filter for what they change.
    fn sections<'e>(&'e self, names: &'e [String]) -> Vec<HtmlSection<'e>> {
        let section = |(of, OpenedBenchmark { benchmark, .. }): (usize, &'e OpenedBenchmark)| {
            let runs = self.done.iter().zip(names).filter(|(done, _)| done.benchmark == of);
            HtmlSection { benchmark, runs: runs.map(|(done, name)| html_run(done, name)).collect() }
        };
        self.benchmarks.opened.iter().enumerate().map(section).collect()
    }
}

fn html_run<'e>(done: &'e TaskScores, name: &'e str) -> HtmlRun<'e> {
    HtmlRun { name, report: &done.scored.report, outcomes: &done.scored.outcomes, predictions: &done.predictions }
}

/// Tables as `tables.md`, `tables.csv` and `tables.html` in a folder; nothing where there are none. Gives the files' names.
///
/// # Errors
/// The files.
pub fn write_tables(folder: &Path, tables: &[Grid]) -> Result<Vec<String>, CoreError> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let joined = |text: fn(&Grid) -> String| tables.iter().map(text).collect::<Vec<_>>().join("\n");
    let page = Page {
        title: "Tables",
        main: html! { @for grid in tables { (PreEscaped(grid.to_html())) } },
        ..Page::default()
    };
    let texts = [
        ("tables.md", joined(|grid| format!("**{}**\n\n{}", grid.title, grid.to_markdown()))),
        ("tables.csv", joined(Grid::to_csv)),
        ("tables.html", page.to_html()),
    ];
    for (name, text) in &texts {
        write_atomically(folder.join(name), text)?;
    }
    Ok(texts.map(|(name, _)| name.to_owned()).to_vec())
}
