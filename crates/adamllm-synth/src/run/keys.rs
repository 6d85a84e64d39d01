//! Cache keys: everything that a model's answer depends on.

use adamllm_core::{Generate, ImageCaption, ImageRef, ImageStore, RecordId, answer_key, image_hash};

use crate::{ANSWERS, Captioner, ConsistencyFilter, JudgeMode, SynthError, Synthesizer, TaskTriplet};

/// The name of the image is no part of the key: its bytes are.
pub(super) fn caption_key<C: Generate>(
    image: &ImageRef,
    captioner: &Captioner<C>,
    images: &dyn ImageStore,
) -> Result<RecordId, SynthError> {
    let (config, hash) = (captioner.config(), image_hash(images, image)?);
    Ok(answer_key("caption", &captioner.model().identity(), &config.decoding, &config.prompt, &[hash]))
}

pub(super) fn proposal_key<S: Generate>(
    pair: &ImageCaption,
    synthesizer: &Synthesizer<S>,
    images: &dyn ImageStore,
) -> Result<RecordId, SynthError> {
    let (prompt, image) = (synthesizer.prompt(pair)?, image_hash(images, &pair.image)?);
    let (identity, decoding) = (synthesizer.model().identity(), &synthesizer.config().decoding);
    Ok(answer_key("propose", &identity, decoding, &prompt, &[image]))
}

/// The threshold is not part of the key: it is applied to the remembered probabilities.
pub(super) fn opinion_key<J: Generate>(triplet: &TaskTriplet, judge: &ConsistencyFilter<J>) -> RecordId {
    let prompt = judge.prompt(triplet).map_err(|error| error.to_string());
    let identity = judge.model().identity();
    match judge.config().mode {
        JudgeMode::Generated => answer_key("judge", &identity, &judge.config().decoding, &prompt, &[]),
        JudgeMode::Scored { .. } => answer_key("judge", &identity, &ANSWERS, &prompt, &[]),
    }
}
