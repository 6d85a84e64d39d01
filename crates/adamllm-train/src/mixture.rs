use adamllm_core::random::named_stream;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// Several sources of examples in one epoch, each as often as its weight says. Examples of all sources are numbered one
/// source after the other.
///
/// Which examples an epoch has is a pure function of `(seed, epoch)`. A source is read like an endless stream of shuffled passes
/// over its examples, of which every epoch takes the next `round(weight * n_examples)`: a weight below 1 subsamples, one above 1
/// repeats, and over a run the examples of a source are read equally often, but for one time.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedSources {
    sources: Vec<SourceShare>,
}

/// The size of a source, and how often it is read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceShare {
    /// Examples that it has.
    pub n_examples: usize,
    /// How often an epoch reads them: 0.5 for half of them, 2 for each of them twice.
    pub weight: f64,
}

impl SourceShare {
    /// Examples that an epoch takes.
    pub fn examples_per_epoch(&self) -> usize {
        (self.weight * self.n_examples as f64).round() as usize
    }
}

impl WeightedSources {
    /// A mixture.
    ///
    /// # Errors
    /// [`TrainError::Config`] for a weight that is no positive number, and where no example would be read.
    pub fn new(sources: Vec<SourceShare>) -> Result<Self, TrainError> {
        let fault =
            |expected: &str, got: String| TrainError::Config { field: "weight", expected: expected.into(), got };
        if let Some(source) = sources.iter().find(|s| !(s.weight > 0.0 && s.weight.is_finite())) {
            return Err(fault("a positive number", source.weight.to_string()));
        }
        let mixture = Self { sources };
        match mixture.examples_per_epoch() {
            0 => Err(fault("at least one example in an epoch", "none".into())),
            _ => Ok(mixture),
        }
    }

    /// Examples of an epoch, the same number in each.
    pub fn examples_per_epoch(&self) -> usize {
        self.sources.iter().map(SourceShare::examples_per_epoch).sum()
    }

    /// The source of an example.
    pub fn source_of(&self, example: usize) -> Option<usize> {
        let mut end = 0;
        self.sources.iter().position(|source| {
            end += source.n_examples;
            example < end
        })
    }

    /// The examples of an epoch (from 0), ascending: which they are, not in which order they are read. With weights of 1
    /// each example is there once.
    pub fn epoch(&self, seed: u64, epoch: usize) -> Vec<usize> {
        let mut examples = Vec::with_capacity(self.examples_per_epoch());
        let mut first = 0;
        for (number, source) in self.sources.iter().enumerate() {
            let taken = source.examples_per_epoch();
            examples.extend(
                stream_of(seed, number, source.n_examples, epoch * taken, taken).map(|example| first + example),
            );
            first += source.n_examples;
        }
        examples.sort_unstable();
        examples
    }
}

/// `count` examples of the endless stream of passes over `n_examples` examples, from index `from` on.
fn stream_of(seed: u64, source: usize, n_examples: usize, from: usize, count: usize) -> impl Iterator<Item = usize> {
    let passes = from / n_examples.max(1)..(from + count).div_ceil(n_examples.max(1));
    let skipped = from % n_examples.max(1);
    let pass = move |pass: usize| {
        let mut examples: Vec<usize> = (0..n_examples).collect();
        examples.shuffle(&mut named_stream(seed, "pass over a source", &format!("{source}/{pass}")));
        examples
    };
    passes.flat_map(pass).skip(skipped).take(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixture(sources: &[(usize, f64)]) -> WeightedSources {
        let shares = sources.iter().map(|&(n_examples, weight)| SourceShare { n_examples, weight });
        WeightedSources::new(shares.collect()).expect("positive weights")
    }

    fn counts(examples: &[usize], n: usize) -> Vec<usize> {
        (0..n).map(|example| examples.iter().filter(|r| **r == example).count()).collect()
    }

    #[test]
    fn an_epoch_has_exactly_what_the_weights_say() {
        let mixture = mixture(&[(40, 0.3), (10, 2.5), (7, 1.0)]);
        assert_eq!(mixture.examples_per_epoch(), 12 + 25 + 7);
        for epoch in 0..4 {
            let examples = mixture.epoch(5, epoch);
            let of = |range: std::ops::Range<usize>| examples.iter().filter(|example| range.contains(example)).count();
            assert_eq!([of(0..40), of(40..50), of(50..57)], [12, 25, 7]);
            assert_eq!(examples, mixture.epoch(5, epoch), "a pure function");
        }
        assert_ne!(mixture.epoch(5, 0), mixture.epoch(5, 1));
        assert_ne!(mixture.epoch(5, 0), mixture.epoch(6, 0));
        assert_eq!(
            [0, 39, 40, 56, 57].map(|example| mixture.source_of(example)),
            [Some(0), Some(0), Some(1), Some(2), None]
        );
    }

    #[test]
    fn no_example_is_read_more_than_once_oftener_than_another() {
        let mixture = mixture(&[(40, 0.3), (10, 2.5)]);
        for epochs in 1..=10 {
            let examples: Vec<usize> = (0..epochs).flat_map(|epoch| mixture.epoch(1, epoch)).collect();
            let counts = counts(&examples, 50);
            for part in [&counts[..40], &counts[40..]] {
                let (min, max) = (part.iter().min().expect("examples"), part.iter().max().expect("examples"));
                assert!(max - min <= 1, "{epochs} epochs: {part:?}");
            }
        }
        assert!(counts(&mixture.epoch(1, 0), 40).iter().all(|n| *n <= 1), "a subsample has no example twice");
    }

    #[test]
    fn weights_of_one_read_every_example_once() {
        let mixture = mixture(&[(12, 1.0), (18, 1.0)]);
        for epoch in 0..3 {
            assert_eq!(mixture.epoch(3, epoch), (0..30).collect::<Vec<_>>());
        }
    }

    #[test]
    fn weights_that_read_nothing_are_refused() {
        for weight in [0.0, -1.0, f64::NAN, f64::INFINITY, 0.001] {
            assert!(WeightedSources::new(vec![SourceShare { n_examples: 10, weight }]).is_err(), "{weight}");
        }
    }
}
