use std::path::{Path, PathBuf};
use std::sync::Arc;

use adamllm_core::{Decoding, Generate, ImageCaption, ImageRef, ImageStore, Progress, Prompt};
use adamllm_data::CurrentImages;
use adamllm_eval::{Benchmark, BootstrapConfig, Comparison, PredictOptions, Scored, compare};
use adamllm_model::{LocalModel, ModelFolder};
use serde::Serialize;

use super::{AdaptSettings, Adaptation};
use crate::RecipeError;
use crate::benchmarks::{OpenedBenchmark, open_description};
use crate::captions::caption_records;
use crate::kept::Kept;

/// A benchmark that both models are asked, and where its answers are.
#[derive(Debug)]
pub(super) struct AskedBenchmark {
    pub(super) opened: OpenedBenchmark,
    pub(super) folder: PathBuf,
    /// Whether it is a general one.
    pub(super) retained: bool,
}

impl AskedBenchmark {
    /// The domain's benchmark, whose answers go into `root`, then the general ones, each in `retained/NAME` below it.
    ///
    /// # Errors
    /// A benchmark that does not open; two general ones with one name.
    pub(super) fn open_all(settings: &AdaptSettings, root: &Path) -> Result<Vec<Self>, RecipeError> {
        let mut asked: Vec<Self> = Vec::new();
        if let Some(description) = &settings.benchmark {
            asked.push(Self { opened: open_description(description)?, folder: root.to_owned(), retained: false });
        }
        for description in &settings.retain {
            let opened = open_description(description)?;
            let folder = root.join("retained").join(crate::files::safe_name(opened.benchmark.name()));
            if asked.iter().any(|other| other.folder == folder) {
                let name = opened.benchmark.name();
                return Err(RecipeError::Benchmarks(format!("two benchmarks to retain are called {name}")));
            }
            asked.push(Self { opened, folder, retained: true });
        }
        asked.iter().try_for_each(|asked| asked.opened.benchmark.check())?;
        Ok(asked)
    }
}

/// Both models' scores on one benchmark.
#[derive(Debug)]
#[non_exhaustive]
pub struct AdaptEvaluation {
    /// The base's.
    pub base: Scored,
    /// The post-trained model's.
    pub post_trained: Scored,
    /// From the one to the other.
    pub comparison: Comparison,
    /// Whether the benchmark is a general one, of [`AdaptSettings::retain`](super::AdaptSettings::retain).
    pub retained: bool,
}

impl AdaptEvaluation {
    /// What was kept of a general benchmark.
    pub(super) fn into_kept(self) -> Kept {
        Kept {
            benchmark: self.base.report.benchmark.clone(),
            base: self.base.report,
            post_trained: self.post_trained.report,
            comparison: self.comparison,
        }
    }
}

/// What both models say about an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
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
    /// Part 4: the same questions for both models, of the domain's benchmark in `evaluation` and of the general ones below it. Each model is
    /// loaded once.
    ///
    /// # Errors
    /// A benchmark; files.
    pub fn evaluate(&self, progress: &mut dyn Progress) -> Result<Vec<AdaptEvaluation>, RecipeError> {
        let base = self.evaluate_one(self.base, "base", progress)?;
        let post_trained = self.evaluate_one(&self.post_trained_folder()?, "post-trained", progress)?;
        let evaluation = |((asked, base), post_trained): ((&AskedBenchmark, Scored), Scored)| {
            let comparison = compare(&base.outcomes, &post_trained.outcomes, &BootstrapConfig::default());
            AdaptEvaluation { base, post_trained, comparison, retained: asked.retained }
        };
        Ok(self.benchmarks.iter().zip(base).zip(post_trained).map(evaluation).collect())
    }

    /// One model's answers to all benchmarks.
    fn evaluate_one(
        &self,
        folder: &ModelFolder,
        name: &str,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Scored>, RecipeError> {
        let Some(first) = self.benchmarks.first() else { return Ok(Vec::new()) };
        let images = CurrentImages::new(first.opened.images.clone());
        let model = self.load(folder, Arc::new(images.clone()))?;
        let options = PredictOptions { batch_size: 32, ..PredictOptions::default() };
        let mut scores = Vec::new();
        for AskedBenchmark { opened, folder, .. } in &self.benchmarks {
            images.set(opened.images.clone());
            scores.push(adamllm_eval::evaluate(&model, &opened.benchmark, &folder.join(name), &options, progress)?);
        }
        Ok(scores)
    }

    /// The written model, with the base's bounds of an image's pixels.
    fn post_trained_folder(&self) -> Result<ModelFolder, RecipeError> {
        Ok(ModelFolder::open(self.model())?.with_pixel_range(self.base.pixel_range()))
    }

    pub(super) fn load(&self, folder: &ModelFolder, images: Arc<dyn ImageStore>) -> Result<LocalModel, RecipeError> {
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
