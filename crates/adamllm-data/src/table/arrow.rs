use std::fs::File;
use std::path::Path;

use adamllm_core::CoreError;
use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use bytes::Bytes;
use memmap2::Mmap;

use super::arrow_error;

/// The batches of an Arrow stream, their columns lying in the mapped file.
pub(super) fn mapped(path: &Path) -> Result<Vec<RecordBatch>, CoreError> {
    let file = File::open(path).map_err(CoreError::io("open", path))?;
    // SAFETY: the file is mapped for reading only. As with every mapping, it must not be cut by another process while it
    // is used; tables are written once.
    let map = unsafe { Mmap::map(&file) }.map_err(CoreError::io("map", path))?;
    let mut rest = Buffer::from(Bytes::from_owner(map));
    let mut decoder = StreamDecoder::new();
    let mut batches = Vec::new();
    let failed = arrow_error(path);
    while !rest.is_empty() {
        match decoder.decode(&mut rest).map_err(|error| failed(error.into()))? {
            Some(batch) => batches.push(batch),
            None => break,
        }
    }
    decoder.finish().map_err(|error| failed(error.into()))?;
    Ok(batches)
}
