//! The method without one of its parts: what the paper compares in its tables 4 and 5.

use adamllm_core::{ImageCaption, Progress, RecordId, jsonl};
use adamllm_eval::{AnswerType, BootstrapConfig, Comparison, Outcome, PredictOptions, compare, evaluate};
use adamllm_model::ModelFolder;
use adamllm_synth::{Judged, Variant, Verdict};
use adamllm_train::{FitOptions, Mixture, SingleStage, TrainConfig};
use serde::{Deserialize, Serialize};

use super::Adaptation;
use crate::benchmarks::OpenedBenchmark;
use crate::files::read_json;
use crate::{RecipeError, write_json};

/// In the run's folder.
const ABLATIONS_FILE: &str = "ablations.json";

/// What a table of ablations compares. Every variant trains for as many optimizer steps as the whole method, which the stages of one share
/// in proportion to their conversations: otherwise two stages would be twice the training, and tasks alone less of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AblationSettings {
    /// The variants beside the whole method.
    pub variants: Vec<Variant>,
    /// How often each is trained, with seeds one apart: what a seed changes is no difference between variants.
    pub n_seeds: u64,
}

impl Default for AblationSettings {
    /// Two stages; captions alone, tasks alone; no filter with both responses combined, with the precise and with the informative one alone;
    /// three seeds.
    fn default() -> Self {
        let variants = [
            Variant::TwoStage,
            Variant::CaptionOnly,
            Variant::SyntheticOnly,
            Variant::NoFilter,
            Variant::PreciseOnly,
            Variant::InformativeOnly,
        ];
        Self { variants: variants.into(), n_seeds: 3 }
    }
}

/// Each variant's scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AblationReport {
    /// The whole method first.
    pub results: Vec<AblationResult>,
    /// Seeds of each.
    pub seeds: Vec<u64>,
}

/// One variant, over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AblationResult {
    /// The variant.
    pub variant: Variant,
    /// Tasks that it trained on.
    pub n_tasks: usize,
    /// Optimizer steps of all its stages, with the first seed.
    pub n_steps: usize,
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
    n_steps: usize,
    outcomes: Vec<Outcome>,
}

