use std::collections::HashMap;

use super::{answer_words, normalise_answer};
use crate::python_text;

/// Open-question recall as LLaVA-Med's evaluation computes it (Li et al., 2023): over normalised words, the sum of the
/// **answer's** counts of shared words, divided by that sum plus the label's counts of missing words; 0 to 100. An empty
/// side scores 0.
///
/// Repeating one right word therefore raises the score: see [`open_recall_strict`].
pub fn open_recall_paper(answer: &str, label: &str) -> f64 {
    let (answer, label) = (normalise_answer(answer), normalise_answer(label));
    open_recall_normalised(&answer, &label)
}

/// [`open_recall_paper`] of texts that went through [`normalise_answer`] once. The reference normalises twice, so this
/// does it again.
pub(crate) fn open_recall_normalised(answer: &str, label: &str) -> f64 {
    let (answer, label) = (normalise_answer(answer), normalise_answer(label));
    let mut counts = count(python_text::words(&answer));
    let label_counts = count(python_text::words(&label));
    let missing: usize = label_counts.iter().filter(|(word, _)| !counts.contains_key(*word)).map(|(_, n)| n).sum();
    counts.retain(|word, _| label_counts.contains_key(word));
    let shared: usize = counts.values().sum();
    if shared == 0 { 0.0 } else { shared as f64 / (shared + missing) as f64 * 100.0 }
}

/// The share of the label's words that the answer holds, each as often as the label has it; 0 to 100.
///
/// A label that is nothing but articles is compared by its bare words, so that it can be answered at all; a label
/// without any word scores 0.
pub fn open_recall_strict(answer: &str, label: &str) -> f64 {
    let (mut answer_list, mut label_list) = (answer_words(answer), answer_words(label));
    if label_list.is_empty() {
        label_list = python_text::words(&label.to_lowercase()).map(str::to_owned).collect();
        answer_list = python_text::words(&answer.to_lowercase()).map(str::to_owned).collect();
    }
    let mut left = count(answer_list.iter().map(String::as_str));
    let found = label_list.iter().filter(|word| take_one(&mut left, word)).count();
    if label_list.is_empty() { 0.0 } else { found as f64 / label_list.len() as f64 * 100.0 }
}

fn count<'a>(words: impl Iterator<Item = &'a str>) -> HashMap<&'a str, usize> {
    let mut counts = HashMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

fn take_one(left: &mut HashMap<&str, usize>, word: &str) -> bool {
    match left.get_mut(word) {
        Some(n) if *n > 0 => {
            *n -= 1;
            true
        }
        _ => false,
    }
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
}
