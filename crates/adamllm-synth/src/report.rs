//! `report.html`: one self-contained file that shows a run.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use adamllm_core::random::stream;
use adamllm_core::{
    CoreError, ImageCaption, ImageStore, InstructionTask, LedgerEntry, RecordId, jsonl, write_atomically,
};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{Judged, RunSummary, Sweep, SynthError, TaskType, Verdict};

mod lengths;
mod page;
#[cfg(test)]
mod tests;
mod thumbnail;

/// What the report shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportConfig {
    /// The heading.
    pub title: String,
    /// Examples that are shown with their image; the charts count all.
    #[serde(alias = "max_rows")]
    pub max_examples: usize,
    /// The longer side of the images in pixels.
    #[serde(alias = "picture_side")]
    pub image_side: u32,
    /// Seeds the choice of the examples shown.
    pub seed: u64,
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self { title: "Synthesis run".into(), max_examples: 240, image_side: 320, seed: 0 }
    }
}

/// A record of a run as a page shows it: what went in, what the models made of it, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RecordCard {
    /// The record's id.
    pub id: String,
    /// The image's name.
    pub image: String,
    /// The image, small, as a `data:` URL; `None` where it cannot be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<String>,
    /// The caption, at most 1,200 characters of it; empty where the record could not be read.
    pub caption: String,
    /// `kept`, or the reason for which it left, in words.
    pub outcome: String,
    /// What the ledger says about it, where it left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The triplet's question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// The triplet's informative answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub informative: Option<String>,
    /// The triplet's precise answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precise: Option<String>,
    /// The task's instruction, where a task was made of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// The task's response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// The judge's probabilities of yes, no and open, where it was scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<[f64; 3]>,
    /// The kind of task, of a triplet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
}

/// What the charts count over all examples.
#[derive(Debug, Default)]
struct Counts {
    kinds: BTreeMap<TaskType, u64>,
    kept_kinds: BTreeMap<TaskType, u64>,
    p_yes: Vec<f32>,
    lengths: [lengths::Lengths; 4],
}

/// Writes `report.html` into a run's folder: a sample of examples with image, caption, triplet, verdict and probabilities, filters
/// over them, and charts over the whole run.
///
/// `captions` are the run's input again. With a `sweep`, the yield curve also shows the precision that people found.
///
/// # Errors
/// Files of the run that cannot be read; a report that cannot be written.
pub fn write_report(
    folder: &Path,
    captions: impl IntoIterator<Item = ImageCaption>,
    images: &dyn ImageStore,
    sweep: Option<&Sweep>,
    config: &ReportConfig,
) -> Result<PathBuf, SynthError> {
    let summary = read_summary(&folder.join("summary.json"))?;
    let mut counts = Counts::default();
    let cards = collect(folder, captions, images, config, &mut counts)?;
    let path = folder.join("report.html");
    write_atomically(&path, page::render(&summary, &counts, &cards, sweep, config))?;
    Ok(path)
}

/// A sample of a run's records with what became of each, at most about `config.max_examples`, of every outcome some: what `report.html`
/// shows, for pages of one's own. `captions` are the run's input again.
///
/// # Errors
/// Files of the run that cannot be read.
pub fn record_cards(
    folder: &Path,
    captions: impl IntoIterator<Item = ImageCaption>,
    images: &dyn ImageStore,
    config: &ReportConfig,
) -> Result<Vec<RecordCard>, SynthError> {
    collect(folder, captions, images, config, &mut Counts::default())
}

/// Counts all records, and gives the cards of some: in the order of the captions, then those without one.
fn collect(
    folder: &Path,
    captions: impl IntoIterator<Item = ImageCaption>,
    images: &dyn ImageStore,
    config: &ReportConfig,
    counts: &mut Counts,
) -> Result<Vec<RecordCard>, SynthError> {
    let mut cards = sample(folder, config)?;
    for judged in jsonl::read::<Judged>(folder.join("judged.jsonl"))? {
        let judged = judged?;
        counts.add(&judged);
        if let Some(card) = cards.get_mut(&judged.triplet.pair) {
            card.add_judged(judged);
        }
    }
    for task in jsonl::read::<InstructionTask>(folder.join("tasks.jsonl"))? {
        let task = task?;
        if let Some(card) = cards.get_mut(&task.pair) {
            card.image = task.image.to_string();
            (card.instruction, card.response) = (Some(task.instruction), Some(task.response));
        }
    }

    let mut shown = Vec::new();
    for pair in captions {
        counts.lengths[0].add(&pair.caption);
        if let Some(mut card) = cards.remove(&pair.id) {
            card.thumbnail = thumbnail::data_url(images, &pair.image, config.image_side);
            (card.image, card.caption) = (pair.image.to_string(), shortened(&pair.caption));
            shown.push(card);
        }
    }
    let mut left: Vec<_> = cards.into_values().collect();
    left.sort_by(|a, b| a.id.cmp(&b.id));
    shown.extend(left);
    Ok(shown)
}

