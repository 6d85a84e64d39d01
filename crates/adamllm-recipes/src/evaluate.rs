//! Asks a model the questions of benchmarks, and scores its answers both ways.
//!
//! [`evaluate`] is the whole job. [`Evaluation`] is its parts, for answers that were made elsewhere, and for those who want to hear
//! of each task as it ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use adamllm_core::{
    CoreError, Decoding, Generate, ImageStore, LedgerEntry, LostRecords, Progress, Reason, Shard, Stage, jsonl,
};
use adamllm_data::CurrentImages;
use adamllm_eval::{
    AnswerJudge, Benchmark, BootstrapConfig, Comparison, CorruptedBenchmark, CorruptedImages, Corruption, LogFormat,
    LoggedTask, PredictOptions, Prediction, Report, Scored, compare, evaluate_answers, files, find_logs, paper_table,
    read_predictions, write_logs, write_scores,
};
use serde::{Deserialize, Serialize};

use crate::RecipeError;
use crate::benchmarks::{BenchmarkSettings, OpenedBenchmark, OpenedBenchmarks};
use crate::files::{safe_name, write_json};

mod blank;
mod pages;

pub use blank::BlankSample;
pub use pages::write_tables;

/// How a model is evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationSettings {
    /// What is asked.
    pub benchmarks: BenchmarkSettings,
    /// The run's name in tables.
    pub name: String,
    /// Asks again with images or words corrupted.
    pub corruptions: Vec<Corruption>,
    /// This many questions of each task are asked again over white images, to see whether the model looks at them; 0 for none. Where
    /// `corruptions` has [`Corruption::Blank`], all questions are.
    pub blank_sample: usize,
    /// Seeds what is corrupted, and what is drawn.
    pub seed: u64,
    /// Prompts that the model sees at once; answers do not depend on it.
    pub batch_size: usize,
    /// At most this many questions of each task.
    pub limit: Option<usize>,
    /// The longest answer in tokens, instead of the task's own limit.
    pub max_new_tokens: Option<usize>,
    /// The column of the paper's table 4 that the run belongs to, by its name.
    pub pipeline: Option<String>,
    /// Whether to write pages: `report.html`, and `index.html` as their front.
    pub html: bool,
    /// The part of the questions to ask; not part of a settings file.
    #[serde(skip)]
    pub shard: Shard,
    /// What else belongs into the reports' software: the engine and its version. Not part of a settings file.
    #[serde(skip)]
    pub software: BTreeMap<String, String>,
}

impl Default for EvaluationSettings {
    fn default() -> Self {
        Self {
            benchmarks: BenchmarkSettings::default(),
            name: "run".into(),
            corruptions: Vec::new(),
            blank_sample: 100,
            seed: 0,
            batch_size: 8,
            limit: None,
            max_new_tokens: None,
            pipeline: None,
            html: true,
            shard: Shard::WHOLE,
            software: BTreeMap::new(),
        }
    }
}

/// One task's answers and their scores, intact or corrupted.
#[derive(Debug)]
#[non_exhaustive]
pub struct TaskScores {
    /// Which of the opened benchmarks.
    pub benchmark: usize,
    /// How its images or words were corrupted.
    pub corruption: Option<Corruption>,
    /// Both scores.
    pub scored: Scored,
    /// The answers.
    pub predictions: Vec<Prediction>,
    /// Against the intact task, where this one is corrupted.
    pub comparison: Option<Comparison>,
}

/// What an evaluation found.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EvaluationReport {
    /// The run's name.
    pub name: String,
    /// Where everything was written.
    pub out: PathBuf,
    /// Each task's report.
    pub tasks: BTreeMap<String, Report>,
    /// Those of the corrupted tasks.
    pub corrupted: BTreeMap<String, CorruptedReport>,
    /// What the images are worth to the model, by task.
    pub blank: BTreeMap<String, BlankSample>,
    /// Tasks of the domain without data.
    pub missing: Vec<String>,
    /// What of its folder's generation settings the model follows.
    pub generation_defaults: Option<String>,
    /// Since the benchmarks were opened.
    pub seconds: f64,
}

/// What spoiling a task did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CorruptedReport {
    /// How it was corrupted.
    pub corruption: Corruption,
    /// Seeded what was corrupted.
    pub seed: u64,
    /// The scores.
    pub report: Report,
    /// Against the intact task.
    pub comparison: Comparison,
}

/// The questions that no answer was found or read for, over all tasks.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Unanswered {
    /// How many, and why.
    pub losses: LostRecords,
    /// Questions that were answered.
    pub n_answered: u64,
    /// The tasks' ledgers.
    pub ledgers: Vec<PathBuf>,
}

