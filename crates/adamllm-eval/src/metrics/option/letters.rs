//! Which letters of an answer stand for options.

use super::super::NameSet;
use super::super::cues;
use super::super::fold::is_unspaced;
use super::{Firmness, Mention, Reading, key_of};

impl Reading<'_> {
    /// Notes the letters, outside of option texts, that stand for options.
    pub(super) fn find_letters(&mut self, keys: &[impl AsRef<str>], options: &NameSet) {
        for index in 0..self.words.len() {
            if self.mention_at(index).is_some() {
                continue;
            }
            let word = self.word(index);
            let is_letter = word.len() == 1 && word.as_bytes()[0].is_ascii_alphabetic();
            // Past the alphabet, keys are numbers.
            if !is_letter && (keys.len() <= 26 || !word.bytes().all(|byte| byte.is_ascii_digit())) {
                continue;
            }
            let key = key_of(word, keys);
            // A text of one letter is an option as well as a letter is.
            let by_text = if is_letter { options.is_exactly(word) } else { None };
            let option = match (key, by_text) {
                (Some(key), Some(text)) => (key == text).then_some(key),
                (key, text) => key.or(text),
            };
            if !is_letter && key.is_none() {
                continue;
            }
            let unknown = key.is_none() && by_text.is_none();
            let raw = &self.text[self.ranges[index].clone()];
            if unknown && (keys.is_empty() || raw == "A" || raw == "I" || raw.starts_with(char::is_lowercase)) {
                continue;
            }
            if let Some(firmness) = self.letter_stands(index, option, unknown) {
                let words = index..index + 1;
                self.add(Mention { words, option, by_letter: true, firmness, denied: false });
            }
        }
    }

    /// Whether a letter stands for an option. [`Firmness::Supposed`] where it does only if it is declared.
    fn letter_stands(&self, index: usize, option: Option<usize>, unknown: bool) -> Option<Firmness> {
        let (before, after) = (self.gap(index), self.gap(index + 1));
        let (next, is_last) = (self.word(index + 1), index + 1 == self.words.len());
        // Part of a longer name: `B-cell`, `A_1`, `37°C`, `B+`.
        let glued_before =
            index > 0 && matches!(before, "-" | "'" | "_" | "+" | ".") || before.ends_with(['°', '\\', '#']);
        let glued_after = !is_last && matches!(after, "-" | "'" | "_") || after.starts_with('+');
        if glued_before || glued_after {
            return None;
        }

        let raw = &self.text[self.ranges[index].clone()];
        let spaced = !after.is_empty() && after.chars().all(char::is_whitespace);
        let own_text = self.names_again(index + 1, option);
        let next_lower =
            self.ranges.get(index + 1).is_some_and(|range| self.text[range.clone()].starts_with(char::is_lowercase));

        // The article, and the pronoun.
        let plain_next = spaced && !is_last && !next.chars().all(is_unspaced);
        match raw {
            "A" if plain_next && !cues::may_follow_letter(next) => return None,
            "a" if plain_next && !matches!(next, "is" | "because" | "since" | "or" | "and") => return None,
            "I" | "i" if plain_next && next_lower && !matches!(next, "is" | "because") => return None,
            _ => {}
        }

        let bracketed =
            before.ends_with(['(', '[', '{', '<', '"', '*']) && after.starts_with([')', ']', '}', '>', '"', '*']);
        if bracketed {
            return Some(Firmness::Mentioned);
        }

        // Elsewhere, the words around a letter say whether it is one.
        let border_before =
            index == 0 || before.chars().any(|c| !c.is_whitespace()) || before.contains('\n') || before.is_empty();
        let border_after = is_last || !spaced || after.contains('\n') || next.chars().all(is_unspaced);
        let follows = border_after || own_text || cues::may_follow_letter(next);
        let precedes =
            border_before || cues::may_precede_letter(self.word_before(index)) && !self.listed_part_of_name(index);
        if !unknown && precedes && follows && !matches!(raw, "a" | "i") {
            return Some(Firmness::Mentioned);
        }
        (precedes && (follows || !unknown)).then_some(Firmness::Supposed)
    }

    /// The `B` of *hepatitis A and B*.
    fn listed_part_of_name(&self, index: usize) -> bool {
        let Some(other) = index.checked_sub(2).filter(|_| cues::joins_list(self.word_before(index))) else {
            return false;
        };
        self.word(other).len() == 1 && self.mention_at(other).is_none()
    }
}
