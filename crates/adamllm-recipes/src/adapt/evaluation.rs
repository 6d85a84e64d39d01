use std::path::Path;
use std::sync::Arc;

use adamllm_core::{Decoding, Generate, ImageCaption, ImageRef, ImageStore, Progress, Prompt};
use adamllm_eval::{BootstrapConfig, Comparison, PredictOptions, Scored, compare};
use adamllm_model::{LocalModel, ModelFolder};
use serde::Serialize;

use super::Adaptation;
use crate::RecipeError;
use crate::benchmarks::{OpenedBenchmark, open_description};
use crate::captions::caption_records;

/// Both models' scores.
#[derive(Debug)]
pub struct AdaptEvaluation {
    /// The base's.
    pub base: Scored,
    /// The post-trained model's.
    pub post_trained: Scored,
    /// From the one to the other.
    pub comparison: Comparison,
}

/// What both models say about an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// The image.
    pub image: ImageRef,
    /// Its caption.
    pub caption: String,
    /// What the base says.
    pub before: String,
    /// What the post-trained model says.
    pub after: String,
}

impl Adaptation<'_> {
    /// Part 3: the same questions for both models, in `evaluation`.
    ///
    /// # Errors
    /// The benchmark; files.
    pub fn evaluate(&self, benchmark: &Path, progress: &mut dyn Progress) -> Result<AdaptEvaluation, RecipeError> {
        let opened = open_description(benchmark)?;
        let base = self.load(self.base, opened.images.clone())?;
        let base = self.evaluate_one(&base, &opened, "base", progress)?;
        let post_trained = self.load(&self.post_trained_folder()?, opened.images.clone())?;
        let post_trained = self.evaluate_one(&post_trained, &opened, "post-trained", progress)?;
        let comparison = compare(&base.outcomes, &post_trained.outcomes, &BootstrapConfig::default());
        Ok(AdaptEvaluation { base, post_trained, comparison })
    }

    fn evaluate_one<G: Generate>(
        &self,
        model: &G,
        opened: &OpenedBenchmark,
        name: &str,
        progress: &mut dyn Progress,
    ) -> Result<Scored, RecipeError> {
        let folder = self.file("evaluation").join(name);
        let options = PredictOptions { batch_size: 32, ..PredictOptions::default() };
        Ok(adamllm_eval::evaluate(model, &opened.benchmark, &folder, &options, progress)?)
    }

    /// The written model, with the base's bounds of an image's pixels.
    fn post_trained_folder(&self) -> Result<ModelFolder, RecipeError> {
        Ok(ModelFolder::open(self.model())?.with_pixel_range(self.base.pixel_range()))
    }

    fn load(&self, folder: &ModelFolder, images: Arc<dyn ImageStore>) -> Result<LocalModel, RecipeError> {
        Ok(LocalModel::load(folder, self.settings.dtype.into(), self.device, images)?)
    }

    /// What both models say about the images of the first pairs.
    ///
    /// # Errors
    /// A model's folder; an answer that fails is given as such.
    pub fn samples(&self, n: usize) -> Result<Vec<Sample>, RecipeError> {
        let pairs: Vec<ImageCaption> = caption_records(&self.settings.captions)?.flatten().take(n).collect();
        let prompts: Vec<Prompt> = pairs.iter().map(|pair| Prompt::ask(&pair.image, "Describe the image.")).collect();
        let say = |folder: &ModelFolder| -> Result<Vec<String>, RecipeError> {
            let answers = self.load(folder, self.images())?.generate(&prompts, &Decoding::greedy(48));
            Ok(answers.into_iter().map(|a| a.map_or_else(|e| format!("(error: {e})"), |a| a.text)).collect())
        };
        let (before, after) = (say(self.base)?, say(&self.post_trained_folder()?)?);
        let sample = |((pair, before), after): ((ImageCaption, String), String)| Sample {
            image: pair.image,
            caption: pair.caption,
            before,
            after,
        };
        Ok(pairs.into_iter().zip(before).zip(after).map(sample).collect())
    }
}
