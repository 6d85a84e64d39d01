//! A whole run over files: captions in, tasks and ledger out, surviving `kill -9`.
//!
//! Two kinds of files. Journals (in `work/`) hold what the models said, appended and synced batch by batch. Everything else
//! is a pure function of the captions and the journals, and is written anew in each run, in the captions' order, under a temporary
//! name and then renamed. So a run that was killed repeats no finished batch, and ends with the same files.

use std::fs;
use std::path::PathBuf;

use adamllm_core::jsonl::Journal;
use adamllm_core::{CoreError, Generate, ImageStore, Progress, Shard};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::hygiene::{HygieneConfig, LeakIndex, TaskHygiene};
use crate::{ConsistencyFilter, SynthError, Synthesizer, Variant};

mod caption;
mod finish;
mod input;
mod judge;
mod kept;
mod keys;
mod lost;
mod merge;
mod ordered_file;
mod propose;
mod summary;
mod written;

pub use caption::{CAPTIONS_FILE, CaptionCounts, caption_images, captioned_images};
pub use input::InputRecord;
pub use kept::{KeptPairs, caption_stays, kept_pairs};
pub(crate) use ordered_file::OrderedFile;
pub use summary::RunSummary;

/// How a run goes about its work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Records that are given to a model, and synced to disk, at once: what a killed run loses at most.
    pub batch_size: usize,
    /// Seeds the choice of templates.
    pub seed: u64,
    /// What the tasks are made of.
    pub variant: Variant,
    /// Which tasks are dropped as repeated or leaked; `None` keeps all. It looks at the whole run at once, so a shard leaves
    /// it to [`SynthesisRun::merge`].
    pub hygiene: Option<HygieneConfig>,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self { batch_size: 64, seed: 0, variant: Variant::Full, hygiene: None }
    }
}

impl RunConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SynthError::Config`].
    pub fn validate(&self) -> Result<(), SynthError> {
        match (self.batch_size, &self.hygiene) {
            (0, _) => Err(SynthError::Config { field: "batch_size", expected: "at least 1", got: "0".into() }),
            (_, Some(hygiene)) => hygiene.validate(),
            (_, None) => Ok(()),
        }
    }
}

/// Captions to tasks, in a folder of its own: see [`SynthesisRun::run`].
///
/// ```no_run
/// use adamllm_core::{Generate, ImageCaption, MemoryImages};
/// use adamllm_synth::{ConsistencyFilter, SynthError, SynthesisRun, Synthesizer};
///
/// fn synthesize<G: Generate, J: Generate>(pairs: Vec<ImageCaption>, model: G, judge: J) -> Result<(), SynthError> {
///     let images = MemoryImages::new();
///     let run = SynthesisRun::new("runs/synthesis", &images);
///     let (synthesizer, filter) = (Synthesizer::new(model), ConsistencyFilter::new(judge));
///     let summary = run.run(pairs, &synthesizer, &filter, &mut ())?;
///     println!("{} pairs, {} consistent", summary.records_in, summary.consistent);
///     Ok(())
/// }
/// ```
pub struct SynthesisRun<'a> {
    config: RunConfig,
    folder: PathBuf,
    images: &'a dyn ImageStore,
    leaks: Option<&'a LeakIndex>,
    shard: Shard,
    resume: bool,
}

