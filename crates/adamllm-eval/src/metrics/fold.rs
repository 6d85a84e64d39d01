//! One spelling for texts that a reader takes for the same: what the strict scorings compare.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use crate::python_text;

/// Text in lower case and in one spelling: compatibility forms as their plain letters (NFKC of Unicode Annex 15: full-width
/// `Ｂ`, ligatures, `²`), Latin letters without accents, every script's decimal digits as `0` to `9`, curly quotes and
/// the many dashes as `'`, `"` and `-`, and without characters that nobody sees.
pub(crate) fn folded(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        if !text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Cow::Borrowed(text);
        }
        return Cow::Owned(text.to_ascii_lowercase());
    }
    let mut latin = false;
    let accented = |&c: &char| {
        let is_accent = latin && is_accent(c);
        latin = is_accent || c.is_ascii_alphabetic();
        !is_accent
    };
    Cow::Owned(visible(text).nfkd().flat_map(lower).filter(accented).map(plain).nfc().collect())
}

/// [`folded`], with case and accents kept.
pub(crate) fn compatible(text: &str) -> Cow<'_, str> {
    if text.is_ascii() { Cow::Borrowed(text) } else { Cow::Owned(visible(text).nfkc().map(plain).collect()) }
}

/// Whether a character of a text in one of the scripts that put no space between words: each is a word of its own.
pub(crate) fn is_unspaced(c: char) -> bool {
    matches!(
        c,
        '\u{e00}'..='\u{e7f}' // Thai
            | '\u{1100}'..='\u{11ff}' | '\u{ac00}'..='\u{d7af}' // Hangul: particles follow without a space
            | '\u{3005}'..='\u{3007}' | '\u{3041}'..='\u{30ff}' // Kana
            | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}'
    )
}

/// A mark that belongs to the letter before it.
pub(crate) fn is_accent(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}')
}

fn visible(text: &str) -> impl Iterator<Item = char> {
    let hidden =
        |c: &char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}');
    // Before the decomposition, which would turn the free-standing accents into a space and a mark.
    let quote = |c: char| if matches!(c, '´' | '`' | '′' | '‘' | '’' | 'ʼ' | '‛') { '\'' } else { c };
    text.chars().filter(move |c| !hidden(c)).map(quote)
}

/// Lower case as far as single letters have one, so that words that differ in case only are equal.
fn lower(c: char) -> impl Iterator<Item = char> {
    let double = (c == 'ß' || c == 'ẞ').then_some('s');
    let single = double.map_or(c, |s| s);
    let same = if single == 'ς' { 'σ' } else { single };
    double.into_iter().chain(same.to_lowercase())
}

fn plain(c: char) -> char {
    match c {
        '“' | '”' | '„' | '‟' | '«' | '»' | '″' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{2043}' => '-',
        c if c.is_ascii() => c,
        c => python_text::decimal_value(c).and_then(|value| char::from_digit(value, 10)).unwrap_or(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling() {
        assert_eq!(folded("Ｃrème Brûlée — Ⓑ ٣ ﬁne"), "creme brulee - b 3 fine");
        assert_eq!(folded("cre\u{300}me"), "creme");
        assert_eq!(folded("STRASSE Straße ΟΔΟΣ"), "strasse strasse οδοσ");
        assert_eq!(folded("it’s „x‑ray“ −5"), "it's \"x-ray\" -5");
        assert_eq!(folded("\u{feff}B\u{200b}"), "b");
        // Marks that make another letter stay: Cyrillic, Kana, Hangul.
        assert_eq!(folded("й が 각"), "й が 각");
        assert_eq!(compatible("（Ｂ）： é"), "(B): é");
        assert!(matches!(folded("plain words"), Cow::Borrowed(_)));
    }
}
