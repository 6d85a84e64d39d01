use std::collections::HashSet;
use std::iter::Peekable;
use std::path::Path;

use adamllm_core::jsonl::{self, JsonLines};
use adamllm_core::{CoreError, DiskTable, ImageCaption, InstructionTask, LedgerEntry, Reason};

use crate::SynthError;

/// What a finished run hands on to training, record by record: every pair that can be trained on, with its task where it has one.
///
/// Every image-caption pair stays in the training data (paper, section 3.3), unless its image or caption itself is at
/// fault: see [`caption_stays`].
pub struct KeptPairs<I> {
    pairs: I,
    tasks: Peekable<JsonLines<InstructionTask>>,
    left_out: HashSet<u64>,
    ids: DiskTable,
}

impl<I> std::fmt::Debug for KeptPairs<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptPairs").field("n_left_out", &self.left_out.len()).finish_non_exhaustive()
    }
}

/// Whether a pair that lost its task for this reason keeps its caption in the training data.
///
/// It does where the model or the judge is the reason. It does not where the image or the caption is: broken or missing
/// images, empty captions, captions that would forge turns, records that repeat an id, images of a benchmark.
pub fn caption_stays(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ModelError
            | Reason::NoTriplet
            | Reason::Inconsistent
            | Reason::Open
            | Reason::UnclearVerdict
            | Reason::BelowThreshold
            | Reason::Duplicate
            | Reason::NearDuplicate
            | Reason::NonFinite
    )
}

/// Reads a finished run's folder beside its input. `pairs` are the run's pairs again, in the same order; pairs of other shards
/// and pairs that a variant makes no task of come without one.
///
/// # Errors
/// Files of the run that cannot be read.
pub fn kept_pairs<I: Iterator<Item = ImageCaption>>(
    folder: &Path,
    pairs: impl IntoIterator<IntoIter = I>,
) -> Result<KeptPairs<I>, SynthError> {
    let mut left_out = HashSet::new();
    for entry in jsonl::read::<LedgerEntry>(folder.join("ledger.jsonl"))? {
        let entry = entry?;
        // Of a repeated id the first record stays; the others are found while reading.
        if !caption_stays(entry.reason) && entry.reason != Reason::DuplicateId {
            left_out.insert(entry.id.to_u64());
        }
    }
    let tasks = jsonl::read::<InstructionTask>(folder.join("tasks.jsonl"))?.peekable();
    Ok(KeptPairs { pairs: pairs.into_iter(), tasks, left_out, ids: DiskTable::new(folder)? })
}

impl<I: Iterator<Item = ImageCaption>> Iterator for KeptPairs<I> {
    type Item = Result<(ImageCaption, Option<InstructionTask>), CoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let pair = loop {
            let pair = self.pairs.next()?;
            let id = pair.id.to_u64();
            match self.ids.insert(id, 0) {
                Ok(Some(_)) => {}
                Ok(None) if self.left_out.contains(&id) => {}
                Ok(None) => break pair,
                Err(error) => return Some(Err(error)),
            }
        };
        let task = self.tasks.next_if(|task| task.as_ref().map_or(true, |task| task.pair == pair.id));
        match task.transpose() {
            Ok(task) => Some(Ok((pair, task))),
            Err(error) => Some(Err(error)),
        }
    }
}
