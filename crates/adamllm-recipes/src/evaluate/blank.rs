//! Whether a model looks at its images: some questions again, over white images.

use adamllm_eval::{Comparison, PairedScore};
use serde::Serialize;

/// What a benchmark's images are worth to a model: the same questions with their images, and with white ones of the same sizes.
///
/// Language priors answer a good part of most visual questions (Goyal et al. 2017, "Making the V in VQA Matter"), so a score alone does not
/// say that a model sees anything.
#[derive(Clone, Debug, Serialize)]
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
