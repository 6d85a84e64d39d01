//! Where words begin and end, for the strict scorings.

use std::borrow::Cow;
use std::ops::Range;

use super::fold::{folded, is_accent, is_unspaced};

/// The words of a text, by their bytes: runs of letters and digits. In scripts without spaces every character is a word. An
/// apostrophe inside a word belongs to it, and so do a number's decimal point, the commas between its thousands, its minus
/// sign, and the periods of `U.S.`; every other mark and every hyphen is a border.
pub(crate) fn word_ranges(text: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start: Option<usize> = None;
    let mut before: Option<char> = None;
    // Letters since the word's start or its last period.
    let mut run = 0;
    for (offset, c) in text.char_indices() {
        let unspaced = is_unspaced(c);
        let belongs = c.is_alphanumeric() && !unspaced || start.is_some() && is_accent(c);
        let joins = !belongs
            && matches!(c, '\'' | '.' | ',' | '-')
            && joins(start.map(|_| run), before, c, &text[offset + 1..]);
        if belongs || joins {
            start.get_or_insert(offset);
            run = if joins { 0 } else { run + 1 };
        } else {
            words.extend(start.take().map(|start| start..offset));
            run = 0;
            if unspaced {
                words.push(offset..offset + c.len_utf8());
            }
        }
        before = Some(c);
    }
    words.extend(start.map(|start| start..text.len()));
    words
}

/// Whether a mark belongs to a word. `run` is the number of letters before it, `None` outside of words.
fn joins(run: Option<usize>, before: Option<char>, mark: char, after: &str) -> bool {
    let mut rest = after.chars();
    let (next, second) = (rest.next(), rest.next());
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphabetic() && !is_unspaced(c));
    let in_word = run.is_some();

    match mark {
        '\'' => in_word && is_letter(next),

        // A decimal point, in `2.5` or as the start of `.5`.
        '.' if is_digit(next) => {
            if in_word {
                is_digit(before)
            } else {
                !before.is_some_and(char::is_alphanumeric)
            }
        }

        // An abbreviation: single letters with periods, as in `U.S.`.
        '.' => run == Some(1) && is_letter(before) && is_letter(next) && !second.is_some_and(char::is_alphanumeric),

        // Thousands: exactly three digits after it.
        ',' => {
            let three = after.as_bytes().iter().take_while(|byte| byte.is_ascii_digit()).count() == 3;
            in_word && is_digit(before) && three
        }

        // A minus sign: only before a number, and not between two (`3-5`).
        _ => !in_word && is_digit(next) && before.is_none_or(|c| c.is_whitespace() || c == '('),
    }
}

/// A word as it is compared: without its commas and the periods between its letters, numbers without closing zeros.
pub(crate) fn plain_word(word: &str) -> Cow<'_, str> {
    if !word.contains([',', '.']) {
        return Cow::Borrowed(word);
    }
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'.' | b'-'));
    let kept = word.chars().filter(|&c| c != ',' && (c != '.' || word.contains(|c: char| c.is_ascii_digit())));
    let mut plain: String = kept.collect();
    if is_number && plain.matches('.').count() == 1 {
        plain.truncate(plain.trim_end_matches('0').trim_end_matches('.').len());
        let bare = plain.trim_start_matches('-');
        if bare.starts_with('.') {
            plain.insert(plain.len() - bare.len(), '0');
        }
    }
    Cow::Owned(plain)
}

/// [`folded`] words, each with one space before it, and one space at the end.
pub(crate) fn spaced_words(text: &str) -> String {
    let text = folded(text);
    let mut out = String::with_capacity(text.len() + 2);
    out.push(' ');
    for range in word_ranges(&text) {
        out.push_str(&plain_word(&text[range]));
        out.push(' ');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders() {
        let words = |text: &str| spaced_words(text).trim().to_owned();
        assert_eq!(words("X-ray/CT: T2-weighted; it's"), "x ray ct t2 weighted it's");
        assert_eq!(words("1,000 and 1,2,3 and 12,5 or 1,0000"), "1000 and 1 2 3 and 12 5 or 1 0000");
        assert_eq!(words("3.50 cm. 3.0; .5, Fig.5 v1.2.3 2.Next"), "3.5 cm 3 0.5 fig 5 v1.2.3 2 next");
        assert_eq!(words("-5 (-0.50) 3-5 - 7 x-5"), "-5 -0.5 3 5 7 x 5");
        assert_eq!(words("The U.S. and C.T. of lungs.The heart A.chest"), "the us and ct of lungs the heart a chest");
        assert_eq!(words("答案是B。左肺ct"), "答 案 是 b 左 肺 ct");
        assert_eq!(words("'yes' — “no”"), "yes no");
        assert_eq!(words(""), "");
    }
}
