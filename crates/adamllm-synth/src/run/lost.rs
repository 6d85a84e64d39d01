use adamllm_core::{LedgerEntry, Reason, RecordId, Stage};

use crate::{Judged, SynthError, Verdict};

/// A record on its way into the ledger, with the text to quarantine where the model wrote one.
pub(super) struct Lost {
    pub(super) entry: LedgerEntry,
    pub(super) text: Option<String>,
}

impl Lost {
    pub(super) fn new(id: &RecordId, stage: Stage, reason: Reason, detail: impl ToString) -> Self {
        Self { entry: LedgerEntry::new(id.clone(), stage, reason, detail.to_string()), text: None }
    }

    pub(super) fn of(id: &RecordId, stage: Stage, error: SynthError) -> Self {
        let lost = Self::new(id, stage, error.reason(), &error);
        let text = if let SynthError::NoTriplet { text, .. } = error { Some(text) } else { None };
        Self { text, ..lost }
    }

    /// Where the verdict keeps a triplet from becoming a task.
    pub(super) fn by_verdict(judged: &Judged) -> Option<Self> {
        let answer = judged.answer.as_deref().unwrap_or_default();
        let (reason, detail) = match judged.verdict {
            Verdict::Consistent | Verdict::Unjudged => return None,
            Verdict::Inconsistent => (Reason::Inconsistent, "the two answers disagree".to_owned()),
            Verdict::Open => (Reason::Open, "the question has no single answer".to_owned()),
            Verdict::Unclear => match judged.p_yes {
                Some(p_yes) => (Reason::BelowThreshold, format!("probability of yes: {p_yes}")),
                None => (Reason::UnclearVerdict, format!("expected Yes, No or Open, got {answer:?}")),
            },
        };
        Some(Self::new(&judged.triplet.pair, Stage::Judge, reason, detail))
    }
}
