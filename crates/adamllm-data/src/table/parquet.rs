use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use adamllm_core::CoreError;
use arrow_array::ArrayRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};

use super::{Column, Part, arrow_error, guarded};

/// A parquet file and what was unpacked last.
#[derive(Debug)]
pub(super) struct ParquetFile {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    /// A row group, and those of its columns that were asked for.
    unpacked: Mutex<(usize, Vec<Option<Column>>)>,
}

/// The row groups of a file and their numbers of rows.
pub(super) fn opened(path: &Path) -> Result<Vec<(Part, usize)>, CoreError> {
    let failed = arrow_error(path);
    let file = File::open(path).map_err(CoreError::io("open", path))?;
    let load = |options| guarded(|| ArrowReaderMetadata::load(&file, options));
    // Arrow's own notes about the types are left out where they do not fit what the file holds.
    let metadata = load(ArrowReaderOptions::new())
        .or_else(|error| load(ArrowReaderOptions::new().with_skip_arrow_metadata(true)).map_err(|_| error))
        .map_err(|error| failed(error.into()))?;
    let n_rows: Result<Vec<_>, _> = metadata.metadata().row_groups().iter().map(n_rows).collect();
    let n_rows = n_rows.map_err(|error| failed(error.into()))?;
    let unpacked = Mutex::new((usize::MAX, Vec::new()));
    let file = Arc::new(ParquetFile { path: path.into(), metadata, unpacked });
    let part = |(group, n)| (Part::RowGroup(Arc::clone(&file), group), n);
    Ok(n_rows.into_iter().enumerate().map(part).collect())
}

/// A row group's number of rows, which no column can have fewer values than.
fn n_rows(group: &RowGroupMetaData) -> Result<usize, String> {
    let n_rows = group.num_rows();
    let fewest = group.columns().iter().map(ColumnChunkMetaData::num_values).min();
    if n_rows < 0 || fewest.is_some_and(|fewest| fewest < n_rows) {
        let fewest = fewest.unwrap_or_default();
        return Err(format!("the file is damaged: {n_rows} rows, and {fewest} values in one of their columns"));
    }
    usize::try_from(n_rows).map_err(|error| error.to_string())
}

impl ParquetFile {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.metadata.schema().fields().iter().map(|field| field.name().as_str())
    }

    /// One column of a row group; the others are not read.
    pub(super) fn column(&self, group: usize, column: usize) -> Column {
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if unpacked.0 != group {
            *unpacked = (group, vec![None; self.metadata.schema().fields().len()]);
        }
        unpacked.1[column].get_or_insert_with(|| guarded(|| self.unpack(group, column))).clone()
    }

    /// Forgets a row group, if it is the one that was unpacked last.
    pub(super) fn release(&self, group: usize) {
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if unpacked.0 == group {
            *unpacked = (usize::MAX, Vec::new());
        }
    }

    fn unpack(&self, group: usize, column: usize) -> Result<ArrayRef, String> {
        let file = File::open(&self.path).map_err(|error| error.to_string())?;
        let n_rows = self.metadata.metadata().row_group(group).num_rows().max(1) as usize;
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), [column]);
        let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_row_groups(vec![group])
            .with_projection(mask)
            .with_batch_size(n_rows)
            .build()
            .map_err(|error| error.to_string())?;
        let batch = reader.next().ok_or("no values in this row group")?.map_err(|error| error.to_string())?;
        match batch.columns() {
            [column] if column.len() == n_rows => Ok(Arc::clone(column)),
            _ => Err("fewer values than rows".into()),
        }
    }
}