/// What all runs are made from.
struct Material<'a> {
    pairs: Vec<ImageCaption>,
    judged: Vec<Judged>,
    opened: &'a OpenedBenchmark,
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
        let domain = self.benchmarks.iter().find(|benchmark| !benchmark.retained);
        let wanted = || RecipeError::Benchmarks("ablations are compared on a benchmark; name one".into());
        let opened = &domain.ok_or_else(wanted)?.opened;
        if let Some(other) = ablations.variants.iter().find(|variant| !is_of_these_triplets(**variant)) {
            return Err(RecipeError::ModelWanted { variant: other.as_str(), role: "synthesis of its own" });
        }

        let mut variants = vec![Variant::Full];
        variants.extend(ablations.variants.iter().filter(|variant| **variant != Variant::Full));
        let seeds: Vec<u64> = (0..ablations.n_seeds.max(1)).map(|n| self.settings.seed + n).collect();
        let (pairs, judged) = (self.pairs()?, jsonl::read_all(self.file("synthesis").join("judged.jsonl"))?);
        let material = Material { pairs, judged, opened };
        let mut runs: Vec<Vec<AblationRun>> = Vec::with_capacity(variants.len());
        for &variant in &variants {
            let of_seed = |&seed: &u64| self.ablation_run(variant, seed, &material, progress);
            runs.push(seeds.iter().map(of_seed).collect::<Result<_, _>>()?);
        }

        let full = pool(&seeds, &runs[0]);
        let result = |(&variant, runs): (&Variant, &Vec<AblationRun>)| AblationResult {
            variant,
            n_tasks: runs[0].n_tasks,
            n_steps: runs[0].n_steps,
            by_seed: runs.iter().map(|run| mean(&run.outcomes)).collect(),
            to_full: compare(&pool(&seeds, runs), &full, &BootstrapConfig::default()),
        };
        let report = AblationReport { results: variants.iter().zip(&runs).map(result).collect(), seeds };
        write_json(self.file(ABLATIONS_FILE), &serde_json::json!(report))?;
        Ok(report)
    }

    /// What [`Adaptation::ablate`] left in the run's folder, where it ran.
    pub(super) fn ablations(&self) -> Result<Option<AblationReport>, RecipeError> {
        let file = self.file(ABLATIONS_FILE);
        Ok(file.exists().then(|| read_json(&file)).transpose()?)
    }

    /// One variant with one seed: read where it is done, else trained and asked.
    fn ablation_run(
        &self,
        variant: Variant,
        seed: u64,
        material: &Material<'_>,
        progress: &mut dyn Progress,
    ) -> Result<AblationRun, RecipeError> {
        let folder = self.file("ablations").join(variant.as_str()).join(format!("seed-{seed}"));
        let result = folder.join("result.json");
        if self.run.resume && result.exists() {
            return Ok(read_json(&result)?);
        }
        std::fs::create_dir_all(&folder).map_err(crate::error::io("create", &folder))?;

        // The tasks that this variant makes of what the judge saw; without the filter, of all of it.
        let as_seen = |judged: &Judged| match variant.asks_judge() {
            true => judged.clone(),
            false => Judged { verdict: Verdict::Unjudged, ..judged.clone() },
        };
        let task = |judged: &Judged| variant.task(&as_seen(judged), self.settings.seed);
        let tasks: Vec<_> = material.judged.iter().filter_map(task).collect();

        let stages: &[Mixture] = match variant {
            Variant::TwoStage => &[Mixture::CaptionsOnly, Mixture::TasksOnly],
            Variant::CaptionOnly => &[Mixture::CaptionsOnly],
            Variant::SyntheticOnly => &[Mixture::TasksOnly],
            _ => &[Mixture::CaptionsAndTasks],
        };
        let mut model = self.base_model(progress)?;
        // One ledger for all stages of the run.
        let mut reader = self.reader(&folder.join("encode-ledger.jsonl"))?;
        let composed = |&mixture: &Mixture| {
            SingleStage { seed, mixture, ..SingleStage::default() }.compose(&material.pairs, &tasks)
        };
        let composed = stages.iter().map(composed).collect::<Result<Vec<_>, _>>()?;
        // The whole method has a conversation for each pair.
        let n_conversations: usize = composed.iter().map(Vec::len).sum();
        let epochs = self.settings.epochs * material.pairs.len() as f64 / n_conversations.max(1) as f64;
        let mut n_steps = 0;
        for conversations in composed {
            let examples = self.examples(&mut reader, conversations, folder.display().to_string(), progress)?;
            let config = TrainConfig { seed, epochs, ..self.settings.training() };
            let (trained, report) = self.fit(model, &examples, config, FitOptions::default(), progress)?;
            (model, n_steps) = (trained, n_steps + report.steps);
        }

        // Asked as it would be used: from a folder, in the base's dtype. The folder is not kept.
        let saved = folder.join("model");
        self.base.save(&model, &saved)?;
        drop(model);
        let written = ModelFolder::open(&saved)?.with_pixel_range(self.base.pixel_range());
        let model = self.load(&written, material.opened.images.clone())?;
        let answers = folder.join("evaluation");
        if answers.exists() {
            std::fs::remove_dir_all(&answers).map_err(crate::error::io("replace", &answers))?;
        }
        let options = PredictOptions { batch_size: 32, ..PredictOptions::default() };
        let scored = evaluate(&model, &material.opened.benchmark, &answers, &options, progress)?;
        drop(model);
        std::fs::remove_dir_all(&saved).map_err(crate::error::io("remove", &saved))?;
        let run = AblationRun { n_tasks: tasks.len(), n_steps, outcomes: scored.outcomes };
        write_json(&result, &serde_json::json!(run))?;
        Ok(run)
    }
}

/// Whether a variant is made of the triplets of the whole method.
fn is_of_these_triplets(variant: Variant) -> bool {
    !matches!(variant, Variant::NoBlankImages | Variant::RuleBased)
}

/// The outcomes of all seeds, each question once for each seed. Its image stays one cluster: seeds are no new images.
fn pool(seeds: &[u64], runs: &[AblationRun]) -> Vec<Outcome> {
    let of_seed = |(seed, run): (&u64, &AblationRun)| {
        let named = |outcome: &Outcome| Outcome {
            id: RecordId::given(format!("{}, seed {seed}", outcome.id)),
            ..outcome.clone()
        };
        run.outcomes.iter().map(named).collect::<Vec<_>>()
    };
    seeds.iter().zip(runs).flat_map(of_seed).collect()
}

