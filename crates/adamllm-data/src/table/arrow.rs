use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use adamllm_core::CoreError;
use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use bytes::Bytes;
use memmap2::Mmap;

use super::{Part, arrow_error, guarded};

mod check;
mod file;

pub(super) use file::IpcFile;

/// A batch of an Arrow stream, its columns lying in the mapped file.
#[derive(Clone, Debug)]
pub(super) struct MappedBatch {
    pub(super) batch: RecordBatch,
    pages: Pages,
}

/// The batches of an Arrow file in either form, and their numbers of rows.
pub(super) fn opened(path: &Path) -> Result<Vec<(Part, usize)>, CoreError> {
    let file = File::open(path).map_err(CoreError::io("open", path))?;
    // SAFETY: the file is mapped for reading only, and this crate never changes a table in place: a download takes its
    // name when it is whole. What cannot be checked here, as with every mapping: no other process may cut or change the
    // file while it is used. Tables are written once.
    let map = unsafe { Mmap::map(&file) }.map_err(CoreError::io("map", path))?;
    let map = Shared(Arc::new(map));
    match &map.0[..map.0.len().min(MAGIC.len())] {
        start if start == MAGIC => file::opened(path, map),
        [b'F', b'E', b'A', b'1', ..] => Err(CoreError::Layout {
            path: path.into(),
            expected: "an Arrow file or stream".into(),
            got: "Feather version 1: write it again with a pyarrow of today".into(),
        }),
        _ => streamed(path, map),
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the file form begins with; a stream has no such mark.
const MAGIC: &[u8] = b"ARROW1";

fn streamed(path: &Path, map: Shared) -> Result<Vec<(Part, usize)>, CoreError> {
    let n_bytes = map.0.len();
    let mut rest = Buffer::from(Bytes::from_owner(map.clone()));
    let mut decoder = StreamDecoder::new();
    let mut batches = Vec::new();
    let failed = arrow_error(path);
    guarded(|| check::stream(&map.0)).map_err(|error| failed(error.into()))?;
    while !rest.is_empty() {
        let start = n_bytes - rest.len();
        let batch = guarded(|| decoder.decode(&mut rest)).map_err(|error| failed(error.into()))?;
        let Some(batch) = batch else { break };
        let pages = Pages { map: map.clone(), start, length: n_bytes - rest.len() - start };
        pages.release();
        batches.push((batch.num_rows(), MappedBatch { batch, pages }));
    }
    decoder.finish().map_err(|error| failed(error.into()))?;
    Ok(batches.into_iter().map(|(n, batch)| (Part::Mapped(batch), n)).collect())
}

impl MappedBatch {
    /// Gives the memory back that holds this batch. It stays usable: what is used again is read from the file again.
    pub(super) fn release(&self) {
        self.pages.release();
    }

    /// [`MappedBatch::release`] for a part of the batch.
    pub(super) fn release_bytes(&self, bytes: &[u8]) {
        self.pages.release_bytes(bytes);
    }
}

impl Pages {
    /// [`Pages::release`] for bytes that may lie in the file.
    fn release_bytes(&self, bytes: &[u8]) {
        let base = self.map.0.as_ptr() as usize;
        let offset =
            (bytes.as_ptr() as usize).checked_sub(base).filter(|offset| offset + bytes.len() <= self.map.0.len());
        if let Some(start) = offset {
            Pages { map: self.map.clone(), start, length: bytes.len() }.release();
        }
    }
}

/// A mapping that several batches and buffers share.
#[derive(Clone, Debug)]
struct Shared(Arc<Mmap>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A part of a mapped file.
#[derive(Clone, Debug)]
struct Pages {
    map: Shared,
    start: usize,
    length: usize,
}

impl Pages {
    /// Mapped pages count as this process's memory until they are given back, so reading a large table would fill it.
    fn release(&self) {
        #[cfg(unix)]
        // SAFETY: `start + length` is at most the mapping's length: whoever makes a `Pages` has checked it, which `memmap2`
        // does not. The mapping is of a file and is only ever read, so that a page that is given back, a neighbour's part
        // of it included, has the file's content again when it is touched.
        let advised =
            unsafe { self.map.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, self.start, self.length) };
        #[cfg(unix)]
        if let Err(error) = advised {
            tracing::debug!(%error, "the pages of a table stay in memory");
        }
    }
}