/// The whole job: opens the benchmarks of `settings`, asks the model that `open` makes over their images, and writes everything
/// below `out`. Run again with the same folder, it asks only what has no answer yet.
///
/// ```no_run
/// use adamllm_core::Generate;
/// use adamllm_recipes::{EvaluationSettings, RecipeError, evaluate};
///
/// /// `model` answers every question of the settings' benchmarks.
/// fn scores<G: Generate>(settings: &EvaluationSettings, model: G) -> Result<(), RecipeError> {
///     let report = evaluate(settings, "runs/evaluation".as_ref(), |_images| Ok(model), &mut ())?;
///     for (task, report) in &report.tasks {
///         println!("{task}: {} answers", report.overall.n);
///     }
///     Ok(())
/// }
/// ```
///
/// # Errors
/// Benchmarks that cannot be opened, a model that cannot, files.
pub fn evaluate<G: Generate>(
    settings: &EvaluationSettings,
    out: &Path,
    open: impl FnOnce(Arc<dyn ImageStore>) -> Result<G, RecipeError>,
    progress: &mut dyn Progress,
) -> Result<EvaluationReport, RecipeError> {
    let fetch = |task: &adamllm_eval::BenchmarkDescription| Err(format!("where are the data of {}?", task.name));
    let mut evaluation = Evaluation::new(settings, settings.benchmarks.open(fetch)?, out)?;
    evaluation.check()?;
    let model = open(Arc::new(evaluation.images()))?;
    evaluation.ask(&model, &mut |_| {}, progress)?;
    evaluation.write_pages()?;
    Ok(evaluation.report())
}

/// All tasks of one run.
#[derive(Debug)]
pub struct Evaluation<'a> {
    settings: &'a EvaluationSettings,
    out: PathBuf,
    benchmarks: OpenedBenchmarks,
    images: CurrentImages,
    done: Vec<TaskScores>,
    blank: Vec<BlankSample>,
    /// Whether a model was asked; answers that were made elsewhere have no ledger.
    asked: bool,
    generation_defaults: Option<String>,
    started: Instant,
}

impl<'a> Evaluation<'a> {
    /// An evaluation that writes below `out`.
    ///
    /// # Errors
    /// A column that the paper's table does not have; the folder.
    pub fn new(
        settings: &'a EvaluationSettings,
        benchmarks: OpenedBenchmarks,
        out: &Path,
    ) -> Result<Self, RecipeError> {
        // Before a model is asked, which takes hours.
        if let Some(column) = &settings.pipeline {
            let columns: Vec<_> = paper_table("T4")?.columns.iter().map(|column| column.name.as_str()).collect();
            if !columns.contains(&column.as_str()) {
                let expected = columns.join("; ");
                return Err(RecipeError::Benchmarks(format!("pipeline {column:?}: expected one of {expected}")));
            }
        }

        let Some(first) = benchmarks.opened.first() else {
            return Err(RecipeError::Benchmarks("no benchmark was opened".into()));
        };

        std::fs::create_dir_all(out).map_err(CoreError::io("create", out))?;
        let images = CurrentImages::new(first.images.clone());

        Ok(Self {
            settings,
            out: out.to_owned(),
            benchmarks,
            images,
            done: Vec::new(),
            blank: Vec::new(),
            asked: false,
            generation_defaults: None,
            started: Instant::now(),
        })
    }

    /// Finds out before a model is read that a benchmark's images cannot be had: answers without them would mean nothing.
    ///
    /// # Errors
    /// [`EvalError::NoImages`](adamllm_eval::EvalError::NoImages).
    pub fn check(&self) -> Result<(), RecipeError> {
        Ok(self.benchmarks.opened.iter().try_for_each(|opened| opened.benchmark.check())?)
    }

    /// The images of the task that is asked at the moment, for the model to look through.
    pub fn images(&self) -> CurrentImages {
        self.images.clone()
    }

    /// Tells the report what of its folder's generation settings the model follows.
    pub fn set_generation_defaults(&mut self, taken: Option<String>) {
        self.generation_defaults = taken;
    }

    /// Asks a model that sees images through [`Evaluation::images`]: each task intact, then corrupted in every way that the settings
    /// name, then a sample of it over white images ([`EvaluationSettings::blank_sample`]). A task's scores are on disk, and heard by
    /// `on_task`, before the next one begins.
    ///
    /// # Errors
    /// Files; a benchmark that fails as a whole.
    pub fn ask<G: Generate>(
        &mut self,
        model: &G,
        on_task: &mut dyn FnMut(&TaskScores),
        progress: &mut dyn Progress,
    ) -> Result<(), RecipeError> {
        self.asked = true;
        let seed = self.settings.seed;

        // By index, since `keep` borrows the evaluation as a whole.
        for of in 0..self.benchmarks.opened.len() {
            let intact = self.benchmarks.opened[of].images.clone();
            self.images.set(intact.clone());
            let benchmark = &self.benchmarks.opened[of].benchmark;
            let (scored, folder) = self.ask_one(model, benchmark, progress)?;
            self.keep(of, None, scored, &folder, on_task)?;

            for &corruption in &self.settings.corruptions {
                self.images.set(Arc::new(CorruptedImages::new(intact.clone(), corruption, seed)));
                let corrupted = CorruptedBenchmark::new(&self.benchmarks.opened[of].benchmark, corruption, seed);
                let (scored, folder) = self.ask_one(model, &corrupted, progress)?;
                self.keep(of, Some(corruption), scored, &folder, on_task)?;
            }

            self.ask_blank(of, model, progress)?;
        }

        Ok(())
    }

