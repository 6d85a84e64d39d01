use serde::Serialize;

use crate::{BatchOrder, BatchSource, ExampleSize, TrainConfig, TrainError, micro_batches};

/// What a run will read, known before its first step: from the sizes of the examples alone, no batch is made.
///
/// Counts are of the whole run: every epoch, up to the last step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunPlan {
    /// Examples that the source has.
    pub examples: usize,
    /// Examples that an epoch reads.
    pub examples_per_epoch: usize,
    /// Optimizer steps of an epoch.
    pub steps_per_epoch: usize,
    /// Optimizer steps.
    pub steps: usize,
    /// Forward passes.
    pub micro_batches: usize,
    /// Examples read, repetitions counted.
    pub examples_read: usize,
    /// The sizes of the examples read, summed.
    pub read: ExampleSize,
    /// Tokens with the padding.
    pub padded_tokens: usize,
    /// The forward pass of the most tokens, padding included; of several alike the one with the most patches.
    pub most_tokens: PlannedBatch,
    /// The forward pass of the most patches; of several alike the one of the most tokens.
    pub most_patches: PlannedBatch,
    /// How often each example is read.
    #[serde(skip)]
    pub times_read: Vec<usize>,
}

/// One forward pass of a [`RunPlan`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedBatch {
    /// The optimizer step that it belongs to, from 1.
    pub step: usize,
    /// Its examples' numbers.
    pub examples: Vec<usize>,
    /// Tokens, padding included.
    pub tokens: usize,
    /// Tokens that count for the loss.
    pub targets: usize,
    /// Patches of images.
    pub patches: usize,
    /// Images.
    pub images: usize,
}

impl RunPlan {
    /// Goes through the run's steps without making a batch.
    ///
    /// # Errors
    /// [`TrainError::Config`] for settings at fault, and for a source that does not know how large its examples are.
    pub fn new<S: BatchSource>(source: &S, config: &TrainConfig) -> Result<Self, TrainError> {
        config.validate()?;
        let sizes = sizes(source)?;
        let examples_per_epoch = source.examples_per_epoch();
        let order = BatchOrder::of(source, config)?;

        let mut plan = Self {
            examples: sizes.len(),
            examples_per_epoch,
            steps_per_epoch: order.steps_per_epoch(),
            steps: config.n_steps(examples_per_epoch),
            micro_batches: 0,
            examples_read: 0,
            read: ExampleSize::default(),
            padded_tokens: 0,
            most_tokens: PlannedBatch::default(),
            most_patches: PlannedBatch::default(),
            times_read: vec![0; sizes.len()],
        };

        // The shuffled order of an epoch, which its steps share.
        let mut shuffled = None;
        for step in 0..plan.steps {
            let examples = order.examples_of(source, step, &mut shuffled);
            for batch in micro_batches(examples, source, config) {
                plan.push(PlannedBatch::new(step + 1, batch, &sizes, config.packing), &sizes);
            }
        }

        Ok(plan)
    }

    /// The share of the decoder's tokens that are padding, 0 to 1.
    pub fn padding_share(&self) -> f64 {
        1.0 - self.read.tokens as f64 / self.padded_tokens.max(1) as f64
    }

    /// A sum over all examples read, such as of their floating-point operations, from what each example costs once.
    pub fn sum(&self, cost: impl Fn(usize) -> f64) -> f64 {
        self.times_read.iter().enumerate().map(|(example, times)| *times as f64 * cost(example)).sum()
    }

    fn push(&mut self, batch: PlannedBatch, sizes: &[ExampleSize]) {
        self.micro_batches += 1;
        self.examples_read += batch.examples.len();
        self.padded_tokens += batch.tokens;
        for &example in &batch.examples {
            self.times_read[example] += 1;
            self.read += sizes[example];
        }
        if (batch.patches, batch.tokens) > (self.most_patches.patches, self.most_patches.tokens) {
            self.most_patches = batch.clone();
        }
        if (batch.tokens, batch.patches) > (self.most_tokens.tokens, self.most_tokens.patches) {
            self.most_tokens = batch;
        }
    }
}

