use std::collections::{BTreeSet, HashMap};

use aho_corasick::{AhoCorasick, AhoCorasickKind};

/// Names to look for in answers: the options of a choice, the classes of a data set. Prepared once, asked often.
#[derive(Clone, Debug)]
pub struct NameSet {
    names: Vec<String>,
    lower: Vec<String>,
    /// Indices, the longest name first; names of one length in their order.
    longest_first: Vec<usize>,
    /// Place of each name in `longest_first`.
    rank: Vec<usize>,
    contained: AhoCorasick,
    /// Names as words joined by single spaces, with a space at both ends.
    spaced: Vec<String>,
    worded: AhoCorasick,
    by_words: HashMap<String, usize>,
}

impl NameSet {
    /// Prepares the search. The same name may stand twice (Nutrition5K's list has one four times): it is found under its
    /// first index.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let lower: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
        let mut longest_first: Vec<usize> = (0..names.len()).collect();
        longest_first.sort_by_key(|&i| std::cmp::Reverse(names[i].chars().count()));
        let mut rank = vec![0; names.len()];
        for (place, &index) in longest_first.iter().enumerate() {
            rank[index] = place;
        }
        let spaced: Vec<String> = names.iter().map(|name| spaced_words(name)).collect();
        let mut by_words = HashMap::new();
        for (index, name) in spaced.iter().enumerate() {
            by_words.entry(name.clone()).or_insert(index);
        }
        let (contained, worded) = (automaton(&lower), automaton(&spaced));
        Self { names, lower, longest_first, rank, contained, spaced, worded, by_words }
    }

    /// The names, in their order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The index of a name as it stands, the last one where it stands more than once.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().rposition(|n| n == name)
    }

    /// The first index of the same name, for lists that have one twice.
    pub fn canonical(&self, index: usize) -> usize {
        self.by_words[&self.spaced[index]]
    }

    /// The reference's reading of a list: lower-cased, the longest name first, every name that the text contains (inside
    /// other words too) counts and is cut out of the text. Sorted indices.
    pub fn cut_out(&self, text: &str) -> Vec<usize> {
        let mut text = text.to_lowercase();
        let mut found = Vec::new();
        let mut next = 0;
        while let Some(place) = self.first_contained(&text, next) {
            let index = self.longest_first[place];
            found.push(index);
            text = text.replace(&self.lower[index], "");
            next = place + 1;
        }
        found.sort_unstable();
        found
    }

    /// The first place in `longest_first`, from `next` on, whose name the text contains.
    fn first_contained(&self, text: &str, next: usize) -> Option<usize> {
        let places = self.contained.find_overlapping_iter(text).map(|hit| self.rank[hit.pattern().as_usize()]);
        places.filter(|&place| place >= next).min()
    }

    /// The name whose last occurrence in the lower-cased text starts last; the first of them in the list's order where
    /// two start at the same place.
    pub(crate) fn last_contained(&self, text: &str) -> Option<usize> {
        let lower = text.to_lowercase();
        let hits = self.contained.find_overlapping_iter(&lower);
        hits.map(|hit| (hit.start(), std::cmp::Reverse(hit.pattern().as_usize()))).max().map(|(_, index)| index.0)
    }

    /// The name that the text is, but for case and marks.
    pub(crate) fn is_exactly(&self, text: &str) -> Option<usize> {
        self.by_words.get(&spaced_words(text)).copied().filter(|&i| self.spaced[i].len() > 1)
    }

    /// The names that stand in the text as whole words, read from left to right, the longest first where several start at
    /// the same word, none inside another. Each once, in the order of the text.
    pub fn whole_words(&self, text: &str) -> Vec<usize> {
        let text = spaced_words(text);
        let mut hits: Vec<_> = self.worded.find_overlapping_iter(&text).collect();
        hits.sort_by_key(|hit| (hit.start(), std::cmp::Reverse(hit.end())));
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut end = 0;
        for hit in hits {
            // Neighbours share the space between them.
            if hit.len() > 1 && hit.start() + 1 >= end.max(1) {
                end = hit.end();
                let index = self.by_words[&self.spaced[hit.pattern().as_usize()]];
                if seen.insert(index) {
                    found.push(index);
                }
            }
        }
        found
    }
}

fn automaton(patterns: &[String]) -> AhoCorasick {
    AhoCorasick::builder()
        .kind(Some(AhoCorasickKind::ContiguousNFA))
        .build(patterns)
        .expect("name lists are far below the automaton's limit of 2^31 states")
}

/// Lower-cased runs of letters and digits, each with one space before it, and one space at the end.
fn spaced_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(' ');
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            out.push(c);
        } else if !out.ends_with(' ') {
            out.push(' ');
        }
    }
    if !out.ends_with(' ') {
        out.push(' ');
    }
    out
}

/// Recall of a set of labels in percent. `None` where there is no label.
pub fn set_recall(found: &[usize], labels: &[usize]) -> Option<f64> {
    let hits = labels.iter().filter(|label| found.contains(label)).count();
    (!labels.is_empty()).then(|| hits as f64 / labels.len() as f64 * 100.0)
}

/// F1 of two sets in percent: the harmonic mean of precision and recall, 0 where nothing is shared.
pub fn set_f1(found: &[usize], labels: &[usize]) -> f64 {
    let hits = labels.iter().filter(|label| found.contains(label)).count() as f64;
    if hits == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (hits / found.len() as f64, hits / labels.len() as f64);
    2.0 * precision * recall / (precision + recall) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_is_cut_out_first() {
        let names = NameSet::new(["egg", "eggplant", "tea", "ab"]);
        assert_eq!(names.cut_out("Eggplant, 2 teaspoons"), [1, 2]);
        assert_eq!(names.cut_out("a eggb"), [0]);
        assert_eq!(names.cut_out("aeggb"), [0, 3], "what is left may join to a shorter name");
        assert_eq!(NameSet::new(["tea", "eggs"]).cut_out("egteags"), [0], "but not to a longer one");
    }

    #[test]
    fn whole_words_do_not_overlap() {
        let names = NameSet::new(["ice cream", "cream", "ice", "tea"]);
        assert_eq!(names.whole_words("Ice-cream; cream, teaspoons and ice tea"), [0, 1, 2, 3]);
        assert_eq!(names.whole_words("cream cream"), [1]);
        assert_eq!(names.is_exactly("Ice cream!"), Some(0));
        assert_eq!(names.is_exactly(""), None);
    }

    #[test]
    fn set_scores() {
        assert_eq!(set_recall(&[1, 2], &[2, 3]), Some(50.0));
        assert_eq!(set_recall(&[1], &[]), None);
        assert_eq!(set_f1(&[1, 2, 3], &[3]), 50.0);
        assert_eq!(set_f1(&[], &[]), 0.0);
    }
}