    fn ask_one<G: Generate>(
        &self,
        model: &G,
        benchmark: &dyn Benchmark,
        progress: &mut dyn Progress,
    ) -> Result<(Scored, PathBuf), RecipeError> {
        let decoding = benchmark.decoding();
        let max_new_tokens = self.settings.max_new_tokens.unwrap_or(decoding.max_new_tokens);
        let options = PredictOptions {
            batch_size: self.settings.batch_size,
            shard: self.settings.shard,
            limit: self.settings.limit,
            decoding: Some(Decoding { max_new_tokens, ..decoding }),
            software: self.settings.software.clone(),
            ..PredictOptions::default()
        };
        let folder = self.folder(benchmark);
        Ok((adamllm_eval::evaluate(model, benchmark, &folder, &options, progress)?, folder))
    }

    /// Scores answers that are there already: `files` are those of the only task, or folders with a file for each task (in the
    /// form of [`Prediction`], or a log of lm-eval or lmms-eval).
    ///
    /// # Errors
    /// A task without answers; files.
    pub fn take_answers(&mut self, files: &[PathBuf], on_task: &mut dyn FnMut(&TaskScores)) -> Result<(), RecipeError> {
        for of in 0..self.benchmarks.opened.len() {
            let benchmark = &self.benchmarks.opened[of].benchmark;
            let answers = self.answers_to(benchmark.name(), files)?;
            let folder = self.folder(benchmark);
            let scored = evaluate_answers(&self.settings.name, benchmark, &answers, &folder)?;
            self.keep(of, None, scored, &folder, on_task)?;
        }
        Ok(())
    }

    /// Lets a judge say of the intact tasks' open answers whether they are right: a column of its own in reports and pages, with the
    /// verdicts beside the predictions. `on_task` hears of each task that has open answers.
    ///
    /// # Errors
    /// Files; [`RecipeError::JudgeFailed`] where the judge gave no answer at all.
    pub fn judge<J: Generate>(
        &mut self,
        judge: &AnswerJudge<J>,
        on_task: &mut dyn FnMut(&TaskScores),
        progress: &mut dyn Progress,
    ) -> Result<(), RecipeError> {
        for index in 0..self.done.len() {
            let TaskScores { benchmark, corruption: None, scored, predictions, .. } = &self.done[index] else {
                continue;
            };

            let benchmark = &self.benchmarks.opened[*benchmark].benchmark;
            let folder = self.folder(benchmark);
            let report = judge.judge(benchmark, scored, predictions, &folder, progress)?;
            if report.n == 0 {
                continue;
            }

            // A judge that gave no answer at all (a server that is down) is a fault, not a score.
            let ledger = folder.join(files::JUDGE_LEDGER);
            if report.n_failed == report.n {
                let first = jsonl::read::<LedgerEntry>(&ledger)?.next().transpose()?;
                let detail = first.map_or(String::new(), |entry| entry.detail);
                return Err(RecipeError::JudgeFailed { n: report.n, ledger, detail });
            }

            let done = &mut self.done[index];
            done.scored.report.judge = Some(report);
            write_scores(&folder, &done.scored.outcomes, &done.scored.report)?;
            on_task(done);
        }

        Ok(write_json(self.out.join("evaluate.json"), &self.report())?)
    }

    /// The ledgers of the judged tasks.
    fn judge_ledgers(&self) -> impl Iterator<Item = PathBuf> {
        let judged = self.intact().filter(|done| done.scored.report.judge.is_some());
        let benchmark = |done: &TaskScores| &self.benchmarks.opened[done.benchmark].benchmark;
        judged.map(move |done| self.folder(benchmark(done)).join(files::JUDGE_LEDGER))
    }

