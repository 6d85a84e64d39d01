//! Post-trains a vision-language model on what a settings file names (paper, section 3.3). We will:
//!
//! 1. read the settings, and the rows of every source: what cannot be trained on goes to the ledger,
//! 2. plan the run from the headers of the images: steps, tokens, padding, and the worst batch,
//! 3. train the stages, each from the weights of the one before,
//! 4. write the result as a Hugging Face folder, compared with the base, or as an adapter.
//!
//! Built with the feature `mpi` and started by `mpirun` or `srun`, its processes train one model together.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use adamllm::core::Ledger;
use adamllm::model::{Encoder, VisionLanguageModel};
use adamllm::prelude::*;
use adamllm::train::{Collective, StepMetrics};
use adamllm_examples::cli::{self, Bar, JobResult};
use adamllm_examples::post_train::{ExportKind, JobConfig, RowCounts, RowReader, RowSet, Stage, StageReport, Steering};
use adamllm_examples::{replicas, settings};
use clap::Parser;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The paper's longest row, in tokens.
const MAX_TOKENS: usize = 6144;

/// Post-trains a vision-language model.
#[derive(Parser, Debug)]
struct Arguments {
    /// The settings (TOML); ready ones are in examples/configs
    #[arg(long)]
    config: PathBuf,
    /// Replaces a setting: `train.learning_rate=2e-5`, `data.sources.0.weight=2`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Everything is written here
    #[arg(long, required_unless_present_any = ["plan", "dry_run"])]
    out: Option<PathBuf>,
    /// Goes on with the run in --out
    #[arg(long)]
    resume: bool,
    /// Replaces the run in --out
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// Ends each stage after so many steps: short for `--set train.max_steps=N`
    #[arg(long)]
    max_steps: Option<usize>,
    /// Says what the run would read, and ends: no weights are loaded, no image is decoded, nothing is written
    #[arg(long, conflicts_with = "dry_run")]
    plan: bool,
    /// Runs the worst batches forward and backward, says what they took, and ends: nothing is written
    #[arg(long)]
    dry_run: bool,
    /// Prints a JSON object for each logged step, and one for the whole in the end
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    replicas::main(run)
}

fn run(arguments: Arguments, replicas: &dyn Collective) -> JobResult {
    let begun = Instant::now();
    let folder_and_config = arguments.config()?;
    let (base, config) = (&folder_and_config.0, &folder_and_config.1);
    let processor = Processor::read(base)?;
    let encoder = Encoder::new(&processor, config.encoding.clone())?;
    let written = arguments.out().filter(|_| replicas.rank() == 0);
    if let Some(out) = written {
        arguments.prepare(out, config)?;
    }
    // Nobody looks into the folder before it is prepared.
    replicas.barrier()?;
    let ledger = written.map_or(Ok(Ledger::new()), |out| Ledger::create(out.join("ledger.jsonl")))?;
    let check = if arguments.plan { adamllm_examples::post_train::ImageCheck::Headers } else { config.data.check };
    let mut reader = RowReader::new(&processor, encoder, check, config.data.workers, ledger)?;
    let sets = read(&mut reader, config)?;
    let held_out = config.validation.as_ref().map(|v| reader.read(&[&v.source], &mut Bar::default())).transpose()?;
    let counts = reader.counts();
    let (pool, ledger) = reader.finish();
    let losses = ledger.lost_records(counts.rows_in);
    if losses.exceed(config.data.max_lost) && replicas.rank() == 0 {
        eprintln!("{losses}");
    }
    let stages = sets.into_iter().map(|(number, rows)| Stage::plan(number, rows, &pool, &config.train, base.config()));
    let job = Job {
        arguments: &arguments,
        replicas,
        config,
        base,
        pool: &pool,
        counts,
        stages: stages.collect::<Result<_, _>>()?,
    };
    job.tell_plan();
    match (arguments.plan, arguments.dry_run) {
        (true, _) => {}
        (_, true) => job.dry_run()?,
        _ => job.fit(held_out.as_ref(), begun)?,
    }
    let told = written.map_or_else(String::new, |out| out.join("ledger.jsonl").display().to_string());
    cli::check_losses(&losses, counts.rows_out, config.data.max_lost, &told)
}

