use std::collections::BTreeMap;

use adamllm_core::Stage;
use adamllm_synth::{RunSummary, Variant};
use maud::{Markup, html};

use super::{count, words};

/// How many records each stage left over, from what went in and the ledger's counts by `stage/reason`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Funnel {
    steps: Vec<Step>,
}

#[derive(Debug, PartialEq, Eq)]
struct Step {
    name: String,
    n: u64,
    /// What the step before had and this one has not, by reason.
    left: Vec<(String, u64)>,
}

impl Funnel {
    /// `records` went in. Each stage is named by what it leaves over.
    pub(crate) fn new(name: &str, records: u64, ledger: &BTreeMap<String, u64>, stages: &[(Stage, &str)]) -> Self {
        let mut steps = vec![Step { name: name.into(), n: records, left: Vec::new() }];
        let mut n = records;
        for (stage, name) in stages {
            let prefix = format!("{}/", stage.code());
            let of_stage = ledger.iter().filter_map(|(cause, n)| Some((words(cause.strip_prefix(&prefix)?), *n)));
            let mut left: Vec<(String, u64)> = of_stage.filter(|(_, n)| *n > 0).collect();
            left.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            n = n.saturating_sub(left.iter().map(|(_, n)| n).sum());
            steps.push(Step { name: (*name).into(), n, left });
        }
        Self { steps }
    }

    /// What synthesis leaves over of its pairs; a variant that asks no judge, or no model at all, has fewer stages.
    pub(crate) fn synthesis(summary: &RunSummary, variant: Variant) -> Self {
        let read = (Stage::Read, "readable pairs");
        let captioned = summary.ledger.keys().any(|cause| cause.starts_with("caption/"));
        let stages = match (variant, variant.asks_synthesizer(), variant.asks_judge()) {
            (Variant::CaptionOnly, ..) => vec![read],
            (_, true, true) => {
                vec![read, (Stage::Propose, "triplets"), (Stage::Judge, "judged consistent"), (Stage::Combine, "tasks")]
            }
            (_, true, false) => vec![read, (Stage::Propose, "triplets"), (Stage::Combine, "tasks")],
            (_, false, _) => vec![read, (Stage::Propose, "tasks by rule"), (Stage::Combine, "tasks")],
        };
        if captioned {
            let stages: Vec<_> = std::iter::once((Stage::Caption, "captioned")).chain(stages).collect();
            return Self::new("images", summary.records_in, &summary.ledger, &stages);
        }
        Self::new("pairs", summary.records_in, &summary.ledger, &stages)
    }

    /// How many a step has.
    #[cfg(test)]
    fn n(&self, name: &str) -> Option<u64> {
        self.steps.iter().find(|step| step.name == name).map(|step| step.n)
    }

    pub(crate) fn html(&self) -> Markup {
        let most = self.steps.iter().map(|step| step.n).max().unwrap_or(0).max(1);
        let width = |n: u64| format!("width:{:.2}%", n as f64 / most as f64 * 100.0);
        html! {
            ol class="funnel" {
                @for step in &self.steps {
                    li {
                        span { (step.name) }
                        span class="bar" { i style=(width(step.n)) {} }
                        span class="n" { (count(step.n)) }
                        span class="why" { (step.why()) }
                    }
                }
            }
        }
    }
}

impl Step {
    /// Why records left here.
    fn why(&self) -> String {
        let why: Vec<String> = self.left.iter().map(|(reason, n)| format!("{} {reason}", count(*n))).collect();
        if why.is_empty() { String::new() } else { format!("out: {}", why.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_takes_its_own_reasons_out() {
        let ledger =
            [("read/image_missing", 2), ("propose/no_triplet", 5), ("judge/open", 1), ("judge/inconsistent", 30)];
        let ledger = ledger.map(|(cause, n)| (cause.to_owned(), n)).into();
        let summary = RunSummary { records_in: 1100, ledger, ..RunSummary::default() };
        let funnel = Funnel::synthesis(&summary, Variant::Full);
        let n = |name| funnel.n(name).expect("a step");
        assert_eq!(
            ["pairs", "readable pairs", "triplets", "judged consistent", "tasks"].map(n),
            [1100, 1098, 1093, 1062, 1062]
        );
        let html = funnel.html().into_string();
        assert!(html.contains("width:100.00%") && html.contains("width:96.55%"));
        assert!(html.contains("<span class=\"n\">1,062</span><span class=\"why\">out: 30 inconsistent, 1 open</span>"));
        let fewer = Funnel::synthesis(&summary, Variant::CaptionOnly);
        assert_eq!((fewer.steps.len(), fewer.n("readable pairs")), (2, Some(1098)));
    }
}
