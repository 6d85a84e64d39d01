use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use adamllm_core::CoreError;
use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::Block;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_schema::SchemaRef;
use bytes::Bytes;

use super::{BoxError, Pages, Shared, check};
use crate::table::{Part, arrow_error, guarded};

/// What comes after the footer: its length, and the mark again.
const TRAILER: usize = 10;

/// An Arrow file with a footer, also one whose buffers are packed: the batch that was decoded last is kept.
#[derive(Debug)]
pub(in crate::table) struct IpcFile {
    path: PathBuf,
    schema: SchemaRef,
    decoder: FileDecoder,
    blocks: Vec<Block>,
    map: Shared,
    decoded: Mutex<Option<(usize, RecordBatch)>>,
}

/// The batches of a file and their numbers of rows.
pub(super) fn opened(path: &Path, map: Shared) -> Result<Vec<(Part, usize)>, CoreError> {
    let failed = arrow_error(path);
    let file = guarded(|| IpcFile::new(path, map)).map_err(|error| failed(error.into()))?;
    let n_rows: Result<Vec<_>, _> = file.blocks.iter().map(|block| guarded(|| file.n_rows(block))).collect();
    let n_rows = n_rows.map_err(|error| failed(error.into()))?;
    let file = Arc::new(file);
    Ok(n_rows.into_iter().enumerate().map(|(i, n)| (Part::Block(Arc::clone(&file), i), n)).collect())
}

impl IpcFile {
    fn new(path: &Path, map: Shared) -> Result<Self, BoxError> {
        let whole = &map.0[..];
        let trailer = whole.len().checked_sub(TRAILER).ok_or("the file is cut off")?;
        let length = read_footer_length(whole[trailer..].try_into()?)
            .map_err(|error| format!("no footer, the file may be cut off: {error}"))?;
        let start = trailer.checked_sub(length).ok_or("the footer is longer than the file")?;
        let footer = arrow_ipc::root_as_footer(&whole[start..trailer]).map_err(|error| error.to_string())?;
        let schema = try_fb_to_schema(footer.schema().ok_or("no schema")?)?;

        let schema = Arc::new(schema);
        let mut decoder = FileDecoder::new(Arc::clone(&schema), footer.version());
        for block in footer.dictionaries().iter().flatten() {
            decoder.read_dictionary(block, &data(&map, block)?)?;
        }
        let blocks = footer.recordBatches().iter().flatten().copied().collect();
        Ok(Self { path: path.into(), schema, decoder, blocks, map, decoded: Mutex::new(None) })
    }

    /// The number of rows, from the batch's header alone.
    fn n_rows(&self, block: &Block) -> Result<usize, BoxError> {
        let block = data(&self.map, block)?;
        let (header, _) = check::header(&block)?.ok_or("a block without a header")?;
        let message = arrow_ipc::root_as_message(header).map_err(|error| error.to_string())?;
        let batch = message.header_as_record_batch().ok_or("a block that is no batch")?;
        Ok(usize::try_from(batch.length())?)
    }

    pub(in crate::table) fn names(&self) -> impl Iterator<Item = &str> {
        self.schema.fields().iter().map(|field| field.name().as_str())
    }

    pub(in crate::table) fn batch(&self, block: usize) -> Result<RecordBatch, CoreError> {
        let mut decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((number, batch)) = &*decoded
            && *number == block
        {
            return Ok(batch.clone());
        }
        let batch = guarded(|| self.decode(&self.blocks[block]));
        let batch = batch.map_err(|error| arrow_error(&self.path)(error.into()))?;
        *decoded = Some((block, batch.clone()));
        Ok(batch)
    }

    fn decode(&self, block: &Block) -> Result<RecordBatch, BoxError> {
        let batch = self.decoder.read_record_batch(block, &data(&self.map, block)?)?;
        batch.ok_or_else(|| "a block without a batch".into())
    }

    /// Gives back the memory that a batch took.
    pub(in crate::table) fn release(&self, block: usize) {
        let mut decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        if decoded.as_ref().is_some_and(|(number, _)| *number == block) {
            *decoded = None;
        }
        if let Some((start, length)) = extent(&self.map, &self.blocks[block]) {
            Pages { map: self.map.clone(), start, length }.release();
        }
    }

    pub(in crate::table) fn release_bytes(&self, bytes: &[u8]) {
        Pages { map: self.map.clone(), start: 0, length: 0 }.release_bytes(bytes);
    }
}

/// Start and length of a block, where it lies in the file.
fn extent(map: &Shared, block: &Block) -> Option<(usize, usize)> {
    let start = usize::try_from(block.offset()).ok()?;
    let header = usize::try_from(block.metaDataLength()).ok()?;
    let length = usize::try_from(block.bodyLength()).ok()?.checked_add(header)?;
    (start.checked_add(length)? <= map.0.len()).then_some((start, length))
}

fn data(map: &Shared, block: &Block) -> Result<Buffer, BoxError> {
    let (start, length) = extent(map, block).ok_or("a block outside of the file: it may be cut off")?;
    let bytes = &map.0[start..start + length];
    let (header, _) = check::header(bytes)?.ok_or("a block without a header")?;
    check::message(header, bytes.get(block.metaDataLength() as usize..).unwrap_or_default())?;
    Ok(Buffer::from(Bytes::from_owner(map.clone())).slice_with_length(start, length))
}
