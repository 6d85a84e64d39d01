//! Image-caption pairs to filtered instruction tasks (paper, sections 3.1 and 3.2), and to the conversations that are trained on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adamllm_core::{
    Budget, Budgeted, CoreError, Generate, ImageCaption, ImageStore, Ledger, LedgerEntry, LostRecords, Progress,
    Reason, Shard, Spent, Stage, write_atomically,
};
use adamllm_synth::hygiene::{HygieneConfig, LeakIndex};
use adamllm_synth::{
    CAPTIONS_FILE, ConsistencyFilter, FilterConfig, JudgeMode, ReportConfig, RunConfig, RunSummary, SynthesisRun,
    Synthesizer, Variant, captioned_images, write_report,
};
use serde::{Deserialize, Serialize};

use crate::RecipeError;
use crate::captions::caption_records;
use crate::cards::{DatasetCard, write_croissant, write_dataset_card};

mod caption;
mod conversations;
mod estimate;
mod leaks;

pub use caption::{CaptionReport, caption};
pub use estimate::{CallEstimate, SynthesisEstimate, estimate};
pub use leaks::UncomparedBenchmark;

/// How tasks are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SynthesisSettings {
    /// The pairs: ShareGPT JSON or JSON Lines. Not looked at where `images_only` is set.
    pub captions: PathBuf,
    /// Where the pairs' images are: a folder or an archive.
    pub images: PathBuf,
    /// There are no captions: a captioner writes them first ([`caption()`]), for all images in `images`.
    pub images_only: bool,
    /// What the captioner is asked; the library's own otherwise.
    pub caption_prompt: Option<PathBuf>,
    /// The most tokens of a caption; a longer one is dropped.
    pub caption_tokens: usize,
    /// The paper's method, or an ablation or baseline of its tables 4 and 5.
    pub variant: Variant,
    /// How the judge is read.
    pub judge_mode: JudgeMode,
    /// The judge's few-shot prompt with `{Q}`, `{informative_A}` and `{precise_A}`; the library's own otherwise.
    pub judge_prompt: Option<PathBuf>,
    /// Records given to a model, and synced to disk, at once.
    pub batch_size: usize,
    /// Seeds every random choice.
    pub seed: u64,
    /// Drops tasks that repeat an earlier one (same words about the same image).
    pub hygiene: bool,
    /// With hygiene: the similarity from which on two texts are nearly the same.
    pub near_threshold: f64,
    /// Drops tasks and captions about images of these benchmarks (their descriptions); implies `hygiene`.
    pub benchmarks: Vec<PathBuf>,
    /// Records that the report shows with their images.
    pub report_records: usize,
}

impl Default for SynthesisSettings {
    fn default() -> Self {
        Self {
            captions: PathBuf::new(),
            images: PathBuf::new(),
            images_only: false,
            caption_prompt: None,
            caption_tokens: 512,
            variant: Variant::Full,
            judge_mode: JudgeMode::Generated,
            judge_prompt: None,
            batch_size: 64,
            seed: 0,
            hygiene: false,
            near_threshold: 0.8,
            benchmarks: Vec::new(),
            report_records: 240,
        }
    }
}

/// Where a synthesis writes, and which part of it this process does.
#[derive(Clone, Debug, Default)]
pub struct SynthesisOptions {
    /// Everything is written below this folder.
    pub out: PathBuf,
    /// Goes on with what an earlier run has left there.
    pub resume: bool,
    /// Only the records of this part, chosen by id; its conversations are written when all parts are merged.
    pub shard: Option<Shard>,
    /// The folders of all parts, in order: puts them together instead of asking models.
    pub merge: Vec<PathBuf>,
    /// What may be spent on models, over all steps that share it; without limits where it is the default.
    pub budget: Arc<Budget>,
}

/// What a synthesis did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SynthesisReport {
    /// What became of the records, and every file that was written.
    pub summary: RunSummary,
    /// The records that were lost to faults.
    pub losses: LostRecords,
    /// Records that can be trained on. A pair without a task still trains as a caption, where the variant trains captions.
    pub n_left: u64,
    /// Benchmarks whose examples could not all be compared with the training data.
    pub uncompared: Vec<UncomparedBenchmark>,
    /// What this process spent on models.
    pub spent: Spent,
}

