use std::fs;
use std::path::Path;

use adamllm_core::jsonl::{self, Journal};
use adamllm_core::{
    Completion, CoreError, FailureStreak, Generate, ImageCaption, ImageRef, ImageStore, LedgerEntry, Progress,
    RecordId, Stage,
};

use super::keys::caption_key;
use super::lost::Lost;
use super::ordered_file::OrderedFile;
use super::written::Writer;
use crate::{Captioner, SynthError};

/// The captions that a model wrote, in a run's folder: a file of pairs like any other.
pub const CAPTIONS_FILE: &str = "captions.jsonl";
/// Images without a caption, in a run's `work` folder.
const LEDGER_FILE: &str = "ledger-caption.jsonl";
const JOURNAL_FILE: &str = "caption.jsonl";

/// What a captioner made of the images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CaptionCounts {
    /// Images that were given.
    pub images: u64,
    /// Images with a caption.
    pub captions: u64,
    /// Images without one; they are in the run's ledger.
    pub ledger_entries: u64,
}

/// Lets a model write the caption of each image, before everything else in a run's `folder`: `captions.jsonl`, in the images' order.
/// What the model says is appended and synced to `work/caption.jsonl` batch by batch, found again by prompt, image bytes, model and
/// decoding; without `resume` that starts anew. An image that fails costs itself only: [`captioned_images`] gives it to the run's ledger.
///
/// # Errors
/// Files that cannot be written; [`SynthError::Stopped`]; [`CoreError::Cancelled`], [`CoreError::ModelFails`].
pub fn caption_images<C: Generate>(
    folder: &Path,
    image_refs: &[ImageRef],
    images: &dyn ImageStore,
    captioner: &Captioner<C>,
    (batch_size, resume): (usize, bool),
    progress: &mut dyn Progress,
) -> Result<CaptionCounts, SynthError> {
    let work = folder.join("work");
    fs::create_dir_all(&work).map_err(CoreError::io("create", &work))?;
    let journal = work.join(JOURNAL_FILE);
    if !resume && journal.exists() {
        fs::remove_file(&journal).map_err(CoreError::io("remove", &journal))?;
    }
    let mut journal = Journal::<Completion>::open(journal)?;
    let mut out = OrderedFile::create(folder.join(CAPTIONS_FILE))?;
    let mut ledger = OrderedFile::create(work.join(LEDGER_FILE))?;

    let mut counts = CaptionCounts { images: image_refs.len() as u64, ..CaptionCounts::default() };
    progress.begin("caption", counts.images);
    let mut failures = FailureStreak::of(captioner.model());
    for batch in image_refs.chunks(batch_size.max(1)) {
        progress.check_cancelled()?;
        let pairs = caption_batch(batch, images, captioner, &mut journal, &mut failures)?;
        for (image, pair) in batch.iter().zip(pairs) {
            match pair {
                Ok(pair) => {
                    counts.captions += 1;
                    out.append(&pair)?;
                }
                Err(error) => {
                    counts.ledger_entries += 1;
                    ledger.append(&Lost::of(&RecordId::given(image.as_str()), Stage::Caption, error).entry)?;
                }
            }
        }
        progress.advance(batch.len() as u64);
    }
    out.finish()?;
    ledger.finish()?;
    progress.end();
    Ok(counts)
}

fn caption_batch<C: Generate>(
    batch: &[ImageRef],
    images: &dyn ImageStore,
    captioner: &Captioner<C>,
    journal: &mut Journal<Completion>,
    failures: &mut FailureStreak,
) -> Result<Vec<Result<ImageCaption, SynthError>>, SynthError> {
    let writer = Writer { model: captioner.model(), images, journal, failures };
    let key = |image: &ImageRef| caption_key(image, captioner, images);
    let written = writer.write(batch, |image| image, key, |missing| captioner.write(missing))?;
    let pair = |(image, completion): (&ImageRef, Result<Completion, _>)| {
        completion.and_then(|completion| captioner.read(image, &completion))
    };
    Ok(batch.iter().zip(written).map(pair).collect())
}

/// The images that were captioned in `folder`, as a run's input: the pairs, then the images that have no caption.
///
/// # Errors
/// Files that [`caption_images`] did not leave there.
pub fn captioned_images(
    folder: &Path,
) -> Result<impl Iterator<Item = Result<ImageCaption, LedgerEntry>> + use<>, SynthError> {
    let pairs = jsonl::read_all::<ImageCaption>(folder.join(CAPTIONS_FILE))?;
    let lost = jsonl::read_all::<LedgerEntry>(folder.join("work").join(LEDGER_FILE))?;
    Ok(pairs.into_iter().map(Ok).chain(lost.into_iter().map(Err)))
}
