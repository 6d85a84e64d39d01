use std::borrow::Cow;
use std::path::{Path, PathBuf};

use adamllm_core::{CoreError, Row, RowSource};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::EvalError;

/// Rows of a JSON Lines file, or of a JSON file that holds one array. The file is in memory; lines are parsed when they are
/// asked for, so that a large file is never there twice.
#[derive(Debug)]
pub struct JsonRows {
    path: PathBuf,
    rows: Store,
}

#[derive(Debug)]
enum Store {
    Parsed(Vec<Numbered>),
    Lines {
        content: Vec<u8>,
        lines: Vec<Line>,
        /// The columns that are kept; all where `None`.
        columns: Option<Vec<String>>,
    },
}

/// A row's number in the file, counted from 1, and the row or why it is none.
type Numbered = (u64, Result<Row, String>);

/// A line's number, counted from 1, and its bytes in the file.
type Line = (u64, std::ops::Range<usize>);

impl JsonRows {
    /// Reads the file. A line that is not a JSON object (or not UTF-8) costs itself only.
    ///
    /// # Errors
    /// [`CoreError::Io`]; [`CoreError::Json`] where a JSON array does not parse.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, EvalError> {
        Self::read_wanted(path.as_ref(), None)
    }

    /// [`JsonRows::read`] that keeps some columns only; the others are skipped without being stored.
    ///
    /// # Errors
    /// As [`JsonRows::read`].
    pub fn read_columns(path: impl AsRef<Path>, columns: &[String]) -> Result<Self, EvalError> {
        Self::read_wanted(path.as_ref(), Some(columns))
    }

    fn read_wanted(path: &Path, columns: Option<&[String]>) -> Result<Self, EvalError> {
        let path = path.to_path_buf();
        let content = std::fs::read(&path).map_err(CoreError::io("read", &path))?;
        let start = if content.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        let first = content[start..].iter().find(|b| !b.is_ascii_whitespace());
        let rows = if first == Some(&b'[') {
            Store::Parsed(array_rows(&path, &content[start..])?)
        } else {
            Store::Lines { lines: lines_of(&content, start), columns: columns.map(<[_]>::to_vec), content }
        };
        Ok(Self { path, rows })
    }

    /// Rows that are in memory already; `name` stands for the file in error messages.
    pub fn from_rows(name: impl Into<PathBuf>, rows: impl IntoIterator<Item = Row>) -> Self {
        let rows = rows.into_iter().enumerate().map(|(i, row)| (i as u64 + 1, Ok(row))).collect();
        Self { path: name.into(), rows: Store::Parsed(rows) }
    }

    fn no_object(&self, index: usize, got: String) -> CoreError {
        CoreError::Field { record: self.place(index), field: "(row)", expected: "a JSON object".into(), got }
    }
}

impl RowSource for JsonRows {
    fn len(&self) -> usize {
        match &self.rows {
            Store::Parsed(rows) => rows.len(),
            Store::Lines { lines, .. } => lines.len(),
        }
    }

    fn row(&self, index: usize) -> Result<Cow<'_, Row>, CoreError> {
        match &self.rows {
            Store::Parsed(rows) => match &rows[index].1 {
                Ok(row) => Ok(Cow::Borrowed(row)),
                Err(got) => Err(self.no_object(index, got.clone())),
            },
            Store::Lines { content, lines, columns } => {
                let parsed = parse(&content[lines[index].1.clone()], columns.as_deref());
                parsed.map(Cow::Owned).map_err(|error| self.no_object(index, error.to_string()))
            }
        }
    }

    fn place(&self, index: usize) -> String {
        let number = match &self.rows {
            Store::Parsed(rows) => rows[index].0,
            Store::Lines { lines, .. } => lines[index].0,
        };
        format!("{} row {number}", self.path.display())
    }
}

fn array_rows(path: &Path, content: &[u8]) -> Result<Vec<Numbered>, EvalError> {
    let values: Vec<Value> = serde_json::from_slice(content).map_err(|source| CoreError::Json {
        path: path.to_path_buf(),
        row: source.line() as u64,
        source,
    })?;
    let row = |(i, value): (usize, Value)| match value {
        Value::Object(row) => (i as u64 + 1, Ok(row)),
        other => (i as u64 + 1, Err(other.to_string())),
    };
    Ok(values.into_iter().enumerate().map(row).collect())
}

/// The lines that are not blank.
fn lines_of(content: &[u8], start: usize) -> Vec<Line> {
    let mut at = start;
    let line = |(number, line): (u64, &[u8])| {
        let begin = at;
        at += line.len() + 1;
        (!line.iter().all(u8::is_ascii_whitespace)).then_some((number, begin..begin + line.len()))
    };
    (1..).zip(content[start..].split(|&b| b == b'\n')).filter_map(line).collect()
}

fn parse(line: &[u8], columns: Option<&[String]>) -> serde_json::Result<Row> {
    let Some(columns) = columns else { return serde_json::from_slice(line) };
    let mut json = serde_json::Deserializer::from_slice(line);
    let row = WantedColumns(columns).deserialize(&mut json)?;
    json.end().map(|()| row)
}

/// Reads a JSON object and keeps these columns.
struct WantedColumns<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for WantedColumns<'_> {
    type Value = Row;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Row, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WantedColumns<'_> {
    type Value = Row;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
        let mut row = Row::with_capacity(self.0.len());
        while let Some(wanted) = map.next_key_seed(WantedKey(self.0))? {
            match wanted {
                Some(column) => drop(row.insert(column.clone(), map.next_value()?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(row)
    }
}

/// Reads a key without storing it: the wanted column that it names.
struct WantedKey<'a>(&'a [String]);

impl<'de, 'a> DeserializeSeed<'de> for WantedKey<'a> {
    type Value = Option<&'a String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for WantedKey<'a> {
    type Value = Option<&'a String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a column's name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|column| *column == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_columns_are_checked_but_not_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("rows.jsonl");
        std::fs::write(
            &path,
            "{\"a\": [1], \"b\": {\"a\": 2}, \"\\u0063\": \"x\"}\n{\"a\": 1, \"b\": }\n{\"a\": 1} 2\n3\n",
        )
        .expect("writes");
        let rows = JsonRows::read_columns(&path, &["a".into(), "c".into()]).expect("reads");
        let row = rows.row(0).expect("a row").into_owned();
        assert_eq!(Value::Object(row), serde_json::json!({"a": [1], "c": "x"}));
        assert!((1..4).all(|index| rows.row(index).is_err()));
        assert!(rows.place(3).ends_with("row 4"));
    }
}