impl SynthesisSettings {
    /// Opens the pairs' images.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn open_images(&self) -> Result<Arc<dyn ImageStore>, CoreError> {
        Ok(adamllm_data::images_at(&self.images)?.into())
    }

    /// Which models the variant asks: a synthesizer, a judge.
    pub fn asks(&self) -> (bool, bool) {
        (self.variant.asks_synthesizer(), self.variant.asks_judge())
    }

    /// The file of pairs: the one that was given, or the captioner's in the run's folder.
    fn pairs_file(&self, out: &Path) -> PathBuf {
        if self.images_only { out.join(CAPTIONS_FILE) } else { self.captions.clone() }
    }

    fn filter(&self) -> Result<FilterConfig, RecipeError> {
        let mut config = FilterConfig { mode: self.judge_mode, ..FilterConfig::default() };
        if let Some(file) = &self.judge_prompt {
            config.prompt = adamllm_core::read_text(file)?;
        }
        Ok(config)
    }

    /// What the data's card says of the models and settings.
    fn made_with(&self, models: [(&str, Option<String>); 3]) -> Vec<(String, String)> {
        // A server tells where its weights lie, which is nobody's business.
        let bare = |part: &str| part.rsplit('/').next().filter(|_| part.starts_with('/')).unwrap_or(part).to_owned();
        let bare = |identity: String| identity.split(':').map(bare).collect::<Vec<_>>().join(":");
        let models = models.into_iter().filter_map(|(role, identity)| Some((role.to_owned(), bare(identity?))));
        let mode = serde_json::json!(self.judge_mode).to_string().trim_matches('"').to_owned();
        let settings = [
            ("variant", Some(self.variant.as_str().to_owned())),
            ("judge mode", self.asks().1.then_some(mode)),
            ("hygiene", Some((self.hygiene || !self.benchmarks.is_empty()).to_string())),
            ("seed", Some(self.seed.to_string())),
        ];
        models.chain(settings.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)))).collect()
    }

    fn report(&self) -> ReportConfig {
        let title = format!("Synthesis from {}", self.captions.display());
        ReportConfig { title, max_examples: self.report_records, seed: self.seed, ..ReportConfig::default() }
    }
}

/// The whole job: pairs in, tasks and conversations out, everything below `options.out`. A model that the variant does not ask
/// need not be given.
///
/// # Errors
/// [`RecipeError::ModelWanted`], files, settings; one bad record ends nothing.
pub fn synthesize<S: Generate, J: Generate>(
    settings: &SynthesisSettings,
    options: &SynthesisOptions,
    synthesizer: Option<&S>,
    judge: Option<&J>,
    progress: &mut dyn Progress,
) -> Result<SynthesisReport, RecipeError> {
    let images = settings.open_images()?;
    // From here on, written captions are captions like any other; the images without one are still counted.
    let settings = &SynthesisSettings { captions: settings.pairs_file(&options.out), ..settings.clone() };
    let budgeted = |budget| {
        (synthesizer.map(|model| Budgeted::new(model, budget)), judge.map(|model| Budgeted::new(model, budget)))
    };
    let (synthesizer, judge) = budgeted(&options.budget);
    let (synthesizer, judge) = (synthesizer.as_ref(), judge.as_ref());
    let (leaks, uncompared) = leaks::index(&settings.benchmarks)?;
    std::fs::create_dir_all(&options.out).map_err(CoreError::io("create", &options.out))?;

    let mut summary = match settings.variant {
        Variant::CaptionOnly => check_captions(settings, &options.out, &*images)?,
        _ => Job { settings, options, images: &*images, leaks: leaks.as_ref() }.run(synthesizer, judge, progress)?,
    };
    if options.shard.is_none() {
        let asked = [
            ("synthesizer", synthesizer.filter(|_| settings.asks().0).map(Generate::identity)),
            ("judge", judge.filter(|_| settings.asks().1).map(Generate::identity)),
            ("captioner", caption::captioner_of(settings, &options.out)?),
        ];
        let conversations =
            conversations::Writer { settings, out: &options.out, images: &*images, leaks: leaks.as_ref() };
        summary.files.extend(conversations.write()?);
        let pairs = caption_records(&settings.captions)?.flatten();
        summary.files.push(write_report(&options.out, pairs, &*images, None, &settings.report())?);
        let made_with = settings.made_with(asked.clone());
        let data = DatasetCard { captions: &settings.captions, settings: &made_with, summary: &summary };
        let cards = [write_dataset_card(&options.out, &data)?, write_croissant(&options.out, &data)?];
        summary.files.extend(cards);
        summary.files.push(crate::page::synthesize::write(settings, &asked, &summary, &*images, &options.out)?);
        summary.files.dedup();
    }

    let losses = LostRecords::from_ledger(summary.records_in, options.out.join("ledger.jsonl"))?;
    let n_left = match settings.variant.trains_captions() {
        true => summary.records_in.saturating_sub(losses.n_lost()),
        false => summary.records_out,
    };
    Ok(SynthesisReport { summary, losses, n_left, uncompared, spent: options.budget.spent() })
}

