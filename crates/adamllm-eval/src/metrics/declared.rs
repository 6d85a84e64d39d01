//! The answer that a text declares, where it declares one: what the strict scoring of open questions reads.

use std::ops::Range;

use super::cues;
use super::fold::{compatible, folded};
use super::reasoning::without_reasoning;
use super::words::word_ranges;

/// Words that may stand between *answer* and what ties the answer to it: *the answer to your question would be ...*.
const LONGEST_TIE: usize = 7;

/// The answer that a text declares, after the model's reasoning ([`without_reasoning`]); `None` where it declares none, and all of it is
/// the answer.
///
/// Declared is what stands, up to the sentence's end, after *the final answer is* or `\boxed{`, else after *the answer is* or *Answer:*
/// (also in the other languages of the crate's cues), else after *so*, *therefore*, *thus*, *hence* at the start of the last sentence: before a colon,
/// or before a sentence that says what something is (*So the cells are amoebas*, but not *Therefore, surgery is needed*, which is advice). Of
/// several the first counts, unless words such as *wait* or *so* take it back: then the last. What is supposed (*if the answer is ...*) or
/// denied (*the answer is not ...*) declares nothing. In compatible characters (NFKC), case kept.
pub fn declared_answer(answer: &str) -> Option<String> {
    let said = without_reasoning(answer);
    let text = compatible(&said);
    let words = Words::new(&text);
    let mut announced: Vec<(bool, usize, Range<usize>)> = Vec::new();
    for index in 0..words.folded.len() {
        if let Some((is_final, first)) = words.announcement(index) {
            announced.extend(words.sentence(first).map(|range| (is_final, index, range)));
        }
    }

    // The firmest count: a final answer before all others.
    let any_final = announced.iter().any(|(is_final, ..)| *is_final);
    announced.retain(|(is_final, ..)| *is_final == any_final);
    let range = match (announced.first(), announced.last()) {
        (Some((_, first, range)), Some((_, last, later))) => {
            let taken_back = (first + 1..*last).any(|index| cues::corrects(&words.folded[index]));
            if taken_back { later.clone() } else { range.clone() }
        }
        _ => words.conclusion()?,
    };
    Some(text[range].trim().to_owned())
}

