/// A text with placeholders, split once and filled in one pass, so that a placeholder inside what is filled in stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextTemplate<const N: usize>(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// What stands for the placeholder of this number.
    Field(usize),
}

impl<const N: usize> TextTemplate<N> {
    /// Reads a template. White space at its end is cut off: a prompt's answer brings its own.
    ///
    /// # Errors
    /// The first placeholder that occurs nowhere.
    pub fn parse(text: &str, placeholders: [&'static str; N]) -> Result<Self, &'static str> {
        let mut parts = Vec::new();
        let mut rest = text.trim_end();
        let next = |rest: &str| {
            let found = placeholders.iter().enumerate().filter_map(|(field, name)| Some((rest.find(name)?, field)));
            found.min()
        };
        while let Some((offset, field)) = next(rest) {
            parts.push(Part::Text(rest[..offset].to_owned()));
            parts.push(Part::Field(field));
            rest = &rest[offset + placeholders[field].len()..];
        }
        parts.push(Part::Text(rest.to_owned()));
        match (0..N).find(|&field| !parts.contains(&Part::Field(field))) {
            Some(missing) => Err(placeholders[missing]),
            None => Ok(Self(parts)),
        }
    }

    /// The text with what stands for each placeholder.
    pub fn fill(&self, fields: [&str; N]) -> String {
        let text = |part| match part {
            &Part::Field(field) => fields[field],
            Part::Text(text) => text.as_str(),
        };
        self.0.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_once_wherever_they_stand() {
        let template = TextTemplate::parse("{b}: {a}, {a}.\n", ["{a}", "{b}"]).expect("both are there");
        assert_eq!(template.fill(["x", "{a}"]), "{a}: x, x.");
        assert_eq!(TextTemplate::parse("{a} alone", ["{a}", "{b}"]), Err("{b}"));
    }
}
