use adamllm_core::TextTemplate;

use crate::{SynthError, TaskTriplet};

/// A text with the placeholders `{Q}`, `{informative_A}` and `{precise_A}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptTemplate(TextTemplate<3>);

impl PromptTemplate {
    /// Reads a template. White space at its end is cut off: the answer's first token brings its own space.
    ///
    /// # Errors
    /// [`SynthError::Placeholder`] where one of the three occurs nowhere.
    pub fn parse(text: &str) -> Result<Self, SynthError> {
        let template = TextTemplate::parse(text, ["{Q}", "{informative_A}", "{precise_A}"]);
        template.map(Self).map_err(|placeholder| SynthError::Placeholder { placeholder })
    }

    /// The prompt for one triplet.
    pub fn fill(&self, triplet: &TaskTriplet) -> String {
        self.0.fill(triplet.texts().map(|(_, text)| text))
    }
}

#[cfg(test)]
mod tests {
    use adamllm_core::RecordId;

    use super::*;

    #[test]
    fn fills_in_one_pass() {
        let template = PromptTemplate::parse("{Q}|{informative_A}|{precise_A}|{Q}:\n").expect("complete");
        let triplet = TaskTriplet::new(RecordId::given("p"), "i".into(), "{precise_A}", "long", "short");
        assert_eq!(template.fill(&triplet), "{precise_A}|long|short|{precise_A}:");
        let lacking = PromptTemplate::parse("{Q} {precise_A}");
        assert!(matches!(lacking, Err(SynthError::Placeholder { placeholder: "{informative_A}" })));
    }
}