/// The mean strict score.
fn mean(outcomes: &[Outcome]) -> f64 {
    outcomes.iter().map(|outcome| outcome.strict).sum::<f64>() / outcomes.len().max(1) as f64
}

impl AblationReport {
    /// The kinds of questions that were asked.
    fn kinds(&self) -> Vec<AnswerType> {
        self.results.first().map(|result| result.to_full.by_type.keys().copied().collect()).unwrap_or_default()
    }

    /// The table as text: its head, then a line for each variant.
    pub(crate) fn cells(&self) -> Vec<Vec<String>> {
        let kinds = self.kinds();
        let head = ["variant", "tasks", "steps", "all (lowest to highest seed)"].map(str::to_owned).into_iter();
        let head = head.chain(kinds.iter().map(|kind| kind.as_str().to_owned()));
        let mut lines = vec![head.chain(["the whole method has more".to_owned()]).collect()];

        for result in &self.results {
            let all = result.by_seed.iter().sum::<f64>() / result.by_seed.len().max(1) as f64;
            let low = result.by_seed.iter().copied().fold(f64::INFINITY, f64::min);
            let high = result.by_seed.iter().copied().fold(f64::NEG_INFINITY, f64::max);

            let mut line = vec![
                result.variant.as_str().to_owned(),
                result.n_tasks.to_string(),
                result.n_steps.to_string(),
                format!("{all:.1} ({low:.1} to {high:.1})"),
            ];

            for kind in &kinds {
                let score = result.to_full.by_type.get(kind).and_then(|group| group.strict);
                line.push(score.map_or(String::new(), |score| format!("{:.1}", score.first)));
            }

            let more = result.to_full.overall.strict.filter(|_| result.variant != Variant::Full);
            line.push(more.map_or(String::new(), |more| more.shown_difference()));
            lines.push(line);
        }

        lines
    }

    /// A Markdown table: a line for each variant, with the strict score of all questions (mean and range over the seeds), of each kind of
    /// question, and what the whole method has more, with its 95 % interval.
    pub fn table(&self) -> String {
        let mut lines: Vec<String> = self.cells().iter().map(|cells| format!("| {} |\n", cells.join(" | "))).collect();
        lines.insert(1, format!("|---|{}\n", "--:|".repeat(self.kinds().len() + 4)));
        lines.concat()
    }
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
    fn runs(scores: [[f64; 2]; 2]) -> Vec<AblationRun> {
        let run = |[open, closed]: [f64; 2]| AblationRun {
            n_tasks: 7,
            n_steps: 9,
            outcomes: vec![outcome("a", AnswerType::Open, open), outcome("b", AnswerType::Closed, closed)],
        };
        scores.map(run).into()
    }

    #[test]
    fn each_seed_counts_and_images_stay_clusters() {
        let pooled = |runs: &[AblationRun]| pool(&[5, 6], runs);
        let full = pooled(&runs([[100.0, 100.0], [100.0, 0.0]]));
        assert_eq!(full.len(), 4);
        let compared = compare(&pooled(&runs([[0.0, 100.0], [100.0, 0.0]])), &full, &BootstrapConfig::default());
        assert_eq!((compared.overall.n, compared.only_first, compared.only_second), (4, 0, 0));
        let score = compared.overall.strict.expect("scores");
        assert_eq!((score.first, score.second, score.difference), (50.0, 75.0, 25.0));
        // Two clusters: both seeds' answers to a question are drawn together, so that no resample has half of the difference.
        let interval = score.interval.expect("two clusters");
        assert_eq!((interval.low, interval.high), (0.0, 50.0));

        let result = AblationResult {
            variant: Variant::NoFilter,
            n_tasks: 7,
            n_steps: 9,
            by_seed: vec![50.0, 51.0],
            to_full: compared,
        };
        let report = AblationReport { results: vec![result], seeds: vec![5, 6] };
        let table = report.table();
        let last = table.lines().last().expect("a line");
        assert_eq!(
            last, "| no_filter | 7 | 9 | 50.5 (50.0 to 51.0) | 50.0 | 50.0 | +25.0 (+0.0 to +50.0) |",
            "{table}"
        );
        let json = serde_json::to_string(&report).expect("JSON");
        assert_eq!(serde_json::from_str::<AblationReport>(&json).expect("reads"), report);
    }
}
