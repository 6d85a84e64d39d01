use std::borrow::Cow;

use super::columns::RecordReader;
use super::description::Template;
use crate::{EvalError, Expected};

/// Fills a template with a record's columns.
pub(crate) fn render(
    template: Template<'_>,
    record: &RecordReader<'_>,
    expected: &Expected,
) -> Result<String, EvalError> {
    match template {
        Template::Given(text) => fill(text, record, expected),
        Template::Plain { question, options: false } => record.text(question),
        Template::Plain { question, options: true } => {
            Ok(format!("{}\n{}", record.text(question)?, options_text(expected)))
        }
    }
}

/// What follows a brace of a template that has no other half.
pub(crate) fn unbalanced(template: &str) -> Option<&str> {
    let mut rest = template;
    while let Some(offset) = rest.find(['{', '}']) {
        let (brace, after) = (&rest[offset..=offset], &rest[offset + 1..]);
        rest = match after.strip_prefix(brace) {
            Some(escaped) => escaped,
            None => match after.find('}').filter(|_| brace == "{") {
                Some(end) => &after[end + 1..],
                None => return Some(&rest[offset..]),
            },
        };
    }
    None
}

fn fill(template: &str, record: &RecordReader<'_>, expected: &Expected) -> Result<String, EvalError> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(offset) = rest.find(['{', '}']) {
        out.push_str(&rest[..offset]);

        let brace = &rest[offset..=offset];
        let after = &rest[offset + 1..];

        // A doubled brace stands for itself, as in Python's `str.format`.
        if let Some(escaped) = after.strip_prefix(brace) {
            out.push_str(brace);
            rest = escaped;
            continue;
        }

        let end = if brace == "{" { after.find('}') } else { None };
        let Some(end) = end else { return Err(record.error("(prompt template)", "{column}", &rest[offset..])) };

        match &after[..end] {
            "options" => out.push_str(&options_text(expected)),
            column => out.push_str(&record.text(column)?),
        }
        rest = &after[end + 1..];
    }

    out.push_str(rest);
    Ok(out)
}

/// `A: text` lines for a choice, names with commas between them for a shared list.
fn options_text(expected: &Expected) -> String {
    match expected {
        Expected::Choice { options, .. } => {
            let line = |(key, text): (&Cow<'_, str>, &String)| format!("{key}: {text}");
            options.keys().iter().zip(options.texts().names()).map(line).collect::<Vec<_>>().join("\n")
        }
        Expected::Category { options, .. } => options.texts().names().join(", "),
        Expected::Labels { names, .. } => names.names().join(", "),
        _ => String::new(),
    }
}
