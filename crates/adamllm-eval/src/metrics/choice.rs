use adamllm_core::random::PythonRandom;

use super::NameSet;

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
    let opened = |(at, _): (usize, &str)| {
        let inside = &text[at + 1..];
        find(&inside[..inside.find(')')?])
    };
    text.rmatch_indices('(').find_map(opened)
}

/// Reads a multiple choice without guessing: the whole answer is an option's text; or one key alone stands in brackets; or
/// the answer begins with a key and a mark, or is a key; or one key alone stands as a word (the word `A` before a
/// lower-case word is an article); or one option's text alone stands as whole words. `None` where that leaves nothing
/// or more than one.
pub fn choice_strict(answer: &str, keys: &[impl AsRef<str>], options: &NameSet) -> Option<usize> {
    if let Some(index) = options.is_exactly(answer) {
        return Some(index);
    }
    let find_key = |text: &str| keys.iter().position(|key| key.as_ref() == text);
    let words = words_with_borders(answer);
    let bracketed: Vec<usize> = words.iter().filter(|w| w.in_brackets).filter_map(|w| find_key(w.text)).collect();
    if !bracketed.is_empty() {
        return the_only(&bracketed);
    }
    if let Some(first) = words.first()
        && (words.len() == 1 || first.before_mark)
        && let Some(index) = find_key(first.text)
    {
        return Some(index);
    }
    let standing: Vec<usize> = words.iter().filter(|w| !w.is_article()).filter_map(|w| find_key(w.text)).collect();
    if !standing.is_empty() {
        return the_only(&standing);
    }
    the_only(&options.whole_words(answer))
}

fn the_only(found: &[usize]) -> Option<usize> {
    let (first, rest) = found.split_first()?;
    rest.iter().all(|other| other == first).then_some(*first)
}

/// A run of letters and digits, and what stands around it.
struct Word<'a> {
    text: &'a str,
    in_brackets: bool,
    before_mark: bool,
    before_plain_word: bool,
}

impl Word<'_> {
    fn is_article(&self) -> bool {
        self.text == "A" && self.before_plain_word
    }
}

fn words_with_borders(text: &str) -> Vec<Word<'_>> {
    let is_border = |c: char| !c.is_alphanumeric();
    let mut words = Vec::new();
    let mut start = 0;
    while let Some(skip) = text[start..].find(|c| !is_border(c)) {
        let begin = start + skip;
        let end = text[begin..].find(is_border).map_or(text.len(), |n| begin + n);
        let rest = &text[end..];
        let after = rest.chars().next();
        words.push(Word {
            text: &text[begin..end],
            in_brackets: text[..begin].ends_with('(') && after == Some(')'),
            before_mark: matches!(after, Some('.' | ':' | ')' | ',' | ';')),
            before_plain_word: begins_plain_word(rest),
        });
        start = end;
    }
    words
}

/// Whether a space and a lower-case word follow, one that does not join or judge options.
fn begins_plain_word(rest: &str) -> bool {
    let Some(next) = rest.strip_prefix(' ').and_then(|rest| rest.split(' ').next()) else { return false };
    next.starts_with(char::is_lowercase) && !["or", "and", "is"].contains(&next)
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
