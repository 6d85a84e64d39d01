//! What post-training took away: general benchmarks, beside those of the domain.

use adamllm_eval::{Comparison, PairedScore, Report};
use serde::Serialize;

/// One general benchmark, before and after post-training.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    /// Its name.
    pub benchmark: String,
    /// The base's scores.
    pub base: Report,
    /// The post-trained model's.
    pub post_trained: Report,
    /// From the one to the other, on the questions that both answered.
    pub comparison: Comparison,
}

impl Kept {
    /// The strict score of all questions, of both models; `None` where no question was answered by both.
    pub fn strict(&self) -> Option<&PairedScore> {
        self.comparison.overall.strict.as_ref()
    }

    /// Whether the post-trained model is worse by more than chance: the difference's whole interval lies below zero.
    pub fn is_worse(&self) -> bool {
        self.strict().is_some_and(PairedScore::is_regression)
    }

    /// What became of the score, in a sentence. `first` and `second` are what the two are called.
    pub fn sentence(&self, first: &str, second: &str) -> String {
        let Self { benchmark, .. } = self;
        let Some(score) = self.strict() else {
            return format!("No question of {benchmark} was answered by both {first} and {second}.");
        };
        let difference = score.shown_difference();
        let change = format!("{:.1} to {:.1}, a difference of {difference}", score.first, score.second);
        if score.is_regression() {
            format!("Forgotten: on {benchmark}, {second} is worse than {first} by more than chance: {change}.")
        } else if score.is_gain() {
            format!("On {benchmark}, {second} is better than {first}, beyond chance: {change}.")
        } else {
            format!("On {benchmark}, no difference beyond chance: {change}.")
        }
    }
}
