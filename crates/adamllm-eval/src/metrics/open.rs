use std::borrow::Cow;

use super::normalise::{normalise_again, normalise_answer};
use super::reasoning::without_reasoning;
use super::words::spaced_words;
use super::{answer_words, declared_answer};
use crate::python_text;

/// Open-question recall as LLaVA-Med's evaluation computes it (Li et al., 2023): over normalised words, the sum of the
/// **answer's** counts of shared words, divided by that sum plus the label's counts of missing words; 0 to 100. An empty
/// side scores 0.
///
/// Repeating one right word therefore raises the score: see [`open_recall_strict`].
pub fn open_recall_paper(answer: &str, label: &str) -> f64 {
    open_recall_normalised(&normalise_answer(answer), &normalise_answer(label))
}

/// [`open_recall_paper`] of texts that went through [`normalise_answer`] once. The reference normalises twice, so this
/// does it again.
pub(crate) fn open_recall_normalised(answer: &str, label: &str) -> f64 {
    let (answer, label) = (normalise_again(answer), normalise_again(label));
    let (answer, label) = (Vec::from_iter(python_text::words(&answer)), Vec::from_iter(python_text::words(&label)));
    let shared = answer.iter().filter(|word| label.contains(word)).count();
    let missing = label.iter().filter(|word| !answer.contains(word)).count();
    if shared == 0 { 0.0 } else { shared as f64 / (shared + missing) as f64 * 100.0 }
}

/// The share of the label's words ([`answer_words`]) that the answer holds, each as often as the label has it; 0 to 100. The answer is what
/// the text declares as such ([`declared_answer`]), else all that it says after its reasoning: *a slide with cocci. So the cells
/// are amoebas* is no answer *cocci*.
///
/// A label that is nothing but articles is compared by its bare words, so that it can be answered at all; a label
/// without any word scores 0.
pub fn open_recall_strict(answer: &str, label: &str) -> f64 {
    let words = answer_words(label);
    let said = declared_answer(answer).map_or_else(|| without_reasoning(answer), Cow::Owned);
    if words.is_empty() {
        return clipped_recall(&spaced_words(&said), &spaced_words(label));
    }
    clipped_recall(&answer_words(&said), &words)
}

fn clipped_recall(answer: &str, label: &str) -> f64 {
    let mut left = Vec::from_iter(python_text::words(answer));
    let (mut n, mut found) = (0, 0);
    for word in python_text::words(label) {
        n += 1;
        if let Some(at) = left.iter().position(|other| *other == word) {
            left.swap_remove(at);
            found += 1;
        }
    }
    if n == 0 { 0.0 } else { f64::from(found) / f64::from(n) * 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeating_a_word_helps_in_the_paper_scoring_only() {
        assert_eq!(open_recall_paper("lung lung lung lung", "left lung"), 80.0);
        assert_eq!(open_recall_strict("lung lung lung lung", "left lung"), 50.0);
        assert_eq!(open_recall_strict("the", "a"), 0.0);
        assert_eq!(open_recall_strict("a", "a"), 100.0);
        assert_eq!(open_recall_strict("", ""), 0.0);
    }

    #[test]
    fn a_declared_answer_counts_alone() {
        let answer = "This is a slide with cocci. So the cells are amoebas.";
        assert_eq!([open_recall_strict(answer, "cocci"), open_recall_strict(answer, "amoebas")], [0.0, 100.0]);
        assert_eq!([open_recall_paper(answer, "cocci"), open_recall_paper(answer, "amoebas")], [100.0, 100.0]);
        assert_eq!(open_recall_strict("The answer is a", "a"), 100.0);
    }
}
