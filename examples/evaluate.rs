//! Asks a model the questions of benchmarks, and scores its answers both ways. We will: open the benchmarks in whatever form they lie,
//! ask task by task (a killed run goes on where it was), write each task's scores before the next one begins, corrupt
//! images or words where asked to, and lay everything out as a page and as the paper's tables.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use adamllm::core::Shard;
use adamllm::eval::{Corruption, LogFormat, comparison_table, report_table};
use adamllm::recipes::EvaluationSettings;
use adamllm::recipes::evaluate::{Evaluation, TaskScores};
use adamllm_examples::benchmarks::Choice;
use adamllm_examples::cli::{self, Bar, JobResult, MaxLost};
use adamllm_examples::judge::JudgeArguments;
use adamllm_examples::models::{self, ModelArguments, OpenedModel};
use clap::Parser;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Asks a model the questions of benchmarks, and scores its answers both ways.
#[derive(Parser, Debug)]
struct Arguments {
    /// A model folder, or the URLs of servers: `http://host:port[/v1]`, `#name` after it where they serve several models
    #[arg(long, required_unless_present = "predictions")]
    model: Option<String>,
    /// Answers that are there already, instead of a model: files of `id` and `answer`, logs of lm-eval or lmms-eval, or a
    /// folder with a file for each task
    #[arg(long, num_args = 1.., conflicts_with_all = ["model", "corrupt"])]
    predictions: Vec<PathBuf>,
    #[command(flatten)]
    choice: Choice,
    /// Everything is written here; a run that was killed goes on from here
    #[arg(long, default_value = "runs/evaluate")]
    out: PathBuf,
    /// The run's name in tables; the model's last path element otherwise
    #[arg(long)]
    name: Option<String>,
    /// Asks again with images or words corrupted: blank, blur, noise, wrong-image, shuffled-words
    #[arg(long, num_args = 1.., value_parser = |name: &str| Corruption::parse(name))]
    corrupt: Vec<Corruption>,
    /// Asks this many questions of each task again over white images, to see whether the model looks at them; 0 for none
    #[arg(long, default_value_t = 100)]
    blank_sample: usize,
    /// Seeds what is corrupted, and what is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Prompts that the model sees at once; answers do not depend on it
    #[arg(long, default_value_t = 8)]
    batch_size: usize,
    /// At most this many questions of each task
    #[arg(long)]
    limit: Option<usize>,
    /// A part of the questions, `i/n` from 0; join parts with --predictions
    #[arg(long, default_value = "0/1")]
    shard: Shard,
    /// The longest answer, instead of the task's own limit
    #[arg(long)]
    max_new_tokens: Option<usize>,
    /// The column of the paper's table 4 that the run belongs to, by its name
    #[arg(long)]
    pipeline: Option<String>,
    #[command(flatten)]
    judge: JudgeArguments,
    #[command(flatten)]
    models: ModelArguments,
    #[command(flatten)]
    losses: MaxLost,
    /// Also writes the answers and scores as other software logs its own: lm-eval, lmms-eval
    #[arg(long, num_args = 1.., value_parser = cli::setting::<LogFormat>)]
    logs: Vec<LogFormat>,
    /// Leaves the page out
    #[arg(long)]
    no_html: bool,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(arguments: Arguments) -> JobResult {
    let settings = arguments.settings();
    let benchmarks = arguments.choice.open()?;
    benchmarks.missing.iter().for_each(|name| eprintln!("left out: there is no data for {name}"));
    let mut evaluation = Evaluation::new(&settings, benchmarks, &arguments.out)?;
    arguments.judge.check()?;
    cli::stop_on_signal()?;
    let mut on_task = |task: &TaskScores| arguments.tell_task(&settings.name, task);
    match &arguments.model {
        Some(model) => {
            evaluation.check()?;
            let images = Arc::new(evaluation.images());
            let OpenedModel { model, generation_defaults } = models::open(model, &arguments.models, images)?;
            evaluation.set_generation_defaults(generation_defaults);
            evaluation.ask(&model, &mut on_task, &mut Bar::default())?;
            arguments.tell_blank(&evaluation);
        }
        None => evaluation.take_answers(&arguments.predictions, &mut on_task)?,
    }
    // The model that answered is gone by now: its memory is the judge's.
    if let Some(judge) = arguments.judge.open(&arguments.models)? {
        evaluation.judge(&judge, &mut |task| arguments.tell_judged(task), &mut Bar::default())?;
    }
    let mut written = vec!["evaluate.json".to_owned()];
    written.extend(evaluation.write_pages()?);
    for &format in &arguments.logs {
        evaluation.write_logs(format)?;
        written.push(format!("{}/", format.name()));
    }
    match arguments.json {
        true => println!("{}", json!(evaluation.report())),
        false => println!("written to {}: a folder for each task, {}", arguments.out.display(), written.join(", ")),
    }
    if !arguments.json && !arguments.no_html {
        println!("the page of the whole run:\n{}", arguments.out.join("index.html").display());
    }
    arguments.check_losses(&evaluation)
}

impl Arguments {
    fn settings(&self) -> EvaluationSettings {
        let path = self.model.as_deref().map(Path::new).or(self.predictions.first().map(PathBuf::as_path));
        let last = path.and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
        EvaluationSettings {
            benchmarks: self.choice.settings(),
            name: self.name.clone().or(last).unwrap_or_else(|| "run".into()),
            corruptions: self.corrupt.clone(),
            blank_sample: self.blank_sample,
            seed: self.seed,
            batch_size: self.batch_size,
            limit: self.limit,
            max_new_tokens: self.max_new_tokens,
            pipeline: self.pipeline.clone(),
            html: !self.no_html,
            shard: self.shard,
            software: cli::software(),
        }
    }

    fn tell_task(&self, name: &str, task: &TaskScores) {
        task.scored.rejected.iter().take(10).for_each(|lost| eprintln!("left out: {}: {}", lost.id, lost.detail));
        if self.json {
            return;
        }
        println!("{}", report_table(&[(name, &task.scored.report)]));
        if let (Some(comparison), Some(corruption)) = (&task.comparison, task.corruption) {
            println!("{}", comparison_table("intact", corruption.name(), comparison));
        }
    }

    fn tell_blank(&self, evaluation: &Evaluation) {
        let sentences = evaluation.blank_samples().iter().filter(|_| !self.json);
        sentences.for_each(|blank| println!("{}", blank.sentence()));
    }

    fn tell_judged(&self, task: &TaskScores) {
        if let (Some(judge), false) = (&task.scored.report.judge, self.json) {
            println!("{}: {}", task.scored.report.benchmark, judge.sentence());
        }
    }

    /// Questions that no answer was found or read for, over all tasks.
    fn check_losses(&self, evaluation: &Evaluation) -> JobResult {
        let unanswered = evaluation.unanswered()?;
        if unanswered.n_answered == 0 && unanswered.losses.n_lost() == 0 {
            // A part of a small benchmark may be empty.
            return match self.shard == Shard::WHOLE {
                true => Err("no question was answered: the benchmarks hold none, or no answer belongs to one".into()),
                false => Ok(()),
            };
        }
        let ledgers: Vec<_> = unanswered.ledgers.iter().map(|ledger| ledger.display().to_string()).collect();
        cli::check_losses(&unanswered.losses, unanswered.n_answered, self.losses.max_lost, &ledgers.join(", "))
    }
}
