use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::CoreError;

/// A record as its file has it: values by name, which are the columns of a table.
pub type JsonObject = Map<String, Value>;

/// Records that are read one by one, wherever they are: a JSON file, an Arrow folder, memory.
///
/// Whoever reads tables implements this, and whoever needs records takes it, so that the two need not know each other.
/// An image inside a record is a text in its column: the [`ImageRef`](crate::ImageRef) under which the source's
/// [`ImageStore`](crate::ImageStore) finds it.
pub trait RecordSource: Send + Sync {
    /// The number of records.
    fn len(&self) -> usize;

    /// Whether there is no record.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads one record, `index` from 0.
    ///
    /// # Errors
    /// [`CoreError::Json`] and [`CoreError::Field`] for a record that is no object; [`CoreError::Io`] for a file at fault.
    fn record(&self, index: usize) -> Result<Cow<'_, JsonObject>, CoreError>;

    /// The record's location for error messages: its file, and its number counted from 1.
    fn location(&self, index: usize) -> String;
}

impl<S: RecordSource + ?Sized> RecordSource for Arc<S> {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn record(&self, index: usize) -> Result<Cow<'_, JsonObject>, CoreError> {
        (**self).record(index)
    }
    fn location(&self, index: usize) -> String {
        (**self).location(index)
    }
}