/// The run that asks models.
struct Job<'a> {
    settings: &'a SynthesisSettings,
    options: &'a SynthesisOptions,
    images: &'a dyn ImageStore,
    leaks: Option<&'a LeakIndex>,
}

impl Job<'_> {
    fn run<S: Generate, J: Generate>(
        &self,
        synthesizer: Option<&S>,
        judge: Option<&J>,
        progress: &mut dyn Progress,
    ) -> Result<RunSummary, RecipeError> {
        let (settings, options) = (self.settings, self.options);
        let hygiene = HygieneConfig { near_threshold: Some(settings.near_threshold), ..HygieneConfig::default() };
        let config = RunConfig {
            batch_size: settings.batch_size,
            seed: settings.seed,
            variant: settings.variant,
            hygiene: (settings.hygiene || self.leaks.is_some()).then_some(hygiene),
        };
        let mut run = SynthesisRun::new(&options.out, self.images).with_config(config)?.resuming(options.resume);
        if let Some(leaks) = self.leaks {
            run = run.with_leaks(leaks);
        }
        let pairs = input_pairs(settings, &options.out)?;
        if !options.merge.is_empty() {
            return Ok(run.merge(pairs, &options.merge)?);
        }

        let run = run.with_shard(options.shard.unwrap_or(Shard::WHOLE));
        let wanted = |role| RecipeError::ModelWanted { variant: settings.variant.as_str(), role };
        match settings.asks() {
            (false, _) => Ok(run.run_by_rule(pairs, progress)?),
            (true, false) => {
                let synthesizer = Synthesizer::new(synthesizer.ok_or_else(|| wanted("synthesizer"))?);
                Ok(run.run_unfiltered(pairs, &synthesizer, progress)?)
            }
            (true, true) => {
                let synthesizer = Synthesizer::new(synthesizer.ok_or_else(|| wanted("synthesizer"))?);
                let judge = ConsistencyFilter::with_config(judge.ok_or_else(|| wanted("judge"))?, settings.filter()?)?;
                Ok(run.run(pairs, &synthesizer, &judge, progress)?)
            }
        }
    }
}

/// A run's input: the pairs, and what was dropped before they were pairs.
type InputPairs = Box<dyn Iterator<Item = Result<ImageCaption, LedgerEntry>>>;

fn input_pairs(settings: &SynthesisSettings, out: &Path) -> Result<InputPairs, RecipeError> {
    Ok(match settings.images_only {
        true => Box::new(captioned_images(out)?),
        false => Box::new(caption_records(&settings.captions)?),
    })
}

/// The ablation that makes no task: its pairs are checked and counted all the same.
fn check_captions(
    settings: &SynthesisSettings,
    out: &Path,
    images: &dyn ImageStore,
) -> Result<RunSummary, RecipeError> {
    let mut summary = RunSummary::default();
    let mut ledger = Ledger::create(out.join("ledger.jsonl"))?;

    // The files of a run are there all the same, empty, whatever reads them.
    for name in ["triplets", "judged", "tasks"] {
        write_atomically(out.join(format!("{name}.jsonl")), "")?;
    }

    for pair in input_pairs(settings, out)? {
        summary.records_in += 1;
        match pair {
            Ok(pair) => match pair.validate().and_then(|()| images.size(&pair.image)) {
                Ok(_) => summary.records_out += 1,
                Err(error) => ledger.drop_record(&pair.id, Stage::Read, Reason::from(&error), error)?,
            },
            Err(lost) => ledger.record(lost)?,
        }
    }

    ledger.sync()?;
    summary.ledger_entries = ledger.total();
    summary.ledger = ledger.causes();
    summary.files = vec![out.join("ledger.jsonl")];
    crate::files::write_json(out.join("summary.json"), &summary)?;
    Ok(summary)
}