/// A text in words.
struct Words<'a> {
    text: &'a str,
    ranges: Vec<Range<usize>>,
    /// In the spelling of the cues.
    folded: Vec<String>,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        let ranges = word_ranges(text);
        let folded = ranges.iter().map(|range| folded(&text[range.clone()]).into_owned()).collect();
        Self { text, ranges, folded }
    }

    /// What stands between a word and the one before it.
    fn gap(&self, word: usize) -> &'a str {
        let start = word.checked_sub(1).map_or(0, |before| self.ranges[before].end);
        let end = self.ranges.get(word).map_or(self.text.len(), |range| range.start);
        &self.text[start..end]
    }

    fn word(&self, index: usize) -> &str {
        self.folded.get(index).map_or("", String::as_str)
    }

    fn before(&self, index: usize) -> &str {
        index.checked_sub(1).map_or("", |before| self.word(before))
    }

    /// Whether a sentence ends before a word. A period before a small letter or a digit is an abbreviation's (*approx. 3 cm*).
    fn ends_before(&self, word: usize) -> bool {
        let Some(range) = self.ranges.get(word) else { return true };
        let (gap, next) = (self.gap(word), self.text[range.clone()].chars().next());
        let begins = next.is_some_and(|c| !c.is_lowercase() && !c.is_ascii_digit());
        gap.contains(['\n', '!', '?', ';', '。']) || gap.contains('.') && begins
    }

    fn starts_sentence(&self, word: usize) -> bool {
        word == 0 || self.ends_before(word)
    }

    /// Where a word announces an answer: whether that is the final one, and the answer's first word.
    fn announcement(&self, index: usize) -> Option<(bool, usize)> {
        let word = self.word(index);
        if word == "boxed" && self.gap(index + 1).contains('{') {
            return Some((true, index + 1));
        }
        if !cues::is_answer(word, self.before(index)) || self.is_supposed(index) {
            return None;
        }

        let mut first = index + 1;
        let last = self.folded.len().min(first + LONGEST_TIE);
        let tied = loop {
            if first >= last {
                return None;
            }
            let (gap, word) = (self.gap(first), self.word(first));
            if gap.contains([':', '=']) {
                break first;
            }
            if self.ends_before(first) || gap.contains([',', '"']) {
                return None;
            }
            first += 1;
            if cues::is_copula(word) {
                break first;
            }
            if !cues::is_filler(word) {
                return None;
            }
        };

        // *I do not know what the answer is. ...*, *the answer is not cocci*
        let colon = self.gap(tied).contains(':');
        let nothing = !colon && self.ends_before(tied) || matches!(self.word(tied), "not" | "neither");
        let is_final =
            (0..index).rev().take(3).take_while(|&i| !self.ends_before(i + 1)).any(|i| cues::is_final(self.word(i)));
        (!nothing).then_some((is_final, tied))
    }

    /// Whether the sentence supposes something before a word.
    fn is_supposed(&self, index: usize) -> bool {
        let start = (0..=index).rev().find(|&word| self.starts_sentence(word)).unwrap_or(0);
        (start..index).any(|word| matches!(self.word(word), "if" | "unless" | "whether"))
    }

    /// From a word to its sentence's end, in bytes. After a colon at a line's end, all lines that follow: a list.
    fn sentence(&self, first: usize) -> Option<Range<usize>> {
        let start = self.ranges.get(first)?.start;
        let gap = self.gap(first);
        let list = gap.find(':').is_some_and(|colon| gap[colon..].contains('\n'));
        let end = (first + 1..=self.folded.len()).find(|&word| self.ends_before(word) && !list);
        Some(start..end.map_or(self.text.len(), |end| self.ranges[end - 1].end))
    }

    /// What the last sentence concludes, if it does.
    fn conclusion(&self) -> Option<Range<usize>> {
        let start = (0..self.folded.len()).rev().find(|&word| self.starts_sentence(word))?;
        let cue = (start..start + 2).find(|&word| cues::concludes(self.word(word)))?;
        if self.gap(cue + 1).contains(':') {
            return self.sentence(cue + 1);
        }
        // Something known, and what it is.
        let known = matches!(
            self.word(cue + 1),
            "the" | "this" | "these" | "that" | "those" | "it" | "it's" | "they" | "there" | "we" | "my"
        );
        let says = (cue + 1..self.folded.len()).any(|word| cues::is_copula(self.word(word)));
        (known && says && cue == start).then(|| self.sentence(cue + 1)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared() {
        let table = [
            ("This is a slide with cocci. So the cells are amoebas.", Some("the cells are amoebas")),
            ("Cocci.\nSo the answer is: amoebas", Some("amoebas")),
            ("The answer is the left lung. The heart is normal.", Some("the left lung")),
            ("The answer to your question would be approx. 3.5 cm. Not more.", None),
            ("The answer to the question would be approx. 3.5 cm. Not more.", Some("approx. 3.5 cm")),
            ("Reasoning: cocci\nAnswer: amoebas\n\nQuestion: what else?\nAnswer: cocci", Some("amoebas")),
            ("**Answer:** amoebas. Cocci are smaller.", Some("amoebas")),
            ("The answer is:\n- heart\n- left lung", Some("heart\n- left lung")),
            ("The answer is cocci. Wait: the answer is amoebas.", Some("amoebas")),
            ("The answer is cocci. My final answer is amoebas!", Some("amoebas")),
            (r"It is \boxed{\text{amoebas}}", Some("text{amoebas")),
            ("I see cocci.\nConclusion: amoebas", Some("amoebas")),
            ("I see cocci.\nMy conclusion: amoebas", Some("amoebas")),
            ("Hence: amoebas", Some("amoebas")),
            ("<think>the answer is cocci</think>amoebas", None),
            ("答案：左肺。右肺正常。", Some("左肺")),
            ("正解は左肺です。", Some("左肺です")),
            ("La réponse est amibes.", Some("amibes")),
        ];
        for (answer, read) in table {
            assert_eq!(declared_answer(answer).as_deref(), read, "{answer:?}");
        }
    }

    #[test]
    fn what_declares_nothing() {
        let table = [
            "amoebas",
            "The cells are amoebas.",
            "The opacity is in the left lung. Therefore, surgery is needed.",
            "The border is irregular, so the lesion is malignant.",
            "There are so many cells that are round.",
            "So many cells are round.",
            "The lesion is malignant. So the patient needs surgery.",
            "So the left lung is affected. There is nothing else.",
            "I do not know what the answer is. It may be cocci.",
            "The answer is not cocci. They are amoebas.",
            "If the answer is cocci, the stain would be violet. I see amoebas.",
            "The answer, in short, is amoebas.",
            "What is the answer? Amoebas.",
            "Answer:",
            "So",
            "",
        ];
        for answer in table {
            assert_eq!(declared_answer(answer), None, "{answer:?}");
        }
    }
}
