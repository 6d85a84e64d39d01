//! Which of several options an answer names, as a careful person reads it.

mod denial;
mod letters;
mod weight;

use std::ops::Range;

use super::NameSet;
use super::cues;
use super::fold::{compatible, folded};
use super::reasoning::without_reasoning;
use super::words::{plain_word, word_ranges};

/// How firmly an option is named. Only the firmest count, and they must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Firmness {
    /// Inside an *if*.
    Supposed,
    /// Somewhere in the answer.
    Mentioned,
    /// What the answer begins with: `B: the left lung`.
    Leading,
    /// *The answer is B*, *B is correct*, *so B*, a last line of its own.
    Declared,
    /// *The final answer is B*, `\boxed{B}`.
    Final,
}

/// An option that an answer names, by its letter or by its text.
#[derive(Clone, Debug)]
struct Mention {
    /// Its words.
    words: Range<usize>,
    /// `None` for a letter that is no option's, and where it is not clear whose.
    option: Option<usize>,
    by_letter: bool,
    firmness: Firmness,
    denied: bool,
}

/// An answer in words, and what it says about the options.
struct Reading<'a> {
    /// The answer in compatible characters, case kept.
    text: &'a str,
    ranges: Vec<Range<usize>>,
    /// The words in the spelling that is compared.
    words: Vec<String>,
    mentions: Vec<Mention>,
    /// The mention that each word belongs to.
    mention_of: Vec<Option<usize>>,
}

/// Reads which option an answer names; `None` where that is none, or not clear.
///
/// An option's text counts before letters: the `B` in *hepatitis B* is no letter where that is a text. A letter counts where
/// it stands for an option: in brackets, after *is*, *option*, *so*, before a mark; articles, the pronoun *I*, initials
/// and parts of names do not. What is denied (*not B*, *A and C are wrong*) does not count. The firmest mentions decide,
/// and have to agree: a final answer, then a declared one, then what the answer begins with, then all others; of several declared
/// ones the last, where words such as *wait* or *but* take the first back.
pub(super) fn read_option(answer: &str, keys: &[impl AsRef<str>], options: &NameSet) -> Option<usize> {
    let answer = without_reasoning(answer);
    let text = compatible(&answer);
    if let Some(index) = options.is_exactly(&text) {
        // The text of one option may be the letter of another.
        let letter = key_of(&folded(&text).trim().replace(['(', ')', '.'], ""), keys);
        return letter.is_none_or(|letter| letter == index).then_some(index);
    }
    let mut reading = Reading::new(&text);
    reading.find_texts(options);
    reading.find_letters(keys, options);
    reading.sort();
    reading.deny();
    reading.join();
    reading.weigh(keys.len());
    reading.decide()
}

fn key_of(word: &str, keys: &[impl AsRef<str>]) -> Option<usize> {
    keys.iter().position(|key| key.as_ref().eq_ignore_ascii_case(word))
}

impl<'a> Reading<'a> {
    fn new(text: &'a str) -> Self {
        let ranges = word_ranges(text);
        let words = ranges.iter().map(|range| folded(&plain_word(&text[range.clone()])).into_owned()).collect();
        let mention_of = vec![None; ranges.len()];
        Self { text, ranges, words, mentions: Vec::new(), mention_of }
    }

    /// What stands between a word and the one before it.
    fn gap(&self, word: usize) -> &'a str {
        let start = if word == 0 { 0 } else { self.ranges[word - 1].end };
        let end = self.ranges.get(word).map_or(self.text.len(), |range| range.start);
        &self.text[start..end]
    }

    fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    fn word_before(&self, index: usize) -> &str {
        index.checked_sub(1).map_or("", |before| self.word(before))
    }

    /// The mention that a word belongs to.
    fn mention_at(&self, word: usize) -> Option<&Mention> {
        self.mention_of.get(word).copied().flatten().map(|index| &self.mentions[index])
    }

    fn add(&mut self, mention: Mention) {
        let index = self.mentions.len();
        self.mention_of[mention.words.clone()].fill(Some(index));
        self.mentions.push(mention);
    }

    fn sort(&mut self) {
        self.mentions.sort_by_key(|mention| mention.words.start);
        for (index, mention) in self.mentions.iter().enumerate() {
            self.mention_of[mention.words.clone()].fill(Some(index));
        }
    }

    /// Whether an option is named again at a word: by its text after its letter.
    fn names_again(&self, word: usize, option: Option<usize>) -> bool {
        self.mention_at(word).is_some_and(|mention| mention.option == option && mention.words.end > word)
    }

    fn find_texts(&mut self, options: &NameSet) {
        let mut spaced = String::from(" ");
        let mut starts = Vec::with_capacity(self.words.len());
        for word in &self.words {
            starts.push(spaced.len());
            spaced.push_str(word);
            spaced.push(' ');
        }
        for hit in options.hits(&spaced) {
            let words =
                starts.partition_point(|&start| start <= hit.start)..starts.partition_point(|&start| start < hit.end);
            // One letter alone is read as a letter.
            if words.len() == 1
                && self.words[words.start].len() == 1
                && self.words[words.start].as_bytes()[0].is_ascii_alphabetic()
            {
                continue;
            }
            let option = self.one_of_same_words(options, hit.name);
            self.add(Mention { words, option, by_letter: false, firmness: Firmness::Mentioned, denied: false });
        }
    }

    /// Of options that differ in marks alone (`<5`, `>5`), the one whose marks stand in the answer too.
    fn one_of_same_words(&self, options: &NameSet, name: usize) -> Option<usize> {
        let same: Vec<usize> = options.same_words(name).collect();
        if same.iter().all(|&index| options.names()[index] == options.names()[name]) {
            return Some(name);
        }
        let text = folded(self.text);
        let mut written = same.into_iter().filter(|&index| text.contains(folded(&options.names()[index]).trim()));
        match (written.next(), written.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    fn decide(&self) -> Option<usize> {
        let live: Vec<&Mention> = self.mentions.iter().filter(|mention| !mention.denied).collect();
        let firmest = live.iter().map(|mention| mention.firmness).max()?;
        let counted: Vec<&&Mention> = live.iter().filter(|mention| mention.firmness == firmest).collect();
        let last = counted.last()?;
        let Some(other) = counted.iter().rev().find(|mention| mention.option != last.option) else {
            return last.option;
        };
        // A declared answer may be taken back, by a word between.
        let taken_back = (other.words.end..last.words.start).any(|index| cues::corrects(self.word(index)));
        if firmest >= Firmness::Declared && taken_back { last.option } else { None }
    }
}

fn ends_clause(gap: &str) -> bool {
    gap.contains(['.', ',', ';', '!', '?', '\n', '。', '，', '、'])
}
