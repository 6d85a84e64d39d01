/// A text reduced to its words: lower case, letters and digits only, single spaces.
pub fn normalise(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if !normal.is_empty() {
            normal.push(' ');
        }
        normal.extend(word.chars().flat_map(char::to_lowercase));
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_words_only() {
        assert_eq!(normalise("  How  many\nCells?! (2-3) "), "how many cells 2 3");
        assert_eq!(normalise("Größe: 5"), "größe 5");
        assert_eq!(normalise("?!"), "");
    }
}