    /// The files that hold answers to a task: those that were named, or the task's in a folder.
    fn answers_to(&self, task: &str, given: &[PathBuf]) -> Result<Vec<PathBuf>, RecipeError> {
        if given.iter().all(|path| path.is_file()) && self.benchmarks.opened.len() == 1 {
            return Ok(given.to_vec());
        }

        let (mut found, only) = (Vec::new(), self.benchmarks.opened.len() == 1);

        for folder in given {
            let alone = ["jsonl", "json"].map(|ending| folder.join(format!("{task}.{ending}")));
            let mut places = [folder.join(task).join(files::PREDICTIONS)].into_iter().chain(alone);
            match places.find(|place| place.is_file()) {
                Some(place) => found.push(place),
                None if folder.is_dir() => found.extend(find_logs(folder, task, only)?),
                None => {}
            }
        }

        match found.is_empty() {
            false => Ok(found),
            true => {
                let expected = format!(
                    "expected {task}/predictions.jsonl, {task}.jsonl, {task}.json or a log of lm-eval or lmms-eval"
                );
                Err(RecipeError::Benchmarks(format!("no answers to {task}: {expected} among the predictions")))
            }
        }
    }

    /// A folder for a benchmark, by its name.
    fn folder(&self, benchmark: &dyn Benchmark) -> PathBuf {
        self.out.join(safe_name(benchmark.name()))
    }

    /// Keeps a task's scores, and writes all scores so far.
    fn keep(
        &mut self,
        of: usize,
        corruption: Option<Corruption>,
        scored: Scored,
        folder: &Path,
        on_task: &mut dyn FnMut(&TaskScores),
    ) -> Result<(), RecipeError> {
        let (predictions, _) = read_predictions(folder.join(files::PREDICTIONS))?;
        let intact = self.intact().find(|done| done.benchmark == of);
        let comparison =
            intact.map(|intact| compare(&intact.scored.outcomes, &scored.outcomes, &BootstrapConfig::default()));
        let done = TaskScores { benchmark: of, corruption, scored, predictions, comparison };
        on_task(&done);
        self.done.push(done);
        Ok(write_json(self.out.join("evaluate.json"), &self.report())?)
    }

    fn intact(&self) -> impl Iterator<Item = &TaskScores> {
        self.done.iter().filter(|done| done.corruption.is_none())
    }

    /// The tasks that are done.
    pub fn tasks(&self) -> &[TaskScores] {
        &self.done
    }

    /// What the images of each task are worth to the model that was asked.
    pub fn blank_samples(&self) -> &[BlankSample] {
        &self.blank
    }

    /// What was found so far.
    pub fn report(&self) -> EvaluationReport {
        let name = |done: &TaskScores| done.scored.report.benchmark.clone();
        let corrupted = self.done.iter().filter_map(|done| {
            let (corruption, comparison) = (done.corruption?, done.comparison.clone()?);
            let (seed, report) = (self.settings.seed, done.scored.report.clone());
            Some((name(done), CorruptedReport { corruption, seed, report, comparison }))
        });
        EvaluationReport {
            name: self.settings.name.clone(),
            out: self.out.clone(),
            tasks: self.intact().map(|done| (name(done), done.scored.report.clone())).collect(),
            corrupted: corrupted.collect(),
            blank: self.blank.iter().map(|blank| (blank.benchmark.clone(), blank.clone())).collect(),
            missing: self.benchmarks.missing.clone(),
            generation_defaults: self.generation_defaults.clone(),
            seconds: self.started.elapsed().as_secs_f64(),
        }
    }

    /// Writes the intact tasks' answers and scores as lm-eval or lmms-eval writes its logs, into a folder that is called as the
    /// software below the run's own. Gives the files, the scores first.
    ///
    /// # Errors
    /// Files.
    pub fn write_logs(&self, format: LogFormat) -> Result<Vec<PathBuf>, RecipeError> {
        let tasks: Vec<_> = self
            .intact()
            .map(|done| LoggedTask {
                benchmark: &self.benchmarks.opened[done.benchmark].benchmark,
                predictions: &done.predictions,
                outcomes: &done.scored.outcomes,
                report: &done.scored.report,
            })
            .collect();
        Ok(write_logs(&self.out.join(format.name()), format, &self.settings.name, &tasks)?)
    }

    /// The questions without an answer.
    ///
    /// # Errors
    /// The ledgers.
    pub fn unanswered(&self) -> Result<Unanswered, RecipeError> {
        let mut all = Unanswered::default();
        for done in self.intact() {
            let OpenedBenchmark { benchmark, .. } = &self.benchmarks.opened[done.benchmark];
            let n_answered = done.scored.outcomes.len() as u64;
            let mut losses = LostRecords::of(n_answered);
            if self.asked {
                let ledger = self.folder(benchmark).join(files::LEDGER);
                losses = LostRecords::from_ledger(n_answered, &ledger)?;
                all.ledgers.push(ledger);
            }
            if let Some(first) = done.scored.rejected.first() {
                let (n, detail) = (done.scored.rejected.len() as u64, format!("{}: {}", first.id, first.detail));
                losses.add_all(Stage::Predict, Reason::InvalidField, n, detail);
            }
            all.n_answered += n_answered;
            all.losses.join(losses);
        }
        Ok(all)
    }
}
