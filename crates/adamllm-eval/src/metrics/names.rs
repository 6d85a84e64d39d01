use std::collections::BTreeSet;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::fold::folded;
use super::words::spaced_words;
use crate::word_hash::WordMap;

/// Names to look for in answers: the options of a choice, the classes of a data set. Long lists are searched for all names
/// at once; what a search needs is prepared when it is first asked for.
#[derive(Clone, Debug)]
pub struct NameSet {
    names: Vec<String>,
    lower: OnceLock<Vec<String>>,
    /// The letters and digits of each.
    bare: OnceLock<Vec<String>>,
    /// The last index of each name as it stands.
    last: OnceLock<WordMap<String, usize>>,
    longest_first: OnceLock<LongestFirst>,
    contained: OnceLock<AhoCorasick>,
    worded: OnceLock<Worded>,
}

/// A name that stands in a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameHit {
    /// The space before its first word.
    pub(crate) start: usize,
    /// Behind the space after its last word.
    pub(crate) end: usize,
    /// The first name of these words.
    pub(crate) name: usize,
}

/// The order in which the reference cuts names out.
#[derive(Clone, Debug)]
struct LongestFirst {
    /// Indices, the longest name first; names of one length in their order.
    order: Vec<usize>,
    /// Place of each name in `order`.
    rank: Vec<usize>,
}

/// The names as whole words.
#[derive(Clone, Debug)]
struct Worded {
    /// The words joined by single spaces, with a space at both ends.
    spaced: Vec<String>,
    /// For each name, the first index of the same words.
    canonical: Vec<usize>,
    automaton: Option<AhoCorasick>,
}

/// Up to this many names are searched one after the other: an automaton costs more to build than it saves.
const FEW: usize = 8;

impl NameSet {
    /// Takes names over. The same name may stand twice (Nutrition5K's list has one four times): it is found under its
    /// first index.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        let (lower, bare, last, longest_first, contained, worded) = Default::default();
        Self { names, lower, bare, last, longest_first, contained, worded }
    }

    /// The names, in their order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The index of a name as it stands, the last one where it stands more than once (as in the reference, which looks
    /// names up in a Python `dict`); else the first name with the same letters and digits.
    pub fn position(&self, name: &str) -> Option<usize> {
        let last = self.last.get_or_init(|| self.names.iter().enumerate().map(|(i, name)| (name.clone(), i)).collect());
        last.get(name).copied().or_else(|| self.is_exactly(name))
    }

    /// The first index of the same name, for lists that have one twice.
    pub fn canonical(&self, index: usize) -> usize {
        self.worded().canonical[index]
    }

    /// The reference's reading of a list: lower-cased, the longest name first, every name that the text contains (inside
    /// other words too) counts and is cut out of the text. Sorted indices.
    pub fn cut_out(&self, text: &str) -> Vec<usize> {
        let LongestFirst { order, rank } = self.longest_first.get_or_init(|| LongestFirst::new(&self.names));
        let (lower, contained) = (self.lower(), self.contained());
        let mut text = text.to_lowercase();
        let mut found = Vec::new();
        let mut next = 0;
        loop {
            let ranks = contained.find_overlapping_iter(&text).map(|hit| rank[hit.pattern().as_usize()]);
            let Some(first) = ranks.filter(|&rank| rank >= next).min() else { break };
            found.push(order[first]);
            text = text.replace(&lower[order[first]], "");
            next = first + 1;
        }
        found.sort_unstable();
        found
    }

    /// The name whose last occurrence in the lower-cased text starts last; the first of them in the list's order where
    /// two start at the same offset.
    pub(crate) fn last_contained(&self, text: &str) -> Option<usize> {
        let text = text.to_lowercase();
        let later = |start: usize, index: usize| (start, std::cmp::Reverse(index));
        let last = if self.names.len() <= FEW {
            let occurrence = |(index, name): (usize, &String)| Some(later(text.rfind(name.as_str())?, index));
            self.lower().iter().enumerate().filter_map(occurrence).max()
        } else {
            self.contained().find_overlapping_iter(&text).map(|hit| later(hit.start(), hit.pattern().as_usize())).max()
        };
        last.map(|(_, index)| index.0)
    }

    /// The name that the text is, but for case, accents and marks. Where marks alone tell several names apart (`+5`, `-5`), they
    /// count.
    pub(crate) fn is_exactly(&self, text: &str) -> Option<usize> {
        let wanted = bare(text);
        if wanted.is_empty() {
            return None;
        }
        let bare = self.bare.get_or_init(|| self.names.iter().map(|name| bare(name)).collect());
        let mut same = (0..bare.len()).filter(|&index| bare[index] == wanted);
        let first = same.next()?;
        let others: Vec<usize> = same.collect();
        // The same name twice is no doubt: Nutrition5K's list has one four times.
        if others.iter().any(|&other| self.names[other] != self.names[first]) {
            let text = folded(text);
            return self.names.iter().position(|name| folded(name).trim() == text.trim());
        }
        Some(first)
    }

    /// The names that stand in the text as whole words, read from left to right, the longest first where several start at
    /// the same word, none inside another. Each once, in the order of the text.
    pub fn whole_words(&self, text: &str) -> Vec<usize> {
        let mut found = BTreeSet::new();
        let hits = self.hits(&spaced_words(text));
        hits.into_iter().filter(|hit| found.insert(hit.name)).map(|hit| hit.name).collect()
    }

    /// Where names stand in a text that went through [`spaced_words`], as [`NameSet::whole_words`] reads it.
    pub(crate) fn hits(&self, spaced: &str) -> Vec<NameHit> {
        let worded = self.worded();
        let mut all = worded.occurrences(spaced);
        all.sort_unstable_by_key(|&(start, end, index)| (start, std::cmp::Reverse(end), index));
        let mut hits = Vec::new();
        let mut covered = 0;
        for (start, end, index) in all {
            // Neighbours share the space between them.
            if start + 1 >= covered {
                covered = end;
                hits.push(NameHit { start, end, name: worded.canonical[index] });
            }
        }
        hits
    }

    /// The names that have the same words as this one, itself included.
    pub(crate) fn same_words(&self, index: usize) -> impl Iterator<Item = usize> {
        let canonical = &self.worded().canonical;
        (0..canonical.len()).filter(move |&other| canonical[other] == canonical[index])
    }

    fn lower(&self) -> &[String] {
        self.lower.get_or_init(|| self.names.iter().map(|name| name.to_lowercase()).collect())
    }

    fn contained(&self) -> &AhoCorasick {
        self.contained.get_or_init(|| automaton(self.lower()))
    }

    fn worded(&self) -> &Worded {
        self.worded.get_or_init(|| Worded::new(&self.names))
    }
}

