use std::fs;
use std::path::PathBuf;

use adamllm_core::CoreError;
use adamllm_core::jsonl::Appender;
use serde::Serialize;

/// A final file while it is written: records go to a temporary file beside it, which [`OrderedFile::finish`] renames.
pub(crate) struct OrderedFile {
    appender: Appender,
    beside: PathBuf,
    path: PathBuf,
}

impl OrderedFile {
    pub(crate) fn create(path: PathBuf) -> Result<Self, CoreError> {
        let beside = path.with_added_extension("partial");
        fs::write(&beside, "").map_err(CoreError::io("create", &beside))?;
        Ok(Self { appender: Appender::open(&beside)?, beside, path })
    }

    pub(crate) fn append(&mut self, record: &impl Serialize) -> Result<(), CoreError> {
        self.appender.append([record])
    }

    pub(crate) fn finish(self) -> Result<PathBuf, CoreError> {
        self.appender.sync()?;
        fs::rename(&self.beside, &self.path).map_err(CoreError::io("rename", &self.beside))?;
        Ok(self.path)
    }
}
