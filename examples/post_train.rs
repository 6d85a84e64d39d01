//! Post-trains a vision-language model on what a settings file names (paper, section 3.3). We will:
//!
//! 1. read the settings, and the records of every source: what cannot be trained on goes to the ledger,
//! 2. plan the run from the headers of the images: steps, tokens, padding, and the worst batch,
//! 3. train the stages, each from the weights of the one before,
//! 4. write the result as a Hugging Face folder, compared with the base, or as an adapter.
//!
//! Built with the feature `mpi` and started by `mpirun` or `srun`, its processes train one model together.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use adamllm::core::{Cancellable, Ledger};
use adamllm::prelude::*;
use adamllm::recipes::post_train::{PostTrainEvent, PostTraining, StageDryRun, begin};
use adamllm::recipes::training_set::ImageCheck;
use adamllm::recipes::{PostTrainSettings, RunOptions};
use adamllm::train::Collective;
use adamllm_examples::cli::{self, Answer, Bar, JobResult};
use adamllm_examples::{devices, folders, ranks};
use clap::Parser;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    /// Says what the run would read and the memory that it would take, and ends: no weights are loaded, no image is decoded, nothing is written
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
    ranks::main(run)
}

fn run(arguments: Arguments, collective: &dyn Collective) -> JobResult {
    let shell = Shell { speaks: collective.rank() == 0, arguments };
    let (base, settings) = shell.arguments.settings()?;
    let device = || devices::device(&settings.model.device);
    let processor = Processor::read(&settings.model.with_pixels(&base))?;
    let out = shell.arguments.out();
    let ledger = shell.ledger(&settings, collective)?;
    let check = if shell.arguments.plan { ImageCheck::Headers } else { settings.data.check };
    let mut job = PostTraining::read_checking(&settings, &base, &processor, check, ledger, &mut Bar::default())?;
    // A plan may be made where the device is not.
    device().iter().for_each(|device| job.plan_memory(device));
    shell.tell_plan(&job);
    if shell.speaks && job.losses().exceed(settings.data.max_lost) {
        eprintln!("{}", job.losses());
    }
    match out {
        None if shell.arguments.plan => shell.print(json!(job.plan())),
        None => {
            cli::stop_on_signal()?;
            let mut progress = Cancellable::new(Bar::default(), &cli::STOP);
            shell.tell_dry_run(&job, &job.dry_run(&job.load(&device()?, &mut progress)?, &mut progress)?);
        }
        Some(_) => {
            cli::stop_on_signal()?;
            let run = RunOptions { stop: Some(&cli::STOP), ..shell.arguments.options(collective) };
            let (every, json) = (settings.train.log_every, shell.arguments.json);
            let mut on_event = |event: PostTrainEvent| shell.tell(event, every, json);
            let progress: &mut dyn Progress = if shell.speaks { &mut Bar::default() } else { &mut () };
            let mut progress = Cancellable::new(progress, &cli::STOP);
            let report = job.run(&device()?, &run, &mut on_event, &mut progress)?;
            report.model.iter().for_each(|model| shell.say(&format!("4. the model: {}", model.display())));
            shell.say(&format!("the page of the whole run:\n{}", run.out.join("index.html").display()));
            shell.print(json!(report));
        }
    }
    let ledger = out.filter(|_| shell.speaks).map(|out| out.join("ledger.jsonl").display().to_string());
    cli::check_losses(job.losses(), job.counts().records_out, settings.data.max_lost, &ledger.unwrap_or_default())
}

impl Arguments {
    /// Where the run is written; nowhere for a plan or a dry run.
    fn out(&self) -> Option<&Path> {
        self.out.as_deref().filter(|_| !self.plan && !self.dry_run)
    }

    /// The base, and the settings with all defaults filled in.
    fn settings(&self) -> Answer<(ModelFolder, PostTrainSettings)> {
        let short = self.max_steps.map(|steps| format!("train.max_steps={steps}"));
        let assignments: Vec<String> = self.set.iter().cloned().chain(short).collect();
        let settings = PostTrainSettings::read(&self.config, &assignments)?;
        let base = folders::model_folder(&settings.model.folder)?;
        let settings = settings.for_base(&base);
        Ok((base, settings))
    }

    fn options<'a>(&self, collective: &'a dyn Collective) -> RunOptions<'a> {
        let out = self.out.clone().unwrap_or_default();
        RunOptions { resume: self.resume, collective: Some(collective), ..RunOptions::new(out) }
    }
}

/// Rank 0 speaks.
struct Shell {
    arguments: Arguments,
    speaks: bool,
}

impl Shell {
    /// Makes the output folder, where there is one, with the settings in it.
    fn ledger(&self, settings: &PostTrainSettings, collective: &dyn Collective) -> Answer<Ledger> {
        let Some(out) = self.arguments.out() else { return Ok(Ledger::new()) };
        if self.speaks {
            cli::prepare(out, "post_train.json", self.arguments.resume, self.arguments.overwrite)?;
        }
        Ok(begin(settings, &self.arguments.options(collective))?)
    }

    fn say(&self, text: &str) {
        if !self.arguments.json && self.speaks {
            println!("{text}");
        }
    }

    fn print(&self, result: serde_json::Value) {
        if self.arguments.json && self.speaks {
            println!("{result}");
        }
    }

    fn tell_plan(&self, job: &PostTraining) {
        let counts = job.counts();
        let (records_in, out, lost) = (counts.records_in, counts.records_out, counts.ledger_entries);
        self.say(&format!("1. records: {records_in} in, {out} to use, {lost} in the ledger"));
        for stage in job.stages() {
            self.say(&format!("2. plan of stage {}: {}", stage.plan.stage, stage.plan));
        }
    }

    fn tell_dry_run(&self, job: &PostTraining, runs: &[StageDryRun]) {
        runs.iter().for_each(|run| self.say(&format!("3. {run}")));
        let mut result = json!(job.plan());
        result["dry_run"] = json!(runs);
        self.print(result);
    }

    fn tell(&self, event: PostTrainEvent, every: usize, json: bool) {
        match event {
            PostTrainEvent::Step { stage, steps, metrics } => {
                if !metrics.step.is_multiple_of(every) && metrics.step != steps {
                    return;
                }
                if json {
                    let mut line = json!(metrics);
                    line["stage"] = json!(stage);
                    self.print(line);
                } else if !std::io::stderr().is_terminal() {
                    // On a terminal, the bar tells.
                    self.say(&format!("   step {}/{steps}: {}, rate {:.2e}", metrics.step, metrics.line(), metrics.lr));
                }
            }
            PostTrainEvent::StageEnded(report) => self.say(&format!("3. {report}")),
            _ => {}
        }
    }
}
