//! What an answer denies, and what it says in one breath.

use super::super::cues;
use super::{Mention, Reading, ends_clause};

impl Reading<'_> {
    /// Marks the mentions that the answer denies.
    pub(super) fn deny(&mut self) {
        let n = self.mentions.len();
        let range = |mention: &Mention| (self.denied_before(mention.words.start), self.denied_after(mention.words.end));
        let denied: Vec<(bool, bool)> = self.mentions.iter().map(range).collect();
        let joined: Vec<bool> = (1..n).map(|i| self.in_one_list(i - 1, i)).collect();

        // A denied list is denied as a whole: *neither A nor B*, *A, C and D are wrong*.
        let mut by_start: Vec<bool> = denied.iter().map(|&(before, _)| before).collect();
        (1..n).for_each(|i| by_start[i] |= joined[i - 1] && by_start[i - 1]);
        let mut by_end: Vec<bool> = denied.iter().map(|&(_, after)| after).collect();
        (1..n).rev().for_each(|i| by_end[i - 1] |= joined[i - 1] && by_end[i]);
        for (i, mention) in self.mentions.iter_mut().enumerate() {
            mention.denied = by_start[i] || by_end[i];
        }
    }

    fn denied_before(&self, start: usize) -> bool {
        for index in (0..start).rev().take(6) {
            if ends_clause(self.gap(index + 1)) {
                return false;
            }
            if cues::denies(self.word(index), self.word_before(index)) {
                return true;
            }
            if !cues::carries_denial(self.word(index)) {
                return false;
            }
        }
        false
    }

    fn denied_after(&self, end: usize) -> bool {
        for index in end..self.words.len().min(end + 6) {
            let gap = self.gap(index);
            // The bracket that closes `(A)` may stand between, other marks may not.
            let closing = if index == end { ")]}\"'*>`" } else { "" };
            if !gap.chars().all(|c| c.is_whitespace() && c != '\n' || closing.contains(c)) {
                return false;
            }
            let word = self.word(index);
            if cues::refutes(word) {
                // *B not A* denies what follows.
                return index > end || !matches!(word, "not" | "neither");
            }
            if !cues::leads_to_refutation(word)
                && !self.mention_at(index).is_some_and(|m| m.words.start >= end && m.words.len() > 1)
            {
                return false;
            }
        }
        false
    }

    /// Whether two neighbours are said in one breath: *A or B*, `A/B`, `B: left lung`.
    pub(super) fn in_one_list(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.mentions[one], &self.mentions[other]);
        let between = one.words.end..other.words.start;
        if between.len() > 2
            || !between
                .clone()
                .all(|index| cues::joins_list(self.word(index)) || matches!(self.word(index), "the" | "a" | "an"))
        {
            return false;
        }

        let gaps = || (one.words.end..=other.words.start).map(|index| self.gap(index));
        let marks = |allowed: &str| {
            gaps().all(|gap| gap.chars().all(|c| c != '\n' && (c.is_whitespace() || allowed.contains(c))))
        };

        // A comma makes a list only where the clause ends after it, or the list goes on.
        let ends_after = self.stands_before_border(other.words.end);
        let goes_on = ends_after || cues::joins_list(self.word(other.words.end));

        if marks("/&()[]*\"'") {
            return true;
        }

        // An option's letter and then its text name one option (`B: left lung`).
        (marks(",/&()[]*\"'") && goes_on) || (one.by_letter && !other.by_letter && marks(".:)(-*\"'") && ends_after)
    }

    pub(super) fn stands_before_border(&self, word: usize) -> bool {
        word >= self.words.len()
            || self.gap(word).contains(['.', ',', ':', ';', ')', ']', '}', '!', '?', '\n', '*', '。', '、'])
    }
}
