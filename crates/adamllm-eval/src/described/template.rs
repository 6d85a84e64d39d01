use std::borrow::Cow;

use super::columns::RowReader;
use super::description::Template;
use crate::{EvalError, Expected};

/// Fills a template with a row's columns.
pub(crate) fn render(template: Template<'_>, row: &RowReader<'_>, expected: &Expected) -> Result<String, EvalError> {
    match template {
        Template::Given(text) => fill(text, row, expected),
        Template::Plain { question, options: false } => row.text(question),
        Template::Plain { question, options: true } => {
            Ok(format!("{}\n{}", row.text(question)?, options_text(expected)))
        }
    }
}

/// What follows a brace of a template that has no other half.
pub(crate) fn unbalanced(template: &str) -> Option<&str> {
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (brace, after) = (&rest[at..=at], &rest[at + 1..]);
        rest = match after.strip_prefix(brace) {
            Some(escaped) => escaped,
            None => match after.find('}').filter(|_| brace == "{") {
                Some(end) => &after[end + 1..],
                None => return Some(&rest[at..]),
            },
        };
    }
    None
}

fn fill(template: &str, row: &RowReader<'_>, expected: &Expected) -> Result<String, EvalError> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        let after = &rest[at + 1..];
        if let Some(escaped) = after.strip_prefix(brace) {
            out.push_str(brace);
            rest = escaped;
            continue;
        }
        let end = if brace == "{" { after.find('}') } else { None };
        let Some(end) = end else { return Err(row.error("(prompt template)", "{column}", &rest[at..])) };
        match &after[..end] {
            "options" => out.push_str(&options_text(expected)),
            column => out.push_str(&row.text(column)?),
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
