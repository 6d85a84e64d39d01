use std::str::FromStr;

use adamllm_core::InstructionTask;
use serde::{Deserialize, Serialize};

use crate::{Judged, Verdict, combine};

/// The paper's method and what it is compared with (tables 4 and 5): one switch for synthesis, seeds and training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Variant {
    /// The method: filtered synthetic tasks and captions, trained in a single stage.
    #[default]
    Full,
    /// Captions first, then the tasks, in two stages.
    TwoStage,
    /// Captions without any task.
    CaptionOnly,
    /// Filtered tasks without the captions.
    SyntheticOnly,
    /// The precise response alone, unfiltered.
    PreciseOnly,
    /// The informative response alone, unfiltered.
    InformativeOnly,
    /// Combined tasks, unfiltered.
    NoFilter,
    /// The synthesizer is tuned without blank images.
    NoBlankImages,
    /// Tasks made from the caption by rules instead of a model.
    RuleBased,
}

impl Variant {
    /// All variants.
    pub const ALL: [Self; 9] = [
        Self::Full,
        Self::TwoStage,
        Self::CaptionOnly,
        Self::SyntheticOnly,
        Self::PreciseOnly,
        Self::InformativeOnly,
        Self::NoFilter,
        Self::NoBlankImages,
        Self::RuleBased,
    ];

    /// The name in flags and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::TwoStage => "two_stage",
            Self::CaptionOnly => "caption_only",
            Self::SyntheticOnly => "synthetic_only",
            Self::PreciseOnly => "precise_only",
            Self::InformativeOnly => "informative_only",
            Self::NoFilter => "no_filter",
            Self::NoBlankImages => "no_blank_images",
            Self::RuleBased => "rule_based",
        }
    }

    /// Whether a synthesizer proposes triplets.
    pub fn asks_synthesizer(self) -> bool {
        !matches!(self, Self::CaptionOnly | Self::RuleBased)
    }

    /// Whether a judge filters them.
    pub fn asks_judge(self) -> bool {
        self.asks_synthesizer() && !matches!(self, Self::PreciseOnly | Self::InformativeOnly | Self::NoFilter)
    }

    /// Whether the captions are trained on.
    pub fn trains_captions(self) -> bool {
        self != Self::SyntheticOnly
    }

    /// Whether captions and tasks are trained on one after the other.
    pub fn is_two_stage(self) -> bool {
        self == Self::TwoStage
    }

    /// The share of blank images among the synthesizer's seeds, `share` being the method's (0.1 in the paper).
    pub fn blank_share(self, share: f64) -> f64 {
        if self == Self::NoBlankImages { 0.0 } else { share }
    }

    /// The task that this variant makes of a judged triplet; `None` where it keeps none.
    pub fn task(self, judged: &Judged, seed: u64) -> Option<InstructionTask> {
        if !self.asks_synthesizer() || !matches!(judged.verdict, Verdict::Consistent | Verdict::Unjudged) {
            return None;
        }
        let triplet = &judged.triplet;
        let response = match self {
            Self::PreciseOnly => &triplet.precise,
            Self::InformativeOnly => &triplet.informative,
            _ => return Some(combine(judged, seed)),
        };
        Some(InstructionTask::new(triplet.pair.clone(), triplet.image.clone(), &triplet.instruction, response))
    }
}

impl FromStr for Variant {
    type Err = String;

    /// Reads [`Variant::as_str`]'s names.
    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|variant| variant.as_str() == name);
        found.ok_or_else(|| format!("expected one of {}, got {name:?}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use adamllm_core::RecordId;

    use super::*;
    use crate::TaskTriplet;

    #[test]
    fn names_are_read_back_and_are_serdes() {
        for variant in Variant::ALL {
            assert_eq!(variant.as_str().parse(), Ok(variant));
            assert_eq!(serde_json::to_value(variant).expect("JSON"), variant.as_str());
        }
        assert!("single".parse::<Variant>().is_err());
    }

    #[test]
    fn each_variant_takes_its_own_response() {
        let triplet = TaskTriplet::new(RecordId::given("p"), "a.png".into(), "How many?", "I see two.", "Two");
        let judged = Judged::unjudged(triplet);
        let response = |variant: Variant| variant.task(&judged, 0).map(|task| task.response);
        assert_eq!(response(Variant::PreciseOnly).as_deref(), Some("Two"));
        assert_eq!(response(Variant::InformativeOnly).as_deref(), Some("I see two."));
        assert_eq!(response(Variant::NoFilter), Some(combine(&judged, 0).response));
        assert_eq!(response(Variant::RuleBased), None);
        let refused = Judged { verdict: Verdict::Open, ..judged };
        assert!(Variant::ALL.iter().all(|variant| variant.task(&refused, 0).is_none()));
    }
    #[test]
    fn each_variant_leaves_out_what_its_name_says() {
        let table = |holds: fn(Variant) -> bool| Variant::ALL.into_iter().filter(|v| !holds(*v)).collect::<Vec<_>>();
        use Variant::*;
        assert_eq!(table(Variant::asks_synthesizer), [CaptionOnly, RuleBased]);
        assert_eq!(
            table(Variant::asks_judge),
            [CaptionOnly, PreciseOnly, InformativeOnly, NoFilter, RuleBased],
            "the unfiltered ones, and those without triplets"
        );
        assert_eq!(table(Variant::trains_captions), [SyntheticOnly]);
        assert_eq!(table(|variant| !variant.is_two_stage()), [TwoStage]);
        assert_eq!(table(|variant| variant.blank_share(0.1) == 0.1), [NoBlankImages]);
        assert_eq!(NoBlankImages.blank_share(0.1), 0.0);
    }
}
