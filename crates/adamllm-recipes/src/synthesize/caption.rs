use std::path::Path;

use adamllm_core::{Budgeted, CoreError, Decoding, Generate, Progress};
use adamllm_data::image_names_at;
use adamllm_synth::{CAPTION_PROMPT, CaptionCounts, Captioner, CaptionerConfig, caption_images};
use serde::{Deserialize, Serialize};

use super::{SynthesisOptions, SynthesisSettings};
use crate::RecipeError;
use crate::files::{read_json, write_json};

/// Which model captioned, in a run's folder: the later steps and another process know it from here.
const REPORT: &str = "captions.json";

/// What came of captioning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CaptionReport {
    /// The captioner's identity.
    pub captioner: String,
    /// Images, captions, and images without one.
    #[serde(flatten)]
    pub counts: CaptionCounts,
}

/// First step where there are images alone: a model that follows instructions writes the caption of each image in `settings.images`, into
/// `captions.jsonl` below `options.out`. Then [`synthesize()`](super::synthesize()) goes on with those settings (`images_only`) as with any pairs;
/// an image without a caption stands in its ledger.
///
/// # Errors
/// [`RecipeError::NoImages`] where there is none, files, settings; a budget that is used up.
pub fn caption<C: Generate>(
    settings: &SynthesisSettings,
    options: &SynthesisOptions,
    captioner: &C,
    progress: &mut dyn Progress,
) -> Result<CaptionReport, RecipeError> {
    let names = image_names_at(&settings.images)?;
    if names.is_empty() {
        return Err(RecipeError::NoImages { place: settings.images.clone() });
    }
    let images = settings.open_images()?;
    let captioner = Captioner::with_config(Budgeted::new(captioner, &options.budget), settings.captioner()?)?;
    let how = (settings.batch_size, options.resume);
    let counts = caption_images(&options.out, &names, &*images, &captioner, how, progress)?;
    let report = CaptionReport { captioner: captioner.model().identity(), counts };
    write_json(options.out.join(REPORT), &report)?;
    Ok(report)
}

/// Who captioned the images of a run, where somebody did.
pub(super) fn captioner_of(settings: &SynthesisSettings, out: &Path) -> Result<Option<String>, CoreError> {
    let report = || read_json::<CaptionReport>(&out.join(REPORT));
    settings.images_only.then(|| Ok(report()?.captioner)).transpose()
}

impl SynthesisSettings {
    pub(super) fn captioner(&self) -> Result<CaptionerConfig, RecipeError> {
        let prompt = match &self.caption_prompt {
            Some(file) => adamllm_core::read_text(file)?,
            None => CAPTION_PROMPT.to_owned(),
        };
        Ok(CaptionerConfig { prompt, decoding: Decoding::greedy(self.caption_tokens) })
    }
}
