use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::CoreError;

/// A row of a table: columns by name.
pub type Row = Map<String, Value>;

/// Rows that are read one by one, wherever they lie: a JSON file, an Arrow folder, memory.
///
/// Whoever reads tables implements this, and whoever needs rows takes it, so that the two need not know each other.
/// An image that lies in a row is a text in its column: the [`ImageRef`](crate::ImageRef) under which the rows'
/// [`ImageStore`](crate::ImageStore) finds it.
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
    /// [`CoreError::Json`] and [`CoreError::Field`] for a row that is none; [`CoreError::Io`] for a file at fault.
    fn row(&self, index: usize) -> Result<Cow<'_, Row>, CoreError>;

    /// The row's place for error messages: file and row, counted from 1.
    fn place(&self, index: usize) -> String;
}

impl<S: RowSource + ?Sized> RowSource for Arc<S> {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn row(&self, index: usize) -> Result<Cow<'_, Row>, CoreError> {
        (**self).row(index)
    }
    fn place(&self, index: usize) -> String {
        (**self).place(index)
    }
}
