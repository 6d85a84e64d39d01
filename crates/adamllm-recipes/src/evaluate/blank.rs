//! Whether a model looks at its images: some questions again, over white images.

use std::sync::Arc;

use adamllm_core::{Generate, Progress};
use adamllm_eval::{
    Benchmark, BootstrapConfig, Comparison, CorruptedBenchmark, CorruptedImages, Corruption, PairedScore,
    SampledBenchmark, compare,
};
use serde::Serialize;

use super::Evaluation;
use crate::RecipeError;
use crate::benchmarks::OpenedBenchmark;
use crate::files::write_json;

/// What a benchmark's images are worth to a model: the same questions with their images, and with white ones of the same sizes.
///
/// Language priors answer a good part of most visual questions (Goyal et al. 2017, "Making the V in VQA Matter"), so a score alone does not
/// say that a model sees anything.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BlankSample {
    /// The benchmark's name.
    pub benchmark: String,
    /// From the images to white ones.
    pub comparison: Comparison,
}

impl BlankSample {
    /// The strict score with the images, then without; `None` where no question was answered both ways.
    pub fn strict(&self) -> Option<&PairedScore> {
        self.comparison.overall.strict.as_ref()
    }

    /// Whether images add to the score by more than chance: the difference's whole interval lies on one side.
    pub fn images_add(&self) -> bool {
        self.strict().is_some_and(PairedScore::is_regression)
    }

    /// What the images are worth, in a sentence.
    pub fn sentence(&self) -> String {
        let (benchmark, n) = (&self.benchmark, self.comparison.overall.n);
        let Some(score) = self.strict() else {
            return format!("No question of {benchmark} was answered both with its image and with a white one.");
        };
        let scores = format!("{:.1} with the images, {:.1} with white ones", score.first, score.second);
        let difference = format!("a difference of {}", score.shown_difference());
        match self.images_add() {
            true => format!("It looks at the images of {benchmark} ({n} questions): {scores}, {difference}."),
            false => format!(
                "The images of {benchmark} add nothing beyond chance ({n} questions): {scores}, {difference}. The model may \
                 answer from the questions alone."
            ),
        }
    }
}

impl Evaluation<'_> {
    /// Whether the model looks at the images of a task that is done.
    pub(super) fn ask_blank<G: Generate>(
        &mut self,
        of: usize,
        model: &G,
        progress: &mut dyn Progress,
    ) -> Result<(), RecipeError> {
        let Some(comparison) = self.blank_comparison(of, model, progress)? else { return Ok(()) };
        let benchmark = self.benchmarks.opened[of].benchmark.name().to_owned();
        self.blank.push(BlankSample { benchmark, comparison });
        Ok(write_json(self.out.join("evaluate.json"), &self.report())?)
    }

    /// From a task's images to white ones: of all its questions where they were asked so already, else of a sample. None where no
    /// sample is wanted, or no question shows an image.
    fn blank_comparison<G: Generate>(
        &self,
        of: usize,
        model: &G,
        progress: &mut dyn Progress,
    ) -> Result<Option<Comparison>, RecipeError> {
        let mut of_task = self.done.iter().filter(|done| done.benchmark == of);
        if let Some(whole) = of_task.clone().find(|done| done.corruption == Some(Corruption::Blank)) {
            return Ok(whole.comparison.clone());
        }
        let (Some(intact), n @ 1..) = (of_task.find(|done| done.corruption.is_none()), self.settings.blank_sample)
        else {
            return Ok(None);
        };

        let (outcomes, seed) = (&intact.scored.outcomes, self.settings.seed);
        let OpenedBenchmark { benchmark, images } = &self.benchmarks.opened[of];
        let blank = CorruptedBenchmark::new(benchmark, Corruption::Blank, seed);
        let sample = SampledBenchmark::with_images(&blank, outcomes, n, seed)?;
        if sample.is_empty() {
            return Ok(None);
        }
        self.images.set(Arc::new(CorruptedImages::new(images.clone(), Corruption::Blank, seed)));
        let (scored, _) = self.ask_one(model, &sample, progress)?;
        Ok(Some(compare(&sample.outcomes(outcomes), &scored.outcomes, &BootstrapConfig::default())))
    }
}
