use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use adamllm::model::VisionLanguageModel;
use adamllm::prelude::*;
use adamllm::train::{
    BatchSource, Checkpoint, Collective, DryRun, FitOptions, FitOutcome, PlannedBatch, RunPlan, StepMetrics,
    Validation, ValidationMetrics,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{JobConfig, RowSet};

type Failure = Box<dyn std::error::Error>;

/// One stage: rows, and the plan of what is done with them.
#[derive(Debug)]
pub struct Stage<'a> {
    /// As the sources number it.
    pub number: usize,
    /// Its rows.
    pub rows: RowSet<'a>,
    /// What its run will read.
    pub plan: RunPlan,
    /// Floating-point operations of its run, everything trained and nothing computed twice.
    pub flops: f64,
}

/// How a stage ended, kept beside its checkpoints as `stage.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// As the sources number it.
    pub stage: usize,
    /// Steps done.
    pub steps: usize,
    /// Whether held-out rows ended it early.
    pub ended_early: bool,
    /// The loss of the first step and of the last one.
    pub loss_first: Option<f64>,
    /// The loss of the last step.
    pub loss_last: Option<f64>,
    /// The examinations on held-out rows.
    pub validation: Vec<ValidationMetrics>,
}

impl<'a> Stage<'a> {
    /// Plans a run over the rows; nothing is decoded.
    ///
    /// # Errors
    /// Settings at fault.
    pub fn plan(
        number: usize,
        rows: RowSet<'a>,
        pool: &rayon::ThreadPool,
        config: &TrainConfig,
        model: &adamllm::model::ModelConfig,
    ) -> Result<Self, Failure> {
        let plan = RunPlan::new(&rows.batches(pool, config.packing)?, config)?;
        let flops = plan.sum(|row| model.flops(rows.measure(row)).total());
        Ok(Self { number, rows, plan, flops })
    }

    /// The plan for machines.
    pub fn plan_json(&self) -> serde_json::Value {
        let mut plan = json!(self.plan);
        plan["stage"] = json!(self.number);
        plan["padding_share"] = json!(self.plan.padding_share());
        plan["flops"] = json!(self.flops);
        plan
    }

    /// The plan in a line.
    pub fn plan_text(&self) -> String {
        let RunPlan {
            examples: rows,
            examples_read: rows_read,
            steps,
            micro_batches,
            read,
            most_tokens,
            most_patches,
            ..
        } = &self.plan;
        let other = match most_patches.examples == most_tokens.examples {
            true => String::new(),
            false => format!("; of most patches: {}", batch_text(most_patches)),
        };
        format!(
            "{rows} rows, {rows_read} read in {steps} steps and {micro_batches} forward passes; {} tokens ({} targets), {:.1} % \
             padding, {} images, {} patches; {:.3e} floating-point operations; worst pass: {}{other}",
            read.tokens,
            read.targets,
            100.0 * self.plan.padding_share(),
            read.images,
            read.patches,
            self.flops,
            batch_text(most_tokens),
        )
    }

    /// Runs the plan's worst passes forward and backward, the one of the most tokens and, where it is another, the one of the
    /// most patches.
    ///
    /// # Errors
    /// A batch that cannot be made.
    pub fn dry_run(
        &self,
        model: &VisionLanguageModel,
        pool: &rayon::ThreadPool,
        config: &TrainConfig,
    ) -> Result<Vec<(PlannedBatch, DryRun)>, Failure> {
        let batches = self.rows.batches(pool, config.packing)?;
        let trainer = Trainer::new(config.clone())?;
        let mut worst = vec![self.plan.most_tokens.clone()];
        if self.plan.most_patches.patches > worst[0].patches {
            worst.push(self.plan.most_patches.clone());
        }
        let measured = worst.into_iter().map(|planned| {
            let batch = batches.batch(&planned.examples)?;
            Ok((planned, trainer.dry_run(model, &batch)?))
        });
        measured.collect()
    }

