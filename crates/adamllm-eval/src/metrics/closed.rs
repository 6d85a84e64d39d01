use super::{answer_words, normalise_answer};

/// Closed-question accuracy as the reference computes it: a hit (100) where the normalised answer contains `yes` or `no`
/// anywhere, inside other words too, and contains the normalised label anywhere; else 0.
///
/// `normal` and `know` therefore count as *no*, an answer with both words is always right, and a label such as `left` is
/// hit only beside one of the two words: see [`closed_strict`].
pub fn closed_paper(answer: &str, label: &str) -> f64 {
    closed_normalised(&normalise_answer(answer), &normalise_answer(label))
}

pub(crate) fn closed_normalised(answer: &str, label: &str) -> f64 {
    let decided = answer.contains("yes") || answer.contains("no");
    if decided && answer.contains(label) { 100.0 } else { 0.0 }
}

/// What an answer to a yes-or-no question says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum YesNo {
    /// The word *yes*.
    Yes,
    /// The word *no*.
    No,
}

/// Reads an answer to a yes-or-no question: the first word where it is *yes* or *no*, else the one of the two that
/// occurs as a whole word. `None` where neither does, or both do, or where nothing but both is said (*yes or no*).
pub fn yes_no(answer: &str) -> Option<YesNo> {
    yes_no_in_words(&answer_words(answer))
}

/// [`yes_no`] of an answer that went through [`answer_words`].
pub(crate) fn yes_no_in_words(words: &str) -> Option<YesNo> {
    let mut said = words.split(' ').enumerate().filter_map(|(place, word)| match word {
        "yes" => Some((place, YesNo::Yes)),
        "no" => Some((place, YesNo::No)),
        _ => None,
    });
    let (place, first) = said.next()?;
    let agreed = said.all(|(_, other)| other == first);
    let explained = words.split(' ').any(|word| !["yes", "no", "or", "and"].contains(&word));
    (agreed || (place == 0 && explained)).then_some(first)
}

/// Closed-question accuracy by whole words; `None` where the answer cannot be read (wrong, and to be counted).
///
/// A yes-or-no label is compared with [`yes_no`]. Any other label (SLAKE has `left`, `CT`) must stand in the answer as
/// whole words in their order; only an answer without words is then unreadable.
pub fn closed_strict(answer: &str, label: &str) -> Option<bool> {
    closed_in_words(&answer_words(answer), label)
}

/// [`closed_strict`] of an answer that went through [`answer_words`].
pub(crate) fn closed_in_words(words: &str, label: &str) -> Option<bool> {
    match answer_words(label).as_str() {
        "yes" => yes_no_in_words(words).map(|said| said == YesNo::Yes),
        "no" => yes_no_in_words(words).map(|said| said == YesNo::No),
        label => (!words.is_empty()).then(|| !label.is_empty() && format!(" {words} ").contains(&format!(" {label} "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_decide_in_the_strict_scoring() {
        assert_eq!(closed_paper("normal", "no"), 100.0);
        assert_eq!(closed_strict("normal", "no"), None);
        assert_eq!(closed_paper("yes or no", "no"), 100.0);
        assert_eq!(yes_no("It may be yes or no"), None);
        assert_eq!(yes_no("Yes, there is no doubt."), Some(YesNo::Yes));
        assert_eq!(["yes/no", "No. Yes.", "Yes or no?", ""].map(yes_no), [None; 4]);
        assert_eq!(closed_strict("on the left side", "Left"), Some(true));
        assert_eq!(closed_paper("on the left side", "Left"), 0.0);
        assert_eq!(closed_strict("leftmost", "left"), Some(false));
        assert_eq!(closed_strict(" ?", "left"), None);
    }
}