/// The examples to show: of each outcome (a verdict, or a reason in the ledger) those that draw the lowest numbers.
fn sample(folder: &Path, config: &ReportConfig) -> Result<HashMap<RecordId, RecordCard>, SynthError> {
    let mut drawn: BTreeMap<String, BTreeMap<(u64, RecordId), String>> = BTreeMap::new();
    let mut offer = |id: &RecordId, outcome: String, detail: String| {
        let draw = stream(config.seed, "report", id).next_u64();
        let lowest = drawn.entry(outcome).or_default();
        lowest.insert((draw, id.clone()), detail);
        if lowest.len() > config.max_examples {
            lowest.pop_last();
        }
    };
    for entry in jsonl::read::<LedgerEntry>(folder.join("ledger.jsonl"))? {
        let entry = entry?;
        let reason = serde_json::to_value(entry.reason).unwrap_or_default();
        offer(&entry.id, reason.as_str().unwrap_or_default().replace('_', " "), entry.detail);
    }
    for task in jsonl::read::<InstructionTask>(folder.join("tasks.jsonl"))? {
        offer(&task?.pair, "kept".into(), String::new());
    }
    let mut cards = HashMap::new();
    // Outcomes with few examples come first and leave room for the others.
    let mut drawn: Vec<_> = drawn.into_iter().collect();
    drawn.sort_by_key(|(_, examples)| examples.len());
    let n_outcomes = drawn.len();
    for (i, (outcome, examples)) in drawn.into_iter().enumerate() {
        let room = (config.max_examples - cards.len().min(config.max_examples)) / (n_outcomes - i);
        for ((_, id), detail) in examples.into_iter().take(room.max(1)) {
            let detail = (!detail.is_empty()).then(|| shortened(&detail));
            let card = RecordCard { id: id.to_string(), outcome: outcome.clone(), detail, ..RecordCard::default() };
            cards.insert(id, card);
        }
    }
    Ok(cards)
}

impl RecordCard {
    fn add_judged(&mut self, judged: Judged) {
        self.kind = Some(TaskType::of(&judged.triplet.instruction).as_str());
        self.image = judged.triplet.image.to_string();
        self.p = judged.p_yes.zip(judged.p_no).zip(judged.p_open).map(|((yes, no), open)| [yes, no, open]);
        let triplet = judged.triplet;
        self.question = Some(triplet.instruction);
        self.informative = Some(triplet.informative);
        self.precise = Some(triplet.precise);
    }
}

impl Counts {
    fn add(&mut self, judged: &Judged) {
        let triplet = &judged.triplet;
        let kind = TaskType::of(&triplet.instruction);
        *self.kinds.entry(kind).or_default() += 1;
        if matches!(judged.verdict, Verdict::Consistent | Verdict::Unjudged) {
            *self.kept_kinds.entry(kind).or_default() += 1;
        }
        self.p_yes.extend(judged.p_yes.map(|p| p as f32));
        for (lengths, (_, text)) in self.lengths[1..].iter_mut().zip(triplet.texts()) {
            lengths.add(text);
        }
    }
}

fn read_summary(path: &Path) -> Result<RunSummary, CoreError> {
    let content = fs::read(path).map_err(CoreError::io("read", path))?;
    serde_json::from_slice(&content).map_err(|source| CoreError::Json { path: path.into(), number: 1, source })
}

/// At most 1,200 characters: a caption may have a hundred thousand.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(1200) {
        Some((end, _)) => format!("{} \u{2026}", &text[..end]),
        None => text.to_owned(),
    }
}
