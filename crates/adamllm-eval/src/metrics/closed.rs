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
/// occurs as a whole word. `None` where neither does, or both do.
pub fn yes_no(answer: &str) -> Option<YesNo> {
    let words = answer_words(answer);
    match words.first().map(String::as_str) {
        Some("yes") => return Some(YesNo::Yes),
        Some("no") => return Some(YesNo::No),
        _ => {}
    }
    let has = |wanted: &str| words.iter().any(|word| word == wanted);
    match (has("yes"), has("no")) {
        (true, false) => Some(YesNo::Yes),
        (false, true) => Some(YesNo::No),
        _ => None,
    }
}

/// Closed-question accuracy by whole words; `None` where the answer cannot be read (wrong, and to be counted).
///
/// A yes-or-no label is compared with [`yes_no`]. Any other label (SLAKE has `left`, `CT`) must stand in the answer as
/// whole words in their order; only an answer without words is then unreadable.
pub fn closed_strict(answer: &str, label: &str) -> Option<bool> {
    let label = answer_words(label);
    let expected = match label.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["yes"] => YesNo::Yes,
        ["no"] => YesNo::No,
        _ => {
            let words = answer_words(answer);
            let found = !label.is_empty() && words.windows(label.len()).any(|part| part == label);
            return (!words.is_empty()).then_some(found);
        }
    };
    yes_no(answer).map(|said| said == expected)
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
        assert_eq!(closed_strict("on the left side", "Left"), Some(true));
        assert_eq!(closed_paper("on the left side", "Left"), 0.0);
        assert_eq!(closed_strict("leftmost", "left"), Some(false));
        assert_eq!(closed_strict(" ?", "left"), None);
    }
}
