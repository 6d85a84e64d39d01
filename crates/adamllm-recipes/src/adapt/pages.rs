use std::path::{Path, PathBuf};

use adamllm_core::write_atomically;
use adamllm_eval::{Benchmark, BootstrapConfig, HtmlOptions, HtmlRun, HtmlSection, html_report};
use adamllm_synth::{ReportConfig, write_report};
use adamllm_train::draw_training;

use super::evaluation::AskedBenchmark;
use super::{AdaptReport, Adaptation};
use crate::RecipeError;
use crate::benchmarks::OpenedBenchmark;
use crate::captions::caption_records;
use crate::compare::RunComparison;
use crate::page::adapt::Adapted;

impl Adaptation<'_> {
    /// Writes the pages of each part, and `index.html` before them all; gives the path of the last. A run does it by itself; after
    /// [`Adaptation::ablate`], the front page has its table too.
    ///
    /// # Errors
    /// The run's files.
    pub fn write_pages(&self, report: &AdaptReport) -> Result<PathBuf, RecipeError> {
        let settings = self.settings;
        let title = format!("Synthesis from {}", settings.captions.display());
        let config = ReportConfig { title, seed: settings.seed, ..ReportConfig::default() };
        let pairs = caption_records(&settings.captions)?.flatten();
        write_report(&self.file("synthesis"), pairs, &*self.images, None, &config)?;
        draw_training(&self.file("training"))?;

        // Where no question was answered by both models, there is nothing to show side by side.
        let answered = report.comparison.as_ref().filter(|comparison| comparison.overall.n > 0);
        let mut evaluation = None;
        for AskedBenchmark { opened, folder, retained } in &self.benchmarks {
            if *retained
                && report
                    .kept
                    .iter()
                    .any(|kept| kept.benchmark == opened.benchmark.name() && kept.comparison.overall.n > 0)
            {
                write_evaluation(opened, folder)?;
            } else if !*retained && answered.is_some() {
                evaluation = Some((write_evaluation(opened, folder)?, opened));
            }
        }
        let adapted = Adapted {
            settings,
            base: self.base.path(),
            images: &*self.images,
            report,
            ablations: self.ablations()?,
            evaluation: evaluation.as_ref().map(|(compared, opened)| (compared, *opened)),
            folder: &self.run.out,
        };
        adapted.write()
    }
}

/// A page for each model's answers, and one with both.
fn write_evaluation(opened: &OpenedBenchmark, folder: &Path) -> Result<RunComparison, RecipeError> {
    let [base, post_trained] = ["base", "post-trained"].map(|name| folder.join(name));
    let compared = RunComparison::of(&base, &post_trained, &BootstrapConfig::default())?;
    for task in &compared.tasks {
        let runs = task.runs(&compared.names);
        for (run, folder) in runs.iter().zip([&base, &post_trained]) {
            let title = format!("{}: {}", opened.benchmark.name(), run.name);
            write_atomically(folder.join("report.html"), html(&title, opened, vec![*run])?)?;
        }
    }
    write_atomically(folder.join("comparison.html"), compared.page(std::slice::from_ref(opened))?)?;
    Ok(compared)
}

fn html(title: &str, opened: &OpenedBenchmark, runs: Vec<HtmlRun<'_>>) -> Result<String, RecipeError> {
    let sections = [HtmlSection { benchmark: &opened.benchmark, runs }];
    Ok(html_report(title, &sections, &HtmlOptions::default())?)
}