    /// Trains the model, or loads what a run before has made of it.
    ///
    /// # Errors
    /// The run's own; a run that was stopped from outside says how to go on.
    pub fn fit(
        &self,
        model: VisionLanguageModel,
        held_out: Option<&RowSet>,
        config: &JobConfig,
        pool: &rayon::ThreadPool,
        steering: Steering,
    ) -> Result<(VisionLanguageModel, StageReport), Failure> {
        let done = steering.folder.join("stage.json");
        if steering.resume && done.exists() {
            let report: StageReport = serde_json::from_slice(&std::fs::read(&done)?)?;
            let last = Checkpoint::list(&steering.folder)?.pop().ok_or("a stage that ended has no checkpoint")?;
            return Ok((last.load_weights(model)?, report));
        }
        let training = config.training_of(&adamllm::nn::Parameters::of(&model).names())?;
        let batches = self.rows.batches(pool, training.packing)?;
        let held_out = held_out.map(|rows| rows.batches(pool, training.packing)).transpose()?;
        let validation = held_out.as_ref().zip(config.validation.as_ref()).map(|(source, settings)| Validation {
            source,
            every: settings.every,
            batch_size: settings.batch_size,
            patience: settings.patience,
        });
        let run = FitOptions {
            folder: Some(steering.folder.clone()),
            resume: steering.resume,
            stop: Some(steering.stop),
            on_step: Some(steering.on_step),
            collective: Some(steering.replicas),
        };
        let trainer = Trainer::new(training)?;
        let (model, report) = trainer.fit_validated(model, &batches, validation, run, steering.progress)?;
        if report.outcome == FitOutcome::Stopped {
            return Err(format!("stopped behind step {} with a checkpoint; --resume goes on", report.steps).into());
        }
        let report = self.report(&steering.folder, report.outcome, report.steps, report.validation)?;
        if steering.replicas.rank() == 0 {
            adamllm::train::draw_training(&steering.folder)?;
            adamllm::core::write_atomically(done, serde_json::to_vec_pretty(&report)?)?;
        }
        Ok((model, report))
    }

    fn report(
        &self,
        folder: &Path,
        outcome: FitOutcome,
        steps: usize,
        validation: Vec<ValidationMetrics>,
    ) -> Result<StageReport, Failure> {
        // Those before a resume are in the file only.
        let metrics: Vec<StepMetrics> = adamllm::core::jsonl::read_all(folder.join("metrics.jsonl"))?;
        let losses: Vec<f64> = metrics.iter().filter(|step| !step.skipped).map(|step| step.loss).collect();
        Ok(StageReport {
            stage: self.number,
            steps,
            ended_early: outcome == FitOutcome::EarlyStopped,
            loss_first: losses.first().copied(),
            loss_last: losses.last().copied(),
            validation,
        })
    }
}

impl StageReport {
    /// How the stage ended, in a line.
    pub fn text(&self) -> String {
        let shown = |loss: Option<f64>| loss.map_or_else(|| "none".into(), |loss| format!("{loss:.4}"));
        let (first, last) = (shown(self.loss_first), shown(self.loss_last));
        let mut text = format!("stage {}: {} steps, loss {first} -> {last}", self.stage, self.steps);
        if let Some(best) = self.validation.iter().rfind(|row| row.best) {
            text += &format!(", held out at best {:.4} behind step {}", best.loss, best.step);
        }
        if self.ended_early {
            text += ", ended early: held-out rows got no better";
        }
        text
    }
}

fn batch_text(batch: &PlannedBatch) -> String {
    let PlannedBatch { step, examples: rows, tokens, patches, .. } = batch;
    format!("{} rows of step {step}, {tokens} tokens with padding, {patches} patches", rows.len())
}

/// Where a stage writes, and what steers it from outside.
pub struct Steering<'a> {
    /// Checkpoints, metrics and charts go here.
    pub folder: PathBuf,
    /// Goes on from what the folder holds.
    pub resume: bool,
    /// The members that train together; the first one writes.
    pub replicas: &'a dyn Collective,
    /// Set from outside: the run writes a checkpoint and ends.
    pub stop: &'a AtomicBool,
    /// Hears every step.
    pub on_step: &'a mut dyn FnMut(&StepMetrics),
    /// Hears how far the run has come.
    pub progress: &'a mut dyn Progress,
}

impl std::fmt::Debug for Steering<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steering").field("folder", &self.folder).field("resume", &self.resume).finish_non_exhaustive()
    }
}
