//! minijinja set up as transformers sets up jinja2 for chat templates (`_compile_jinja_template`), and what minijinja has
//! otherwise than jinja2 does.

use chrono::{DateTime, Local};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, Value, escape_formatter};

use super::{generation, json};

/// Instructions that one rendering may take: a conversation of a thousand turns needs less than a hundredth of them. A
/// template that loops without end becomes an error.
const FUEL: u64 = 200_000_000;

/// An environment for a template of which `now` is the date.
pub(super) fn environment(now: DateTime<Local>) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(method);
    // Numbers as Python prints them: 1e+20 where minijinja writes the digits out.
    environment.set_formatter(|out, state, value| {
        let float = value.is_number() && !value.is_integer();
        if float {
            out.write_str(&json::number(value)).map_err(Error::from)
        } else {
            escape_formatter(out, state, value)
        }
    });
    generation::install(&mut environment);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: &str| date(now, format));
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("trim", |value: &Value, characters: Option<&str>| -> String {
        strip(&value.to_string(), characters, [true, true]).to_owned()
    });
    // Strings and mappings have a length and items, which is all that jinja2 asks of a sequence; nothing has none.
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined)
    });
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    Ok(environment)
}

/// Python's `datetime.strftime`.
fn date(now: DateTime<Local>, format: &str) -> Result<String, Error> {
    use std::fmt::Write;
    let mut text = String::new();
    // chrono reports a specifier that it does not know when the text is written, not before.
    match write!(text, "{}", now.format(format)) {
        Ok(()) => Ok(text),
        Err(_) => Err(Error::new(ErrorKind::InvalidOperation, format!("strftime_now does not know {format:?}"))),
    }
}

/// Methods of Python's strings, lists and mappings: what `minijinja-contrib` has, and what it lacks.
fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let argument = |index: usize| arguments.get(index).and_then(Value::as_str);

    if let Some(text) = value.as_str() {
        match (name, arguments.len()) {
            ("strip" | "lstrip" | "rstrip", 0) => {
                return Ok(strip(text, None, [name != "rstrip", name != "lstrip"]).into());
            }
            ("removeprefix", 1) => {
                return Ok(argument(0).and_then(|a| text.strip_prefix(a)).unwrap_or(text).into());
            }
            ("removesuffix", 1) => {
                return Ok(argument(0).and_then(|a| text.strip_suffix(a)).unwrap_or(text).into());
            }
            ("partition" | "rpartition", 1) => return partition(text, argument(0), name == "rpartition"),
            ("rsplit", 1 | 2) if argument(0).is_some_and(|a| !a.is_empty()) => {
                return rsplit(text, argument(0).unwrap_or_default(), arguments.get(1));
            }
            _ => {}
        }
    }

    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments)
}

/// Python's `str.strip` at the two ends. Without characters, whitespace goes: also the separators U+001C to U+001F, which
/// Unicode does not call whitespace and Python does.
fn strip<'a>(text: &'a str, characters: Option<&str>, [start, end]: [bool; 2]) -> &'a str {
    let goes = |c: char| match characters {
        Some(characters) => characters.contains(c),
        None => c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c),
    };
    let text = if start { text.trim_start_matches(goes) } else { text };
    if end { text.trim_end_matches(goes) } else { text }
}

fn partition(text: &str, separator: Option<&str>, last: bool) -> Result<Value, Error> {
    let separator = separator.filter(|s| !s.is_empty());
    let separator = separator.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "partition needs a separator"))?;
    let parts = if last { text.rsplit_once(separator) } else { text.split_once(separator) };
    Ok(list(match parts {
        Some((before, after)) => vec![before, separator, after],
        None if last => vec!["", "", text],
        None => vec![text, "", ""],
    }))
}

fn rsplit(text: &str, separator: &str, max_splits: Option<&Value>) -> Result<Value, Error> {
    let max_splits = max_splits.map(|n| i64::try_from(n.clone())).transpose()?;
    let mut parts: Vec<&str> = match max_splits.and_then(|n| usize::try_from(n).ok()) {
        Some(n) => text.rsplitn(n.saturating_add(1), separator).collect(),
        None => text.rsplit(separator).collect(),
    };
    parts.reverse();
    Ok(list(parts))
}

fn list(parts: Vec<&str>) -> Value {
    parts.into_iter().map(Value::from).collect()
}
