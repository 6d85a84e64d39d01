use adamllm_core::{ImageRef, JsonObject, RecordSource};
use serde_json::{Number, Value};

use crate::EvalError;

/// A record, and its location for error messages.
pub(crate) struct RecordReader<'a> {
    pub(crate) record: &'a JsonObject,
    pub(crate) records: &'a dyn RecordSource,
    pub(crate) index: usize,
}

impl RecordReader<'_> {
    pub(crate) fn error(&self, column: &str, expected: &str, got: &str) -> EvalError {
        let location = self.records.location(self.index);
        EvalError::Record { location, column: column.into(), expected: expected.into(), got: got.into() }
    }

    /// Whether the record has something in a column: `null` counts as nothing.
    pub(crate) fn has(&self, column: &str) -> bool {
        self.record.get(column).is_some_and(|value| !value.is_null())
    }

    fn value(&self, column: &str) -> Result<&Value, EvalError> {
        self.record.get(column).ok_or_else(|| self.error(column, "a value", "no such column"))
    }

    /// Text; numbers and booleans as they are written.
    pub(crate) fn text(&self, column: &str) -> Result<String, EvalError> {
        match self.value(column)? {
            Value::String(text) => Ok(text.clone()),
            value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
            other => Err(self.error(column, "text", &other.to_string())),
        }
    }

    /// A list of texts; one text is a list of one.
    pub(crate) fn texts(&self, column: &str) -> Result<Vec<String>, EvalError> {
        match self.value(column)? {
            Value::Array(items) => {
                let text = |item: &Value| item.as_str().map(str::to_owned);
                let texts: Option<Vec<_>> = items.iter().map(text).collect();
                texts.ok_or_else(|| self.error(column, "a list of texts", &Value::Array(items.clone()).to_string()))
            }
            _ => Ok(vec![self.text(column)?]),
        }
    }

    /// One or several image names, each a text or an object with a `path`; none where the record has no such column, or nothing
    /// in it.
    pub(crate) fn images(&self, column: &str) -> Result<Vec<ImageRef>, EvalError> {
        match self.record.get(column) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                let names =
                    items.iter().map(|item| self.image(column, item)?.ok_or_else(|| self.no_name(column, item)));
                names.collect()
            }
            Some(value) => Ok(self.image(column, value)?.into_iter().collect()),
        }
    }

    fn image(&self, column: &str, value: &Value) -> Result<Option<ImageRef>, EvalError> {
        let name = match value {
            Value::Null => None,
            Value::String(name) => Some(name.clone()),
            Value::Number(name) => Some(name.to_string()),
            Value::Object(members) => match (members.get("bytes"), members.get("path")) {
                (None | Some(Value::Null), Some(Value::String(path))) => Some(path.clone()),
                (None | Some(Value::Null), Some(Value::Null)) => None,
                _ => return Err(self.no_name(column, value)),
            },
            _ => return Err(self.no_name(column, value)),
        };
        Ok(name.filter(|name| !name.trim().is_empty()).map(ImageRef::from))
    }

    fn no_name(&self, column: &str, value: &Value) -> EvalError {
        let got: String = value.to_string().chars().take(80).collect();
        self.error(column, "an image's name, an object with its `path` and no bytes, or a list of them", &got)
    }

    /// An id, if the column holds one.
    pub(crate) fn id(&self, column: &str) -> Result<Option<String>, EvalError> {
        match self.record.get(column) {
            Some(Value::String(id)) => Ok(Some(id.clone())),
            Some(Value::Number(id)) => match id_text(id) {
                Ok(id) => Ok(Some(id)),
                Err(problem) => Err(self.error(column, "an exact id", &format!("{id} ({problem})"))),
            },
            _ => Ok(None),
        }
    }
}

/// A number as an id: `1` and `1.0` are the same. `Err` for one that is past what a float holds exactly: it may stand for
/// several.
pub(crate) fn id_text(number: &Number) -> Result<String, &'static str> {
    match (whole_number(number), number.as_f64()) {
        (Some(whole), _) => Ok(whole.to_string()),
        (None, Some(float)) if !number.is_i64() && float.abs() >= EXACT => {
            Err("the id is a number too large to be exact: write it as text")
        }
        (None, Some(float)) if float.fract() == 0.0 => Ok(format!("{float:.0}")),
        _ => Ok(number.to_string()),
    }
}

/// From here on, floats leave whole numbers out.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A number that is whole and not negative, whether written `1` or `1.0`.
pub(crate) fn whole_number(number: &Number) -> Option<u64> {
    let of_float = |float: f64| (float.fract() == 0.0 && (0.0..EXACT).contains(&float)).then_some(float as u64);
    number.as_u64().or_else(|| number.as_f64().filter(|_| number.is_f64()).and_then(of_float))
}