impl PlannedBatch {
    fn new(step: usize, examples: Vec<usize>, sizes: &[ExampleSize], packed: bool) -> Self {
        let sum = |value: fn(&ExampleSize) -> usize| examples.iter().map(|&example| value(&sizes[example])).sum();
        let longest = examples.iter().map(|&example| sizes[example].tokens).max().unwrap_or(0);
        let tokens = if packed { sum(|size| size.tokens) } else { longest * examples.len() };
        let (targets, patches, images) = (sum(|size| size.targets), sum(|size| size.patches), sum(|size| size.images));
        Self { step, tokens, targets, patches, images, examples }
    }
}

fn sizes<S: BatchSource>(source: &S) -> Result<Vec<ExampleSize>, TrainError> {
    let size = |example| {
        let untold = || TrainError::Config {
            field: "example_size",
            expected: "a source that knows the size of every example".into(),
            got: format!("none for example {example}"),
        };
        source.example_size(example).ok_or_else(untold)
    };
    (0..source.n_examples()).map(size).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use adamllm_nn::Batch;

    use super::*;
    use crate::{ExampleBatches, MicroBatchBudget, SourceShare, WeightedSources};

    struct Nothing;
    impl Batch for Nothing {
        fn n_targets(&self) -> usize {
            1
        }
        fn n_tokens(&self) -> usize {
            1
        }
    }

    fn sizes(n: usize) -> Vec<ExampleSize> {
        let size = |example: usize| ExampleSize {
            tokens: 20 + example * 31 % 97,
            targets: 5,
            patches: example % 3 * 16,
            images: example % 3,
            ..ExampleSize::default()
        };
        (0..n).map(size).collect()
    }

    fn source(n: usize) -> impl BatchSource<Batch = Nothing> {
        ExampleBatches::new(n, |_: &[usize]| Err::<Nothing, _>("no batch is made for a plan")).with_sizes(sizes(n))
    }

    fn config() -> TrainConfig {
        TrainConfig { batch_size: 8, micro_batch_size: 3, epochs: 2.5, ..TrainConfig::default() }
    }

    #[test]
    fn it_counts_what_the_run_reads() {
        let plan = RunPlan::new(&source(30), &config()).expect("a plan");
        assert_eq!((plan.steps_per_epoch, plan.steps), (4, 10));
        // Steps of 8, 8, 8 and 6 examples: three passes, and two; two epochs and half of the third.
        assert_eq!((plan.micro_batches, plan.examples_read), (2 * (3 * 3 + 2) + 2 * 3, 2 * 30 + 16));
        assert_eq!(plan.times_read.iter().sum::<usize>(), plan.examples_read);
        assert!(plan.times_read.iter().all(|times| [2, 3].contains(times)));
        let tokens: usize = plan.times_read.iter().zip(sizes(30)).map(|(n, size)| n * size.tokens).sum();
        assert_eq!((plan.read.tokens, plan.read.targets), (tokens, plan.examples_read * 5));
        assert!((plan.sum(|example| sizes(30)[example].tokens as f64) - tokens as f64).abs() < 1e-6);
        assert!((plan.padding_share() - (1.0 - tokens as f64 / plan.padded_tokens as f64)).abs() < 1e-12);
    }

    #[test]
    fn a_budget_bounds_the_worst_batch_and_pads_less() {
        let budget = MicroBatchBudget { tokens: Some(250), patches: None };
        let bounded = TrainConfig { micro_batch_budget: Some(budget), micro_batch_size: 8, ..config() };
        let plan = RunPlan::new(&source(30), &bounded).expect("a plan");
        let without = RunPlan::new(&source(30), &TrainConfig { micro_batch_size: 8, ..config() }).expect("a plan");
        assert!(plan.most_tokens.tokens <= 250 && without.most_tokens.tokens > 250);
        assert!(plan.padding_share() < without.padding_share());
        assert_eq!(plan.read, without.read);
        let longest =
            plan.most_tokens.examples.iter().map(|example| sizes(30)[*example].tokens).max().expect("examples");
        assert_eq!(plan.most_tokens.tokens, longest * plan.most_tokens.examples.len());
    }

    #[test]
    fn packs_have_no_padding() {
        let budget = MicroBatchBudget { tokens: Some(250), patches: None };
        let packed = TrainConfig { packing: true, micro_batch_budget: Some(budget), micro_batch_size: 8, ..config() };
        let plan = RunPlan::new(&source(30), &packed).expect("a plan");
        assert_eq!(plan.padded_tokens, plan.read.tokens);
        assert!(plan.most_tokens.tokens <= 250 && plan.most_tokens.tokens > 200, "{:?}", plan.most_tokens);
    }

    #[test]
    fn a_mixture_is_planned_as_it_is_read() {
        let share = |n_examples, weight| SourceShare { n_examples, weight };
        let mixture = WeightedSources::new(vec![share(10, 2.0), share(20, 0.5)]).expect("weights");
        let asked_for = Mutex::new(Vec::new());
        let source = ExampleBatches::new(30, |examples: &[usize]| {
            asked_for.lock().expect("not poisoned").extend_from_slice(examples);
            Ok::<_, String>(Nothing)
        });
        let source = source.with_sizes(sizes(30)).with_mixture(mixture);
        let config = TrainConfig { epochs: 2.0, ..config() };
        let plan = RunPlan::new(&source, &config).expect("a plan");
        assert_eq!((plan.examples, plan.examples_per_epoch, plan.examples_read), (30, 30, 60));
        assert!(plan.times_read[..10].iter().all(|n| *n == 4) && plan.times_read[10..].iter().all(|n| *n == 1));
        assert!(asked_for.lock().expect("not poisoned").is_empty(), "no batch was made");
    }

    #[test]
    fn a_source_without_sizes_is_named() {
        let source = ExampleBatches::new(3, |_: &[usize]| Ok::<_, String>(Nothing));
        assert!(RunPlan::new(&source, &config()).expect_err("no sizes").to_string().contains("example_size"));
    }
    #[test]
    fn of_passes_alike_the_first_is_named() {
        let alike = |tokens, patches| ExampleSize { tokens, patches, ..ExampleSize::default() };
        let batch = |_: &[usize]| Err::<Nothing, _>("no batch is made for a plan");
        let plan = |sizes: Vec<ExampleSize>| {
            let source = ExampleBatches::new(sizes.len(), batch).with_sizes(sizes);
            let order = crate::ExampleOrder::Sequential;
            let config =
                TrainConfig { batch_size: 2, micro_batch_size: 1, epochs: 1.0, order, ..TrainConfig::default() };
            RunPlan::new(&source, &config).expect("a plan")
        };
        let same = plan(vec![alike(30, 4); 6]);
        assert_eq!((same.most_tokens.examples.as_slice(), same.most_patches.examples.as_slice()), (&[0][..], &[0][..]));
        // The most tokens, then the most patches, and the other way round; steps count from 1.
        let mixed = plan(vec![alike(30, 1), alike(50, 2), alike(50, 3), alike(20, 9), alike(40, 9), alike(10, 0)]);
        let named = |batch: &PlannedBatch| (batch.step, batch.examples.clone(), batch.tokens, batch.patches);
        assert_eq!(named(&mixed.most_tokens), (2, vec![2], 50, 3));
        assert_eq!(named(&mixed.most_patches), (3, vec![4], 40, 9));
        assert_eq!((mixed.micro_batches, mixed.padded_tokens, mixed.padding_share()), (6, 200, 0.0));
        assert_eq!((mixed.read.tokens, mixed.read.patches, mixed.sum(|example| example as f64)), (200, 24, 15.0));
    }
}
