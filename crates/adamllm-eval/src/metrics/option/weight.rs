//! How firmly an answer names an option.

use super::super::cues;
use super::{Firmness, Mention, Reading, ends_clause};

/// What stands before a mention and announces it.
enum Announced {
    Nothing,
    /// As an option, not as the answer.
    Option,
    Answer,
    Final,
}

impl Reading<'_> {
    /// Makes one mention of an option's letter and its text beside it: `(B) left lung`.
    pub(super) fn join(&mut self) {
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

    /// Finds how firmly each mention stands.
    pub(super) fn weigh(&mut self, n_keys: usize) {
        let enumerated = self.enumerates(n_keys);
        let supposed = self.supposed();
        let weigh = |mention: &Mention| self.firmness(mention, enumerated, supposed[mention.words.start]);
        let weights: Vec<Option<Firmness>> = self.mentions.iter().map(weigh).collect();
        for (mention, weight) in self.mentions.iter_mut().zip(&weights) {
            match weight {
                Some(firmness) => mention.firmness = *firmness,
                // A letter that only an announcement would have made one.
                None => mention.denied = true,
            }
        }

        // What is said in one breath with a declared option is declared with it, in both directions: *the answer is A or B*.
        let n = self.mentions.len();
        let pairs = (1..n).map(|i| (i - 1, i)).chain((1..n).rev().map(|i| (i, i - 1)));
        for (from, to) in pairs {
            let firmness = self.mentions[from].firmness;
            if firmness > Firmness::Mentioned
                && !self.mentions[to].denied
                && self.in_one_list(from.min(to), from.max(to))
            {
                self.mentions[to].firmness = self.mentions[to].firmness.max(firmness);
            }
        }
    }

    /// How firmly a mention stands by itself; `None` for a letter that is no option after all.
    fn firmness(&self, mention: &Mention, enumerated: bool, supposed: bool) -> Option<Firmness> {
        let uncertain = mention.firmness == Firmness::Supposed;
        let announced = self.announced(mention);
        let mut firmness = match announced {
            Announced::Final => Firmness::Final,
            Announced::Answer => Firmness::Declared,
            _ => Firmness::Mentioned,
        };
        firmness = firmness.max(self.confirmed(mention.words.end).unwrap_or(Firmness::Mentioned));

        // Where the list of options is repeated, its lines declare nothing.
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
        Some(if firmness < Firmness::Final && supposed { Firmness::Supposed } else { firmness })
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
                || self.mention_at(index).is_some_and(|m| m.option != mention.option && m.words.end <= start)
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

    /// Whether a mention is the answer's last line: it alone, after *so* and the like.
    fn is_last_line(&self, mention: &Mention) -> bool {
        let after = self.mention_at(mention.words.end).filter(|next| next.option == mention.option);
        if after.map_or(mention.words.end, |next| next.words.end) != self.words.len() {
            return false;
        }
        let line = (1..=mention.words.start).rev().find(|&index| self.gap(index).contains('\n'));
        let lead_in = |index: usize| cues::is_filler(self.word(index)) || cues::concludes(self.word(index));
        line.is_some_and(|line| (line..mention.words.start).all(lead_in))
    }

    /// Whether the answer begins with a mention: `B.`, `(B) left lung`, *B because ...*.
    fn leads(&self, mention: &Mention) -> bool {
        let lead_in = |word: &str| {
            matches!(word, "the" | "a" | "an") || cues::names_option(word) && !matches!(word, "say" | "think")
        };
        let begins =
            (0..mention.words.start).all(|index| lead_in(self.word(index)) && !ends_clause(self.gap(index + 1)));
        let own_text = self.names_again(mention.words.end, mention.option);
        begins
            && (own_text
                || self.stands_before_mark(mention.words.end)
                || cues::gives_reason(self.word(mention.words.end)))
    }

    /// Whether a mark follows that closes what is said: not the bracket of `(A) is`.
    fn stands_before_mark(&self, word: usize) -> bool {
        let gap = self.gap(word);
        word >= self.words.len()
            || gap.contains(['.', ',', ':', ';', '!', '?', '\n', '。', '、'])
            || gap.contains('-') && gap != "-"
            || gap == ") " && !self.gap(word - 1).ends_with('(')
    }

    /// For each word, whether its sentence supposes something before it, or gives reasons for what it said: *B because C would
    /// need air*.
    fn supposed(&self) -> Vec<bool> {
        let (mut supposed, mut mentioned) = (false, false);
        let word = |index: usize| {
            if self.gap(index).contains(['.', '!', '?', ';', '\n', '。']) {
                (supposed, mentioned) = (false, false);
            }
            let before = supposed;
            let word = self.word(index);
            supposed |= matches!(word, "if" | "unless") || mentioned && matches!(word, "because" | "since");
            mentioned |= self.mention_at(index).is_some();
            before
        };
        (0..self.words.len()).map(word).collect()
    }
}
