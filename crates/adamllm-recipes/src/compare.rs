//! Two runs of [`evaluate`](crate::evaluate()) side by side, question by question.

use std::path::{Path, PathBuf};

use adamllm_core::{CoreError, write_atomically};
use adamllm_eval::{
    AnswerType, Benchmark, BootstrapConfig, Comparison, HtmlOptions, HtmlRun, HtmlSection, Outcome, Prediction, Report,
    TableRun, compare, files, html_report, read_outcomes, read_predictions, read_report, tables_beside,
};

use crate::RecipeError;
use crate::benchmarks::OpenedBenchmark;
use crate::evaluate::write_tables;
use crate::kept::Kept;

/// Two runs, task by task.
#[derive(Debug)]
#[non_exhaustive]
pub struct RunComparison {
    /// What the two are called: the last path elements in which their folders differ.
    pub names: [String; 2],
    /// The tasks of both.
    pub tasks: Vec<ComparedTask>,
    /// Tasks of the first run alone.
    pub only_first: Vec<String>,
    /// Tasks of the second run alone.
    pub only_second: Vec<String>,
}

/// A task that both runs have.
#[derive(Debug)]
#[non_exhaustive]
pub struct ComparedTask {
    /// The first run's.
    pub first: TaskRun,
    /// The second run's.
    pub second: TaskRun,
    /// The differences, with their intervals.
    pub comparison: Comparison,
}

/// One task of one run, read back.
#[derive(Debug)]
pub struct TaskRun {
    /// Its folder.
    pub folder: PathBuf,
    /// Its scores.
    pub report: Report,
    /// Both scores of each answer.
    pub outcomes: Vec<Outcome>,
    /// The answers.
    pub predictions: Vec<Prediction>,
}

impl TaskRun {
    fn read(folder: &Path) -> Result<Self, RecipeError> {
        Ok(Self {
            report: read_report(folder.join(files::REPORT))?,
            outcomes: read_outcomes(folder.join(files::OUTCOMES))?,
            predictions: read_predictions(folder.join(files::PREDICTIONS))?.0,
            folder: folder.to_path_buf(),
        })
    }

    fn dataset(&self) -> Option<&str> {
        self.report.run.as_ref()?.dataset.as_deref()
    }

    pub(crate) fn html_run<'e>(&'e self, name: &'e str) -> HtmlRun<'e> {
        HtmlRun { name, report: &self.report, outcomes: &self.outcomes, predictions: &self.predictions }
    }
}

impl ComparedTask {
    /// The task's name.
    pub fn name(&self) -> &str {
        &self.second.report.benchmark
    }

    /// Both runs, as pages show them.
    pub(crate) fn runs<'e>(&'e self, [first, second]: &'e [String; 2]) -> Vec<HtmlRun<'e>> {
        vec![self.first.html_run(first), self.second.html_run(second)]
    }

    /// Whether the task's questions are those of a benchmark.
    pub(crate) fn is_of(&self, opened: &OpenedBenchmark) -> bool {
        self.first.report.benchmark == opened.benchmark.name()
    }

    /// Whether both runs were asked from the same data.
    pub fn same_data(&self) -> bool {
        self.first.dataset() == self.second.dataset()
    }
}

impl RunComparison {
    /// Compares two folders that [`evaluate`](crate::evaluate()) wrote, or one task's folder in each.
    ///
    /// # Errors
    /// Folders without a report; runs without a task, or a task without a question, in common.
    pub fn of(first: &Path, second: &Path, resampling: &BootstrapConfig) -> Result<Self, RecipeError> {
        let (a, mut rest) = (read_run(first)?, read_run(second)?);
        let (mut tasks, mut only_first) = (Vec::new(), Vec::new());
        // Two single tasks belong together whatever their names (corrupted and intact).
        let alone = a.len() == 1 && rest.len() == 1;
        for first in a {
            match rest.iter().position(|b| alone || b.report.benchmark == first.report.benchmark) {
                Some(index) => tasks.push(compared(first, rest.swap_remove(index), resampling)?),
                None => only_first.push(first.report.benchmark),
            }
        }
        if tasks.is_empty() {
            return Err(RecipeError::NotComparable("the two runs share no task".into()));
        }
        let only_second = rest.into_iter().map(|b| b.report.benchmark).collect();
        Ok(Self { names: names(first, second), tasks, only_first, only_second })
    }

    /// The groups of questions (task, type of answer) that the second run answers worse, by more than chance.
    pub fn regressions(&self) -> Vec<(&str, &'static str)> {
        let of_group = |group: Option<AnswerType>| group.map_or("all", AnswerType::as_str);
        let mut worse = Vec::new();
        for task in &self.tasks {
            worse.extend(task.comparison.regressions().into_iter().map(|group| (task.name(), of_group(group))));
        }
        worse
    }

