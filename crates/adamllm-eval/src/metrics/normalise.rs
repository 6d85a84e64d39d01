use std::borrow::Cow;
use std::sync::LazyLock;

use super::fold::folded;
use super::words::{plain_word, word_ranges};
use crate::python_text;
use crate::word_hash::WordMap;

/// The characters that the VQA normalisation removes or turns into a space.
const PUNCTUATION: &[u8; 21] = b";/[]\"{}()=+\\_-><@`,?!";
/// The reference hands a flag to `sub` where the count belongs, and the flag's value is 32.
const PERIODS_REPLACED: usize = 32;

static CONTRACTIONS: LazyLock<WordMap<&str, &str>> = LazyLock::new(|| {
    include_str!("../../data/vqa_contractions.txt").lines().filter_map(|l| l.split_once(' ')).collect()
});

static IS_PUNCTUATION: [bool; 128] = {
    let mut table = [false; 128];
    let mut i = 0;
    while i < PUNCTUATION.len() {
        table[PUNCTUATION[i] as usize] = true;
        i += 1;
    }
    table
};

/// The VQA answer normalisation (Antol et al., 2015, the published evaluation code) with the two quirks that its copies
/// carry on: at most 32 periods are removed, and a period that no digit follows counts as punctuation whatever stands
/// before it. The text is lower-cased first, as the reference's callers do.
///
/// In order: punctuation beside a space vanishes and other punctuation becomes a space (all of it vanishes where the text
/// holds a comma between digits); periods; number words up to ten become digits; articles vanish; contractions get
/// their apostrophe.
pub fn normalise_answer(text: &str) -> String {
    join_words(&without_marks(text, PERIODS_REPLACED))
}

/// [`normalise_answer`] of a text that went through it once. Only periods can be left to remove.
pub(crate) fn normalise_again(normalised: &str) -> Cow<'_, str> {
    if normalised.contains('.') { normalise_answer(normalised).into() } else { normalised.into() }
}

/// An answer's words for the strict scorings, with single spaces between them: in one spelling whatever their case, accents,
/// width, quotes and dashes (Unicode's NFKC); number words up to ten as digits, numbers as `1000` and `3.5` (for `1,000` and
/// `3.50`), no articles, contractions with their apostrophe. Hyphens and all other marks stand between words. In scripts without spaces every
/// character is a word.
pub fn answer_words(text: &str) -> String {
    let text = folded(text);
    let mut out = String::with_capacity(text.len());
    for range in word_ranges(&text) {
        let word = plain_word(&text[range]);
        if let Some(word) = canonical_word(&word) {
            push_word(&mut out, word);
        }
    }
    out
}

fn join_words(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len());
    python_text::words(plain).filter_map(canonical_word).for_each(|word| push_word(&mut out, word));
    out
}

fn push_word(out: &mut String, word: &str) {
    if !out.is_empty() {
        out.push(' ');
    }
    out.push_str(word);
}

/// Number words as digits, contractions with their apostrophe; `None` for an article.
fn canonical_word(word: &str) -> Option<&str> {
    match word {
        "a" | "an" | "the" => None,
        "none" | "zero" => Some("0"),
        "one" => Some("1"),
        "two" => Some("2"),
        "three" => Some("3"),
        "four" => Some("4"),
        "five" => Some("5"),
        "six" => Some("6"),
        "seven" => Some("7"),
        "eight" => Some("8"),
        "nine" => Some("9"),
        "ten" => Some("10"),
        other => Some(CONTRACTIONS.get(other).copied().unwrap_or(other)),
    }
}

/// The text in lower case, without punctuation, and without the first `n_periods` periods that no digit follows.
fn without_marks(text: &str, n_periods: usize) -> String {
    let text = if text.is_ascii() { text.to_ascii_lowercase() } else { text.to_lowercase() };
    let vanishes = vanishing_marks(&text);
    let mut out = String::with_capacity(text.len());
    let mut n_left = n_periods;
    // A period waits for the character after it, which may come after marks that vanish.
    let mut period_waits = false;
    for c in text.chars() {
        let c = match c {
            mark if mark.is_ascii() && IS_PUNCTUATION[mark as usize] => {
                if vanishes[mark as usize] {
                    continue;
                }
                ' '
            }
            other => other,
        };
        if std::mem::take(&mut period_waits) {
            if n_left == 0 || python_text::is_decimal(c) {
                out.push('.');
            } else {
                n_left -= 1;
            }
        }
        if c == '.' {
            period_waits = true;
        } else {
            out.push(c);
        }
    }
    if period_waits && n_left == 0 {
        out.push('.');
    }
    out
}

/// Whether a mark vanishes or leaves a space is decided once for the whole text: it vanishes everywhere where it stands
/// beside a space anywhere.
fn vanishing_marks(text: &str) -> [bool; 128] {
    let mut vanishes = [has_comma_between_digits(text); 128];
    let mut before = 0;
    for &byte in text.as_bytes() {
        if before == b' ' && byte < 128 {
            vanishes[byte as usize] = true;
        }
        if byte == b' ' && before < 128 {
            vanishes[before as usize] = true;
        }
        before = byte;
    }
    vanishes
}

fn has_comma_between_digits(text: &str) -> bool {
    text.match_indices(',').any(|(offset, _)| {
        let before = text[..offset].chars().next_back();
        let after = text[offset + 1..].chars().next();
        before.is_some_and(python_text::is_decimal) && after.is_some_and(python_text::is_decimal)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quirks_are_kept_in_one_and_gone_in_the_other() {
        let many = "a.".repeat(40);
        assert_eq!(normalise_answer(&many).matches('.').count(), 8);
        assert_eq!(normalise_again(&normalise_answer(&many)), "a".repeat(40));
        assert_eq!(answer_words(&format!("{many} x")).matches('.').count(), 0);
        assert_eq!(normalise_answer("“liver”: two"), "“liver”: 2");
        assert_eq!(answer_words("“liver”: two – a dont"), "liver 2 don't");
    }

    #[test]
    fn marks_beside_a_space_vanish_everywhere() {
        assert_eq!(normalise_answer("x-ray"), "x ray");
        assert_eq!(normalise_answer("x-ray - yes"), "xray yes");
        assert_eq!(normalise_answer("1,000 x-rays"), "1000 xrays");
        assert_eq!(normalise_answer("The dont. 3.5 cm."), "don't 3.5 cm");
        assert_eq!(normalise_answer("a.-5 .- b..c .- .5"), "a.5 bc .5");
    }

    /// What [`normalise_again`] relies on.
    #[test]
    fn no_contraction_becomes_another() {
        for value in CONTRACTIONS.values() {
            assert!(canonical_word(value) == Some(*value) && !value.contains('.'), "{value}");
        }
    }
}
