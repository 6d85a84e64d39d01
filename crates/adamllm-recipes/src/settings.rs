//! Settings files in TOML, read strictly: a key that nobody knows is an error that names the likely one, a value of a wrong type
//! names its key, and single values can be replaced from the command line.
//!
//! The text `"none"` stands for an absent optional value, which TOML cannot write.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

mod error;
mod node;

pub use error::SettingsError;
use node::Node;

/// The settings of a file (an empty one where there is none), with the values of `assignments` (`a.b=c`) in place of its own.
///
/// # Errors
/// [`SettingsError`] with the file or the key at fault.
pub fn read<T: DeserializeOwned>(file: Option<&Path>, assignments: &[String]) -> Result<T, SettingsError> {
    let mut table = file.map_or_else(|| Ok(Table::new()), parse)?;
    for assignment in assignments {
        assign(&mut table, assignment)?;
    }
    let value = Value::Table(table);
    T::deserialize(Node::root(&value))
}

/// Settings as TOML that [`read`] gives back: every key is there, absent values as `"none"`.
///
/// # Errors
/// [`SettingsError::Value`] for what TOML cannot hold.
pub fn write<T: Serialize>(settings: &T) -> Result<String, SettingsError> {
    let fault = |detail: String| SettingsError::Value { key: String::new(), detail };
    let json = serde_json::to_value(settings).map_err(|e| fault(e.to_string()))?;
    toml::to_string(&from_json(&json)?).map_err(|e| fault(e.to_string()))
}

fn from_json(json: &serde_json::Value) -> Result<Value, SettingsError> {
    use serde_json::Value as Json;
    Ok(match json {
        // TOML has no null; `read` takes this word for an absent value.
        Json::Null => Value::String("none".into()),
        Json::Bool(value) => Value::Boolean(*value),
        Json::String(value) => Value::String(value.clone()),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Value::Integer(integer),
            (None, Some(float)) => Value::Float(float),
            (None, None) => {
                return Err(SettingsError::Value {
                    key: String::new(),
                    detail: format!("{number} has no place in TOML"),
                });
            }
        },
        Json::Array(values) => Value::Array(values.iter().map(from_json).collect::<Result<_, _>>()?),
        Json::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| Ok((key.clone(), from_json(value)?)));
            Value::Table(fields.collect::<Result<_, SettingsError>>()?)
        }
    })
}

fn parse(file: &Path) -> Result<Table, SettingsError> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|source| SettingsError::File { file: name.clone(), source })?;
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text[..before].matches('\n').count();
        SettingsError::Syntax { file: name, line, detail: error.message().to_owned() }
    })
}

/// Puts `value` at `key` of `key=value`: a TOML value where it is one, text otherwise.
fn assign(table: &mut Table, assignment: &str) -> Result<(), SettingsError> {
    let fault = |expected: &str| SettingsError::Set { argument: assignment.into(), expected: expected.into() };
    let (key, value) = assignment.split_once('=').ok_or_else(|| fault("key=value"))?;
    let (key, value) = (key.trim(), value.trim());

    // What is no TOML value is text: an answer on the command line needs no quotes of TOML inside those of the shell.
    let parsed = format!("value = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    let value = parsed.unwrap_or_else(|| Value::String(value.into()));

    let mut parts = key.split('.');
    let first = parts.next().filter(|part| !part.is_empty()).ok_or_else(|| fault("a key before the equals sign"))?;
    let mut place = table.entry(first).or_insert_with(|| Value::Table(Table::new()));

    for part in parts {
        place = match place {
            Value::Table(table) => table.entry(part).or_insert_with(|| Value::Table(Table::new())),
            Value::Array(values) => {
                let n = values.len();
                let expected = format!("a number below {n} in place of `{part}`");
                part.parse().ok().and_then(|i: usize| values.get_mut(i)).ok_or_else(|| fault(&expected))?
            }
            _ => return Err(fault(&format!("a table before `{part}`"))),
        };
    }

    *place = value;
    Ok(())
}

/// The keys (with dots) in which two settings differ, with both values.
///
/// # Errors
/// As [`write()`].
pub fn differences<T: Serialize>(a: &T, b: &T) -> Result<Vec<(String, String, String)>, SettingsError> {
    let flat = |settings: &T| -> Result<_, SettingsError> {
        let json = serde_json::to_value(settings)
            .map_err(|e| SettingsError::Value { key: String::new(), detail: e.to_string() })?;
        let mut flat = std::collections::BTreeMap::new();
        flatten("", &json, &mut flat);
        Ok(flat)
    };
    let (a, b) = (flat(a)?, flat(b)?);
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let shown =
        |side: &std::collections::BTreeMap<String, String>, key| side.get(key).cloned().unwrap_or("none".into());
    let differing = keys.into_iter().filter(|key| a.get(*key) != b.get(*key));
    Ok(differing.map(|key| (key.clone(), shown(&a, key), shown(&b, key))).collect())
}

fn flatten(key: &str, json: &serde_json::Value, flat: &mut std::collections::BTreeMap<String, String>) {
    let below = |part: &str| if key.is_empty() { part.to_owned() } else { format!("{key}.{part}") };
    match json {
        serde_json::Value::Object(fields) => fields.iter().for_each(|(part, value)| flatten(&below(part), value, flat)),
        serde_json::Value::Array(values) => {
            values.iter().enumerate().for_each(|(i, value)| flatten(&below(&i.to_string()), value, flat));
        }
        serde_json::Value::Null => {}
        plain => {
            flat.insert(key.to_owned(), plain.to_string());
        }
    }
}

#[cfg(test)]
mod tests;