    /// General benchmarks among the tasks, by their names: what the second run kept of the first one's abilities.
    ///
    /// # Errors
    /// [`RecipeError::NotComparable`] for a name that is no task of both runs.
    pub fn kept<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<Vec<Kept>, RecipeError> {
        let kept = |name: &str| {
            let task = self.tasks.iter().find(|task| task.name() == name);
            let task = task.ok_or_else(|| {
                let there: Vec<_> = self.tasks.iter().map(ComparedTask::name).collect();
                let expected = format!("expected one of the tasks of both: {}", there.join(", "));
                RecipeError::NotComparable(format!("the benchmark to retain, {name}, is not in both runs; {expected}"))
            })?;
            Ok(Kept {
                benchmark: name.to_owned(),
                base: task.first.report.clone(),
                post_trained: task.second.report.clone(),
                comparison: task.comparison.clone(),
            })
        };
        names.into_iter().map(kept).collect()
    }

    /// Writes the paper's tables with both runs below its own into a folder.
    ///
    /// # Errors
    /// Files.
    pub fn write_tables(&self, folder: &Path) -> Result<Vec<String>, RecipeError> {
        std::fs::create_dir_all(folder).map_err(CoreError::io("create", folder))?;
        let reports: [Vec<Report>; 2] = [
            self.tasks.iter().map(|task| task.first.report.clone()).collect(),
            self.tasks.iter().map(|task| task.second.report.clone()).collect(),
        ];
        let runs = [0, 1].map(|i| TableRun { name: &self.names[i], reports: &reports[i], column: None });
        Ok(write_tables(folder, &tables_beside(&runs))?)
    }

    /// A page with both runs, over the benchmarks that they were asked.
    ///
    /// # Errors
    /// [`RecipeError::NotComparable`] where none of the benchmarks is in both runs.
    pub fn page(&self, opened: &[OpenedBenchmark]) -> Result<String, RecipeError> {
        let mut sections = Vec::new();
        for one in opened {
            if let Some(task) = self.tasks.iter().find(|task| task.is_of(one)) {
                sections.push(HtmlSection { benchmark: &one.benchmark, runs: task.runs(&self.names) });
            }
        }
        if sections.is_empty() {
            return Err(RecipeError::NotComparable("none of the named benchmarks is in both runs".into()));
        }
        let title = format!("{} and {}", self.names[0], self.names[1]);
        Ok(html_report(&title, &sections, &HtmlOptions::default())?)
    }
}

/// Everything that a comparison leaves in a folder: `index.html`, the paper's tables with both runs, and where the questions are at hand
/// `comparison.html`. `runs` are the folders that were compared, `kept` the general benchmarks among the tasks. Gives the path of the page.
///
/// # Errors
/// Files; as [`RunComparison::page`].
pub fn write_comparison(
    compared: &RunComparison,
    runs: [&Path; 2],
    opened: &[OpenedBenchmark],
    kept: &[Kept],
    out: &Path,
) -> Result<PathBuf, RecipeError> {
    compared.write_tables(out)?;
    if !opened.is_empty() {
        write_atomically(out.join("comparison.html"), compared.page(opened)?)?;
    }
    crate::page::compare::write(compared, runs, (opened, kept), out)
}

fn compared(first: TaskRun, second: TaskRun, resampling: &BootstrapConfig) -> Result<ComparedTask, RecipeError> {
    let comparison = compare(&first.outcomes, &second.outcomes, resampling);
    if comparison.overall.n == 0 {
        let folders = format!("{} and {}", first.folder.display(), second.folder.display());
        return Err(RecipeError::NotComparable(format!("{folders} share no question")));
    }
    Ok(ComparedTask { first, second, comparison })
}

/// The tasks below a folder, or the folder as the only one.
fn read_run(folder: &Path) -> Result<Vec<TaskRun>, RecipeError> {
    if folder.join(files::REPORT).is_file() {
        return Ok(vec![TaskRun::read(folder)?]);
    }
    let entries = std::fs::read_dir(folder).map_err(CoreError::io("read", folder))?;
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.retain(|inner| inner.join(files::REPORT).is_file());
    folders.sort();
    if folders.is_empty() {
        let expected = "expected report.json, or folders that hold one";
        return Err(RecipeError::NotComparable(format!("{}: {expected}", folder.display())));
    }
    folders.iter().map(|folder| TaskRun::read(folder)).collect()
}

/// The last path elements in which the folders differ.
fn names(first: &Path, second: &Path) -> [String; 2] {
    let elements = |path: &Path| -> Vec<String> {
        path.components().rev().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let differing = elements(first).into_iter().zip(elements(second)).find(|(a, b)| a != b);
    differing.map_or_else(|| ["first".into(), "second".into()], |(a, b)| [a, b])
}
