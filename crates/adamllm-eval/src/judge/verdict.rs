//! What a judge's text says.

use crate::metrics::{answer_words, without_reasoning};

/// Reads whether a judge calls an answer right; `None` where that is not clear.
///
/// After the judge's reasoning: the word that follows the last *verdict*, else the text's first word, else what all its verdicts agree on.
/// Verdicts are *correct*, *right*, *true*, *yes* and *incorrect*, *wrong*, *false*, *no*; *not* before one turns it round.
pub fn read_verdict(text: &str) -> Option<bool> {
    let words = answer_words(&without_reasoning(text));
    let words: Vec<&str> = words.split(' ').collect();
    let mut said = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let Some(right) = verdict(word) else { continue };
        let denied = index > 0 && (words[index - 1] == "not" || words[index - 1].ends_with("n't"));
        said.push((index, right != denied, denied));
    }

    // Right after its announcement, with *is* or *not* between at most; a choice between two (*correct or incorrect*) is none.
    if let Some(cue) = words.iter().rposition(|word| *word == "verdict") {
        let near = said.iter().find(|(index, ..)| (cue + 1..=cue + 3).contains(index))?;
        let choice = words.get(near.0 + 1).is_some_and(|next| matches!(*next, "or" | "and"));
        return (!choice).then_some(near.1);
    }
    let (first, right, denied) = *said.first()?;
    let begins = first == usize::from(denied) && !matches!(words.get(first + 1), Some(&"or" | &"and"));
    let agreed = said.iter().all(|(_, other, _)| *other == right);
    (begins || agreed).then_some(right)
}

fn verdict(word: &str) -> Option<bool> {
    match word {
        "correct" | "right" | "true" | "yes" => Some(true),
        "incorrect" | "wrong" | "false" | "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_and_never_guessed() {
        let table = [
            ("Verdict: correct", Some(true)),
            ("verdict: INCORRECT.", Some(false)),
            ("**Verdict:** correct", Some(true)),
            ("It names cocci, which is wrong. Verdict: not correct", Some(false)),
            ("The reference is correct, the answer says something else. Verdict: incorrect", Some(false)),
            ("<think>Verdict: correct?</think>Verdict: incorrect", Some(false)),
            (" Yes", Some(true)),
            ("No, the answer is not the same; the reference is right.", Some(false)),
            ("The answer is correct.", Some(true)),
            ("The answer isn't correct.", Some(false)),
            ("Not correct", Some(false)),
            ("Verdict: correct or incorrect", None),
            ("Correct or incorrect?", None),
            ("The reference is right, the answer is wrong.", None),
            ("Verdict: unsure, though much of it is right", None),
            ("<think>Verdict: correct", None),
            ("Open", None),
            ("", None),
        ];
        for (text, read) in table {
            assert_eq!(read_verdict(text), read, "{text:?}");
        }
    }
}
