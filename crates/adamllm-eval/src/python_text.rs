//! Text as CPython sees it, where the reference's scores depend on it.

/// `str.split()`: Unicode white space as CPython counts it, which has the four ASCII separators U+001C to U+001F that
/// Rust leaves out.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `\d` of a Unicode pattern: the general category Nd (Unicode 14, as in CPython 3.11).
pub(crate) fn is_decimal(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_digit() } else { decimal_value(c).is_some() }
}

/// The value of a decimal digit of any script, 0 to 9.
pub(crate) fn decimal_value(c: char) -> Option<u32> {
    let code = c as u32;
    let block = DECIMAL_ZEROS.partition_point(|&zero| zero <= code);
    let zero = DECIMAL_ZEROS.get(block.checked_sub(1)?)?;
    (code - zero < 10).then(|| code - zero)
}

/// The zero of every script whose digits have the category Nd; nine follow each.
#[rustfmt::skip]
const DECIMAL_ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0, 0xf20,
    0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0,
    0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0,
    0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50,
    0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_and_counts_digits_like_cpython() {
        assert_eq!(words(" a\u{1c}b\u{a0}\u{3000}c\t").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(is_decimal('7') && is_decimal('٣') && is_decimal('９') && is_decimal('\u{1fbf9}'));
        assert!(!is_decimal('²') && !is_decimal('½') && !is_decimal('Ⅷ') && !is_decimal('a'));
    }
}