impl LongestFirst {
    fn new(names: &[String]) -> Self {
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(names[i].chars().count()));
        let mut rank = vec![0; names.len()];
        for (position, &index) in order.iter().enumerate() {
            rank[index] = position;
        }
        Self { order, rank }
    }
}

impl Worded {
    fn new(names: &[String]) -> Self {
        let spaced: Vec<String> = names.iter().map(|name| spaced_words(name)).collect();
        let mut first = WordMap::default();
        let canonical = spaced.iter().enumerate().map(|(i, name)| *first.entry(name.as_str()).or_insert(i)).collect();
        let automaton = (names.len() > FEW).then(|| automaton(&spaced));
        Self { canonical, spaced, automaton }
    }

    /// Start, end and index of every name in a text that went through [`spaced_words`]. Names without a word are nowhere.
    fn occurrences(&self, text: &str) -> Vec<(usize, usize, usize)> {
        match &self.automaton {
            Some(automaton) => {
                let hits = automaton.find_overlapping_iter(text).filter(|hit| hit.len() > 1);
                hits.map(|hit| (hit.start(), hit.end(), hit.pattern().as_usize())).collect()
            }
            None => {
                let named = self.spaced.iter().enumerate().filter(|(_, name)| name.len() > 1);
                named
                    .flat_map(|(i, name)| overlapping(text, name).map(move |offset| (offset, offset + name.len(), i)))
                    .collect()
            }
        }
    }
}

/// Where `part`, which begins with an ASCII character, occurs in `text`; occurrences may share characters.
fn overlapping<'a>(text: &'a str, part: &'a str) -> impl Iterator<Item = usize> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let offset = from + text[from..].find(part)?;
        from = offset + 1;
        Some(offset)
    })
}

