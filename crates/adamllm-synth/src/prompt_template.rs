use crate::{SynthError, TaskTriplet};

/// A text with the placeholders `{Q}`, `{informative_A}` and `{precise_A}`, split once and filled in one pass, so that a
/// placeholder inside a question stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptTemplate(Vec<TemplatePart>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    Text(String),
    Field(usize),
}

const PLACEHOLDERS: [&str; 3] = ["{Q}", "{informative_A}", "{precise_A}"];

impl PromptTemplate {
    /// Reads a template. White space at its end is cut off: the answer's first token brings its own space.
    ///
    /// # Errors
    /// [`SynthError::Placeholder`] where one of the three occurs nowhere.
    pub fn parse(text: &str) -> Result<Self, SynthError> {
        let mut segments = Vec::new();
        let mut rest = text.trim_end();
        while let Some((offset, field)) = next_placeholder(rest) {
            segments.push(TemplatePart::Text(rest[..offset].to_owned()));
            segments.push(TemplatePart::Field(field));
            rest = &rest[offset + PLACEHOLDERS[field].len()..];
        }
        segments.push(TemplatePart::Text(rest.to_owned()));
        for (field, placeholder) in PLACEHOLDERS.into_iter().enumerate() {
            if !segments.contains(&TemplatePart::Field(field)) {
                return Err(SynthError::Placeholder { placeholder });
            }
        }
        Ok(Self(segments))
    }

    /// The prompt for one triplet.
    pub fn fill(&self, triplet: &TaskTriplet) -> String {
        let fields = triplet.texts();
        let parts = self.0.iter().map(|segment| match segment {
            TemplatePart::Text(text) => text.as_str(),
            TemplatePart::Field(field) => fields[*field].1,
        });
        parts.collect()
    }
}

fn next_placeholder(text: &str) -> Option<(usize, usize)> {
    let found = PLACEHOLDERS.iter().enumerate().filter_map(|(field, name)| Some((text.find(name)?, field)));
    found.min()
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
