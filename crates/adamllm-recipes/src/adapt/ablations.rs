//! The method without one of its parts: what the paper compares in its tables 4 and 5.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use adamllm_core::{Ledger, Progress, RecordId, jsonl, read_text};
use adamllm_eval::{AnswerType, BootstrapConfig, Comparison, Outcome, PairedScore, PredictOptions, compare, evaluate};
use adamllm_model::{Encoder, Encoding, ModelFolder, VisionLanguageModel};
use adamllm_synth::{Judged, Variant, Verdict};
use adamllm_train::{FitOptions, FitOutcome, Mixture, SingleStage, TrainConfig, Trainer};
use serde::{Deserialize, Serialize};

use super::Adaptation;
use crate::benchmarks::{OpenedBenchmark, open_description};
use crate::captions::caption_records;
use crate::training_set::{ConversationSource, ReadOptions, TrainingSetReader};
use crate::{RecipeError, write_json};

/// What a table of ablations compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AblationSettings {
    /// The variants beside the whole method.
    pub variants: Vec<Variant>,
    /// How often each is trained, with seeds one apart: what a seed changes is no difference between variants.
    pub n_seeds: u64,
}

impl Default for AblationSettings {
    /// Two stages, no filter, captions alone, tasks alone; three seeds.
    fn default() -> Self {
        let variants = [Variant::TwoStage, Variant::NoFilter, Variant::CaptionOnly, Variant::SyntheticOnly];
        Self { variants: variants.into(), n_seeds: 3 }
    }
}

/// Each variant's scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AblationReport {
    /// The whole method first.
    pub results: Vec<AblationResult>,
    /// Seeds of each.
    pub seeds: Vec<u64>,
}

/// One variant, over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AblationResult {
    /// The variant.
    pub variant: Variant,
    /// Tasks that it trained on.
    pub n_tasks: usize,
    /// The strict score of each seed, in percent.
    pub by_seed: Vec<f64>,
    /// From this variant to the whole method: questions of all seeds, paired; the intervals resample the benchmark's images. Equal for
    /// the method itself.
    pub to_full: Comparison,
}

/// A variant trained with a seed: what stands in its `result.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct AblationRun {
    n_tasks: usize,
    outcomes: Vec<Outcome>,
}

