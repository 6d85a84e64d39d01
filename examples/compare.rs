//! Compares two runs of `evaluate`, question by question. We will: pair their tasks, print the differences with their intervals,
//! and end with exit code 3 where the second run is worse by more than chance.
//!
//! No model and no tensor library is needed: `--no-default-features` compiles none.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use adamllm::core::write_atomically;
use adamllm::eval::{
    AnswerType, Benchmark, BootstrapConfig, Comparison, HtmlOptions, HtmlRun, HtmlSection, Outcome, Prediction, Report,
    TableRun, compare, comparison_table, files, html_report, read_outcomes, read_predictions, read_report,
    tables_beside,
};
use adamllm_examples::benchmarks::{Choice, Opened};
use adamllm_examples::cli;
use clap::Parser;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Some group of questions is answered worse, by more than chance.
const REGRESSION: u8 = 3;

/// Compares two runs question by question; exit code 3 where the second is worse by more than chance.
#[derive(Parser, Debug)]
struct Arguments {
    /// What `evaluate --out` wrote, or one task's folder in it
    first: PathBuf,
    /// The run that may have become better or worse
    second: PathBuf,
    /// Share of the bootstrap samples inside an interval
    #[arg(long, default_value_t = 0.95)]
    confidence: f64,
    /// Bootstrap samples
    #[arg(long, default_value_t = 1000)]
    resamples: usize,
    /// Writes a page with both runs; needs the questions: --domain, --task or --benchmark, and --data
    #[arg(long)]
    html: Option<PathBuf>,
    /// Writes the paper's tables with both runs below its rows into this folder
    #[arg(long)]
    tables: Option<PathBuf>,
    #[command(flatten)]
    choice: Choice,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    cli::main_with_code(run)
}

type Answer<T> = Result<T, Box<dyn std::error::Error>>;

fn run(arguments: Arguments) -> Answer<ExitCode> {
    if !(0.5..1.0).contains(&arguments.confidence) {
        return Err(format!("--confidence: expected 0.5 to below 1, got {}", arguments.confidence).into());
    }
    let names = names(&arguments.first, &arguments.second);
    let pairs = paired(read_run(&arguments.first)?, read_run(&arguments.second)?)?;
    let resampling = BootstrapConfig {
        n_resamples: arguments.resamples,
        confidence: arguments.confidence,
        ..BootstrapConfig::default()
    };
    let compared: Vec<Comparison> = pairs.iter().map(|(a, b)| compare(&a.outcomes, &b.outcomes, &resampling)).collect();
    for ((a, b), comparison) in pairs.iter().zip(&compared) {
        if comparison.overall.n == 0 {
            return Err(format!("{} and {} share no question", a.folder.display(), b.folder.display()).into());
        }
        if a.dataset() != b.dataset() {
            eprintln!("note: {} and {} were asked from different rows", a.folder.display(), b.folder.display());
        }
    }
    if let Some(folder) = &arguments.tables {
        std::fs::create_dir_all(folder)?;
        let reports = |first: bool| pairs.iter().map(|(a, b)| if first { a } else { b }.report.clone()).collect();
        let reports: [Vec<Report>; 2] = [reports(true), reports(false)];
        let runs = [0, 1].map(|i| TableRun { name: &names[i], reports: &reports[i], column: None });
        cli::write_tables(folder, &tables_beside(&runs))?;
    }
    if let Some(file) = &arguments.html {
        write_atomically(file, page(&arguments.choice, &names, &pairs)?)?;
    }
    Ok(tell(&arguments, &names, &pairs, &compared))
}

/// One task of one run, read back.
struct TaskRun {
    folder: PathBuf,
    report: Report,
    outcomes: Vec<Outcome>,
    predictions: Vec<Prediction>,
}