impl std::fmt::Debug for SynthesisRun<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SynthesisRun")
            .field("config", &self.config)
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl<'a> SynthesisRun<'a> {
    /// A run that writes into `folder` (made if it is not there). `images` is where the models' images come from: their
    /// bytes are part of the cache key.
    pub fn new(folder: impl Into<PathBuf>, images: &'a dyn ImageStore) -> Self {
        let config = RunConfig::default();
        Self { config, folder: folder.into(), images, leaks: None, shard: Shard::WHOLE, resume: false }
    }

    /// With settings of its own.
    ///
    /// # Errors
    /// [`SynthError::Config`].
    pub fn with_config(mut self, config: RunConfig) -> Result<Self, SynthError> {
        config.validate()?;
        self.config = config;
        Ok(self)
    }

    /// With benchmarks whose images must not be trained on; looked up where [`RunConfig::hygiene`] is on.
    pub fn with_leaks(mut self, leaks: &'a LeakIndex) -> Self {
        self.leaks = Some(leaks);
        self
    }

    /// Only the records of one shard; the others are neither read in nor counted.
    pub fn with_shard(mut self, shard: Shard) -> Self {
        self.shard = shard;
        self
    }

    /// Whether to use what an earlier run in this folder finished (`false`: start anew, forget it).
    pub fn resuming(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Does the whole run: [`propose`](Self::propose), [`judge`](Self::judge), [`combine`](Self::combine),
    /// [`finish`](Self::finish). A record that fails costs itself only and is in the ledger.
    ///
    /// # Errors
    /// Files that cannot be written; [`SynthError::Config`] where the variant asks no judge; [`SynthError::Unaccounted`].
    pub fn run<S: Generate, J: Generate>(
        &self,
        records: impl IntoIterator<Item = impl Into<InputRecord>>,
        synthesizer: &Synthesizer<S>,
        judge: &ConsistencyFilter<J>,
        progress: &mut dyn Progress,
    ) -> Result<RunSummary, SynthError> {
        self.expect_variant("one that asks the judge", Variant::asks_judge)?;
        self.propose(records, synthesizer, progress)?;
        self.judge(judge, progress)?;
        self.combine(progress)?;
        self.finish()
    }

    /// [`run`](Self::run) for the ablations without a filter.
    ///
    /// # Errors
    /// As [`run`](Self::run); [`SynthError::Config`] where the variant asks the judge.
    pub fn run_unfiltered<S: Generate>(
        &self,
        records: impl IntoIterator<Item = impl Into<InputRecord>>,
        synthesizer: &Synthesizer<S>,
        progress: &mut dyn Progress,
    ) -> Result<RunSummary, SynthError> {
        let asks_synthesizer_only = |variant: Variant| variant.asks_synthesizer() && !variant.asks_judge();
        self.expect_variant("one that asks the synthesizer and no judge", asks_synthesizer_only)?;
        self.propose(records, synthesizer, progress)?;
        self.skip_judge(progress)?;
        self.combine(progress)?;
        self.finish()
    }

    /// [`run`](Self::run) for [`Variant::RuleBased`]: no model at all.
    ///
    /// # Errors
    /// As [`run`](Self::run); [`SynthError::Config`] for any other variant.
    pub fn run_by_rule(
        &self,
        records: impl IntoIterator<Item = impl Into<InputRecord>>,
        progress: &mut dyn Progress,
    ) -> Result<RunSummary, SynthError> {
        self.expect_variant("rule_based", |variant| variant == Variant::RuleBased)?;
        self.propose_by_rule(records, progress)?;
        self.finish()
    }

    fn expect_variant(&self, expected: &'static str, holds: impl Fn(Variant) -> bool) -> Result<(), SynthError> {
        let variant = self.config.variant;
        if holds(variant) {
            return Ok(());
        }
        Err(SynthError::Config { field: "variant", expected, got: variant.as_str().into() })
    }

    /// The worker that drops repeated and leaked tasks, where the run has one.
    fn hygiene(&self) -> Result<Option<TaskHygiene<'a>>, SynthError> {
        match &self.config.hygiene {
            Some(config) if self.shard == Shard::WHOLE => {
                TaskHygiene::new(config.clone(), self.images, self.leaks).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn make_folders(&self) -> Result<(), CoreError> {
        let folder = self.folder.join("work");
        fs::create_dir_all(&folder).map_err(CoreError::io("create", &folder))
    }

    fn journal<T: Serialize + DeserializeOwned>(&self, name: &str) -> Result<Journal<T>, CoreError> {
        self.make_folders()?;
        let path = self.work(name);
        if !self.resume && path.exists() {
            fs::remove_file(&path).map_err(CoreError::io("remove", &path))?;
        }
        Journal::open(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn work(&self, name: &str) -> PathBuf {
        self.folder.join("work").join(name)
    }
}

/// Ends a run whose model answers nothing more, once something of a batch was left unanswered. What was answered is synced by then.
///
/// # Errors
/// [`SynthError::Stopped`].
fn check_stopped<G: Generate, T, E>(model: &G, answers: &[Result<T, E>]) -> Result<(), SynthError> {
    match model.stopped() {
        Some(cause) if answers.iter().any(Result::is_err) => Err(SynthError::Stopped { cause }),
        _ => Ok(()),
    }
}
