//! Post-training by a settings file (paper, section 3.3): sources of training data to a Hugging Face folder, or an adapter.
//!
//! [`post_train`] is the whole job. [`PostTraining`] is its parts, for those who want to look at the plan, try the worst batches
//! first, or bring a model of their own: everything but loading and exporting works for any [`Objective`] over [`VlmBatch`].

use std::path::{Path, PathBuf};
use std::time::Instant;

use adamllm_core::{Ledger, LostRecords, Progress};
use adamllm_model::{Encoder, ModelFolder, Processor, VisionLanguageModel, VlmBatch};
use adamllm_nn::{LanguageBackbone, Objective, Parameters, VisionEncoder};
use adamllm_train::{StepMetrics, TrainError};
use burn::tensor::Device;
use serde::Serialize;

use crate::base::BaseTraining;
use crate::files::write_json;
use crate::settings::SettingsError;
use crate::training_set::{ImageCheck, ReadOptions, RecordCounts, TrainingSetReader};
use crate::{RecipeError, RunOptions, TrainingSet};

mod card;
mod memory;
mod parts;
mod plan;
mod settings;
mod stage;

use memory::JobMemory;
pub use parts::{PartSettings, PartsSettings};
pub use plan::{PostTrainPlan, StagePlan};
pub use settings::{DataSettings, ExportKind, ExportSettings, ModelSettings, PostTrainSettings, ValidationSettings};
pub use stage::{Stage, StageDryRun, StageReport};

/// A job whose sources have been read and whose stages are planned.
#[derive(Debug)]
pub struct PostTraining<'a> {
    settings: &'a PostTrainSettings,
    base: &'a ModelFolder,
    counts: RecordCounts,
    losses: LostRecords,
    stages: Vec<Stage<'a>>,
    held_out: Option<TrainingSet<'a>>,
    started: Instant,
}

/// What a job did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PostTrainReport {
    /// What it read.
    #[serde(flatten)]
    pub plan: PostTrainPlan,
    /// How each stage ended.
    pub training: Vec<StageReport>,
    /// Steps of all stages.
    pub steps: usize,
    /// The loss of the first step, per target token in nats.
    pub loss_first: Option<f64>,
    /// The loss of the last step.
    pub loss_last: Option<f64>,
    /// The folder with the result; rank 0 alone writes one.
    pub model: Option<PathBuf>,
    /// Seconds since the sources were opened.
    pub seconds: f64,
}

/// What a running job tells.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum PostTrainEvent<'e> {
    /// A step is done.
    Step {
        /// The stage, as the sources number it.
        stage: usize,
        /// Steps of the stage.
        steps: usize,
        /// What the step did.
        metrics: &'e StepMetrics,
    },
    /// A stage has ended.
    StageEnded(&'e StageReport),
}

/// The whole job: sources in, a Hugging Face folder (or an adapter's) out, everything below `run.out`: `config.toml`,
/// `ledger.jsonl`, `training/`, `model/` or `adapter/`, `post_train.json`, and `index.html` as their front.
///
/// # Errors
/// Settings, files and sources of which nothing is left; [`RecipeError::Stopped`]. One bad record ends nothing.
pub fn post_train(
    settings: &PostTrainSettings,
    base: &ModelFolder,
    device: &Device,
    run: &RunOptions,
    progress: &mut dyn Progress,
) -> Result<PostTrainReport, RecipeError> {
    let settings = settings.clone().for_base(base);
    let processor = Processor::read(&settings.model.with_pixels(base))?;
    let ledger = begin(&settings, run)?;
    let mut job = PostTraining::read(&settings, base, &processor, ledger, progress)?;
    job.plan_memory(device);
    job.run(device, run, &mut |_| {}, progress)
}

/// Makes a run's folder with its settings and its ledger in it; ranks other than 0 write nothing, and count alone.
///
/// # Errors
/// As [`PostTrainSettings::save`]; the files.
pub fn begin(settings: &PostTrainSettings, run: &RunOptions) -> Result<Ledger, RecipeError> {
    let ledger = if run.collective().rank() == 0 {
        std::fs::create_dir_all(&run.out).map_err(crate::error::io("create", &run.out))?;
        settings.save(&run.out, run.resume)?;
        Ledger::create(run.out.join("ledger.jsonl"))?
    } else {
        Ledger::new()
    };
    // No rank looks into the folder before it is there.
    run.collective().barrier()?;
    Ok(ledger)
}

impl<'a> PostTraining<'a> {
    /// Reads the sources and plans the stages; no weights are loaded. What cannot be trained on goes to `ledger`.
    ///
    /// # Errors
    /// Files that do not open; [`RecipeError::NoRecordLeft`].
    pub fn read(
        settings: &'a PostTrainSettings,
        base: &'a ModelFolder,
        processor: &'a Processor,
        ledger: Ledger,
        progress: &mut dyn Progress,
    ) -> Result<Self, RecipeError> {
        Self::read_checking(settings, base, processor, settings.data.check, ledger, progress)
    }