/// The rows of each stage.
fn read<'a>(
    reader: &mut RowReader<'a>,
    config: &JobConfig,
) -> Result<Vec<(usize, RowSet<'a>)>, Box<dyn std::error::Error>> {
    let of_stage = |stage: usize| config.data.sources.iter().filter(move |s| s.stage == stage).collect::<Vec<_>>();
    let stages = config.stages().into_iter();
    stages.map(|stage| Ok((stage, reader.read(&of_stage(stage), &mut Bar::default())?))).collect()
}

impl Arguments {
    /// Where the run is written; nowhere for a plan or a dry run.
    fn out(&self) -> Option<&Path> {
        self.out.as_deref().filter(|_| !self.plan && !self.dry_run)
    }

    /// The base, and the settings with all defaults filled in.
    fn config(&self) -> Result<(ModelFolder, JobConfig), Box<dyn std::error::Error>> {
        let short = self.max_steps.map(|steps| format!("train.max_steps={steps}"));
        let assignments: Vec<String> = self.set.iter().cloned().chain(short).collect();
        let mut config = JobConfig::read(&self.config, &assignments)?;
        let base = cli::model_folder(&config.model.folder)?;
        config.encoding.max_tokens.get_or_insert(MAX_TOKENS.min(base.config().max_context));
        Ok((base, config))
    }

    /// Makes the output folder, with the settings in it. A run goes on only with the settings that it was begun with.
    fn prepare(&self, out: &Path, config: &JobConfig) -> JobResult {
        cli::prepare(out, "post_train.json", self.resume, self.overwrite)?;
        let saved = out.join("config.toml");
        if self.resume && saved.exists() {
            let begun = JobConfig::read(&saved, &[])?;
            if let Some((key, now, before)) = config.differs_from(&begun)? {
                let detail = format!("the run in {} was begun with {key} = {before}, got {now}", out.display());
                return Err(format!("{detail}; go on with --config {}", saved.display()).into());
            }
        }
        Ok(adamllm::core::write_atomically(&saved, settings::write(config)?)?)
    }
}

struct Job<'a> {
    arguments: &'a Arguments,
    /// The processes that train together; the first one writes and speaks.
    replicas: &'a dyn Collective,
    config: &'a JobConfig,
    base: &'a ModelFolder,
    pool: &'a rayon::ThreadPool,
    counts: RowCounts,
    stages: Vec<Stage<'a>>,
}

