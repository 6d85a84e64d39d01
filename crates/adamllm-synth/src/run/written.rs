use adamllm_core::jsonl::Journal;
use adamllm_core::{Completion, FailureStreak, Generate, ImageRef, ImageStore, RecordId};

use crate::SynthError;

/// A model that writes about images, and the journal of what it wrote.
pub(super) struct Writer<'a, G> {
    pub(super) model: &'a G,
    pub(super) images: &'a dyn ImageStore,
    pub(super) journal: &'a mut Journal<Completion>,
    pub(super) failures: &'a mut FailureStreak,
}

impl<G: Generate> Writer<'_, G> {
    /// What the model wrote about each item of a batch: from the journal where it has the item's key, else by `ask`. One result per item, in
    /// order; an item without a key is not asked about. `image` is what an item is about.
    ///
    /// # Errors
    /// The journal's; [`SynthError::Stopped`]; [`CoreError::ModelFails`](adamllm_core::CoreError::ModelFails).
    pub(super) fn write<I: Clone>(
        self,
        items: &[I],
        image: impl Fn(&I) -> &ImageRef,
        key: impl Fn(&I) -> Result<RecordId, SynthError>,
        ask: impl FnOnce(&[I]) -> Vec<Result<Completion, SynthError>>,
    ) -> Result<Vec<Result<Completion, SynthError>>, SynthError> {
        let keyed: Vec<_> = items.iter().map(key).collect();
        let keys: Vec<_> = keyed.iter().flatten().cloned().collect();
        let whole: Vec<_> =
            items.iter().zip(&keyed).filter(|(_, key)| key.is_ok()).map(|(item, _)| item.clone()).collect();
        let written = self.journal.complete(&keys, &whole, ask)?;
        super::check_stopped(self.model, &written)?;

        let mut written = written.into_iter();
        let completion = |(key, item): (Result<_, _>, &I)| {
            key.and_then(|_| written.next().expect("one result per key"))
                .map_err(|error| diagnosed(error, self.images, image(item)))
        };
        let completions: Vec<_> = keyed.into_iter().zip(items).map(completion).collect();
        self.failures.observe(completions.iter().filter_map(models_failure))?;
        Ok(completions)
    }
}

/// The model's error, or none where it answered; nothing for a record that failed by its own fault.
pub(super) fn models_failure<T>(answer: &Result<T, SynthError>) -> Option<Option<String>> {
    match answer {
        Ok(_) => Some(None),
        Err(error) => error.is_models_fault().then(|| Some(error.to_string())),
    }
}

/// Where the model failed because of the image, says so.
fn diagnosed(error: SynthError, images: &dyn ImageStore, image: &ImageRef) -> SynthError {
    if !error.is_models_fault() {
        return error;
    }
    images.open(image).map_or_else(SynthError::from, |_| error)
}
