use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use crate::python_text;
use crate::word_hash::WordMap;

/// Precision, recall and their harmonic mean, each from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Rouge {
    /// Share of the answer that the reference has.
    pub precision: f64,
    /// Share of the reference that the answer has.
    pub recall: f64,
    /// The harmonic mean.
    pub f: f64,
}

impl Rouge {
    /// With the constant that the `rouge` package puts under the fraction instead of asking for zero.
    fn package(overlap: usize, answer: usize, reference: usize) -> Self {
        let share = |of: usize| if of == 0 { 0.0 } else { overlap as f64 / of as f64 };
        let (precision, recall) = (share(answer), share(reference));
        Self { precision, recall, f: 2.0 * ((precision * recall) / (precision + recall + 1e-8)) }
    }

    fn standard(overlap: usize, answer: usize, reference: usize) -> Self {
        if overlap == 0 {
            return Self { precision: 0.0, recall: 0.0, f: 0.0 };
        }
        let (precision, recall) = (overlap as f64 / answer as f64, overlap as f64 / reference as f64);
        Self { precision, recall, f: 2.0 * precision * recall / (precision + recall) }
    }
}

/// Python gives up at 1000 nested calls. Called from a function three deep in a script, the package's recursion through the
/// table of one sentence pair fails at this many steps (measured with CPython 3.11).
const PACKAGE_STEPS: usize = 987;

/// Rouge-L as the Python package `rouge` 1.0.1 computes it: the "summary level" of Lin (2004) over sentences that are cut at
/// every period, with each word counted once (sets, not sequences), case kept, marks kept.
///
/// `None` where the package raises an error: an answer or a reference without a sentence, or a pair of sentences so
/// long that its recursion ends (near 1000 words). The reference scores 0 then.
pub fn rouge_l_package(answer: &str, reference: &str) -> Option<Rouge> {
    let mut ids = WordMap::default();
    let (answer, reference) = (package_sentences(answer, &mut ids), package_sentences(reference, &mut ids));
    if answer.is_empty() || reference.is_empty() {
        return None;
    }
    let mut shared = vec![false; ids.len()];
    let mut table = Vec::new();
    for sentence in &reference {
        for other in &answer {
            fill_table(&mut table, sentence, other);
            mark_package_path(&table, sentence, other, &mut shared)?;
        }
    }
    let distinct = |sentences: &[Vec<u32>]| sentences.iter().flatten().collect::<HashSet<_>>().len();
    let overlap = shared.iter().filter(|&&s| s).count();
    Some(Rouge::package(overlap, distinct(&answer), distinct(&reference)))
}

/// Rouge-N as the Python package `rouge` 1.0.1 computes it: sets of n-grams over all words, cut at white space, case kept.
/// `None` where the package raises an error (no sentence on one side).
pub fn rouge_n_package(answer: &str, reference: &str, n: usize) -> Option<Rouge> {
    let mut ids = WordMap::default();
    let (answer, reference) = (package_sentences(answer, &mut ids), package_sentences(reference, &mut ids));
    if answer.is_empty() || reference.is_empty() {
        return None;
    }
    let (answer, reference) = (answer.concat(), reference.concat());
    let grams = |words: &[u32]| words.windows(n).map(<[u32]>::to_vec).collect::<HashSet<_>>();
    let (answer, reference) = (grams(&answer), grams(&reference));
    Some(Rouge::package(answer.intersection(&reference).count(), answer.len(), reference.len()))
}

/// Rouge-L of the longest common subsequence of all words (Lin, 2004), as Google's `rouge-score` computes it without
/// stemming: lower-cased, words are runs of ASCII letters and digits. Empty sides score 0.
pub fn rouge_l(answer: &str, reference: &str) -> Rouge {
    let mut ids = WordMap::default();
    let (answer, reference) = (standard_words(answer, &mut ids), standard_words(reference, &mut ids));
    Rouge::standard(longest_common(&answer, &reference), answer.len(), reference.len())
}