impl Adaptation<'_> {
    /// Trains the base once more for each variant and seed, on the triplets that [`Adaptation::synthesize`] left, and asks each model the
    /// benchmark's questions. Everything is in `ablations/<variant>/seed-<seed>`; `ablations.json` has the table. A run that was
    /// killed goes on with the first variant and seed that has no result.
    ///
    /// Only variants that are made of the same triplets can be compared: not those with a synthesizer of their own.
    ///
    /// # Errors
    /// No benchmark, files, the run's own; [`RecipeError::Stopped`].
    pub fn ablate(
        &self,
        ablations: &AblationSettings,
        progress: &mut dyn Progress,
    ) -> Result<AblationReport, RecipeError> {
        let benchmark = self.settings.benchmark.as_ref();
        let wanted = || RecipeError::Benchmarks("ablations are compared on a benchmark; name one".into());
        let opened = open_description(benchmark.ok_or_else(wanted)?)?;
        if let Some(other) = ablations.variants.iter().find(|variant| !is_of_these_triplets(**variant)) {
            return Err(RecipeError::ModelWanted { variant: other.as_str(), role: "synthesis of its own" });
        }

        let mut variants = vec![Variant::Full];
        variants.extend(ablations.variants.iter().filter(|variant| **variant != Variant::Full));
        let seeds: Vec<u64> = (0..ablations.n_seeds.max(1)).map(|n| self.settings.seed + n).collect();
        let mut runs = BTreeMap::new();
        for &variant in &variants {
            for &seed in &seeds {
                runs.insert((variant.as_str(), seed), self.ablation_run(variant, seed, &opened, progress)?);
            }
        }

        let pooled = |variant: Variant| pool(seeds.iter().map(|&seed| (seed, &runs[&(variant.as_str(), seed)])));
        let full = pooled(Variant::Full);
        let result = |&variant: &Variant| AblationResult {
            variant,
            n_tasks: runs[&(variant.as_str(), seeds[0])].n_tasks,
            by_seed: seeds.iter().map(|&seed| mean(&runs[&(variant.as_str(), seed)].outcomes)).collect(),
            to_full: compare(&pooled(variant), &full, &BootstrapConfig::default()),
        };
        let report = AblationReport { results: variants.iter().map(result).collect(), seeds };
        write_json(self.file("ablations.json"), &serde_json::json!(report))?;
        Ok(report)
    }

    /// One variant with one seed: read where it is done, else trained and asked.
    fn ablation_run(
        &self,
        variant: Variant,
        seed: u64,
        opened: &OpenedBenchmark,
        progress: &mut dyn Progress,
    ) -> Result<AblationRun, RecipeError> {
        let folder = self.file("ablations").join(variant.as_str()).join(format!("seed-{seed}"));
        let result = folder.join("result.json");
        if self.run.resume && result.exists() {
            let broken = |error| adamllm_core::CoreError::io("read", &result)(std::io::Error::other(error));
            return Ok(serde_json::from_str(&read_text(&result)?).map_err(broken)?);
        }
        std::fs::create_dir_all(&folder).map_err(crate::error::io("create", &folder))?;

        // The tasks that this variant makes of what the judge saw; without the filter, of all of it.
        let judged: Vec<Judged> = jsonl::read_all(self.file("synthesis").join("judged.jsonl"))?;
        let as_seen = |judged: &Judged| match variant.asks_judge() {
            true => judged.clone(),
            false => Judged { verdict: Verdict::Unjudged, ..judged.clone() },
        };
        let tasks: Vec<_> =
            judged.iter().filter_map(|judged| variant.task(&as_seen(judged), self.settings.seed)).collect();
        let pairs: Vec<_> =
            caption_records(&self.settings.captions)?.flatten().filter(|p| p.validate().is_ok()).collect();

        let stages: &[Mixture] = match variant {
            Variant::TwoStage => &[Mixture::CaptionsOnly, Mixture::TasksOnly],
            Variant::CaptionOnly => &[Mixture::CaptionsOnly],
            Variant::SyntheticOnly => &[Mixture::TasksOnly],
            _ => &[Mixture::CaptionsAndTasks],
        };
        let mut model: VisionLanguageModel =
            self.base.load(self.settings.dtype.into(), &self.device.clone().autodiff())?;
        for &mixture in stages {
            let conversations = SingleStage { seed, mixture, ..SingleStage::default() }.compose(&pairs, &tasks)?;
            model = self.ablation_stage(model, conversations, seed, &folder, progress)?;
        }

        // Asked as it would be used: from a folder, in the base's dtype. The folder is not kept.
        let saved = folder.join("model");
        self.base.save(&model, &saved)?;
        drop(model);
        let written = ModelFolder::open(&saved)?.with_pixel_range(self.base.pixel_range());
        let model = self.load(&written, opened.images.clone())?;
        let answers = folder.join("evaluation");
        if answers.exists() {
            std::fs::remove_dir_all(&answers).map_err(crate::error::io("replace", &answers))?;
        }
        let options = PredictOptions { batch_size: 32, ..PredictOptions::default() };
        let scored = evaluate(&model, &opened.benchmark, &answers, &options, progress)?;
        drop(model);
        std::fs::remove_dir_all(&saved).map_err(crate::error::io("remove", &saved))?;
        let run = AblationRun { n_tasks: tasks.len(), outcomes: scored.outcomes };
        write_json(&result, &serde_json::json!(run))?;
        Ok(run)
    }

    fn ablation_stage(
        &self,
        model: VisionLanguageModel,
        conversations: Vec<adamllm_core::Conversation>,
        seed: u64,
        folder: &Path,
        progress: &mut dyn Progress,
    ) -> Result<VisionLanguageModel, RecipeError> {
        let encoder = Encoder::new(&self.processor, Encoding::default())?;
        let ledger = Ledger::create(folder.join("encode-ledger.jsonl"))?;
        let mut reader = TrainingSetReader::new(&self.processor, encoder, ReadOptions::default(), ledger)?;
        let place = folder.display().to_string();
        let source = ConversationSource { place, conversations, images: self.images.clone(), weight: 1.0 };
        let examples = reader.take(source, progress)?;
        let trainer = Trainer::new(TrainConfig { seed, ..self.settings.training() })?;
        let options = FitOptions { stop: self.run.stop, collective: self.run.collective, ..FitOptions::default() };
        let (model, fitted) = trainer.fit(model, &examples, options, progress)?;
        match fitted.outcome {
            FitOutcome::Stopped => Err(RecipeError::Stopped { step: fitted.steps }),
            _ => Ok(model),
        }
    }
}

/// Whether a variant is made of the triplets of the whole method.
fn is_of_these_triplets(variant: Variant) -> bool {
    !matches!(variant, Variant::NoBlankImages | Variant::RuleBased)
}

