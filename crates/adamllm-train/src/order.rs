use std::sync::Arc;

use adamllm_core::random::named_stream;
use rand::seq::SliceRandom;

use crate::{BatchSource, ExampleOrder, TrainConfig, TrainError};

/// Steps whose examples are sorted together where examples are grouped by length.
const GROUPED_STEPS: usize = 50;

/// Which examples stand in which step: a pure function of `(seed, step)` and the examples' lengths, whatever ran before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchOrder {
    /// Seeds each epoch's shuffle.
    pub seed: u64,
    /// Examples in an epoch.
    pub n_examples: usize,
    /// Examples in a step.
    pub batch_size: usize,
    /// Steps in an epoch.
    pub n_steps: usize,
    /// Which examples meet.
    pub kind: ExampleOrder,
    /// Each example's tokens, where examples are grouped by length.
    pub lengths: Arc<Vec<usize>>,
}

impl BatchOrder {
    /// The order of a run.
    ///
    /// # Errors
    /// [`TrainError::Config`] where examples are to be grouped by lengths that the source does not know.
    pub fn of<S: BatchSource>(source: &S, config: &TrainConfig) -> Result<Self, TrainError> {
        let n_examples = source.examples_per_epoch();
        let lengths: Option<Vec<usize>> = match config.order {
            ExampleOrder::LengthGrouped => {
                (0..source.n_examples()).map(|example| source.example_size(example).map(|size| size.tokens)).collect()
            }
            ExampleOrder::Shuffled | ExampleOrder::Sequential => Some(Vec::new()),
        };
        let unknown = || TrainError::Config {
            field: "order",
            expected: "a source that knows its examples' sizes".into(),
            got: "length_grouped".into(),
        };
        let lengths = Arc::new(lengths.ok_or_else(unknown)?);
        let (batch_size, n_steps) = (config.batch_size, config.steps_per_epoch(n_examples));
        Ok(Self { seed: config.seed, n_examples, batch_size, n_steps, kind: config.order, lengths })
    }

    /// The epoch of step `step` (both from 0).
    pub fn epoch(&self, step: usize) -> usize {
        step / self.steps_per_epoch()
    }

    /// Steps in an epoch; the last may be shorter.
    pub fn steps_per_epoch(&self) -> usize {
        self.n_steps
    }

