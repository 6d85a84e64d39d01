use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// How the next token is drawn from its logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SamplingRule {
    /// The most probable token; the lowest id among equals.
    Greedy,
    /// A random token, after `top_k`, then `top_p`.
    Random {
        /// Divides the logits; must be positive.
        temperature: f64,
        /// Keeps the k most probable tokens.
        top_k: Option<usize>,
        /// Keeps the smallest set of tokens that holds this much probability.
        top_p: Option<f64>,
    },
}

/// What changes the logits before a token is chosen, as transformers' processors of the same names do.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitRules {
    /// Divides (multiplies, where negative) the logits of tokens that occur already, in the prompt too; 1 leaves them as they are.
    pub repetition_penalty: f64,
    /// No n-gram of this length is generated that occurs already, in the prompt too; 0 for no such rule.
    pub no_repeat_ngram_size: usize,
    /// Never chosen.
    pub suppressed: Vec<u32>,
    /// Not chosen as the first token.
    pub suppressed_at_first: Vec<u32>,
    /// Sequences whose last token is not chosen after the others.
    pub banned: Vec<Vec<u32>>,
}

impl Default for LogitRules {
    fn default() -> Self {
        let (suppressed, suppressed_at_first, banned) = (Vec::new(), Vec::new(), Vec::new());
        Self { repetition_penalty: 1.0, no_repeat_ngram_size: 0, suppressed, suppressed_at_first, banned }
    }
}

impl LogitRules {
    /// Whether the logits stay as they are.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Changes the logits of the token after `tokens`, the prompt's and the answer's, of which the last `n_new` are the answer's.
    fn apply(&self, logits: &mut [f32], tokens: &[u32], n_new: usize) {
        self.penalise(logits, tokens);
        let mut ban = |id: u32| {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        };
        self.repeated_ngrams(tokens).for_each(&mut ban);
        let ended = self.banned.iter().filter_map(|sequence| sequence.split_last());
        ended.filter(|(_, before)| tokens.ends_with(before)).for_each(|(&last, _)| ban(last));
        self.suppressed.iter().copied().for_each(&mut ban);
        if n_new == 0 {
            self.suppressed_at_first.iter().copied().for_each(&mut ban);
        }
    }

    /// The tokens that would complete an n-gram that occurs already.
    fn repeated_ngrams<'a>(&self, tokens: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
        let n = self.no_repeat_ngram_size;
        let applies = n > 0 && tokens.len() + 1 >= n;
        let last = if applies { &tokens[tokens.len() + 1 - n..] } else { &[] };
        let ngrams = applies.then(|| tokens.windows(n)).into_iter().flatten();
        ngrams.filter(move |ngram| ngram[..n - 1] == *last).map(move |ngram| ngram[n - 1])
    }

    /// CTRL's repetition penalty (Keskar et al., 2019), once per different token.
    fn penalise(&self, logits: &mut [f32], tokens: &[u32]) {
        if self.repetition_penalty == 1.0 {
            return;
        }
        let mut ids = tokens.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let penalty = self.repetition_penalty as f32;
        for id in ids {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }
}

/// Draws the tokens of one sequence, from a random stream of its own.
///
/// ```
/// use adamllm_language::{ChaCha8Rng, LogitRules, Sampler, SamplingRule, SeedableRng};
///
/// let rule = SamplingRule::Random { temperature: 1.0, top_k: Some(2), top_p: None };
/// let rules = LogitRules { suppressed: vec![3], ..LogitRules::default() };
/// let mut sampler = Sampler::new(rule, ChaCha8Rng::seed_from_u64(7), rules);
/// let token = sampler.choose(&mut [0.0, 2.0, 1.0, 9.0], &[], 0, &[]);
/// assert!(token == 1 || token == 2);
/// ```
#[derive(Clone, Debug)]
pub struct Sampler {
    rule: SamplingRule,
    stream: ChaCha8Rng,
    logits: LogitRules,
}

impl Sampler {
    /// A sampler; greedy rules leave the stream untouched.
    pub fn new(rule: SamplingRule, stream: ChaCha8Rng, logits: LogitRules) -> Self {
        Self { rule, stream, logits }
    }

    /// Whether the answer is the plain argmax of the logits.
    pub fn is_argmax(&self) -> bool {
        self.rule == SamplingRule::Greedy && self.logits.is_empty()
    }