impl TaskRun {
    fn read(folder: &Path) -> Answer<Self> {
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
}

/// The tasks below a folder, or the folder as the only one.
fn read_run(folder: &Path) -> Answer<Vec<TaskRun>> {
    if folder.join(files::REPORT).is_file() {
        return Ok(vec![TaskRun::read(folder)?]);
    }
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.retain(|inner| inner.join(files::REPORT).is_file());
    folders.sort();
    if folders.is_empty() {
        return Err(format!("{}: expected report.json, or folders that hold one", folder.display()).into());
    }
    folders.iter().map(|folder| TaskRun::read(folder)).collect()
}

/// The same task of both runs; two single tasks belong together whatever their names (spoilt and intact).
fn paired(first: Vec<TaskRun>, second: Vec<TaskRun>) -> Answer<Vec<(TaskRun, TaskRun)>> {
    let (mut pairs, mut rest) = (Vec::new(), second);
    let alone = first.len() == 1 && rest.len() == 1;
    for a in first {
        match rest.iter().position(|b| alone || b.report.benchmark == a.report.benchmark) {
            Some(at) => pairs.push((a, rest.swap_remove(at))),
            None => eprintln!("note: only the first run has {}", a.report.benchmark),
        }
    }
    rest.iter().for_each(|b| eprintln!("note: only the second run has {}", b.report.benchmark));
    if pairs.is_empty() { Err("the two runs share no task".into()) } else { Ok(pairs) }
}

/// The last path elements in which the folders differ.
fn names(first: &Path, second: &Path) -> [String; 2] {
    let elements = |path: &Path| -> Vec<String> {
        path.components().rev().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let differing = elements(first).into_iter().zip(elements(second)).find(|(a, b)| a != b);
    differing.map_or_else(|| ["first".into(), "second".into()], |(a, b)| [a, b])
}

fn page(choice: &Choice, names: &[String; 2], pairs: &[(TaskRun, TaskRun)]) -> Answer<String> {
    let (opened, _) = choice.open()?;
    let exhibits: Vec<HtmlSection<'_>> = opened
        .iter()
        .filter_map(|Opened { benchmark, .. }| {
            let (a, b) = pairs.iter().find(|(a, _)| a.report.benchmark == benchmark.name())?;
            let runs = [(0, a), (1, b)].map(|(i, run)| HtmlRun {
                name: &names[i],
                report: &run.report,
                outcomes: &run.outcomes,
                predictions: &run.predictions,
            });
            Some(HtmlSection { benchmark, runs: runs.to_vec() })
        })
        .collect();
    if exhibits.is_empty() {
        return Err("--html: none of the named benchmarks is in both runs".into());
    }
    Ok(html_report(&format!("{} and {}", names[0], names[1]), &exhibits, &HtmlOptions::default())?)
}

fn tell(arguments: &Arguments, names: &[String; 2], pairs: &[(TaskRun, TaskRun)], compared: &[Comparison]) -> ExitCode {
    let of_group = |group: Option<AnswerType>| group.map_or("all", AnswerType::as_str);
    let worse: Vec<(&str, &str)> = pairs
        .iter()
        .zip(compared)
        .flat_map(|((_, b), c)| c.regressions().into_iter().map(move |g| (b.report.benchmark.as_str(), of_group(g))))
        .collect();
    if arguments.json {
        let tasks = pairs.iter().zip(compared).map(|((_, b), c)| (b.report.benchmark.clone(), json!(c)));
        let regressions: Vec<_> = worse.iter().map(|(task, group)| json!({"task": task, "answers": group})).collect();
        println!(
            "{}",
            json!({
                "first": names[0], "second": names[1], "tasks": tasks.collect::<serde_json::Map<_, _>>(),
                "regressions": regressions, "regression": !worse.is_empty(),
            })
        );
    } else {
        for ((a, b), comparison) in pairs.iter().zip(compared) {
            println!("{}\n\n{}", b.report.benchmark, comparison_table(&names[0], &names[1], comparison));
            let (only_first, only_second) = (comparison.only_first, comparison.only_second);
            if only_first + only_second > 0 {
                println!(
                    "{only_first} questions only in {}, {only_second} only in {}\n",
                    a.folder.display(),
                    b.folder.display()
                );
            }
        }
        match &worse[..] {
            [] => println!("no significant regression (strict scoring)"),
            several => {
                let list: Vec<_> = several.iter().map(|(task, group)| format!("{task} ({group})")).collect();
                println!("significant regression (strict scoring): {}", list.join(", "));
            }
        }
    }
    if worse.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(REGRESSION) }
}
