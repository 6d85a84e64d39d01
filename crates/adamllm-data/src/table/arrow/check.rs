//! Messages are looked at before they are decoded: a damaged length must not become an allocation.

use arrow_ipc::CompressionType;

use super::BoxError;

/// Looks at every message of a stream.
pub(super) fn stream(mut rest: &[u8]) -> Result<(), BoxError> {
    while let Some((header, tail)) = header(rest)? {
        let length =
            usize::try_from(arrow_ipc::root_as_message(header).map_err(|error| error.to_string())?.bodyLength())?;
        let body = tail.get(..length).ok_or("the file is cut off inside a batch")?;
        message(header, body)?;
        rest = &tail[length..];
    }
    Ok(())
}

/// A message's header, and what comes after it.
type Parts<'a> = (&'a [u8], &'a [u8]);

/// The next message; `None` at the end of a stream.
pub(super) fn header(bytes: &[u8]) -> Result<Option<Parts<'_>>, BoxError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let bytes = bytes.strip_prefix(&[0xFF; 4]).unwrap_or(bytes);
    let (length, bytes) = bytes.split_at_checked(4).ok_or("the file is cut off before a batch")?;
    match usize::try_from(i32::from_le_bytes(length.try_into()?))? {
        0 => Ok(None),
        length => Ok(Some(bytes.split_at_checked(length).ok_or("the file is cut off inside a header")?)),
    }
}

/// Checks what a message says about its packed buffers: neither packing makes more of its bytes than so much.
pub(super) fn message(header: &[u8], body: &[u8]) -> Result<(), BoxError> {
    const MOST_OF_LZ4: u64 = 256;
    const MOST_OF_ZSTD: u64 = 1 << 16;
    let message = arrow_ipc::root_as_message(header).map_err(|error| error.to_string())?;
    let of_dictionary = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
    let Some(batch) = message.header_as_record_batch().or(of_dictionary) else { return Ok(()) };
    let Some(compression) = batch.compression() else { return Ok(()) };
    let most = if compression.codec() == CompressionType::LZ4_FRAME { MOST_OF_LZ4 } else { MOST_OF_ZSTD };
    for buffer in batch.buffers().iter().flatten().filter(|buffer| buffer.length() > 0) {
        let start = usize::try_from(buffer.offset())?;
        let unpacked =
            body.get(start..).and_then(|bytes| bytes.first_chunk::<8>()).ok_or("a buffer outside of its batch")?;
        // Minus one stands for a buffer that is not packed.
        let unpacked = i64::from_le_bytes(*unpacked);
        if unpacked > 0 && unpacked.unsigned_abs() > buffer.length().unsigned_abs().saturating_mul(most) {
            return Err(format!("the file is damaged: {unpacked} bytes packed in {}", buffer.length()).into());
        }
    }
    Ok(())
}