fn automaton(patterns: &[String]) -> AhoCorasick {
    AhoCorasick::builder()
        .kind(Some(AhoCorasickKind::DFA))
        .build(patterns)
        .expect("name lists are far below the automaton's limit of 2^31 states")
}

/// Letters and digits alone, in one spelling.
fn bare(text: &str) -> String {
    folded(text).chars().filter(|c| c.is_alphanumeric()).collect()
}

/// Recall of a set of labels in percent. `None` where there is no label.
pub fn set_recall(found: &[usize], labels: &[usize]) -> Option<f64> {
    let hits = labels.iter().filter(|label| found.contains(label)).count();
    (!labels.is_empty()).then(|| hits as f64 / labels.len() as f64 * 100.0)
}

/// F1 of two sets in percent: twice what they share, divided by their sizes' sum. `None` where both are empty.
pub fn set_f1(found: &[usize], labels: &[usize]) -> Option<f64> {
    let hits = labels.iter().filter(|label| found.contains(label)).count();
    let sizes = found.len() + labels.len();
    (sizes > 0).then(|| (2 * hits) as f64 / sizes as f64 * 100.0)
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
        let few = ["ice cream", "cream", "ice", "tea"];
        for names in [NameSet::new(few), NameSet::new(few.into_iter().chain(["1", "2", "3", "4", "5", "?"]))] {
            assert_eq!(names.whole_words("Ice-cream; cream, teaspoons and ice tea"), [0, 1, 2, 3]);
            assert_eq!(names.whole_words("cream cream"), [1]);
            assert_eq!(names.is_exactly("Ice cream!"), Some(0));
            assert_eq!(names.is_exactly(""), None);
            assert_eq!(names.last_contained("icecream"), Some(1));
            assert_eq!(names.position("ice-cream"), Some(0));
            assert_eq!(names.position("?!"), None);
        }
    }

    fn spaced(names: &[String]) -> Vec<String> {
        names.iter().map(|name| spaced_words(name)).collect()
    }

    /// The automata against the plain definitions, on texts where everything overlaps.
    #[test]
    fn searches_equal_their_definitions() {
        use rand::Rng;
        let mut random = adamllm_core::random::named_stream(1, "names", "");
        let mut draw = |letters: &str, n: u64| -> String {
            let n_letters = letters.len() as u64;
            (0..random.next_u64() % (n + 1))
                .map(|_| letters.as_bytes()[(random.next_u64() % n_letters) as usize] as char)
                .collect()
        };
        for round in 0..2000 {
            let n_names = 1 + round % 20;
            let names: Vec<String> = (0..n_names).map(|_| format!("a{}", draw("aab ", 4).trim_end())).collect();
            let text = draw("AAaaBb  -", 30);
            let set = NameSet::new(names.clone());

            let (mut rest, mut found) = (text.to_lowercase(), Vec::new());
            let mut order: Vec<usize> = (0..names.len()).collect();
            order.sort_by_key(|&i| std::cmp::Reverse(names[i].len()));
            for i in order {
                if rest.contains(&names[i]) {
                    rest = rest.replace(&names[i], "");
                    found.push(i);
                }
            }
            found.sort_unstable();
            assert_eq!(set.cut_out(&text), found, "{names:?} in {text:?}");

            let starts = names.iter().enumerate().filter_map(|(i, name)| Some((text.to_lowercase().rfind(name)?, i)));
            let last = starts.max_by_key(|&(start, i)| (start, std::cmp::Reverse(i))).map(|(_, i)| i);
            assert_eq!(set.last_contained(&text), last, "{names:?} in {text:?}");

            let one_by_one =
                NameSet { worded: Worded { automaton: None, ..Worded::new(&names) }.into(), ..set.clone() };
            let searched = NameSet {
                worded: Worded { automaton: Some(automaton(&spaced(&names))), ..Worded::new(&names) }.into(),
                ..set
            };
            assert_eq!(one_by_one.whole_words(&text), searched.whole_words(&text), "{names:?} in {text:?}");
        }
    }

    #[test]
    fn set_scores() {
        assert_eq!(set_recall(&[1, 2], &[2, 3]), Some(50.0));
        assert_eq!(set_recall(&[1], &[]), None);
        assert_eq!(set_f1(&[1, 2, 3], &[3]), Some(50.0));
        assert_eq!(set_f1(&[], &[]), None);
    }
}
