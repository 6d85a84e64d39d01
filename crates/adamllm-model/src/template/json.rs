//! The `tojson` filter as transformers defines it: Python's `json.dumps` without the escapes for HTML.

use std::fmt::Write;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// The options of `json.dumps`.
struct Style {
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sorted: bool,
}

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    // Each argument by its index or its name, as in Python. `None` counts as not given.
    let get = |index: usize, name: &str| -> Result<Option<Value>, Error> {
        let value = match positional.get(index) {
            Some(value) => Some(value.clone()),
            None => named.get::<Option<Value>>(name)?,
        };
        Ok(value.filter(|value| !value.is_none() && !value.is_undefined()))
    };

    // Python's `json.dumps` takes a number of spaces or the text itself.
    let indent = get(1, "indent")?.map(|indent| match indent.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => u8::try_from(indent).map(|n| " ".repeat(n.into())),
    });
    let indent = indent.transpose()?;

    // As `json.dumps`: a comma at the end of a line has no space after it.
    let [mut item, mut key] = [if indent.is_some() { "," } else { ", " }, ": "].map(str::to_owned);
    if let Some(separators) = get(2, "separators")? {
        [item, key] = [separators.get_item_by_index(0)?, separators.get_item_by_index(1)?].map(|s| s.to_string());
    }

    let ascii = get(0, "ensure_ascii")?.is_some_and(|v| v.is_true());
    let sorted = get(3, "sort_keys")?.is_some_and(|v| v.is_true());

    named.assert_all_used()?;

    let mut out = String::new();
    write(&mut out, value, &Style { ascii, indent, item, key, sorted }, 0)?;
    Ok(out)
}

fn write(out: &mut String, value: &Value, style: &Style, depth: usize) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => string(out, value.as_str().unwrap_or_default(), style.ascii),
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if style.sorted {
                keys.sort_by_key(|key| key.to_string());
            }

            enclosed(out, ['{', '}'], keys.len(), style, depth, |out, i| {
                string(out, &name(&keys[i]), style.ascii);
                out.push_str(&style.key);
                write(out, &value.get_item(&keys[i])?, style, depth + 1)
            })?;
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            enclosed(out, ['[', ']'], items.len(), style, depth, |out, i| write(out, &items[i], style, depth + 1))?;
        }
        kind => return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson cannot write {kind}"))),
    }
    Ok(())
}

fn enclosed(
    out: &mut String,
    [open, close]: [char; 2],
    n: usize,
    style: &Style,
    depth: usize,
    mut item: impl FnMut(&mut String, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    // Python writes an empty list on one line, whatever the indent.
    let line = |out: &mut String, depth: usize| {
        if let Some(indent) = style.indent.as_ref().filter(|_| n > 0) {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    };

    out.push(open);
    for i in 0..n {
        if i > 0 {
            out.push_str(&style.item);
        }
        line(out, depth + 1);
        item(out, i)?;
    }

    line(out, depth);
    out.push(close);
    Ok(())
}

/// A key as `json.dumps` turns it into a string.
fn name(key: &Value) -> String {
    match key.kind() {
        ValueKind::None => "null".into(),
        ValueKind::Bool => key.to_string().to_lowercase(),
        ValueKind::Number => number(key),
        _ => key.to_string(),
    }
}

/// Whole numbers as they are; others as Python's `repr`: with an exponent below 1e-4 and from 1e16 on.
pub(super) fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(float) = f64::try_from(value.clone()) else { return value.to_string() };
    if float.is_nan() {
        return "NaN".into();
    }
    if float.is_infinite() {
        return if float > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if float != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{float:?}")
}

fn string(out: &mut String, text: &str, ascii: bool) {
    let quoted = serde_json::Value::from(text).to_string();
    for c in quoted.chars() {
        if ascii && !c.is_ascii() {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
}
