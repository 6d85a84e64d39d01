use super::{answer_words, normalise_answer, without_reasoning};

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

/// Reads an answer to a yes-or-no question after the model's reasoning ([`without_reasoning`]): the one of the two that occurs as a
/// whole word. Where both do: a final answer, else the first word, else the first that is declared (*the answer is no*). `None` where neither does, or nothing is declared (*yes or no*, *yes/no*); other languages' words are unread.
pub fn yes_no(answer: &str) -> Option<YesNo> {
    yes_no_in_words(&answer_words(&without_reasoning(answer)))
}

/// [`yes_no`] of an answer that went through [`answer_words`].
pub(crate) fn yes_no_in_words(words: &str) -> Option<YesNo> {
    let words: Vec<&str> = words.split(' ').collect();
    let mut said = words.iter().enumerate().filter_map(|(position, word)| Some((position, yes_or_no(word)?)));
    let (position, first) = said.next()?;
    if said.all(|(_, other)| other == first) {
        return Some(first);
    }

    // Both words are said: a final answer counts, then what the text begins with, then the first that is declared.
    let declared =
        |last: bool| (0..words.len()).find(|&index| yes_or_no(words[index]).is_some() && declares(&words, index, last));
    let explained = words.iter().any(|word| !["yes", "no", "or", "and"].contains(word));
    let quoted = words.get(position + 1).is_some_and(|word| ["or", "and"].contains(word) || yes_or_no(word).is_some());
    let begins = (position == 0 && explained && !quoted).then_some(position);
    declared(true).or(begins).or_else(|| declared(false)).and_then(|index| yes_or_no(words[index]))
}

fn yes_or_no(word: &str) -> Option<YesNo> {
    match word {
        "yes" => Some(YesNo::Yes),
        "no" => Some(YesNo::No),
        _ => None,
    }
}

/// Whether a word stands where an answer is declared: *answer is ...*, `\boxed{...}`; with `last`, where the final one is. Not so
/// in *answer yes or no*.
fn declares(words: &[&str], index: usize, last: bool) -> bool {
    let tied = |word: &&&str| {
        ["is", "be", "would", "should", "must", "therefore", "thus", "to", "question", "this", "text"].contains(word)
    };
    let n_tied = words[..index].iter().rev().take_while(tied).count();
    let Some(cue) = (index - n_tied).checked_sub(1) else { return false };
    let announced = match words[cue] {
        "boxed" => true,
        "answer" => !last || (cue > 0 && words[cue - 1] == "final"),
        _ => false,
    };
    let choice = words.get(index + 1).is_some_and(|next| *next == "or" || yes_or_no(next).is_some());
    announced && !choice
}

/// Closed-question accuracy by whole words; `None` where the answer cannot be read (wrong, and to be counted).
///
/// A yes-or-no label is compared with [`yes_no`]. Any other label (SLAKE has `left`, `CT`) must stand in the answer as
/// whole words in their order; only an answer without words is then unreadable.
pub fn closed_strict(answer: &str, label: &str) -> Option<bool> {
    closed_in_words(&answer_words(&without_reasoning(answer)), label)
}

/// [`closed_strict`] of an answer that went through [`answer_words`].
pub(crate) fn closed_in_words(words: &str, label: &str) -> Option<bool> {
    match answer_words(label).as_str() {
        "yes" => yes_no_in_words(words).map(|said| said == YesNo::Yes),
        "no" => yes_no_in_words(words).map(|said| said == YesNo::No),
        label => (!words.is_empty()).then(|| !label.is_empty() && says(words, label)),
    }
}

/// Whether the label is in the words at a position that is not denied (*not left*).
fn says(words: &str, label: &str) -> bool {
    let words = format!(" {words} ");
    let label = format!(" {label} ");
    let mut positions = words.match_indices(&label).map(|(offset, _)| &words[..offset]);
    positions.any(|before| ![" not", " no", "n't", " without"].iter().any(|denial| before.ends_with(denial)))
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
        assert_eq!(closed_strict("It is not left.", "left"), Some(false));
        assert_eq!(closed_strict("not right, left", "left"), Some(true));
        assert_eq!(closed_strict("leftmost", "left"), Some(false));
        assert_eq!(closed_strict(" ?", "left"), None);
    }

    #[test]
    fn a_declared_yes_or_no_counts() {
        let (yes, no) = (Some(YesNo::Yes), Some(YesNo::No));
        let table = [
            ("ＹＥＳ", yes),
            ("**Yes**", yes),
            ("“No”", no),
            ("<think>yes, or no?</think>No.", no),
            ("<think>yes", None),
            ("yes</think>no", no),
            ("No, it is not clear; the answer to that would be yes in another case.", no),
            ("No, it is not; others say yes.", no),
            ("The answer is no. Some would say yes.", no),
            ("Some say yes; the answer is: no", no),
            ("The answer is yes. On reflection, final answer: no", no),
            ("\\boxed{\\text{No}} and not yes", no),
            ("Yes, it seems so at first. Final answer: no", no),
            ("Please answer yes or no.", None),
            ("answer yes/no: no", None),
            ("There is no fracture.", no),
            ("I know nothing of that", None),
            ("Nope", None),
            ("Oui", None),
            ("はい", None),
            ("是", None),
        ];
        for (answer, read) in table {
            assert_eq!(yes_no(answer), read, "{answer}");
        }
    }
}
