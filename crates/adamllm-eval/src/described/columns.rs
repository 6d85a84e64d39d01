use adamllm_core::{ImageRef, Row, RowSource};
use serde_json::Value;

use crate::EvalError;

/// A row, and where it stands for error messages.
pub(crate) struct RowReader<'a> {
    pub(crate) row: &'a Row,
    pub(crate) rows: &'a dyn RowSource,
    pub(crate) index: usize,
}

impl RowReader<'_> {
    pub(crate) fn error(&self, column: &str, expected: &str, got: &str) -> EvalError {
        let place = self.rows.place(self.index);
        EvalError::Row { place, column: column.into(), expected: expected.into(), got: got.into() }
    }

    fn value(&self, column: &str) -> Result<&Value, EvalError> {
        self.row.get(column).ok_or_else(|| self.error(column, "a value", "no such column"))
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

    /// One or several picture names; none where the row has no such column.
    pub(crate) fn images(&self, column: &str) -> Result<Vec<ImageRef>, EvalError> {
        match self.row.get(column) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(_) => Ok(self.texts(column)?.into_iter().map(ImageRef::from).collect()),
        }
    }

    /// An id, if the column holds one.
    pub(crate) fn id(&self, column: &str) -> Option<String> {
        match self.row.get(column)? {
            Value::String(id) => Some(id.clone()),
            Value::Number(id) => Some(id.to_string()),
            _ => None,
        }
    }
}
