use std::path::Path;

use adamllm_core::{Progress, jsonl};
use adamllm_model::VlmBatch;
use adamllm_nn::{Objective, Parameters};
use adamllm_train::{
    BatchSource, Checkpoint, DryRun, FitOptions, FitOutcome, PlannedBatch, RunMemory, StepMetrics, TrainConfig,
    Trainer, Validation, ValidationMetrics, draw_training,
};
use serde::{Deserialize, Serialize};

use super::{PostTrainSettings, StagePlan};
use crate::files::write_json;
use crate::{RecipeError, RunOptions, TrainingSet};

/// One stage: its examples, and the plan of what is done with them.
#[derive(Debug)]
#[non_exhaustive]
pub struct Stage<'a> {
    /// Its examples.
    pub examples: TrainingSet<'a>,
    /// What its run will read.
    pub plan: StagePlan,
}

/// How a stage ended, kept beside its checkpoints as `stage.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageReport {
    /// As the sources number it.
    pub stage: usize,
    /// Steps done.
    pub steps: usize,
    /// Whether held-out examples ended it early.
    pub ended_early: bool,
    /// The loss of the first step, per target token in nats.
    pub loss_first: Option<f64>,
    /// The loss of the last step.
    pub loss_last: Option<f64>,
    /// The evaluations on held-out examples.
    pub validation: Vec<ValidationMetrics>,
}

/// What one of a stage's worst batches took, forward and backward.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StageDryRun {
    /// As the sources number it.
    pub stage: usize,
    /// The batch.
    pub batch: PlannedBatch,
    /// Seconds.
    pub seconds: f64,
    /// The most memory that the process has held so far, in bytes, where the system tells: of loading, and of this pass without an
    /// optimizer's state.
    pub peak_bytes: Option<u64>,
    /// The same by the plan's formula, where it is known: of the stage's worst pass.
    pub planned_peak_bytes: Option<u64>,
    /// Its loss per target token, in nats.
    pub loss: f64,
}

impl Stage<'_> {
    /// Runs the plan's worst passes forward and backward, the one of the most tokens and, where it is another, the one of the
    /// most patches.
    ///
    /// # Errors
    /// A batch that cannot be made.
    pub fn dry_run<M>(
        &self,
        model: &M,
        config: &TrainConfig,
        progress: &mut dyn Progress,
    ) -> Result<Vec<StageDryRun>, RecipeError>
    where
        M: Objective<Batch = VlmBatch>,
    {
        let trainer = Trainer::new(config.clone())?;
        let run = &self.plan.run;
        let mut worst = vec![&run.most_tokens];
        if run.most_patches.patches > run.most_tokens.patches {
            worst.push(&run.most_patches);
        }
        let planned_peak_bytes = self.plan.memory.as_ref().and_then(RunMemory::dry_run_peak);
        progress.begin("dry run", worst.len() as u64);
        let measured = worst.into_iter().map(|planned| {
            progress.check_cancelled()?;
            let batch = self.examples.batch(&planned.examples)?;
            let DryRun { loss, seconds, peak_bytes, .. } = trainer.dry_run(model, &batch)?;
            progress.advance(1);
            let (stage, batch) = (self.plan.stage, planned.clone());
            Ok(StageDryRun { stage, batch, seconds, peak_bytes, planned_peak_bytes, loss })
        });
        let measured = measured.collect();
        progress.end();
        measured
    }

    /// Trains the model, or loads what an earlier run has made of it. Checkpoints, metrics and charts go to `run.out`.
    ///
    /// # Errors
    /// The run's own; [`RecipeError::Stopped`].
    pub fn fit<M>(
        &self,
        model: M,
        held_out: Option<&TrainingSet>,
        settings: &PostTrainSettings,
        run: &RunOptions,
        on_step: &mut dyn FnMut(&StepMetrics),
        progress: &mut dyn Progress,
    ) -> Result<(M, StageReport), RecipeError>
    where
        M: Objective<Batch = VlmBatch> + 'static,
    {
        let folder = &run.out;
        let done = folder.join("stage.json");
        if run.resume && done.exists() {
            return ended(model, folder, &done);
        }

        let trainer = Trainer::new(settings.training_of(&Parameters::of(&model).names())?)?;
        let validation = held_out.zip(settings.validation.as_ref()).map(|(source, validation)| Validation {
            source,
            every: validation.every,
            batch_size: validation.batch_size,
            patience: validation.patience,
        });
        let options = FitOptions {
            folder: Some(folder.clone()),
            resume: run.resume,
            stop: run.stop,
            on_step: Some(on_step),
            collective: Some(run.collective()),
        };
        let (model, report) = trainer.fit_validated(model, &self.examples, validation, options, progress)?;
        if report.outcome == FitOutcome::Stopped {
            return Err(RecipeError::Stopped { step: report.steps });
        }

        let report = self.report(folder, report.outcome, report.steps, report.validation)?;
        if run.collective().rank() == 0 {
            draw_training(folder)?;
            write_json(done, &report)?;
        }
        Ok((model, report))
    }

    fn report(
        &self,
        folder: &Path,
        outcome: FitOutcome,
        steps: usize,
        validation: Vec<ValidationMetrics>,
    ) -> Result<StageReport, RecipeError> {
        // Those before a resume are in the file only.
        let metrics: Vec<StepMetrics> = jsonl::read_all(folder.join("metrics.jsonl"))?;
        let losses: Vec<f64> = metrics.iter().filter(|step| !step.skipped).map(|step| step.loss).collect();
        Ok(StageReport {
            stage: self.plan.stage,
            steps,
            ended_early: outcome == FitOutcome::EarlyStopped,
            loss_first: losses.first().copied(),
            loss_last: losses.last().copied(),
            validation,
        })
    }
}

/// What a stage that has ended has left.
fn ended<M: Objective>(model: M, folder: &Path, done: &Path) -> Result<(M, StageReport), RecipeError> {
    let report: StageReport = crate::files::read_json(done)?;
    let last = Checkpoint::list(folder)?.pop();
    let last = last.ok_or_else(|| RecipeError::NoCheckpoint { folder: folder.to_owned() })?;
    Ok((last.load_weights(model)?, report))
}

/// How the stage ended, in a line.
impl std::fmt::Display for StageReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |loss: Option<f64>| loss.map_or_else(|| "none".into(), |loss| format!("{loss:.4}"));
        let (first, last) = (shown(self.loss_first), shown(self.loss_last));
        write!(f, "stage {}: {} steps, loss {first} -> {last}", self.stage, self.steps)?;
        if let Some(best) = self.validation.iter().rfind(|evaluation| evaluation.best) {
            write!(f, ", held out at best {:.4} after step {}", best.loss, best.step)?;
        }
        if self.ended_early {
            f.write_str(", ended early: the held-out loss got no better")?;
        }
        Ok(())
    }
}

/// What the batch took, in a line.
impl std::fmt::Display for StageDryRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { stage, batch, seconds, peak_bytes, planned_peak_bytes, loss } = self;
        let gb = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
        let measured = peak_bytes.map_or("unknown".into(), gb);
        let planned = planned_peak_bytes.map_or(String::new(), |bytes| format!(", {} planned", gb(bytes)));
        write!(
            f,
            "dry run of stage {stage}: {} examples, {} tokens with padding, {} patches: {seconds:.2} s, peak memory without optimizer state \
             {measured}{planned}, loss {loss:.4}",
            batch.examples.len(),
            batch.tokens,
            batch.patches,
        )
    }
}
