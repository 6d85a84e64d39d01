//! Which of several options an answer names, as a careful person reads it.

use std::ops::Range;

use super::NameSet;
use super::cues;
use super::fold::{compatible, folded, is_unspaced};
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
    reading.mentions.sort_by_key(|mention| mention.words.start);
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
        Self { text, ranges, words, mentions: Vec::new() }
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

    fn covered(&self, word: usize) -> Option<&Mention> {
        self.mentions.iter().find(|mention| mention.words.contains(&word))
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
            self.mentions.push(Mention {
                words,
                option,
                by_letter: false,
                firmness: Firmness::Mentioned,
                denied: false,
            });
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

    fn find_letters(&mut self, keys: &[impl AsRef<str>], options: &NameSet) {
        for index in 0..self.words.len() {
            if self.covered(index).is_some() {
                continue;
            }
            let word = self.word(index);
            let is_letter = word.len() == 1 && word.as_bytes()[0].is_ascii_alphabetic();
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
                self.mentions.push(Mention { words, option, by_letter: true, firmness, denied: false });
            }
        }
    }

    /// Whether a letter stands for an option. [`Firmness::Supposed`] where it does only if it is declared.
    fn letter_stands(&self, index: usize, option: Option<usize>, unknown: bool) -> Option<Firmness> {
        let (before, after) = (self.gap(index), self.gap(index + 1));
        let (next, is_last) = (self.word(index + 1), index + 1 == self.words.len());
        let glued = |gap: &str, other: bool| other && matches!(gap, "-" | "'" | "_" | "+" | "°" | "&" | "." | "\\");
        if glued(before, index > 0) && before != "&" || glued(after, !is_last) && after != "&" && after != "." {
            return None;
        }
        if before.ends_with(['°', '\\', '#']) || after.starts_with('+') {
            return None;
        }

        let raw = &self.text[self.ranges[index].clone()];
        let upper = !raw.starts_with(char::is_lowercase);
        let spaced = !after.is_empty() && after.chars().all(char::is_whitespace);
        let own_text = self.mentions.iter().any(|m| m.words.start == index + 1 && m.option == option);
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
        let border_before =
            index == 0 || before.chars().any(|c| !c.is_whitespace()) || before.contains('\n') || before.is_empty();
        let border_after = is_last || !spaced || after.contains('\n') || next.chars().all(is_unspaced);
        let follows = border_after || own_text || cues::may_follow_letter(next);
        let precedes =
            border_before || cues::may_precede_letter(self.word_before(index)) && !self.listed_part_of_name(index);
        if upper && !unknown && precedes && follows {
            return Some(Firmness::Mentioned);
        }
        (precedes && (follows || !unknown)).then_some(Firmness::Supposed)
    }

    /// The `B` of *hepatitis A and B*.
    fn listed_part_of_name(&self, index: usize) -> bool {
        let Some(other) = index.checked_sub(2).filter(|_| cues::joins_list(self.word_before(index))) else {
            return false;
        };
        self.word(other).len() == 1 && self.covered(other).is_none()
    }

    /// Marks the mentions that the answer denies.
    fn deny(&mut self) {
        let denied: Vec<bool> = self
            .mentions
            .iter()
            .map(|mention| self.denied_before(mention.words.start) || self.denied_after(mention.words.end))
            .collect();
        self.mentions.iter_mut().zip(denied).for_each(|(mention, denied)| mention.denied = denied);
        // A denied list is denied as a whole: *A, C and D are wrong*, *neither A nor B*.
        let joined: Vec<bool> = (1..self.mentions.len()).map(|i| self.in_one_list(i - 1, i)).collect();
        for i in 1..self.mentions.len() {
            self.mentions[i].denied |=
                joined[i - 1] && self.mentions[i - 1].denied && self.denied_before(self.list_start(&joined, i));
        }
        for i in (1..self.mentions.len()).rev() {
            let by_end = self.mentions[i].denied && self.denied_after(self.list_end(&joined, i));
            self.mentions[i - 1].denied |= joined[i - 1] && by_end;
        }
    }

    /// The first word of the list that a mention belongs to.
    fn list_start(&self, joined: &[bool], mention: usize) -> usize {
        let first = (0..mention).rev().take_while(|&i| joined[i]).last().unwrap_or(mention);
        self.mentions[first].words.start
    }

    /// The end of that list.
    fn list_end(&self, joined: &[bool], mention: usize) -> usize {
        let last = (mention..joined.len()).take_while(|&i| joined[i]).last().map_or(mention, |i| i + 1);
        self.mentions[last].words.end
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
                && !self.covered(index).is_some_and(|m| m.words.start >= end && m.words.len() > 1)
            {
                return false;
            }
        }
        false
    }

    /// Whether two neighbours are said in one breath: *A or B*, `A/B`, `B: left lung`.
    fn in_one_list(&self, one: usize, other: usize) -> bool {
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
        let ends_after = self.stands_before_border(other.words.end);
        let goes_on = ends_after || cues::joins_list(self.word(other.words.end));
        if marks("/&()[]*\"'") {
            return true;
        }
        (marks(",/&()[]*\"'") && goes_on) || (one.by_letter && !other.by_letter && marks(".:)(-*\"'") && ends_after)
    }

    fn stands_before_border(&self, word: usize) -> bool {
        word >= self.words.len()
            || self.gap(word).contains(['.', ',', ':', ';', ')', ']', '}', '!', '?', '\n', '*', '。', '、'])
    }

    /// What is said in one breath has one firmness.
    fn join(&mut self) {
        // Unless one only explains the other's letter, both are named: the decision finds that they differ.
        for i in 1..self.mentions.len() {
            let (one, other) = (&self.mentions[i - 1], &self.mentions[i]);
            if one.option == other.option && one.option.is_some() && self.in_one_list(i - 1, i) {
                let start = one.words.start;
                self.mentions[i].words.start = start;
                self.mentions[i].by_letter = false;
                self.mentions[i].firmness = Firmness::Mentioned;
                self.mentions[i].denied |= self.mentions[i - 1].denied;
                self.mentions[i - 1].firmness = Firmness::Mentioned;
            }
        }
    }

    fn weigh(&mut self, n_keys: usize) {
        let enumerated = self.enumerates(n_keys);
        let weights: Vec<Option<Firmness>> =
            self.mentions.iter().map(|mention| self.firmness(mention, enumerated)).collect();
        for (mention, weight) in self.mentions.iter_mut().zip(&weights) {
            match weight {
                Some(firmness) => mention.firmness = *firmness,
                // A letter that only an announcement would have made one.
                None => mention.denied = true,
            }
        }
        for i in 1..self.mentions.len() {
            if self.in_one_list(i - 1, i)
                && self.mentions[i - 1].firmness > Firmness::Mentioned
                && !self.mentions[i].denied
            {
                self.mentions[i].firmness = self.mentions[i].firmness.max(self.mentions[i - 1].firmness);
            }
        }
        for i in (1..self.mentions.len()).rev() {
            if self.in_one_list(i - 1, i)
                && self.mentions[i].firmness > Firmness::Mentioned
                && !self.mentions[i - 1].denied
            {
                self.mentions[i - 1].firmness = self.mentions[i - 1].firmness.max(self.mentions[i].firmness);
            }
        }
    }

    fn firmness(&self, mention: &Mention, enumerated: bool) -> Option<Firmness> {
        let uncertain = mention.firmness == Firmness::Supposed;
        let announced = self.announced(mention);
        let mut firmness = match announced {
            Announced::Final => Firmness::Final,
            Announced::Answer => Firmness::Declared,
            _ => Firmness::Mentioned,
        };
        firmness = firmness.max(self.confirmed(mention.words.end).unwrap_or(Firmness::Mentioned));
        if !enumerated && self.is_last_line(mention) {
            firmness = firmness.max(Firmness::Declared);
        }
        if !enumerated && self.leads(mention) {
            firmness = firmness.max(Firmness::Leading);
        }
        if uncertain && firmness == Firmness::Mentioned && !matches!(announced, Announced::Option) {
            return None;
        }
        if mention.option.is_none() && mention.by_letter && firmness == Firmness::Mentioned {
            return None;
        }
        Some(if firmness < Firmness::Final && self.is_supposed(mention.words.start) {
            Firmness::Supposed
        } else {
            firmness
        })
    }

    /// Whether the answer repeats the list of options: all of them in order, or several lines that begin with letters.
    fn enumerates(&self, n_keys: usize) -> bool {
        let begins_line = |m: &&Mention| {
            let first = m.words.start;
            (first == 0 || self.gap(first).contains('\n')) && self.gap(first + 1).contains(['.', ':', ')', '-'])
        };
        let lines: Vec<&Mention> = self.mentions.iter().filter(begins_line).collect();
        if lines.iter().any(|line| line.by_letter && line.option != lines[0].option) && lines[0].by_letter {
            return true;
        }
        let mut next = 0;
        for mention in self.mentions.iter().filter(|m| m.option.is_some()) {
            if mention.option == Some(next) {
                next += 1;
            } else if mention.option.is_some_and(|option| option > next) {
                return false;
            }
        }
        n_keys > 2 && next == n_keys
    }

    /// What announces a mention, read backwards from it to the sentence's start.
    fn announced(&self, mention: &Mention) -> Announced {
        let start = mention.words.start;
        let (mut tied, mut by_option) = (false, false);
        for index in (0..start).rev().take(14) {
            let gap = self.gap(index + 1);
            if gap.contains(['.', '!', '?', ';', '。', '！', '？']) || gap.contains('\n') && index + 1 != start {
                break;
            }
            tied |= gap.contains([':', '=', '→', '>']);
            let (word, before) = (self.word(index), self.word_before(index));
            // *B is the answer, A is not*, but *so, B*.
            if gap.contains([',', '，']) && !tied && !cues::concludes(word) {
                break;
            }
            if cues::lists(word)
                || cues::denies(word, before) && !tied
                || self.covered(index).is_some_and(|m| m.option != mention.option && m.words.end <= start)
            {
                break;
            }
            if cues::announces(word, before) {
                let last = cues::is_final(word) || (0..index).rev().take(3).any(|i| cues::is_final(self.word(i)));
                return if last { Announced::Final } else { Announced::Answer };
            }
            if cues::concludes(word) && !(tied && by_option) {
                return Announced::Answer;
            }
            by_option |= cues::names_option(word);
            tied |= cues::is_copula(word);
            if !cues::is_filler(word) && !tied {
                break;
            }
        }
        if by_option { Announced::Option } else { Announced::Nothing }
    }

    /// Whether the sentence goes on with *is correct*.
    fn confirmed(&self, end: usize) -> Option<Firmness> {
        let mut last_word = false;
        for index in end..self.words.len().min(end + 7) {
            let gap = self.gap(index);
            if ends_clause(gap) || gap.contains([':', ')']) && index > end {
                return None;
            }
            let word = self.word(index);
            let ends = self.stands_before_border(index + 1)
                || matches!(self.word(index + 1), "answer" | "option" | "choice" | "one");
            if cues::confirms(word, ends) && (index > end || word != "answer") {
                return Some(if last_word { Firmness::Final } else { Firmness::Declared });
            }
            last_word |= cues::is_final(word);
            if !cues::is_filler(word) || (index == end && !cues::is_copula(word)) {
                return None;
            }
        }
        None
    }

    fn is_last_line(&self, mention: &Mention) -> bool {
        let words_before = (0..mention.words.start).rev().find(|&index| self.gap(index + 1).contains('\n'));
        let Some(line_start) = words_before.map(|index| index + 1) else { return false };
        let lead_in =
            (line_start..mention.words.start).all(|i| cues::is_filler(self.word(i)) || cues::concludes(self.word(i)));
        // The letter's own text may follow.
        let end = self
            .mentions
            .iter()
            .filter(|m| m.option == mention.option && m.words.start == mention.words.end)
            .map(|m| m.words.end);
        lead_in && end.max().unwrap_or(mention.words.end) == self.words.len()
    }

    fn leads(&self, mention: &Mention) -> bool {
        let lead_in = |word: &str| {
            matches!(word, "the" | "a" | "an") || cues::names_option(word) && !matches!(word, "say" | "think")
        };
        let begins =
            (0..mention.words.start).all(|index| lead_in(self.word(index)) && !ends_clause(self.gap(index + 1)));
        let own_text = self.mentions.iter().any(|m| m.option == mention.option && m.words.start == mention.words.end);
        begins
            && (own_text
                || self.stands_before_mark(mention.words.end)
                || cues::gives_reason(self.word(mention.words.end)))
    }

    /// Whether a mark follows that closes what is said: not the bracket of `(A) is`.
    fn stands_before_mark(&self, word: usize) -> bool {
        let gap = self.gap(word);
        word >= self.words.len()
            || gap.contains(['.', ',', ':', ';', '!', '?', '\n', '-', '。', '、'])
            || gap.trim_start() == ") " && self.gap(word - 1).ends_with(|c| c != '(')
    }

    /// Whether the sentence before a mention supposes it.
    fn is_supposed(&self, start: usize) -> bool {
        let sentence =
            (0..start).rev().take_while(|&index| !self.gap(index + 1).contains(['.', '!', '?', ';', '\n', '。']));
        sentence.into_iter().any(|index| matches!(self.word(index), "if" | "unless"))
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
        let apart = (other.words.end..=last.words.start)
            .any(|index| self.gap(index).contains(['.', '!', '?', ';', '\n', ',', '。', '，', '-']));
        if firmest >= Firmness::Declared && taken_back && apart { last.option } else { None }
    }
}

enum Announced {
    Nothing,
    /// As an option, not as the answer.
    Option,
    Answer,
    Final,
}

fn ends_clause(gap: &str) -> bool {
    gap.contains(['.', ',', ';', '!', '?', '\n', '。', '，', '、'])
}
