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
}
