use std::borrow::Cow;
use std::path::{Path, PathBuf};

use adamllm_core::CoreError;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde_json::{Map, Value};

use crate::EvalError;

/// A row of a benchmark's file: columns by name.
pub type Row = Map<String, Value>;

/// Where a benchmark's rows come from. JSON files are read here; Arrow and parquet readers implement this elsewhere, giving
/// pictures a name in the `image` column under which their [`ImageStore`](adamllm_core::ImageStore) finds them.
pub trait RowSource: Send + Sync {
    /// The number of rows.
    fn len(&self) -> usize;

    /// Whether there is no row.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads one row, `index` from 0.
    ///
    /// # Errors
    /// A row that is not readable, or a file that is not.
    fn row(&self, index: usize) -> Result<Cow<'_, Row>, EvalError>;

    /// The row's place for error messages: file and row, counted from 1.
    fn place(&self, index: usize) -> String;
}

/// Rows of a JSON Lines file, or of a JSON file that holds one array, in memory.
#[derive(Debug, Default)]
pub struct JsonRows {
    path: PathBuf,
    rows: Vec<Numbered>,
}

/// A row's number in the file, counted from 1, and the row or why it is none.
type Numbered = (u64, Result<Row, String>);

impl JsonRows {
    /// Reads the file. A line that is not a JSON object (or not UTF-8) costs itself only.
    ///
    /// # Errors
    /// [`CoreError::Io`]; [`CoreError::Json`] where a JSON array does not parse.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, EvalError> {
        let path = path.as_ref().to_path_buf();
        let content = std::fs::read(&path).map_err(CoreError::io("read", &path))?;
        let first = content.iter().find(|b| !b.is_ascii_whitespace());
        let rows = if first == Some(&b'[') { array_rows(&path, &content)? } else { line_rows(&content) };
        Ok(Self { path, rows })
    }

    /// Rows that are in memory already; `name` stands for the file in error messages.
    pub fn from_rows(name: impl Into<PathBuf>, rows: impl IntoIterator<Item = Row>) -> Self {
        let rows = rows.into_iter().enumerate().map(|(i, row)| (i as u64 + 1, Ok(row))).collect();
        Self { path: name.into(), rows }
    }
}

impl RowSource for JsonRows {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn row(&self, index: usize) -> Result<Cow<'_, Row>, EvalError> {
        match &self.rows[index].1 {
            Ok(row) => Ok(Cow::Borrowed(row)),
            Err(got) => Err(EvalError::Row {
                place: self.place(index),
                column: "(all)".into(),
                expected: "a JSON object".into(),
                got: got.clone(),
            }),
        }
    }

    fn place(&self, index: usize) -> String {
        format!("{} row {}", self.path.display(), self.rows[index].0)
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

fn line_rows(content: &[u8]) -> Vec<Numbered> {
    let numbered = (1..).zip(content.split(|&b| b == b'\n'));
    let lines: Vec<_> = numbered.filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace)).collect();
    lines.into_par_iter().map(|(n, line)| (n, serde_json::from_slice(line).map_err(|e| e.to_string()))).collect()
}
