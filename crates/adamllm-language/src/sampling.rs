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

/// Draws one row's tokens, from a random stream of its own.
#[derive(Clone, Debug)]
pub struct Sampler {
    rule: SamplingRule,
    stream: ChaCha8Rng,
    repetition_penalty: f32,
}

impl Sampler {
    /// A sampler; greedy rules leave the stream untouched.
    pub fn new(rule: SamplingRule, stream: ChaCha8Rng, repetition_penalty: f64) -> Self {
        Self { rule, stream, repetition_penalty: repetition_penalty as f32 }
    }

    /// Whether the answer is the plain argmax of the logits.
    pub fn is_argmax(&self) -> bool {
        self.rule == SamplingRule::Greedy && self.repetition_penalty == 1.0
    }

    /// Chooses a token. `seen` are the prompt's and the answer's tokens so far; `forbidden` ids are never chosen.
    pub fn choose(&mut self, logits: &mut [f32], seen: &[u32], forbidden: &[u32]) -> u32 {
        self.penalise(logits, seen);
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

    /// CTRL's repetition penalty (Keskar et al., 2019), once per different token.
    fn penalise(&self, logits: &mut [f32], seen: &[u32]) {
        if self.repetition_penalty == 1.0 {
            return;
        }
        let mut seen = seen.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for id in seen {
            if let Some(logit) = logits.get_mut(id as usize) {
                let penalty = self.repetition_penalty;
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
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
        Sampler::new(rule, ChaCha8Rng::seed_from_u64(7), penalty)
    }

    #[test]
    fn greedy_takes_the_first_of_equals_and_obeys_the_ban() {
        let mut greedy = sampler(SamplingRule::Greedy, 1.0);
        assert_eq!(greedy.choose(&mut [1.0, 3.0, 3.0], &[], &[]), 1);
        assert_eq!(greedy.choose(&mut [1.0, 3.0, 3.0], &[], &[1]), 2);
    }

    #[test]
    fn the_penalty_moves_both_signs_down() {
        let mut greedy = sampler(SamplingRule::Greedy, 2.0);
        assert_eq!(greedy.choose(&mut [3.0, 2.0], &[0, 0], &[]), 1);
        assert_eq!(greedy.choose(&mut [-1.0, -1.5], &[0], &[]), 1);
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
        (0..10_000).for_each(|_| counts[random.choose(&mut logits.clone(), &[], &[]) as usize] += 1);
        assert!(counts.iter().zip([5000, 3000, 2000]).all(|(&n, expected)| n.abs_diff(expected) < 200), "{counts:?}");
    }
}