    /// The examples of step `step`, in order, where every epoch has every example. `shuffled` keeps the last epoch's permutation
    /// between calls.
    pub fn examples<'a>(&self, step: usize, shuffled: &'a mut Option<(usize, Vec<usize>)>) -> &'a [usize] {
        self.step_examples(step, shuffled, |_| (0..self.n_examples).collect())
    }

    /// The examples of step `step`, in order, where the source says which examples an epoch has.
    pub fn examples_of<'a, S: BatchSource>(
        &self,
        source: &S,
        step: usize,
        shuffled: &'a mut Option<(usize, Vec<usize>)>,
    ) -> &'a [usize] {
        self.step_examples(step, shuffled, |epoch| source.epoch_examples(self.seed, epoch))
    }

    fn step_examples<'a>(
        &self,
        step: usize,
        shuffled: &'a mut Option<(usize, Vec<usize>)>,
        examples_of: impl Fn(usize) -> Vec<usize>,
    ) -> &'a [usize] {
        let epoch = self.epoch(step);
        if shuffled.as_ref().is_none_or(|(e, _)| *e != epoch) {
            *shuffled = Some((epoch, self.permuted(examples_of(epoch), epoch)));
        }
        let (_, examples) = shuffled.as_ref().expect("just filled");
        let start = (step % self.steps_per_epoch()) * self.batch_size;
        &examples[start..(start + self.batch_size).min(examples.len())]
    }

    fn permuted(&self, mut examples: Vec<usize>, epoch: usize) -> Vec<usize> {
        if self.kind == ExampleOrder::Sequential {
            return examples;
        }
        examples.shuffle(&mut named_stream(self.seed, "batch order", &epoch.to_string()));
        if self.kind == ExampleOrder::Shuffled {
            return examples;
        }
        for group in examples.chunks_mut(GROUPED_STEPS * self.batch_size) {
            group.sort_by_key(|&example| std::cmp::Reverse(self.lengths[example]));
        }
        let (full, rest) = examples.split_at(self.n_examples / self.batch_size * self.batch_size);
        let mut step_batches: Vec<&[usize]> = full.chunks(self.batch_size).collect();
        step_batches.shuffle(&mut named_stream(self.seed, "window order", &epoch.to_string()));
        step_batches.push(rest);
        step_batches.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shuffled(n_examples: usize, batch_size: usize) -> BatchOrder {
        BatchOrder {
            seed: 3,
            n_examples,
            batch_size,
            n_steps: n_examples.div_ceil(batch_size),
            kind: ExampleOrder::Shuffled,
            lengths: Arc::default(),
        }
    }

    #[test]
    fn grouped_steps_hold_examples_of_similar_length() {
        let lengths: Vec<usize> = (0..1003).map(|i| 20 + (i * 7919) % 977).collect();
        let kind = ExampleOrder::LengthGrouped;
        let order = BatchOrder { kind, lengths: Arc::new(lengths.clone()), ..shuffled(1003, 8) };
        let mut kept = None;
        let step_batches: Vec<Vec<usize>> = (0..126).map(|step| order.examples(step, &mut kept).to_vec()).collect();
        let padding = |step_batches: &[Vec<usize>]| -> f64 {
            let padded: usize =
                step_batches.iter().map(|w| w.len() * w.iter().map(|&r| lengths[r]).max().unwrap_or(0)).sum();
            1.0 - lengths.iter().sum::<usize>() as f64 / padded as f64
        };
        assert!(padding(&step_batches) < 0.04, "{}", padding(&step_batches));
        let mut all = step_batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..1003).collect::<Vec<_>>());
        let first: Vec<usize> = step_batches.iter().map(|step_examples| lengths[step_examples[0]]).collect();
        assert!(!first.is_sorted() && !first.is_sorted_by(|a, b| a >= b), "long batches come throughout");
    }

    #[test]
    fn every_epoch_has_every_example_once() {
        let order = shuffled(10, 4);
        let mut shuffled = None;
        let mut epoch = |first: usize| -> Vec<usize> {
            (first..first + 3).flat_map(|step| order.examples(step, &mut shuffled).to_vec()).collect()
        };
        let (a, b) = (epoch(0), epoch(3));
        assert_ne!(a, b);
        for mut examples in [a, b] {
            examples.sort_unstable();
            assert_eq!(examples, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_step_does_not_depend_on_the_ones_before() {
        let order = shuffled(10, 4);
        let mut kept = None;
        let after_others: Vec<_> = (0..6).map(|step| order.examples(step, &mut kept).to_vec()).collect();
        let alone: Vec<_> = (0..6).map(|step| order.examples(step, &mut None).to_vec()).collect();
        assert_eq!(after_others, alone);
    }
    #[test]
    fn sequential_steps_run_through_the_examples_epoch_after_epoch() {
        let order = BatchOrder { kind: ExampleOrder::Sequential, ..shuffled(10, 4) };
        let steps: Vec<_> = (0..5).map(|step| order.examples(step, &mut None).to_vec()).collect();
        assert_eq!(steps, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9], vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
        assert_eq!([0, 2, 3, 5, 6].map(|step| order.epoch(step)), [0, 0, 1, 1, 2]);
        assert_eq!(order.steps_per_epoch(), 3);
    }

    /// Of twelve examples of a hundred lengths: grouping needs the lengths, the other orders do not.
    #[test]
    fn a_grouped_order_asks_for_the_lengths() {
        struct Nothing;
        impl adamllm_nn::Batch for Nothing {
            fn n_targets(&self) -> usize {
                1
            }
            fn n_tokens(&self) -> usize {
                1
            }
        }
        let batch = |_: &[usize]| Ok::<_, String>(Nothing);
        let sizes = |tokens| adamllm_nn::ExampleSize { tokens, ..Default::default() };
        let known = crate::ExampleBatches::new(12, batch).with_sizes((100..112).map(sizes).collect());
        let unknown = crate::ExampleBatches::new(12, batch);
        let config = |order| TrainConfig { order, batch_size: 5, seed: 9, ..TrainConfig::default() };
        let grouped = config(ExampleOrder::LengthGrouped);
        let order = BatchOrder::of(&known, &grouped).expect("lengths are known");
        assert_eq!(*order.lengths, (100..112).collect::<Vec<_>>());
        assert_eq!((order.seed, order.n_examples, order.batch_size, order.n_steps), (9, 12, 5, 3));
        assert!(BatchOrder::of(&unknown, &grouped).expect_err("no lengths").to_string().contains("length_grouped"));
        assert!(BatchOrder::of(&unknown, &config(ExampleOrder::Shuffled)).is_ok());
        // The batch that is not full comes last, as the loop takes steps of `batch_size` from the front.
        let lengths = |step| order.examples(step, &mut None).iter().map(|&i| order.lengths[i]).collect::<Vec<_>>();
        assert_eq!(lengths(2), [101, 100], "the shortest of all are left over");
        let mut full = [lengths(0), lengths(1)];
        full.sort_unstable();
        assert_eq!(full, [vec![106, 105, 104, 103, 102], vec![111, 110, 109, 108, 107]]);
    }
}
