use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use adamllm_core::CoreError;
use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use super::{Part, arrow_error};

/// A parquet file and the row group that was unpacked last.
#[derive(Debug)]
pub(super) struct ParquetFile {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    unpacked: Mutex<Option<(usize, RecordBatch)>>,
}

/// The row groups of a file and their numbers of rows.
pub(super) fn opened(path: &Path) -> Result<Vec<(Part, usize)>, CoreError> {
    let failed = arrow_error(path);
    let file = File::open(path).map_err(CoreError::io("open", path))?;
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|error| failed(error.into()))?;
    let n_rows: Vec<_> = metadata.metadata().row_groups().iter().map(|group| group.num_rows() as usize).collect();
    let file = Arc::new(ParquetFile { path: path.into(), metadata, unpacked: Mutex::new(None) });
    let part = |(group, n)| (Part::RowGroup(Arc::clone(&file), group), n);
    Ok(n_rows.into_iter().enumerate().map(part).collect())
}

impl ParquetFile {
    /// A whole row group as one batch.
    pub(super) fn row_group(&self, group: usize) -> Result<RecordBatch, CoreError> {
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((number, batch)) = &*unpacked
            && *number == group
        {
            return Ok(batch.clone());
        }
        let batch = self.unpack(group)?;
        *unpacked = Some((group, batch.clone()));
        Ok(batch)
    }

    /// Forgets a row group, if it is the one that was unpacked last.
    pub(super) fn release(&self, group: usize) {
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if unpacked.as_ref().is_some_and(|(number, _)| *number == group) {
            *unpacked = None;
        }
    }

    fn unpack(&self, group: usize) -> Result<RecordBatch, CoreError> {
        let failed = arrow_error(&self.path);
        let file = File::open(&self.path).map_err(CoreError::io("open", &self.path))?;
        let n_rows = self.metadata.metadata().row_group(group).num_rows().max(1) as usize;
        let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_row_groups(vec![group])
            .with_batch_size(n_rows)
            .build()
            .map_err(|error| failed(error.into()))?;
        match reader.next() {
            Some(batch) => batch.map_err(|error| failed(error.into())),
            None => Ok(RecordBatch::new_empty(Arc::clone(self.metadata.schema()))),
        }
    }
}
