use std::path::{Path, PathBuf};

use adamllm_core::LostRecords;
use adamllm_eval::{Comparison, Report};
use adamllm_synth::RunSummary;
use adamllm_train::FitReport;
use serde::Serialize;

use super::{AdaptEvaluation, Composed, Sample};
use crate::kept::Kept;

/// What an adaptation did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct AdaptReport {
    /// The identities of synthesizer and judge.
    pub asked: [String; 2],
    /// What became of the pairs.
    pub synthesis: RunSummary,
    /// Conversations that were trained on.
    pub encoded: usize,
    /// Those that could not be encoded, in `encode-ledger.jsonl`.
    pub encode_ledger_entries: usize,
    /// Steps done.
    pub steps: usize,
    /// The loss of the first step of this process, per target token in nats.
    pub loss_first: Option<f64>,
    /// The loss of the last step.
    pub loss_last: Option<f64>,
    /// The base model's scores, where there is a benchmark.
    pub base: Option<Report>,
    /// The post-trained model's.
    pub post_trained: Option<Report>,
    /// From the base's to the post-trained model's.
    pub comparison: Option<Comparison>,
    /// General benchmarks before and after post-training, where some were named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Kept>,
    /// What both models say about the first images.
    pub samples: Vec<Sample>,
    /// The post-trained model's folder.
    pub model: PathBuf,
    /// The page of the whole run, `index.html`.
    pub page: PathBuf,
    /// Seconds.
    pub seconds: f64,
    /// The records that were lost to faults.
    #[serde(skip)]
    pub losses: LostRecords,
}

impl AdaptReport {
    pub(super) fn new(
        synthesis: RunSummary,
        composed: &Composed,
        fitted: &FitReport,
        evaluations: Vec<AdaptEvaluation>,
        losses: LostRecords,
    ) -> Self {
        let (mut base, mut post_trained, mut comparison) = (None, None, None);
        let (retained, domain): (Vec<_>, Vec<_>) = evaluations.into_iter().partition(|evaluation| evaluation.retained);

        if let Some(evaluation) = domain.into_iter().next() {
            base = Some(evaluation.base.report);
            post_trained = Some(evaluation.post_trained.report);
            comparison = Some(evaluation.comparison);
        }

        Self {
            asked: Default::default(),
            synthesis,
            encoded: composed.examples.len(),
            encode_ledger_entries: composed.n_conversations - composed.examples.len(),
            steps: fitted.steps,
            loss_first: fitted.metrics.first().map(|step| step.loss),
            loss_last: fitted.metrics.last().map(|step| step.loss),
            base,
            post_trained,
            comparison,
            kept: retained.into_iter().map(AdaptEvaluation::into_kept).collect(),
            samples: Vec::new(),
            model: PathBuf::new(),
            page: PathBuf::new(),
            seconds: 0.0,
            losses,
        }
    }
}

/// What a running adaptation tells.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum AdaptEvent<'e> {
    /// The tasks are made.
    Synthesized(&'e RunSummary),
    /// The conversations are made.
    Composed(&'e Composed<'e>),
    /// Training begins.
    PostTraining {
        /// Optimizer steps.
        steps: usize,
        /// Conversations in each.
        batch_size: usize,
    },
    /// The model is trained and written.
    PostTrained(&'e FitReport),
    /// Both models are asked the questions of these benchmarks: the domain's, then general ones.
    Evaluating(&'e [&'e Path]),
}

impl AdaptEvent<'_> {
    /// The part of the path that begins with it, as [`adapt`](mod@crate::adapt) counts them; `None` where one ends.
    pub fn part(&self) -> Option<usize> {
        match self {
            Self::Composed(_) => Some(2),
            Self::PostTraining { .. } => Some(3),
            Self::Evaluating(_) => Some(4),
            Self::Synthesized(_) | Self::PostTrained(_) => None,
        }
    }
}

/// What happened, in a line.
impl std::fmt::Display for AdaptEvent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Synthesized(summary) => {
                let RunSummary { records_in, triplets, consistent, inconsistent, open, unclear, records_out, .. } =
                    summary;
                write!(
                    f,
                    "{records_in} pairs in, {triplets} triplets: {consistent} consistent, {inconsistent} inconsistent, {open} open, \
                     {unclear} unclear; {records_out} tasks out, {} records in the ledger",
                    summary.ledger_entries
                )
            }
            Self::Composed(composed) => {
                let (all, encoded) = (composed.n_conversations, composed.examples.len());
                write!(f, "composed {all} conversations; {encoded} encoded, {} in the ledger", all - encoded)
            }
            Self::PostTraining { steps, batch_size } => {
                write!(f, "post-training: {steps} steps of {batch_size} conversations")
            }
            Self::PostTrained(fitted) => match &fitted.metrics[..] {
                [first, .., last] => write!(f, "loss {:.3} -> {:.3} in {} steps", first.loss, last.loss, fitted.steps),
                _ => write!(f, "{} steps", fitted.steps),
            },
            Self::Evaluating(benchmarks) => {
                let names: Vec<_> = benchmarks.iter().map(|path| path.display().to_string()).collect();
                write!(f, "evaluation: {}", names.join(", "))
            }
        }
    }
}