    /// As [`PostTraining::read`], with another check of the images than the settings': for a plan, headers are enough.
    ///
    /// # Errors
    /// As [`PostTraining::read`].
    pub fn read_checking(
        settings: &'a PostTrainSettings,
        base: &'a ModelFolder,
        processor: &'a Processor,
        check: ImageCheck,
        ledger: Ledger,
        progress: &mut dyn Progress,
    ) -> Result<Self, RecipeError> {
        let started = Instant::now();
        if processor.pixel_range() != settings.model.pixel_range() {
            let wanted = "the processor has other bounds; read it from `ModelSettings::with_pixels`";
            return Err(SettingsError::value("model.max_pixels", wanted).into());
        }
        let encoder = Encoder::new(processor, settings.encoding.clone())?;
        let options = ReadOptions { check, workers: settings.data.workers, packing: settings.train.packing };
        let mut reader = TrainingSetReader::new(processor, encoder, options, ledger)?;

        let mut stages = Vec::new();
        for number in settings.stages() {
            let sources = settings.data.sources.iter().filter(|source| source.stage == number);
            let examples = reader.read(&sources.collect::<Vec<_>>(), progress)?;
            let flops = |size: &crate::ExampleSize| base.config().flops(size).total();
            let plan = StagePlan::new(number, &examples, &settings.train, flops)?;
            stages.push(Stage { examples, plan });
        }
        let held_out = settings.validation.as_ref().map(|validation| reader.read(&[&validation.source], progress));
        let held_out = held_out.transpose()?;
        Ok(Self { settings, base, counts: reader.counts(), losses: reader.losses(), stages, held_out, started })
    }

    /// Adds to the stages' plans the memory that they take, by formula: the headers of the weights are read, and nothing is put on
    /// `device`. Without the weights' files, the sizes in `config.json` count.
    pub fn plan_memory(&mut self, device: &Device) {
        // The records have been read: what the process holds by now, it holds in the run.
        let memory = JobMemory::new(self.settings, self.base, device);
        self.stages.iter_mut().for_each(|stage| memory.add_to(&mut stage.plan, &stage.examples));
    }

    /// How many records came in, and how many can be trained on.
    pub fn counts(&self) -> RecordCounts {
        self.counts
    }

    /// The records that were lost, and why.
    pub fn losses(&self) -> &LostRecords {
        &self.losses
    }

    /// The stages, in the order in which they are trained.
    pub fn stages(&self) -> &[Stage<'a>] {
        &self.stages
    }

    /// What the job will read.
    pub fn plan(&self) -> PostTrainPlan {
        PostTrainPlan { counts: self.counts, stages: self.stages.iter().map(|stage| stage.plan.clone()).collect() }
    }

    /// The base model on a device with autodiff, with a fresh adapter where the settings have one.
    ///
    /// # Errors
    /// The folder's; an adapter that does not fit, or that could not be exported as the settings say.
    pub fn load(&self, device: &Device, progress: &mut dyn Progress) -> Result<VisionLanguageModel, RecipeError> {
        let PostTrainSettings { model: ModelSettings { dtype, frozen, .. }, adapter, train, .. } = &self.settings;
        let training = BaseTraining { dtype: *dtype, frozen: *frozen, adapter: adapter.as_ref(), seed: train.seed };
        let model = training.load(self.base, device, progress)?;
        if let Some(adapter) = adapter {
            self.check_frozen_parts(&model)?;
            if self.settings.export.kind == ExportKind::Adapter {
                self.base.check_adapter(&model, adapter)?;
            }
        }
        Ok(model)
    }

    /// Refuses an adapter in a part that is frozen as a whole: it would silently stay as it is.
    fn check_frozen_parts(&self, model: &VisionLanguageModel) -> Result<(), SettingsError> {
        let parameters = Parameters::of(model);
        for group in self.settings.training().groups.iter().filter(|group| group.frozen) {
            let adapted = |name: &&str| name.starts_with(&group.prefix) && name.contains(".lora.");
            if let Some(name) = parameters.names().into_iter().find(adapted) {
                let detail = format!("{name} would be trained, but `{}` is frozen (parts, train.groups)", group.prefix);
                return Err(SettingsError::value("adapter.targets", detail));
            }
        }
        Ok(())
    }

    /// Runs each stage's worst batches forward and backward; the model stays as it is. `progress` may end it between two passes.
    ///
    /// # Errors
    /// A batch that cannot be made; a part that the model does not have; [`CoreError::Cancelled`](adamllm_core::CoreError::Cancelled).
    pub fn dry_run<M>(&self, model: &M, progress: &mut dyn Progress) -> Result<Vec<StageDryRun>, RecipeError>
    where
        M: Objective<Batch = VlmBatch>,
    {
        let training = self.settings.training_of(&Parameters::of(model).names())?;
        let mut measured = Vec::new();
        for stage in &self.stages {
            measured.extend(stage.dry_run(model, &training, progress)?);
        }
        Ok(measured)
    }

