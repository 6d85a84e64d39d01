use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::statistics::{Bootstrap, Clusters};
use crate::survey::Survey;
use crate::{AnswerType, BootstrapConfig, Estimate, JudgeReport, Outcome};

/// The version of [`Report`]'s schema: raised when a field changes its meaning or goes away.
pub const REPORT_VERSION: u32 = 1;

/// What a model reached on a benchmark: both scorings, with their uncertainty, and everything that did not go well.
/// `report.json` is this, serialised; `docs/guides/report.md` describes it field by field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The benchmark's name.
    pub benchmark: String,
    /// All examples together: the mean over examples, whatever their answer type.
    pub overall: GroupScore,
    /// One entry per answer type.
    pub by_type: BTreeMap<AnswerType, GroupScore>,
    /// Examples that have no prediction; they are in no score.
    #[serde(default)]
    pub unanswered: usize,
    /// Examples and predictions that were refused; they are in no score.
    #[serde(default)]
    pub rejected: usize,
    /// How the intervals were computed.
    pub resampling: BootstrapConfig,
    /// What a judge made of the open answers, where one was asked; in no other number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeReport>,
    /// What was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunInfo>,
}

/// The scores of one group of examples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupScore {
    /// Examples.
    pub n: usize,
    /// Independent clusters of examples (images).
    pub n_clusters: usize,
    /// The reference's scoring; absent where no example has such a score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paper: Option<Estimate>,
    /// What the score should mean; absent where there is no example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<Estimate>,
    /// Examples that the strict scoring could not read (counted as wrong).
    pub unparsed: usize,
    /// Examples for which the paper scoring drew an answer at random.
    pub random: usize,
}

/// What was run, for whoever reads the numbers later.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunInfo {
    /// The model's identity, as in the cache keys; a name where the answers were made elsewhere.
    pub model: String,
    /// A hash over all examples: ids, prompts, labels, image names.
    pub dataset: Option<String>,
    /// A hash over the images' files, where they were at hand.
    pub images: Option<String>,
    /// The first example's prompt.
    pub prompt: Option<String>,
    /// How answers were decoded; absent where they were made elsewhere.
    pub decoding: Option<adamllm_core::Decoding>,
    /// Seconds inside the model; answers from the journal take none.
    pub generate_seconds: Option<f64>,
    /// Prompts that the model was asked in that time.
    pub n_asked: Option<usize>,
    /// Tokens written in that time.
    pub n_new_tokens: Option<u64>,
    /// Seconds for everything: reading, asking, scoring.
    pub seconds: Option<f64>,
    /// Names and versions of the software, and the platform.
    pub software: BTreeMap<String, String>,
    /// What the software that made the answers scored, by its own metrics and filters and on its own scale; empty where it is not
    /// known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reported_scores: BTreeMap<String, f64>,
}

impl Report {
    /// Sums up outcomes. `types` are shown even where no outcome has them.
    pub fn new(benchmark: &str, types: &[AnswerType], outcomes: &[Outcome], resampling: &BootstrapConfig) -> Self {
        let mut groups: BTreeMap<AnswerType, Vec<&Outcome>> = types.iter().map(|&t| (t, Vec::new())).collect();
        for outcome in outcomes {
            groups.entry(outcome.answer_type).or_default().push(outcome);
        }

        let by_type: BTreeMap<_, _> =
            groups.into_iter().map(|(t, examples)| (t, GroupScore::new(&examples, resampling))).collect();

        // Where all outcomes are of one type, its score is the one over all: it is not drawn again.
        let alone = by_type.values().find(|group| group.n == outcomes.len());
        let overall =
            alone.cloned().unwrap_or_else(|| GroupScore::new(&outcomes.iter().collect::<Vec<_>>(), resampling));

        Self {
            version: REPORT_VERSION,
            benchmark: benchmark.into(),
            overall,
            by_type,
            unanswered: 0,
            rejected: 0,
            resampling: resampling.clone(),
            judge: None,
            run: None,
        }
    }

    /// The same report with what was run.
    pub fn with_run(mut self, run: RunInfo) -> Self {
        self.run = Some(run);
        self
    }
}

impl GroupScore {
    fn new(outcomes: &[&Outcome], resampling: &BootstrapConfig) -> Self {
        let clusters = Clusters::new(outcomes.iter().map(|o| o.cluster.as_str()));
        let scorings =
            [clusters.sums(outcomes.iter().map(|o| o.paper)), clusters.sums(outcomes.iter().map(|o| Some(o.strict)))];
        let estimates = Bootstrap::draw(&scorings, resampling);
        Self {
            n: outcomes.len(),
            n_clusters: clusters.len(),
            paper: estimates[0],
            strict: estimates[1],
            unparsed: outcomes.iter().filter(|o| o.unparsed).count(),
            random: outcomes.iter().filter(|o| o.random).count(),
        }
    }
}

impl RunInfo {
    /// What a survey of the examples found.
    pub(crate) fn of_survey(model: impl Into<String>, survey: Survey<'_>) -> Self {
        Self {
            model: model.into(),
            dataset: Some(survey.dataset.to_string()),
            images: survey.images.map(|hash| hash.to_string()),
            prompt: survey.first_prompt,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_group_has_no_score() {
        let report = Report::new("b", &[AnswerType::Open], &[], &BootstrapConfig::default());
        assert_eq!(report.by_type[&AnswerType::Open], GroupScore::default());
        let json = serde_json::to_value(&report).expect("serialises");
        assert!(json["overall"].get("strict").is_none());
        assert_eq!(serde_json::from_value::<Report>(json).expect("reads"), report);
    }
}
