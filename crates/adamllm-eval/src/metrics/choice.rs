use adamllm_core::random::PythonRandom;

use super::NameSet;
use super::option::read_option;

/// How the reference reads a multiple choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChoiceParse {
    /// The option's key (its letter or number) stands in the answer.
    ByKey(usize),
    /// The option's text stands in the answer.
    ByText(usize),
    /// Nothing was found, and the option was drawn at random.
    Random(usize),
}

impl ChoiceParse {
    /// The option's index.
    pub fn index(self) -> usize {
        match self {
            Self::ByKey(index) | Self::ByText(index) | Self::Random(index) => index,
        }
    }
}

/// Reads a multiple choice as MMMU's evaluation does (Yue et al., 2024), in the reference's variant: `,.!?;:'` are
/// stripped one after the other; `(key)` counts, else a key between two spaces, else (answers of more than three
/// characters) an option's text, in any case and inside other words too. Among several, the one that starts last wins.
/// Where nothing is found, the option is `random.Random(seed).choice` of CPython.
///
/// # Panics
/// If there is no option.
pub fn choice_paper(answer: &str, keys: &[impl AsRef<str>], options: &NameSet, seed: u64) -> ChoiceParse {
    let mut bare = answer;
    for mark in [',', '.', '!', '?', ';', ':', '\''] {
        bare = bare.trim_matches(mark);
    }
    let find_key = |text: &str| keys.iter().position(|key| key.as_ref() == text);
    if let Some(index) = last_in_brackets(bare, find_key).or_else(|| bare.split(' ').rev().find_map(find_key)) {
        return ChoiceParse::ByKey(index);
    }
    // The reference pads the text with two spaces before it asks for more than five characters.
    if bare.chars().nth(3).is_some()
        && let Some(index) = options.last_contained(&format!(" {bare} "))
    {
        return ChoiceParse::ByText(index);
    }
    let indices: Vec<usize> = (0..keys.len()).collect();
    ChoiceParse::Random(*PythonRandom::new(seed).choice(&indices))
}

fn last_in_brackets<T>(text: &str, find: impl Fn(&str) -> Option<T>) -> Option<T> {
    let opened = |(offset, _): (usize, &str)| {
        let inside = &text[offset + 1..];
        find(&inside[..inside.find(')')?])
    };
    text.rmatch_indices('(').find_map(opened)
}

/// Reads a multiple choice as a careful person does, without guessing. `None` where nothing is said, or not clearly one option.
///
/// The text after the model's reasoning counts ([`without_reasoning`](super::without_reasoning)). In this order: the whole answer is an option's
/// text; a final answer (`\boxed{B}`, *the final answer is B*); a declared one (*the answer is B*, *B is correct*,
/// `答案：B`, a last line); what the answer begins with (`B. The left lung`); the only option that is mentioned, by its text or
/// its letter. Case, width and brackets do not matter. A letter inside an option's text (*hepatitis B*) is no letter; nor are
/// articles, the pronoun *I*, initials and parts of other names. What is denied (*not B*) does not count, and several
/// options of one rank leave the answer unread.
pub fn choice_strict(answer: &str, keys: &[impl AsRef<str>], options: &NameSet) -> Option<usize> {
    read_option(answer, keys, options)
}

/// Reads which one of many names an answer gives, as [`choice_strict`] does without letters: the first index of the name.
pub fn name_strict(answer: &str, names: &NameSet) -> Option<usize> {
    const NO_KEYS: [&str; 0] = [];
    read_option(answer, &NO_KEYS, names).map(|index| names.canonical(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> NameSet {
        NameSet::new(["chest", "left lung", "left", "MRI"])
    }

    #[test]
    fn strict_reads_what_is_said_and_nothing_else() {
        let keys = ["A", "B", "C", "D"];
        let read = |answer| choice_strict(answer, &keys, &options());
        assert_eq!(read("!C?;"), Some(2));
        assert_eq!(read("B: the left lung"), Some(1));
        assert_eq!(read("the left lung"), Some(1));
        assert_eq!(read("A chest with a scar"), Some(0));
        assert_eq!(read("A scar"), None);
        assert_eq!(read("The answer is D"), Some(3));
        assert_eq!(read("A or B"), None);
        assert_eq!(read("(A) and (B)"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn the_reference_takes_articles_and_draws() {
        let keys = ["A", "B", "C", "D"];
        assert_eq!(choice_paper("with A scar", &keys, &options(), 0), ChoiceParse::ByKey(0));
        assert_eq!(choice_paper("cleft", &keys, &options(), 0), ChoiceParse::ByText(2));
        assert_eq!(choice_paper("MRI", &keys, &options(), 0), ChoiceParse::Random(3));
    }
}
