use std::collections::{BTreeMap, HashMap};

use adamllm_core::{CoreError, ImageRef, ImageStore, InstructionTask, LedgerEntry, Reason, RecordId, Stage};
use serde::{Deserialize, Serialize};

use super::{Duplicate, DuplicateIndex, DuplicateKind, ImageIndex, LeakIndex, PerceptualHash, perceptual_hash};
use crate::SynthError;

/// What is dropped from the tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HygieneConfig {
    /// The similarity of instruction and response from which on a task counts as nearly the same, 0 to 1; `None` drops
    /// exact duplicates only.
    pub near_threshold: Option<f64>,
    /// Whether two tasks must also be about the same image (by perceptual hash) to be duplicates. Without it, one
    /// question with one answer can be in the data once.
    #[serde(alias = "same_picture_only")]
    pub same_image_only: bool,
    /// Images whose hashes differ in at most so many of 64 bits are the same.
    #[serde(alias = "max_picture_distance")]
    pub max_image_distance: u32,
}

impl Default for HygieneConfig {
    fn default() -> Self {
        Self { near_threshold: Some(0.8), same_image_only: true, max_image_distance: 6 }
    }
}

impl HygieneConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SynthError::Config`].
    pub fn validate(&self) -> Result<(), SynthError> {
        match self.near_threshold {
            Some(threshold) if !(threshold > 0.0 && threshold <= 1.0) => {
                let (field, got) = ("near_threshold", threshold.to_string());
                Err(SynthError::Config { field, expected: "above 0, at most 1", got })
            }
            _ if self.max_image_distance > 15 => {
                let (field, got) = ("max_image_distance", self.max_image_distance.to_string());
                Err(SynthError::Config { field, expected: "0 to 15", got })
            }
            _ => Ok(()),
        }
    }
}

/// What was found among the tasks: counts, and pairs to look at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HygieneReport {
    /// Tasks looked at.
    #[serde(alias = "rows_in")]
    pub tasks_in: u64,
    /// Tasks kept.
    #[serde(alias = "rows_out")]
    pub tasks_out: u64,
    /// Tasks dropped, by reason (`duplicate`, `near_duplicate`, `leak`, or what is wrong with the image).
    pub dropped: BTreeMap<String, u64>,
    /// Different images that look the same, as (later, earlier, different bits).
    #[serde(alias = "same_pictures")]
    pub same_images: Vec<(ImageRef, ImageRef, u32)>,
    /// Tasks that ask a benchmark's question about another image: kept, for people to look at.
    pub benchmark_questions: u64,
}

/// Passes tasks on, one by one, that repeat no earlier one and leak no benchmark.
pub struct TaskHygiene<'a> {
    config: HygieneConfig,
    images: &'a dyn ImageStore,
    leaks: Option<&'a LeakIndex>,
    texts: DuplicateIndex,
    known_images: ImageIndex<ImageRef>,
    known: HashMap<ImageRef, Known>,
    report: HygieneReport,
}

/// What is known of an image: its hash, and the first image that looks the same.
#[derive(Clone)]
struct Known {
    hash: Option<PerceptualHash>,
    first: ImageRef,
}

impl std::fmt::Debug for TaskHygiene<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskHygiene")
            .field("config", &self.config)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

impl<'a> TaskHygiene<'a> {
    /// A worker that has checked nothing yet. With `leaks`, tasks about a benchmark's image are dropped too.
    ///
    /// # Errors
    /// [`SynthError::Config`].
    pub fn new(
        config: HygieneConfig,
        images: &'a dyn ImageStore,
        leaks: Option<&'a LeakIndex>,
    ) -> Result<Self, SynthError> {
        config.validate()?;
        let texts = DuplicateIndex::new(config.near_threshold);
        let known_images = ImageIndex::new(config.max_image_distance);
        Ok(Self { config, images, leaks, texts, known_images, known: HashMap::new(), report: HygieneReport::default() })
    }

    /// The task, or the ledger entry that says why it is dropped.
    ///
    /// # Errors
    /// The ledger entry.
    pub fn check(&mut self, task: InstructionTask) -> Result<InstructionTask, LedgerEntry> {
        self.check_text(&task.pair, &task.image, &task.instruction, &task.response).map(|()| task)
    }

    /// [`TaskHygiene::check`] for a question and an answer before they are worded: so that templates, drawn at random, do not
    /// hide that two tasks are the same.
    ///
    /// # Errors
    /// The ledger entry.
    pub fn check_text(
        &mut self,
        pair: &RecordId,
        image: &ImageRef,
        question: &str,
        answer: &str,
    ) -> Result<(), LedgerEntry> {
        self.report.tasks_in += 1;
        let Some((reason, detail)) = self.refusal(pair, image, question, answer) else {
            self.report.tasks_out += 1;
            return Ok(());
        };
        let code = serde_json::to_value(reason).unwrap_or_default();
        *self.report.dropped.entry(code.as_str().unwrap_or_default().into()).or_default() += 1;
        Err(LedgerEntry::new(pair.clone(), Stage::Combine, reason, detail))
    }

    /// What was found so far.
    pub fn report(&self) -> &HygieneReport {
        &self.report
    }

    fn refusal(&mut self, pair: &RecordId, image: &ImageRef, question: &str, answer: &str) -> Option<(Reason, String)> {
        let known = match self.know(image) {
            Ok(known) => known,
            Err(error) => return Some((Reason::from(&error), error.to_string())),
        };

        // A question that a benchmark asks too is counted only: common ones ("What is shown?") give nothing away.
        if let Some(leak) = self.leaks.and_then(|leaks| leaks.find_hash(question, known.hash)) {
            if let Some((example, distance)) = leak.image {
                return Some((
                    Reason::Leak,
                    format!("the image of benchmark example {example} ({distance} bits differ)"),
                ));
            }
            self.report.benchmark_questions += 1;
        }

        let scope = if self.config.same_image_only { known.first.as_str() } else { "" };
        let Duplicate { of, kind } = self.texts.insert(scope, &format!("{question}\n{answer}"), pair)?;

        Some(match kind {
            DuplicateKind::Exact => (Reason::Duplicate, format!("the words of {of}")),
            DuplicateKind::Near { similarity } => (Reason::NearDuplicate, format!("{similarity:.2} like {of}")),
        })
    }

    fn know(&mut self, image: &ImageRef) -> Result<Known, CoreError> {
        if let Some(known) = self.known.get(image) {
            return Ok(known.clone());
        }

        let hash = perceptual_hash(&self.images.open(image)?);
        let same =
            hash.and_then(|hash| self.known_images.find(hash)).map(|(first, distance)| (first.clone(), distance));

        // Without a hash (an image of one colour) an image equals itself only.
        let first = match same {
            Some((first, distance)) => {
                self.report.same_images.push((image.clone(), first.clone(), distance));
                first
            }
            None => {
                hash.into_iter().for_each(|hash| self.known_images.insert(hash, image.clone()));
                image.clone()
            }
        };

        let known = Known { hash, first };
        self.known.insert(image.clone(), known.clone());
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use adamllm_core::{MemoryImages, RgbImage};

    use super::*;

    fn gradient(flip: bool) -> RgbImage {
        let value = |x: u32, y: u32| if flip { (x * y / 8) as u8 } else { (255 - x * 3) as u8 ^ (y / 16) as u8 };
        let raw = (0..64 * 64).flat_map(|i| [value(i % 64, i / 64); 3]).collect();
        RgbImage::from_raw(64, 64, raw).expect("three bytes a pixel")
    }

    fn task(image: &str, instruction: &str, response: &str) -> InstructionTask {
        let pair = RecordId::of("test", [image, instruction, response]);
        InstructionTask::new(pair, image.into(), instruction, response)
    }

    #[test]
    fn drops_repeated_and_leaked_tasks() {
        let mut images = MemoryImages::new();
        for (name, flip) in [("a.png", false), ("copy.png", false), ("b.png", true)] {
            images.insert(name, gradient(flip));
        }
        let mut leaks = LeakIndex::new(3);
        leaks.insert(&RecordId::given("bench-1"), "What is it?", None);
        let mut hygiene = TaskHygiene::new(HygieneConfig::default(), &images, Some(&leaks)).expect("valid");
        let mut reason = |image, instruction, response| {
            hygiene.check(task(image, instruction, response)).map_err(|entry| entry.reason).err()
        };
        assert_eq!(reason("a.png", "How many cells are there?", "Two"), None);
        assert_eq!(reason("copy.png", "How many cells are there", "two."), Some(Reason::Duplicate));
        assert_eq!(reason("b.png", "How many cells are there?", "Two"), None, "another image");
        assert_eq!(reason("a.png", "What is it?", "A cell"), None, "a benchmark's question alone");
        assert_eq!(reason("gone.png", "How many?", "Two"), Some(Reason::ImageMissing));
        let report = hygiene.report();
        assert_eq!((report.tasks_in, report.tasks_out, report.benchmark_questions), (5, 3, 1));
        assert_eq!(report.same_images, [("copy.png".into(), "a.png".into(), 0)]);

        leaks.insert(&RecordId::given("bench-2"), "Else?", Some(&gradient(true)));
        let mut hygiene = TaskHygiene::new(HygieneConfig::default(), &images, Some(&leaks)).expect("valid");
        assert_eq!(hygiene.check(task("b.png", "Q", "A")).map_err(|entry| entry.reason).err(), Some(Reason::Leak));
        assert!(hygiene.check(task("a.png", "Q", "A")).is_ok());
    }
    #[test]
    fn settings_out_of_their_range_are_refused() {
        let field = |near_threshold, max_image_distance| {
            let config = HygieneConfig { near_threshold, max_image_distance, ..HygieneConfig::default() };
            match config.validate() {
                Err(SynthError::Config { field, .. }) => Some(field),
                other => other.map(|()| None).expect("no other error"),
            }
        };
        assert_eq!([field(None, 15), field(Some(1.0), 0), field(Some(0.01), 6)], [None; 3]);
        assert_eq!([0.0, -0.5, 1.01, f64::NAN].map(|threshold| field(Some(threshold), 6)), [Some("near_threshold"); 4]);
        assert_eq!(field(Some(0.8), 16), Some("max_image_distance"));
    }
}