impl Job<'_> {
    fn say(&self, text: &str) {
        if !self.arguments.json && self.replicas.rank() == 0 {
            println!("{text}");
        }
    }

    fn plan_json(&self) -> Value {
        let lost = self.counts.rows_in - self.counts.rows_out;
        let stages: Vec<Value> = self.stages.iter().map(Stage::plan_json).collect();
        json!({"rows_in": self.counts.rows_in, "rows_out": self.counts.rows_out, "ledger_rows": lost, "stages": stages})
    }

    fn tell_plan(&self) {
        let RowCounts { rows_in, rows_out } = self.counts;
        self.say(&format!("1. rows: {rows_in} in, {rows_out} to use, {} in the ledger", rows_in - rows_out));
        for stage in &self.stages {
            self.say(&format!("2. plan of stage {}: {}", stage.number, stage.plan_text()));
        }
        if self.arguments.plan && self.arguments.json && self.replicas.rank() == 0 {
            println!("{}", self.plan_json());
        }
    }

    fn model(&self) -> Result<VisionLanguageModel, Box<dyn std::error::Error>> {
        let device = cli::device(&self.config.model.device)?.autodiff();
        let model = self.base.load(self.config.model.dtype.into(), &device)?;
        match &self.config.adapter {
            None => Ok(model),
            Some(adapter) => {
                device.seed(self.config.train.seed);
                Ok(model.with_lora(adapter)?)
            }
        }
    }

    fn dry_run(&self) -> JobResult {
        let model = self.model()?;
        let training = self.config.training_of(&adamllm::nn::Parameters::of(&model).names())?;
        let mut told = Vec::new();
        for stage in &self.stages {
            for (batch, took) in stage.dry_run(&model, self.pool, &training)? {
                let memory = took.peak_bytes.map_or("unknown".into(), |bytes| format!("{:.2} GB", bytes as f64 / 1e9));
                self.say(&format!(
                    "3. dry run of stage {}: {} rows, {} tokens with padding, {} patches: {:.2} s, peak memory {memory}, loss {:.4}",
                    stage.number,
                    batch.examples.len(),
                    batch.tokens,
                    batch.patches,
                    took.seconds,
                    took.loss,
                ));
                told.push(json!({"stage": stage.number, "batch": batch, "seconds": took.seconds,
                    "peak_bytes": took.peak_bytes, "loss": took.loss}));
            }
        }
        if self.arguments.json && self.replicas.rank() == 0 {
            let mut result = self.plan_json();
            result["dry_run"] = json!(told);
            println!("{result}");
        }
        Ok(())
    }

    fn fit(&self, held_out: Option<&RowSet>, begun: Instant) -> JobResult {
        let out = self.arguments.out().ok_or("a run needs --out")?;
        let mut model = self.model()?;
        let stop = cli::interrupted()?;
        // On a terminal, the bar tells.
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let mut reports: Vec<StageReport> = Vec::new();
        for stage in &self.stages {
            let (every, total) = (self.config.train.log_every, stage.plan.steps);
            let mut on_step = |metrics: &StepMetrics| {
                let logged = metrics.step.is_multiple_of(every) || metrics.step == total;
                if !logged || self.replicas.rank() > 0 {
                    return;
                }
                if self.arguments.json {
                    let mut line = json!(metrics);
                    line["stage"] = json!(stage.number);
                    println!("{line}");
                } else if !terminal {
                    println!("   step {}/{total}: {}, rate {:.2e}", metrics.step, metrics.line(), metrics.lr);
                }
            };
            let steering = Steering {
                folder: self.training_folder(out, stage),
                resume: self.arguments.resume,
                replicas: self.replicas,
                stop,
                on_step: &mut on_step,
                progress: if self.replicas.rank() == 0 { &mut Bar::default() } else { &mut () },
            };
            let report;
            (model, report) = stage.fit(model, held_out, self.config, self.pool, steering)?;
            self.say(&format!("3. {}", report.text()));
            reports.push(report);
        }
        if self.replicas.rank() > 0 {
            return Ok(());
        }
        let exported = self.export(model, out)?;
        self.say(&format!("4. the model: {}", exported.display()));
        let mut result = self.plan_json();
        result["training"] = json!(reports);
        result["steps"] = json!(reports.iter().map(|report| report.steps).sum::<usize>());
        result["loss_first"] = json!(reports.first().and_then(|report| report.loss_first));
        result["loss_last"] = json!(reports.last().and_then(|report| report.loss_last));
        result["model"] = json!(exported);
        result["seconds"] = json!(begun.elapsed().as_secs_f64());
        adamllm::core::write_atomically(out.join("post_train.json"), format!("{result:#}\n"))?;
        if self.arguments.json {
            println!("{result}");
        }
        Ok(())
    }

    /// `training`, with a folder for each stage where there are several.
    fn training_folder(&self, out: &Path, stage: &Stage) -> PathBuf {
        let folder = out.join("training");
        if self.stages.len() == 1 { folder } else { folder.join(format!("stage-{}", stage.number)) }
    }

    /// Writes the result, and compares a merged one with the base: the same keys, shapes, dtypes and side files.
    fn export(&self, model: VisionLanguageModel, out: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
        match (self.config.export.kind, &self.config.adapter) {
            (ExportKind::Adapter, Some(adapter)) => {
                let to = out.join("adapter");
                self.base.save_adapter(&model, adapter, &to)?;
                Ok(to)
            }
            _ => {
                let to = out.join("model");
                self.base.save(&model.merge_lora(), &to)?;
                let differences = ModelFolder::open(&to)?.verify(self.base)?;
                match differences.first() {
                    None => Ok(to),
                    Some(first) => {
                        let n = differences.len();
                        Err(format!("{} differs from its base in {n} things, first: {first:?}", to.display()).into())
                    }
                }
            }
        }
    }
}
