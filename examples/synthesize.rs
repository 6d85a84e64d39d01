//! Image-caption pairs to filtered instruction tasks: part 1 of the paper alone, over models in this process or behind servers.
//! We will:
//!
//! 1. let a synthesizer propose a task for each pair, and a judge keep the consistent ones,
//! 2. write tasks, verdicts and the ledger of every row that dropped out,
//! 3. mix them with their captions into training conversations, for us and for LLaMA-Factory,
//! 4. write `report.html`, to look through all of it.
//!
//! A run that was killed goes on with `--resume`. `--shard i/n` does a part; `--merge` puts the parts together.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use adamllm::core::jsonl::Appender;
use adamllm::core::{CoreError, Ledger, LostRecords, Reason, RecordId, Shard, Stage};
use adamllm::eval::{Benchmark, DescribedBenchmark};
use adamllm::prelude::*;
use adamllm::synth::hygiene::{HygieneConfig, LeakIndex};
use adamllm::synth::{
    DATASET_NAME, FilterConfig, JudgeMode, ReportConfig, RunConfig, RunSummary, SynthesisRun, Variant, kept_pairs,
    write_llama_factory, write_report,
};
use adamllm::train::Mixture;
use adamllm_examples::cli::{self, Bar, JobResult, MaxLost};
use adamllm_examples::models::{AnyModel, ModelArguments};
use clap::Parser;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Image-caption pairs to filtered instruction tasks.
#[derive(Parser, Debug)]
struct Arguments {
    /// A model folder, or URLs of servers (with commas between them, `#name` behind them)
    #[arg(long)]
    synthesizer: Option<String>,
    /// A model folder, or URLs of servers; text only is enough
    #[arg(long)]
    judge: Option<String>,
    /// The pairs: ShareGPT JSON or JSON Lines
    #[arg(long)]
    captions: PathBuf,
    /// Where the pairs' images are
    #[arg(long)]
    images: PathBuf,
    /// Everything is written here
    #[arg(long)]
    out: PathBuf,
    /// Only the rows of part i of n (from 0 to n - 1), chosen by id
    #[arg(long, value_name = "I/N", conflicts_with = "merge")]
    shard: Option<Shard>,
    /// Puts the folders of all parts together, in the order 0 to n - 1, instead of asking models
    #[arg(long, value_name = "DIR", num_args = 1..)]
    merge: Vec<PathBuf>,
    /// Goes on with the run in --out instead of starting anew
    #[arg(long)]
    resume: bool,
    /// Replaces the run in --out
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// full, two_stage, caption_only, synthetic_only, precise_only, informative_only, no_filter, no_blank_images or rule_based
    #[arg(long, default_value = "full")]
    variant: Variant,
    /// How the judge is read: it writes two tokens (the paper's way), or its answers are scored
    #[arg(long, value_enum, default_value = "generated")]
    judge_mode: Reading,
    /// A scored judge's least probability of yes; `audit` suggests one. Another one needs --resume and no model again
    #[arg(long, default_value_t = 0.5)]
    threshold: f64,
    /// The judge's few-shot prompt with {Q}, {informative_A} and {precise_A}; ours otherwise
    #[arg(long)]
    judge_prompt: Option<PathBuf>,
    /// Rows given to a model, and synced to disk, at once
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    /// Seeds every random choice
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Drops tasks that repeat an earlier one (same words about the same image)
    #[arg(long)]
    hygiene: bool,
    /// With --hygiene: the similarity from which on two texts are nearly the same
    #[arg(long, default_value_t = 0.8)]
    near_threshold: f64,
    /// Drops tasks and captions about images of these benchmarks (TOML descriptions); implies --hygiene
    #[arg(long, value_name = "TOML", num_args = 1..)]
    benchmark: Vec<PathBuf>,
    /// Rows that the report shows with their images
    #[arg(long, default_value_t = 240)]
    report_rows: usize,
    #[command(flatten)]
    models: ModelArguments,
    #[command(flatten)]
    losses: MaxLost,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Reading {
    Generated,
    Scored,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(arguments: Arguments) -> JobResult {
    let images: Arc<dyn ImageStore> = adamllm::data::images_at(&arguments.images)?.into();
    let leaks = leak_index(&arguments.benchmark)?;
    for name in [&arguments.synthesizer, &arguments.judge].into_iter().flatten() {
        AnyModel::check(name)?;
    }
    cli::prepare(&arguments.out, "synthesize.json", arguments.resume, arguments.overwrite)?;
    let mut defaults = BTreeMap::new();
    let mut summary = if arguments.variant == Variant::CaptionOnly {
        captions_only(&arguments, &*images)?
    } else {
        synthesize(&arguments, &images, leaks.as_ref(), &mut defaults)?
    };
    if arguments.shard.is_none() {
        summary.files.extend(hand_on(&arguments, &*images, leaks.as_ref())?);
    }
    tell(&arguments, &summary, &defaults)?;
    // A pair without a task still trains as a caption: what is left is what no fault took.
    let ledger = arguments.out.join("ledger.jsonl");
    let losses = LostRecords::from_ledger(summary.records_in, &ledger)?;
    let left = match arguments.variant.trains_captions() {
        true => summary.records_in.saturating_sub(losses.n_lost()),
        false => summary.records_out,
    };
    if arguments.shard.is_some() && left == 0 && losses.n_lost() == 0 {
        return Ok(()); // a part of a small run may be empty
    }
    cli::check_losses(&losses, left, arguments.losses.max_lost, &ledger.display().to_string())
}

/// Rows in, rows out: the run itself.
fn synthesize(
    arguments: &Arguments,
    images: &Arc<dyn ImageStore>,
    leaks: Option<&LeakIndex>,
    defaults: &mut BTreeMap<&'static str, String>,
) -> Result<RunSummary, Box<dyn std::error::Error>> {
    let mut open = |flag: &'static str, name: Option<&str>| -> Result<AnyModel, Box<dyn std::error::Error>> {
        let model = open(flag, name, arguments, images)?;
        defaults.extend(model.generation_defaults().map(|taken| (flag.trim_start_matches("--"), taken)));
        Ok(model)
    };
    let hygiene = HygieneConfig { near_threshold: Some(arguments.near_threshold), ..HygieneConfig::default() };
    let config = RunConfig {
        batch_size: arguments.batch_size,
        seed: arguments.seed,
        variant: arguments.variant,
        hygiene: (arguments.hygiene || leaks.is_some()).then_some(hygiene),
    };
    let mut run = SynthesisRun::new(&arguments.out, images).with_config(config)?.resuming(arguments.resume);
    if let Some(leaks) = leaks {
        run = run.with_leaks(leaks);
    }
    let pairs = cli::pairs(&arguments.captions)?;
    if !arguments.merge.is_empty() {
        return Ok(run.merge(pairs, &arguments.merge)?);
    }
    let run = run.with_shard(arguments.shard.unwrap_or(Shard::WHOLE));
    if !arguments.variant.asks_synthesizer() {
        return Ok(run.run_by_rule(pairs, &mut Bar::default())?);
    }
    let synthesizer = open("--synthesizer", arguments.synthesizer.as_deref())?;
    let synthesizer = Synthesizer::new(&synthesizer);
    if !arguments.variant.asks_judge() {
        return Ok(run.run_unfiltered(pairs, &synthesizer, &mut Bar::default())?);
    }
    let judge = open("--judge", arguments.judge.as_deref())?;
    let judge = ConsistencyFilter::with_config(&judge, filter(arguments)?)?;
    Ok(run.run(pairs, &synthesizer, &judge, &mut Bar::default())?)
}

fn open(
    flag: &str,
    name: Option<&str>,
    arguments: &Arguments,
    images: &Arc<dyn ImageStore>,
) -> Result<AnyModel, Box<dyn std::error::Error>> {
    let name = name.ok_or_else(|| format!("variant {} needs {flag}", arguments.variant.as_str()))?;
    AnyModel::open(name, &arguments.models, images.clone())
}

fn filter(arguments: &Arguments) -> Result<FilterConfig, Box<dyn std::error::Error>> {
    let mut config = FilterConfig::default();
    if arguments.judge_mode == Reading::Scored {
        config.mode = JudgeMode::Scored { threshold: arguments.threshold };
    }
    if let Some(file) = &arguments.judge_prompt {
        config.prompt = std::fs::read_to_string(file).map_err(CoreError::io("read", file))?;
    }
    Ok(config)
}

/// The images and questions of benchmarks, which must not be trained on.
fn leak_index(descriptions: &[PathBuf]) -> Result<Option<LeakIndex>, Box<dyn std::error::Error>> {
    let mut leaks = LeakIndex::new(HygieneConfig::default().max_image_distance);
    for path in descriptions {
        let benchmark = DescribedBenchmark::open(path)?;
        let images = adamllm::data::images_at(benchmark.description().images_path())?;
        let mut losses = LostRecords::of(benchmark.len() as u64);
        for index in 0..benchmark.len() {
            // A record that cannot be read cannot leak; that it was passed over is said below.
            let read = || -> Result<_, Box<dyn std::error::Error>> {
                let example = benchmark.example(index)?;
                let image = example.images.first().map(|image| images.open(image)).transpose()?;
                Ok((example, image))
            };
            match read() {
                Ok((example, image)) => leaks.insert(&example.id, &example.question, image.as_ref()),
                Err(error) => losses.add_all(Stage::Read, Reason::InvalidField, 1, error.to_string()),
            }
        }
        if losses.n_lost() == benchmark.len() as u64 {
            return Err(format!("--benchmark {}: {losses}", path.display()).into());
        }
        if losses.n_lost() > 0 {
            eprintln!("--benchmark {}: not compared with the training data: {losses}", path.display());
        }
    }
    Ok((!descriptions.is_empty()).then_some(leaks))
}

/// The ablation that makes no task: its pairs are checked and counted all the same.
fn captions_only(arguments: &Arguments, images: &dyn ImageStore) -> Result<RunSummary, Box<dyn std::error::Error>> {
    let mut summary = RunSummary::default();
    let mut ledger = Ledger::create(arguments.out.join("ledger.jsonl"))?;
    for name in ["triplets", "judged", "tasks"] {
        std::fs::write(arguments.out.join(format!("{name}.jsonl")), "")?;
    }
    for row in cli::pairs(&arguments.captions)? {
        summary.records_in += 1;
        match row {
            Ok(pair) => match pair.validate().and_then(|()| images.size(&pair.image)) {
                Ok(_) => summary.records_out += 1,
                Err(error) => {
                    ledger.drop_record(&pair.id, Stage::Read, (&error).into(), error.to_string())?;
                }
            },
            Err(lost) => ledger.record(lost)?,
        }
    }
    ledger.sync()?;
    summary.ledger_entries = ledger.total();
    summary.ledger = ledger.causes();
    summary.files = vec![arguments.out.join("ledger.jsonl")];
    adamllm::core::write_atomically(arguments.out.join("summary.json"), serde_json::to_vec_pretty(&summary)?)?;
    Ok(summary)
}

/// The finished conversations, for our trainer and for LLaMA-Factory, and the report.
fn hand_on(
    arguments: &Arguments,
    images: &dyn ImageStore,
    leaks: Option<&LeakIndex>,
) -> Result<Vec<PathBuf>, Box<dyn std::error::Error>> {
    let variant = arguments.variant;
    let mixture = |mixture, name: &'static str| (mixture, name);
    let stages = match variant {
        Variant::TwoStage => vec![
            mixture(Mixture::CaptionsOnly, "conversations-stage1"),
            mixture(Mixture::TasksOnly, "conversations-stage2"),
        ],
        Variant::CaptionOnly => vec![mixture(Mixture::CaptionsOnly, "conversations")],
        _ if !variant.trains_captions() => vec![mixture(Mixture::TasksOnly, "conversations")],
        _ => vec![mixture(Mixture::CaptionsAndTasks, "conversations")],
    };
    let mut files = Vec::new();
    for (mixture, name) in stages {
        let path = arguments.out.join(format!("{name}.jsonl"));
        let mut ledger = Ledger::create(arguments.out.join(format!("{name}-ledger.jsonl")))?;
        compose(arguments, mixture, &path, images, leaks, &mut ledger)?;
        let data_set = name.replace("conversations", DATASET_NAME);
        let (rows, mut refused) = (adamllm::data::conversations(&path)?, Vec::new());
        let rows = rows.filter_map(|row| row.map_err(|error| refused.push(error)).ok());
        files.push(path.clone());
        files.extend(write_llama_factory(&arguments.out.join("llama_factory"), &data_set, rows)?);
        for error in refused {
            ledger.drop_record(&RecordId::given(name), Stage::Compose, Reason::from(&error), error)?;
        }
    }
    let title = format!("Synthesis from {}", arguments.captions.display());
    let config =
        ReportConfig { title, max_examples: arguments.report_rows, seed: arguments.seed, ..ReportConfig::default() };
    files.push(write_report(&arguments.out, cli::pairs(&arguments.captions)?.flatten(), images, None, &config)?);
    files.dedup();
    Ok(files)
}

/// The benchmark row whose image the pair shows.
fn leaked(
    leaks: Option<&LeakIndex>,
    pair: &ImageCaption,
    images: &dyn ImageStore,
) -> Result<Option<(RecordId, u32)>, CoreError> {
    let Some(leaks) = leaks else { return Ok(None) };
    Ok(leaks.find("", Some(&images.open(&pair.image)?)).and_then(|leak| leak.image))
}

/// Streams: memory holds one row.
fn compose(
    arguments: &Arguments,
    mixture: Mixture,
    path: &Path,
    images: &dyn ImageStore,
    leaks: Option<&LeakIndex>,
    ledger: &mut Ledger,
) -> JobResult {
    let stage = SingleStage { seed: arguments.seed, mixture, ..SingleStage::default() };
    let beside = path.with_added_extension("partial");
    std::fs::write(&beside, "")?;
    let mut file = Appender::open(&beside)?;
    for kept in kept_pairs(&arguments.out, cli::pairs(&arguments.captions)?.flatten())? {
        let (pair, task) = kept?;
        // The tasks were compared already; their captions, and those without a task, were not.
        if let Some((row, distance)) = leaked(leaks, &pair, images)? {
            let detail = format!("the picture of benchmark row {row} ({distance} bits differ)");
            ledger.drop_record(&pair.id, Stage::Compose, Reason::Leak, detail)?;
            continue;
        }
        file.append(&stage.compose(&[pair], task.as_slice())?)?;
    }
    file.sync()?;
    Ok(std::fs::rename(beside, path)?)
}

fn tell(arguments: &Arguments, summary: &RunSummary, defaults: &BTreeMap<&str, String>) -> JobResult {
    let RunSummary { records_in, triplets, consistent, inconsistent, open, records_out, ledger_entries, .. } = summary;
    let result = json!({
        "records_in": records_in, "triplets": triplets, "consistent": consistent, "inconsistent": inconsistent, "open": open,
        "unclear": summary.unclear, "unjudged": summary.unjudged, "records_out": records_out, "ledger_entries": ledger_entries,
        "ledger": summary.ledger, "files": summary.files, "generation_defaults": defaults,
    });
    adamllm::core::write_atomically(arguments.out.join("synthesize.json"), format!("{result:#}\n"))?;
    if arguments.json {
        println!("{result}");
        return Ok(());
    }
    println!(
        "{records_in} rows in, {triplets} triplets: {consistent} consistent, {inconsistent} inconsistent, {open} open"
    );
    println!("{records_out} rows out, {ledger_entries} in the ledger:");
    for (reason, n) in &summary.ledger {
        println!("   {n:8}  {reason}");
    }
    println!("written:");
    for file in &summary.files {
        println!("   {}", file.display());
    }
    Ok(())
}