    /// Chooses a token. `tokens` are the prompt's and the answer's so far, of which the last `n_new` are the answer's;
    /// `forbidden` ids are never chosen.
    pub fn choose(&mut self, logits: &mut [f32], tokens: &[u32], n_new: usize, forbidden: &[u32]) -> u32 {
        self.logits.apply(logits, tokens, n_new);
        for &id in forbidden {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        match self.rule {
            SamplingRule::Greedy => argmax(logits),
            SamplingRule::Random { temperature, top_k, top_p } => {
                let kept = distribution(logits, temperature, top_k, top_p);
                self.draw(&kept)
            }
        }
    }

    fn draw(&mut self, kept: &[(u32, f64)]) -> u32 {
        let total: f64 = kept.iter().map(|(_, p)| p).sum();
        let mut rest = self.stream.random::<f64>() * total;
        for &(id, p) in kept {
            rest -= p;
            if rest < 0.0 {
                return id;
            }
        }
        kept.last().map_or(0, |&(id, _)| id)
    }
}

pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// Tokens and probabilities that survive the filters, most probable first.
fn distribution(logits: &[f32], temperature: f64, top_k: Option<usize>, top_p: Option<f64>) -> Vec<(u32, f64)> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    let weight = |logit: f32| ((logit as f64 - max) / temperature).exp();
    let mut kept: Vec<(u32, f64)> =
        logits.iter().enumerate().map(|(i, &logit)| (i as u32, weight(logit))).filter(|(_, p)| *p > 0.0).collect();
    kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    kept.truncate(top_k.unwrap_or(usize::MAX).max(1));
    if let Some(top_p) = top_p {
        let total: f64 = kept.iter().map(|(_, p)| p).sum();
        let mut held = 0.0;
        let n = kept.iter().take_while(|(_, p)| {
            let more = held < top_p * total;
            held += p;
            more
        });
        let n = n.count().max(1);
        kept.truncate(n);
    }
    kept
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn sampler(rule: SamplingRule, penalty: f64) -> Sampler {
        let rules = LogitRules { repetition_penalty: penalty, ..LogitRules::default() };
        Sampler::new(rule, ChaCha8Rng::seed_from_u64(7), rules)
    }

    #[test]
    fn greedy_takes_the_first_of_equals_and_obeys_the_ban() {
        let mut greedy = sampler(SamplingRule::Greedy, 1.0);
        assert_eq!(greedy.choose(&mut [1.0, 3.0, 3.0], &[], 0, &[]), 1);
        assert_eq!(greedy.choose(&mut [1.0, 3.0, 3.0], &[], 0, &[1]), 2);
    }

    #[test]
    fn the_penalty_moves_both_signs_down() {
        let mut greedy = sampler(SamplingRule::Greedy, 2.0);
        assert_eq!(greedy.choose(&mut [3.0, 2.0], &[0, 0], 0, &[]), 1);
        assert_eq!(greedy.choose(&mut [-1.0, -1.5], &[0], 0, &[]), 1);
    }

    /// What may be chosen after these tokens, of which the last `n_new` are new, among eight.
    fn allowed(rules: LogitRules, tokens: &[u32], n_new: usize) -> Vec<usize> {
        let mut logits = [0.0; 8];
        rules.apply(&mut logits, tokens, n_new);
        (0..8).filter(|&id| logits[id] == 0.0).collect()
    }

    #[test]
    fn no_ngram_is_generated_twice() {
        let ngrams_of = |n| LogitRules { no_repeat_ngram_size: n, ..LogitRules::default() };
        assert_eq!(allowed(ngrams_of(2), &[1, 2, 3, 1], 0), [0, 1, 3, 4, 5, 6, 7]);
        assert_eq!(allowed(ngrams_of(3), &[1, 2, 3, 1, 2], 1), [0, 1, 2, 4, 5, 6, 7]);
        assert_eq!(allowed(ngrams_of(1), &[1, 2, 7], 1), [0, 3, 4, 5, 6]);
        assert_eq!(allowed(ngrams_of(4), &[1, 1], 1), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn what_is_suppressed_is_not_chosen() {
        let rules = LogitRules {
            suppressed: vec![0, 99],
            suppressed_at_first: vec![1],
            banned: vec![vec![7], vec![5, 6], vec![1, 2, 3, 4, 5, 2]],
            ..LogitRules::default()
        };
        assert_eq!(allowed(rules.clone(), &[4], 0), [2, 3, 4, 5, 6]);
        assert_eq!(allowed(rules.clone(), &[4, 5], 1), [1, 2, 3, 4, 5]);
        assert!(!rules.is_empty() && LogitRules::default().is_empty());
    }

    #[test]
    fn filters_keep_what_they_say() {
        let logits = [0.5f32, 0.3, 0.15, 0.05].map(f32::ln);
        let ids = |k, p| distribution(&logits, 1.0, k, p).iter().map(|x| x.0).collect::<Vec<_>>();
        assert_eq!(ids(None, None), [0, 1, 2, 3]);
        assert_eq!(ids(Some(2), None), [0, 1]);
        assert_eq!(ids(None, Some(0.79)), [0, 1]);
        assert_eq!(ids(None, Some(0.81)), [0, 1, 2]);
        assert_eq!(ids(None, Some(0.0)), [0]);
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let mut random = sampler(SamplingRule::Random { temperature: 1.0, top_k: None, top_p: None }, 1.0);
        let logits = [0.5f32, 0.3, 0.2].map(f32::ln);
        let mut counts = [0u32; 3];
        (0..10_000).for_each(|_| counts[random.choose(&mut logits.clone(), &[], 0, &[]) as usize] += 1);
        assert!(counts.iter().zip([5000, 3000, 2000]).all(|(&n, expected)| n.abs_diff(expected) < 200), "{counts:?}");
    }
}
