//! Some questions of a benchmark, drawn at random.

use std::collections::HashSet;

use adamllm_core::random::named_stream;
use adamllm_core::{ImageStore, RecordId};
use rand::seq::SliceRandom;

use crate::benchmark::forward_benchmark;
use crate::{Benchmark, EvalError, Example, Outcome};

/// A benchmark of some questions of another one. Ids and right answers stay, so it compares with the whole one.
pub struct SampledBenchmark<'a> {
    benchmark: &'a dyn Benchmark,
    indices: Vec<usize>,
    ids: HashSet<RecordId>,
    name: String,
}

impl std::fmt::Debug for SampledBenchmark<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SampledBenchmark").field("name", &self.name).field("n", &self.indices.len()).finish()
    }
}

impl<'a> SampledBenchmark<'a> {
    /// At most `n` questions that show an image, out of those with an outcome. Which ones depends on the seed, the benchmark's name and the
    /// outcomes alone; they keep the benchmark's order.
    ///
    /// # Errors
    /// A benchmark that fails as a whole; an example that cannot be read is passed over.
    pub fn with_images(
        benchmark: &'a dyn Benchmark,
        outcomes: &[Outcome],
        n: usize,
        seed: u64,
    ) -> Result<Self, EvalError> {
        let answered: HashSet<&RecordId> = outcomes.iter().map(|outcome| &outcome.id).collect();

        // The order is drawn over the whole benchmark, whatever was answered: the runs of two models show the same
        // questions as far as they can.
        let mut order: Vec<usize> = (0..benchmark.len()).collect();
        order.shuffle(&mut named_stream(seed, "sample of questions", benchmark.name()));

        let (mut indices, mut ids) = (Vec::new(), HashSet::new());
        for index in order {
            if indices.len() == n.min(answered.len()) {
                break;
            }

            match benchmark.example(index) {
                Ok(example) if answered.contains(&example.id) && !example.images.is_empty() => {
                    indices.push(index);
                    ids.insert(example.id);
                }
                Err(error) if !error.is_example_error() => return Err(error),
                _ => {}
            }
        }

        indices.sort_unstable();
        Ok(Self { benchmark, indices, ids, name: format!("{} (sample)", benchmark.name()) })
    }

    /// The outcomes of the sample's questions among those of the whole benchmark.
    pub fn outcomes(&self, all: &[Outcome]) -> Vec<Outcome> {
        all.iter().filter(|outcome| self.ids.contains(&outcome.id)).cloned().collect()
    }
}

impl Benchmark for SampledBenchmark<'_> {
    forward_benchmark!();

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn example(&self, index: usize) -> Result<Example, EvalError> {
        self.benchmark.example(self.indices[index])
    }

    fn question(&self, index: usize) -> Result<Example, EvalError> {
        self.benchmark.question(self.indices[index])
    }

    fn images(&self) -> Option<&dyn ImageStore> {
        self.benchmark.images()
    }
}
