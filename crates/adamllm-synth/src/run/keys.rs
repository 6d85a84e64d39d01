//! Cache keys: everything that a model's answer depends on. The prompt stands for the rendered tokens, since the model's
//! identity covers its template and tokenizer.

use adamllm_core::{CoreError, Generate, ImageCaption, ImageRef, ImageStore, RecordId};
use serde::Serialize;

use crate::{ANSWERS, ConsistencyFilter, JudgeMode, SynthError, Synthesizer, TaskTriplet};

pub(super) fn proposal_key<S: Generate>(
    pair: &ImageCaption,
    synthesizer: &Synthesizer<'_, S>,
    images: &dyn ImageStore,
) -> Result<RecordId, SynthError> {
    let prompt = json(&synthesizer.prompt(pair)?);
    let (image, identity) = (image_hash(images, &pair.image)?, synthesizer.model().identity());
    let decoding = json(&synthesizer.config().decoding);
    Ok(RecordId::of("proposal", [prompt.as_str(), image.as_str(), &identity, &decoding]))
}

/// The threshold is not part of the key: it is applied to the remembered probabilities.
pub(super) fn opinion_key<J: Generate>(triplet: &TaskTriplet, judge: &ConsistencyFilter<'_, J>) -> RecordId {
    let prompt = judge.prompt(triplet).map_or_else(|error| error.to_string(), |prompt| json(&prompt));
    let reading = match judge.config().mode {
        JudgeMode::Generated => json(&judge.config().decoding),
        JudgeMode::Scored { .. } => json(&ANSWERS),
    };
    RecordId::of("opinion", [prompt.as_str(), &judge.model().identity(), &reading])
}

/// A hash of the picture's file, or of its pixels where the store keeps no file.
fn image_hash(images: &dyn ImageStore, image: &ImageRef) -> Result<RecordId, CoreError> {
    if let Some(bytes) = images.bytes(image)? {
        return Ok(RecordId::of_bytes("image-file", [bytes.as_slice()]));
    }
    let picture = images.open(image)?;
    let size = [picture.width().to_le_bytes(), picture.height().to_le_bytes()].concat();
    Ok(RecordId::of_bytes("image-pixels", [size.as_slice(), picture.as_raw()]))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("prompts and settings have string keys and finite numbers")
}