/// The outcomes of all seeds, each question once for each seed. Its image stays one cluster: seeds are no new images.
fn pool<'a>(runs: impl Iterator<Item = (u64, &'a AblationRun)>) -> Vec<Outcome> {
    let of_seed = |(seed, run): (u64, &AblationRun)| {
        let named = |outcome: &Outcome| Outcome {
            id: RecordId::given(format!("{}, seed {seed}", outcome.id)),
            ..outcome.clone()
        };
        run.outcomes.iter().map(named).collect::<Vec<_>>()
    };
    runs.flat_map(of_seed).collect()
}

/// The mean strict score.
fn mean(outcomes: &[Outcome]) -> f64 {
    outcomes.iter().map(|outcome| outcome.strict).sum::<f64>() / outcomes.len().max(1) as f64
}

impl AblationReport {
    /// A Markdown table: a line for each variant, with the strict score of all questions (mean and range over the seeds), of each kind of
    /// question, and what the whole method has more, with its 95 % interval.
    pub fn table(&self) -> String {
        let kinds: Vec<AnswerType> =
            self.results.first().map(|result| result.to_full.by_type.keys().copied().collect()).unwrap_or_default();
        let names: String = kinds.iter().map(|kind| format!(" {} |", kind.as_str())).collect();
        let mut out =
            format!("| variant | tasks | all (lowest to highest seed) |{names} the whole method has more |\n");
        out += &format!("|---|--:|--:|{}--:|\n", "--:|".repeat(kinds.len()));
        for result in &self.results {
            let all = result.by_seed.iter().sum::<f64>() / result.by_seed.len().max(1) as f64;
            let low = result.by_seed.iter().copied().fold(f64::INFINITY, f64::min);
            let high = result.by_seed.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let _ =
                write!(out, "| {} | {} | {all:.1} ({low:.1} to {high:.1}) |", result.variant.as_str(), result.n_tasks);
            for kind in &kinds {
                let score = result.to_full.by_type.get(kind).and_then(|group| group.strict);
                let _ = write!(out, " {} |", score.map_or(String::new(), |score| format!("{:.1}", score.first)));
            }
            let more = result.to_full.overall.strict.filter(|_| result.variant != Variant::Full);
            let _ = writeln!(out, " {} |", more.map_or(String::new(), |more| difference(&more)));
        }
        out
    }
}

fn difference(score: &PairedScore) -> String {
    let interval = score.interval.map(|i| format!(" ({:+.1} to {:+.1})", i.low, i.high)).unwrap_or_default();
    format!("{:+.1}{interval}", score.difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(id: &str, answer_type: AnswerType, strict: f64) -> Outcome {
        Outcome {
            id: RecordId::given(id),
            answer_type,
            cluster: id.into(),
            paper: Some(strict),
            strict,
            unparsed: false,
            random: false,
            expected: "yes".into(),
            strict_read: None,
            paper_read: None,
        }
    }

    /// Two questions, two seeds: `scores[seed][question]`.
    fn runs(scores: [[f64; 2]; 2]) -> Vec<(u64, AblationRun)> {
        let run = |[open, closed]: [f64; 2]| AblationRun {
            n_tasks: 7,
            outcomes: vec![outcome("a", AnswerType::Open, open), outcome("b", AnswerType::Closed, closed)],
        };
        (5..).zip(scores.map(run)).collect()
    }

    #[test]
    fn each_seed_counts_and_images_stay_clusters() {
        let pooled = |runs: &[(u64, AblationRun)]| pool(runs.iter().map(|(seed, run)| (*seed, run)));
        let full = pooled(&runs([[100.0, 100.0], [100.0, 0.0]]));
        assert_eq!(full.len(), 4);
        let compared = compare(&pooled(&runs([[0.0, 100.0], [100.0, 0.0]])), &full, &BootstrapConfig::default());
        assert_eq!((compared.overall.n, compared.only_first, compared.only_second), (4, 0, 0));
        let score = compared.overall.strict.expect("scores");
        assert_eq!((score.first, score.second, score.difference), (50.0, 75.0, 25.0));
        // Two clusters: both seeds' answers to a question are drawn together, so that no resample has half of the difference.
        let interval = score.interval.expect("two clusters");
        assert_eq!((interval.low, interval.high), (0.0, 50.0));

        let result =
            AblationResult { variant: Variant::NoFilter, n_tasks: 7, by_seed: vec![50.0, 51.0], to_full: compared };
        let report = AblationReport { results: vec![result], seeds: vec![5, 6] };
        let table = report.table();
        let last = table.lines().last().expect("a line");
        assert_eq!(last, "| no_filter | 7 | 50.5 (50.0 to 51.0) | 50.0 | 50.0 | +25.0 (+0.0 to +50.0) |", "{table}");
        let json = serde_json::to_string(&report).expect("JSON");
        assert_eq!(serde_json::from_str::<AblationReport>(&json).expect("reads"), report);
    }
}
