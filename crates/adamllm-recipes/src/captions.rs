use std::path::{Path, PathBuf};

use adamllm_core::{CoreError, ImageCaption, LedgerEntry, Reason, RecordId, Stage};
use adamllm_data::Records;

/// Image-caption pairs of a file, read one by one: a record that cannot be read costs itself only, and comes as what the ledger
/// says about it.
#[derive(Debug)]
pub struct CaptionRecords {
    records: Records<ImageCaption>,
    file: PathBuf,
}

/// Opens a file of image-caption pairs, in every form that [`adamllm_data::image_captions`] reads.
///
/// # Errors
/// Where the file does not open.
pub fn caption_records(file: &Path) -> Result<CaptionRecords, CoreError> {
    Ok(CaptionRecords { records: adamllm_data::image_captions(file)?, file: file.to_owned() })
}

impl Iterator for CaptionRecords {
    type Item = Result<ImageCaption, LedgerEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let pair = self.records.next()?;
        Some(pair.map_err(|error| unreadable(&self.file, self.records.number(), &error)))
    }
}

/// What the ledger says about a record (counted from 1) that cannot be read.
pub(crate) fn unreadable(file: &Path, record: u64, error: &CoreError) -> LedgerEntry {
    let id = RecordId::given(format!("{}:{record}", file.display()));
    LedgerEntry::new(id, Stage::Read, Reason::from(error), error.to_string())
}
