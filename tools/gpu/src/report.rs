//! Where results go: a line for each on the way, and one JSON file that is whole after every one of them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::Answer;

/// A JSON object in a file, written again with every change, so that a run that is cut off leaves what it had.
#[derive(Debug)]
pub(crate) struct Report {
    file: Option<PathBuf>,
    members: Map<String, Value>,
}

impl Report {
    /// An empty report; without a file it is kept nowhere.
    pub(crate) fn new(file: Option<&Path>) -> Self {
        Self { file: file.map(Into::into), members: Map::new() }
    }

    /// Sets a member.
    ///
    /// # Errors
    /// The file.
    pub(crate) fn set(&mut self, name: &str, value: Value) -> Answer<()> {
        self.members.insert(name.to_owned(), value);
        self.write()
    }

    fn write(&self) -> Answer<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let text = format!("{:#}\n", Value::Object(self.members.clone()));
        Ok(adamllm::core::write_atomically(file, text)?)
    }
}