/// Rouge-N with clipped counts (Lin, 2004), as Google's `rouge-score` computes it without stemming. Empty sides score 0.
pub fn rouge_n(answer: &str, reference: &str, n: usize) -> Rouge {
    let mut ids = WordMap::default();
    let (answer, reference) = (standard_words(answer, &mut ids), standard_words(reference, &mut ids));
    let mut left: HashMap<&[u32], usize> = HashMap::new();
    for gram in reference.windows(n) {
        *left.entry(gram).or_default() += 1;
    }
    let mut overlap = 0;
    for gram in answer.windows(n) {
        if let Some(count) = left.get_mut(gram).filter(|count| **count > 0) {
            *count -= 1;
            overlap += 1;
        }
    }
    let grams = |words: &[u32]| (words.len() + 1).saturating_sub(n);
    Rouge::standard(overlap, grams(&answer), grams(&reference))
}

/// Sentences of word ids. A sentence of white space alone is one empty word, as in the package.
fn package_sentences<'a>(text: &'a str, ids: &mut WordMap<&'a str, u32>) -> Vec<Vec<u32>> {
    let sentence = |part: &'a str| {
        let words: Vec<u32> = python_text::words(part).map(|word| intern(ids, word)).collect();
        if words.is_empty() { vec![intern(ids, "")] } else { words }
    };
    text.split('.').filter(|part| !part.is_empty()).map(sentence).collect()
}

fn standard_words(text: &str, ids: &mut WordMap<String, u32>) -> Vec<u32> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| intern(ids, word.to_owned())).collect()
}

fn intern<K: Hash + Eq>(ids: &mut WordMap<K, u32>, word: K) -> u32 {
    let next = ids.len() as u32;
    *ids.entry(word).or_insert(next)
}

/// Lengths of the longest common subsequences of all prefixes, `(a.len() + 1) x (b.len() + 1)`.
fn fill_table(table: &mut Vec<u16>, a: &[u32], b: &[u32]) {
    let width = b.len() + 1;
    table.clear();
    table.resize((a.len() + 1) * width, 0);
    for (i, x) in a.iter().enumerate() {
        let (above, row) = table[i * width..].split_at_mut(width);
        let mut left = 0;
        for (j, y) in b.iter().enumerate() {
            left = if x == y { above[j].saturating_add(1) } else { above[j + 1].max(left) };
            row[j + 1] = left;
        }
    }
}

/// Walks back through the table as the package does (to the left unless upwards is longer) and marks the shared words.
fn mark_package_path(table: &[u16], a: &[u32], b: &[u32], shared: &mut [bool]) -> Option<()> {
    let width = b.len() + 1;
    let (mut i, mut j, mut steps) = (a.len(), b.len(), 0);
    while i > 0 && j > 0 {
        steps += 1;
        if a[i - 1] == b[j - 1] {
            shared[a[i - 1] as usize] = true;
            (i, j) = (i - 1, j - 1);
        } else if table[(i - 1) * width + j] > table[i * width + j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    (steps < PACKAGE_STEPS).then_some(())
}

/// Length of the longest common subsequence, with one row of the table.
fn longest_common(a: &[u32], b: &[u32]) -> usize {
    let mut row = vec![0usize; b.len() + 1];
    for x in a {
        let (mut diagonal, mut left) = (0, 0);
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            left = if x == y { diagonal + 1 } else { above.max(left) };
            row[j + 1] = left;
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_sequences_differ() {
        let package = rouge_l_package("the cat the cat", "the cat").expect("two sentences");
        assert_eq!((package.precision, package.recall), (1.0, 1.0));
        let standard = rouge_l("the cat the cat", "the cat");
        assert_eq!((standard.precision, standard.recall), (0.5, 1.0));
        assert_eq!(rouge_n("the cat sat", "The cat.", 2).recall, 1.0);
        assert_eq!(rouge_l_package("...", "a"), None);
        assert_eq!(rouge_l("", "").f, 0.0);
        assert_eq!(rouge_l_package(&"x ".repeat(1000), "a"), None);
    }
}
