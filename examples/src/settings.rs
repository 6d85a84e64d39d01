//! Settings files in TOML, read strictly: a key that nobody knows is an error that names the likely one, a value of a wrong type
//! names its key, and single values can be replaced from the command line.
//!
//! The text `"none"` stands for an absent optional value, which TOML cannot write.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

mod node;

use node::Node;

/// What is wrong with a settings file, or with a value from the command line.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    File {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{file} line {line}: {detail}")]
    Syntax {
        /// The file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        detail: String,
    },
    /// An argument of `--set` is not `key=value`, or its key leads nowhere.
    #[error("--set {argument}: expected {expected}")]
    Set {
        /// As it was given.
        argument: String,
        /// What could be there.
        expected: String,
    },
    /// A key that nobody knows.
    #[error("unknown setting `{key}`{}", suggestion(.key, .known))]
    UnknownKey {
        /// From the root.
        key: String,
        /// What may stand in its place, without what stands before the last dot.
        known: Vec<String>,
    },
    /// A value that its key cannot have.
    #[error("setting `{key}`: {detail}")]
    Value {
        /// From the root; empty for the whole file.
        key: String,
        /// What was expected, and what was found.
        detail: String,
    },
}

/// The nearest known name, or all of them where none is near.
fn suggestion(key: &str, known: &[String]) -> String {
    let (place, name) = key.rsplit_once('.').map_or(("", key), |(place, name)| (place, name));
    let full = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    let near = nearest(name, known).map(|near| format!("did you mean `{}`?", full(near)));
    format!(": {}", near.unwrap_or_else(|| format!("expected one of {}", known.join(", "))))
}

/// The known name with the fewest edits, where at most a third of the name is edited.
fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    let distance = |other: &&String| strsim::damerau_levenshtein(name, other);
    let near = known.iter().min_by_key(distance)?;
    (distance(&near) <= name.len().max(3) / 3).then_some(near)
}

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
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Outer {
        rate: f64,
        every: Option<usize>,
        inner: Inner,
        list: Vec<Inner>,
        pair: [f64; 2],
        kind: Kind,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        learning_rate: Option<f64>,
        frozen: bool,
        prefix: String,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        HalfCosine,
        Line,
    }

    impl Default for Outer {
        fn default() -> Self {
            let inner = Inner::default;
            Self { rate: 0.5, every: Some(500), inner: inner(), list: vec![], pair: [0.9, 0.999], kind: Kind::Line }
        }
    }

    fn with(text: &str, assignments: &[&str]) -> Result<Outer, SettingsError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("settings.toml");
        std::fs::write(&file, text).expect("written");
        read(Some(&file), &assignments.iter().map(|&a| a.to_owned()).collect::<Vec<_>>())
    }

    fn fault(text: &str, assignments: &[&str]) -> String {
        with(text, assignments).expect_err("at fault").to_string()
    }

    #[test]
    fn a_file_its_defaults_and_values_from_the_command_line() {
        let text = "rate = 1\nevery = \"none\"\n[[list]]\nprefix = \"a\"\n[[list]]\nprefix = \"b\"\n";
        let assigned = ["inner.learning_rate=2e-6", "list.1.frozen=true", "kind=half_cosine", "list.0.prefix=c d"];
        let read = with(text, &assigned).expect("good settings");
        let inner = |prefix: &str, frozen| Inner { prefix: prefix.into(), frozen, ..Inner::default() };
        let expected = Outer {
            rate: 1.0,
            every: None,
            inner: Inner { learning_rate: Some(2e-6), ..Inner::default() },
            list: vec![inner("c d", false), inner("b", true)],
            kind: Kind::HalfCosine,
            ..Outer::default()
        };
        assert_eq!(read, expected);
        assert_eq!(with(&write(&read).expect("TOML"), &[]).expect("its own output"), read);
        assert_eq!(with(&write(&Outer::default()).expect("TOML"), &[]).expect("its own output"), Outer::default());
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_likely_one() {
        let meant = |text, assigned: &[&str], key: &str, likely: &str| {
            assert_eq!(fault(text, assigned), format!("unknown setting `{key}`: did you mean `{likely}`?"));
        };
        meant("rat = 1", &[], "rat", "rate");
        meant("[inner]\nlerning_rate = 1", &[], "inner.lerning_rate", "inner.learning_rate");
        meant("[[list]]\n[[list]]\nforzen = true", &[], "list.1.forzen", "list.1.frozen");
        meant("", &["inner.learningrate=1"], "inner.learningrate", "inner.learning_rate");
        assert!(fault("volume = 3", &[]).ends_with("expected one of rate, every, inner, list, pair, kind"));
    }

    #[test]
    fn a_wrong_value_names_its_key() {
        for (text, key, found) in [
            ("rate = \"fast\"", "rate", "\"fast\""),
            ("every = -3", "every", "-3"),
            ("[inner]\nfrozen = 1", "inner.frozen", "1"),
            ("pair = [0.9, true]", "pair.1", "true"),
            ("kind = \"square\"", "kind", "square"),
            ("inner = 3", "inner", "3"),
        ] {
            let fault = fault(text, &[]);
            assert!(fault.starts_with(&format!("setting `{key}`: ")) && fault.contains(found), "{fault}");
        }
        assert!(fault("rate = 1\n\n= 3", &[]).contains("line 3: "));
        assert!(fault("", &["rate"]).contains("expected key=value"));
        assert!(fault("", &["list.0.prefix=1"]).starts_with("setting `list`: expected a sequence"));
        assert!(fault("[[list]]", &["list.1.prefix=1"]).contains("below 1"));
    }

    #[test]
    fn differences_name_both_values() {
        let other = Outer { every: None, inner: Inner { frozen: true, ..Inner::default() }, ..Outer::default() };
        let found = differences(&Outer::default(), &other).expect("plain values");
        let texts: Vec<_> = found.iter().map(|(key, a, b)| format!("{key} {a} {b}")).collect();
        assert_eq!(texts, ["every 500 none", "inner.frozen false true"]);
    }
}