    /// Trains the stages one after the other, and exports the result.
    ///
    /// # Errors
    /// [`RecipeError::Stopped`], after which a run with `resume` goes on; [`RecipeError::Altered`]; files.
    pub fn run(
        &self,
        device: &Device,
        run: &RunOptions,
        on_event: &mut dyn FnMut(PostTrainEvent),
        progress: &mut dyn Progress,
    ) -> Result<PostTrainReport, RecipeError> {
        self.check_fresh(run)?;
        let (model, training) = self.fit(self.load(device, progress)?, run, on_event, progress)?;
        let rank = run.collective().rank();
        let model = (rank == 0).then(|| self.export(model, &run.out, progress)).transpose()?;

        let report = PostTrainReport {
            plan: self.plan(),
            steps: training.iter().map(|stage| stage.steps).sum(),
            loss_first: training.first().and_then(|stage| stage.loss_first),
            loss_last: training.last().and_then(|stage| stage.loss_last),
            training,
            model,
            seconds: self.started.elapsed().as_secs_f64(),
        };
        if rank == 0 {
            self.write_card(&report)?;
            write_json(run.out.join("post_train.json"), &report)?;
            let folders = self.stages.iter().map(|stage| self.training_folder(&run.out, stage.plan.stage));
            let folders: Vec<PathBuf> = folders.collect();
            crate::page::post_train::write(self.settings, self.base.path(), &report, &folders, &run.out)?;
        }
        Ok(report)
    }

    /// Trains a model, the base's or another one that reads the same batches, stage by stage. A stage that an earlier run has
    /// ended is loaded where the run resumes.
    ///
    /// # Errors
    /// As [`PostTraining::run`].
    pub fn fit<M>(
        &self,
        mut model: M,
        run: &RunOptions,
        on_event: &mut dyn FnMut(PostTrainEvent),
        progress: &mut dyn Progress,
    ) -> Result<(M, Vec<StageReport>), RecipeError>
    where
        M: Objective<Batch = VlmBatch> + 'static,
    {
        let mut reports = Vec::new();

        for stage in &self.stages {
            let (number, steps) = (stage.plan.stage, stage.plan.run.steps);
            let mut on_step = |metrics: &StepMetrics| on_event(PostTrainEvent::Step { stage: number, steps, metrics });

            let run = RunOptions { out: self.training_folder(&run.out, number), ..run.clone() };
            let held_out = self.held_out.as_ref();
            let (fitted, report) = stage.fit(model, held_out, self.settings, &run, &mut on_step, &mut *progress)?;

            on_event(PostTrainEvent::StageEnded(&report));
            reports.push(report);
            model = fitted;
        }

        Ok((model, reports))
    }

    /// Refuses a folder that holds a run before the model is read, which may take minutes. Of several ranks, the slower ones could
    /// find what the first has written already: they all look when the training starts.
    fn check_fresh(&self, run: &RunOptions) -> Result<(), RecipeError> {
        let folders = self.stages.iter().map(|stage| self.training_folder(&run.out, stage.plan.stage));
        let mut used = folders.filter(|folder| folder.join("metrics.jsonl").exists());
        match used.next() {
            Some(folder) if !run.resume && run.collective().size() == 1 => Err(TrainError::RunExists { folder }.into()),
            _ => Ok(()),
        }
    }

    /// `training`, with a folder for each stage where there are several.
    fn training_folder(&self, out: &Path, stage: usize) -> PathBuf {
        let folder = out.join("training");
        if self.stages.len() == 1 { folder } else { folder.join(format!("stage-{stage}")) }
    }

    /// Writes the result: `adapter` where the settings say so; else `model`, compared with the base (the same keys, shapes, dtypes
    /// and side files).
    ///
    /// # Errors
    /// [`RecipeError::Altered`]; files.
    pub fn export<V: VisionEncoder, L: LanguageBackbone>(
        &self,
        model: VisionLanguageModel<V, L>,
        out: &Path,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, RecipeError> {
        match (self.settings.export.kind, &self.settings.adapter) {
            (ExportKind::Adapter, Some(adapter)) => {
                let to = out.join("adapter");
                self.base.save_adapter(&model, adapter, &to)?;
                Ok(to)
            }
            _ => {
                let to = out.join("model");
                self.base.save_with(&model, &to, progress)?;

                // A faulty export must be found here, not by whoever loads it.
                let differences = ModelFolder::open(&to)?.verify(self.base)?;
                match differences.first() {
                    None => Ok(to),
                    Some(first) => {
                        let first = format!("{first:?}");
                        Err(RecipeError::Altered { folder: to, n: differences.len(), first })
                    }
                }
            }
        }
    }
}
