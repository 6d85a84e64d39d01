use std::collections::HashMap;

/// BLEU of a whole set of answers (Papineni et al., 2002): the geometric mean of clipped n-gram precisions up to `max_n`,
/// times the brevity penalty against the closest reference length; 0 to 100. Lower-cased; words are runs of letters and
/// digits. No smoothing: 0 where an order has no match. `None` where there is no answer.
///
/// Each pair is an answer and its references.
pub fn corpus_bleu<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [String])>, max_n: usize) -> Option<f64> {
    let mut sums = Sums { matches: vec![0; max_n], totals: vec![0; max_n], n_answer: 0, n_reference: 0, n_pairs: 0 };
    pairs.into_iter().for_each(|(answer, references)| sums.add(answer, references));
    (sums.n_pairs > 0 && max_n > 0).then(|| sums.score())
}

struct Sums {
    matches: Vec<usize>,
    totals: Vec<usize>,
    n_answer: usize,
    n_reference: usize,
    n_pairs: usize,
}

impl Sums {
    fn add(&mut self, answer: &str, references: &[String]) {
        let answer = words(answer);
        let references: Vec<Vec<String>> = references.iter().map(|reference| words(reference)).collect();
        let closest = references.iter().map(Vec::len).min_by_key(|&n| (n.abs_diff(answer.len()), n));

        self.n_pairs += 1;
        self.n_answer += answer.len();
        self.n_reference += closest.unwrap_or(0);

        // An n-gram counts at most as often as the reference that has most of it (Papineni et al. 2002, section 2.1).
        for n in 1..=self.matches.len() {
            let mut allowed: HashMap<&[String], usize> = HashMap::new();
            for reference in &references {
                for (gram, count) in counts(reference, n) {
                    let most = allowed.entry(gram).or_default();
                    *most = count.max(*most);
                }
            }

            let grams = counts(&answer, n);
            self.totals[n - 1] += grams.values().sum::<usize>();
            let clipped = |(gram, count): (&&[String], &usize)| *count.min(allowed.get(*gram).unwrap_or(&0));
            self.matches[n - 1] += grams.iter().map(clipped).sum::<usize>();
        }
    }

    fn score(&self) -> f64 {
        if self.matches.contains(&0) {
            return 0.0;
        }
        let precision = |(hits, total): (&usize, &usize)| (*hits as f64 / *total as f64).ln();
        let logs: f64 = self.matches.iter().zip(&self.totals).map(precision).sum();
        let brevity = (1.0 - self.n_reference as f64 / self.n_answer as f64).min(0.0);
        (logs / self.matches.len() as f64 + brevity).exp() * 100.0
    }
}

fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn counts(words: &[String], n: usize) -> HashMap<&[String], usize> {
    let mut counts = HashMap::new();
    for gram in words.windows(n) {
        *counts.entry(gram).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_everything() {
        let reference = ["A plane stands on the runway".to_owned()];
        assert_eq!(corpus_bleu([], 4), None);
        assert_eq!(corpus_bleu([("", &reference[..])], 4), Some(0.0));
        let full = corpus_bleu([("a plane stands on the runway.", &reference[..])], 4).expect("a pair");
        assert!((full - 100.0).abs() < 1e-9);
    }
    fn bleu(answer: &str, references: &[&str], max_n: usize) -> f64 {
        let references: Vec<String> = references.iter().map(|text| (*text).to_owned()).collect();
        corpus_bleu([(answer, &references[..])], max_n).expect("a pair")
    }

    #[test]
    fn scores_are_those_of_the_formula() {
        let is = |score: f64, expected: f64| assert!((score - expected).abs() < 1e-9, "{score} for {expected}");
        // Of four words three count: "the" as often as the reference has it.
        is(bleu("the the the cat", &["the cat the"], 1), 75.0);
        is(bleu("the the the cat", &["cat", "the the", "the a the cat"], 1), 75.0);
        // All four words, and one of three pairs.
        is(bleu("a b c d", &["a b d c"], 2), 100.0 * (1.0_f64 / 3.0).sqrt());
        is(bleu("a b c d", &["d c b a"], 2), 0.0);
        // Half as long as the reference: exp(1 - 4 / 2). The nearest length counts, of two alike the shorter one.
        is(bleu("the cat", &["the cat sat down"], 1), 100.0 * (-1.0_f64).exp());
        is(bleu("the cat sat", &["the cat sat down", "the sat"], 1), 100.0);
        is(bleu("the cat sat", &["the cat sat down low", "the cat sat down"], 1), 100.0 * (1.0 - 4.0_f64 / 3.0).exp());
        // Counts of all pairs are summed before they are divided: 3 of 5 words, 5 words against 6.
        let [one, two] = ["a b", "x y z u"].map(|text| [text.to_owned()]);
        let corpus = corpus_bleu([("a b", &one[..]), ("x q r", &two[..])], 1).expect("two pairs");
        is(corpus, 60.0 * (1.0 - 6.0_f64 / 5.0).exp());
        assert_eq!(corpus_bleu([("a", &one[..])], 0), None);
    }
}
