use std::collections::HashMap;
use std::sync::LazyLock;

use crate::python_text;

/// The characters that the VQA normalisation removes or turns into a space.
const PUNCTUATION: &[u8; 21] = b";/[]\"{}()=+\\_-><@`,?!";
const ARTICLES: [&str; 3] = ["a", "an", "the"];
/// The reference hands a flag to `sub` where the count belongs, and the flag's value is 32.
const PERIODS_REPLACED: usize = 32;

static CONTRACTIONS: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    include_str!("../../data/vqa_contractions.txt").lines().filter_map(|l| l.split_once(' ')).collect()
});

/// The VQA answer normalisation (Antol et al., 2015, the published evaluation code) with the two quirks that its copies
/// carry on: at most 32 periods are removed, and a period that no digit follows counts as punctuation whatever stands
/// before it. The text is lower-cased first, as the reference's callers do.
///
/// In order: punctuation beside a space vanishes and other punctuation becomes a space (all of it vanishes where the text
/// holds a comma between digits); periods; number words up to ten become digits; articles vanish; contractions get
/// their apostrophe; the remaining commas vanish.
pub fn normalise_answer(text: &str) -> String {
    let lower = text.to_lowercase();
    let plain = remove_periods(&replace_punctuation(&lower), PERIODS_REPLACED);
    let mut out = String::with_capacity(plain.len());
    for word in python_text::words(&plain).filter_map(canonical_word) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().filter(|&c| c != ','));
    }
    out
}

/// The words of an answer for the strict scorings: as [`normalise_answer`] without the limit of 32 periods, and with
/// every other mark at a word's ends (quotes, colons, dashes) taken off too.
pub fn answer_words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let plain = remove_periods(&replace_punctuation(&lower), usize::MAX);
    let bare = |word: &'_ str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
    let words = python_text::words(&plain).map(bare).filter(|word| !word.is_empty());
    words.filter_map(|word| canonical_word(&word).map(str::to_owned)).collect()
}

/// Number words as digits, contractions with their apostrophe; `None` for an article.
fn canonical_word(word: &str) -> Option<&str> {
    let word = number_word(word);
    (!ARTICLES.contains(&word)).then(|| CONTRACTIONS.get(word).copied().unwrap_or(word))
}

fn number_word(word: &str) -> &str {
    match word {
        "none" | "zero" => "0",
        "one" => "1",
        "two" => "2",
        "three" => "3",
        "four" => "4",
        "five" => "5",
        "six" => "6",
        "seven" => "7",
        "eight" => "8",
        "nine" => "9",
        "ten" => "10",
        other => other,
    }
}

/// Whether a mark vanishes or leaves a space is decided once for the whole text: it vanishes everywhere where it stands
/// beside a space anywhere.
fn replace_punctuation(text: &str) -> String {
    let bytes = text.as_bytes();
    let all_vanish = has_comma_between_digits(text);
    let mut vanishes = [all_vanish; 128];
    for pair in bytes.windows(2) {
        match (pair[0], pair[1]) {
            (b' ', mark) | (mark, b' ') if mark.is_ascii() => vanishes[mark as usize] = true,
            _ => {}
        }
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() && PUNCTUATION.contains(&(c as u8)) {
            if !vanishes[c as usize] {
                out.push(' ');
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn has_comma_between_digits(text: &str) -> bool {
    text.match_indices(',').any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + 1..].chars().next();
        before.is_some_and(python_text::is_decimal) && after.is_some_and(python_text::is_decimal)
    })
}

fn remove_periods(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut removed = 0;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '.' && removed < limit && !rest.peek().is_some_and(|&next| python_text::is_decimal(next)) {
            removed += 1;
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quirks_are_kept_in_one_and_gone_in_the_other() {
        let many = "a.".repeat(40);
        assert_eq!(normalise_answer(&many).matches('.').count(), 8);
        assert_eq!(answer_words(&format!("{many} x")).concat().matches('.').count(), 0);
        assert_eq!(normalise_answer("“liver”: two"), "“liver”: 2");
        assert_eq!(answer_words("“liver”: two"), ["liver", "2"]);
    }

    #[test]
    fn marks_beside_a_space_vanish_everywhere() {
        assert_eq!(normalise_answer("x-ray"), "x ray");
        assert_eq!(normalise_answer("x-ray - yes"), "xray yes");
        assert_eq!(normalise_answer("1,000 x-rays"), "1000 xrays");
        assert_eq!(normalise_answer("The dont. 3.5 cm."), "don't 3.5 cm");
    }
}
