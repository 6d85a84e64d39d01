use crate::{BatchSource, ExampleSize, MicroBatchBudget, TrainConfig};

/// Splits the examples of a step into forward passes: `micro_batch_size` examples each; with a budget, sorted by length,
/// and as many as fit; with packing, each example goes into the first pass that has room for it. A pure function of its
/// arguments.
pub fn micro_batches<S: BatchSource>(examples: &[usize], source: &S, config: &TrainConfig) -> Vec<Vec<usize>> {
    let sizes: Option<Vec<ExampleSize>> = examples.iter().map(|&example| source.example_size(example)).collect();
    match (config.micro_batch_budget, sizes) {
        (Some(budget), Some(sizes)) if config.packing => packs(examples, &sizes, budget, config.micro_batch_size),
        (Some(budget), Some(sizes)) => within(examples, &sizes, budget, config.micro_batch_size),
        _ => examples.chunks(config.micro_batch_size).map(<[usize]>::to_vec).collect(),
    }
}

fn within(examples: &[usize], sizes: &[ExampleSize], budget: MicroBatchBudget, max_examples: usize) -> Vec<Vec<usize>> {
    let mut sorted: Vec<(usize, ExampleSize)> = examples.iter().copied().zip(sizes.iter().copied()).collect();
    // The longest first: what does not fit into memory fails at once. Stable, so equal lengths keep their order.
    sorted.sort_by_key(|(_, size)| std::cmp::Reverse(size.tokens));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let (mut longest, mut patches) = (0, 0);
    for (example, size) in sorted {
        let fits = batches.last().is_some_and(|batch| {
            let tokens = (batch.len() + 1) * longest;
            batch.len() < max_examples
                && budget.tokens.is_none_or(|limit| tokens <= limit)
                && budget.patches.is_none_or(|limit| patches + size.patches <= limit)
        });
        match batches.last_mut().filter(|_| fits) {
            Some(batch) => batch.push(example),
            None => {
                batches.push(vec![example]);
                (longest, patches) = (size.tokens, 0);
            }
        }
        patches += size.patches;
    }
    batches
}

/// First fit, longest examples first (Johnson, 1973): at most 11/9 of the fewest passes, and one more.
fn packs(examples: &[usize], sizes: &[ExampleSize], budget: MicroBatchBudget, max_examples: usize) -> Vec<Vec<usize>> {
    struct Pack {
        examples: Vec<usize>,
        tokens: usize,
        patches: usize,
    }

    // Stable, so equal lengths keep their order: every rank must come to the same passes.
    let mut sorted: Vec<(usize, ExampleSize)> = examples.iter().copied().zip(sizes.iter().copied()).collect();
    sorted.sort_by_key(|(_, size)| std::cmp::Reverse(size.tokens));
    let mut packs: Vec<Pack> = Vec::new();

    for (example, size) in sorted {
        let fits = |pack: &&mut Pack| {
            pack.examples.len() < max_examples
                && budget.tokens.is_none_or(|limit| pack.tokens + size.tokens <= limit)
                && budget.patches.is_none_or(|limit| pack.patches + size.patches <= limit)
        };
        match packs.iter_mut().find(fits) {
            Some(pack) => {
                pack.examples.push(example);
                pack.tokens += size.tokens;
                pack.patches += size.patches;
            }
            None => packs.push(Pack { examples: vec![example], tokens: size.tokens, patches: size.patches }),
        }
    }

    packs.into_iter().map(|pack| pack.examples).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_full_and_no_example_is_lost() {
        let tokens: Vec<usize> = (0..60).map(|i| 20 + (i * 37) % 200).collect();
        let examples: Vec<usize> = (0..60).collect();
        let budget = MicroBatchBudget { tokens: Some(600), patches: Some(100) };
        let packs = packs(&examples, &sizes(&tokens), budget, 8);
        let filled = |pack: &Vec<usize>| pack.iter().map(|&example| tokens[example]).sum::<usize>();
        assert!(packs.iter().all(|pack| filled(pack) <= 600 && pack.len() <= 8));
        let (all, room) = (tokens.iter().sum::<usize>(), packs.len() * 600);
        assert!(all * 10 > room * 9, "{all} of {room} tokens are used");
        let mut back = packs.concat();
        back.sort_unstable();
        assert_eq!(back, examples);
    }

    fn sizes(tokens: &[usize]) -> Vec<ExampleSize> {
        tokens.iter().map(|&tokens| ExampleSize { tokens, patches: 10, ..ExampleSize::default() }).collect()
    }

    #[test]
    fn padded_tokens_stay_below_the_budget_and_no_example_is_lost() {
        let tokens: Vec<usize> = (0..50).map(|i| 20 + (i * 37) % 200).collect();
        let examples: Vec<usize> = (100..150).collect();
        let budget = MicroBatchBudget { tokens: Some(600), patches: Some(45) };
        let batches = within(&examples, &sizes(&tokens), budget, 8);
        for batch in &batches {
            let longest = batch.iter().map(|example| tokens[example - 100]).max().expect("no empty batch");
            assert!(batch.len() * longest <= 600 && batch.len() <= 4, "{batch:?}");
        }
        let mut all = batches.concat();
        all.sort_unstable();
        assert_eq!(all, examples);
    }

    #[test]
    fn an_example_above_the_budget_is_alone() {
        let budget = MicroBatchBudget { tokens: Some(100), patches: None };
        assert_eq!(within(&[7, 8, 9], &sizes(&[40, 500, 40]), budget, 8), [vec![8], vec![7, 9]]);
    }
    fn budget(tokens: Option<usize>, patches: Option<usize>) -> MicroBatchBudget {
        MicroBatchBudget { tokens, patches }
    }

    #[test]
    fn a_pass_may_be_exactly_as_large_as_the_budget() {
        // Padded: 40 alone (two of it were 80), 30 and 30 are 60, then 10 and 10.
        let tokens = sizes(&[10, 30, 40, 30, 10]);
        let padded = within(&[0, 1, 2, 3, 4], &tokens, budget(Some(60), None), 8);
        assert_eq!(padded, [vec![2], vec![1, 3], vec![0, 4]]);
        // Packed: 50 + 10, 40 + 20, 30.
        let tokens = sizes(&[10, 20, 30, 40, 50]);
        assert_eq!(packs(&[0, 1, 2, 3, 4], &tokens, budget(Some(60), None), 8), [vec![4, 0], vec![3, 1], vec![2]]);
        // Ten patches each, twenty in a pass; and at most so many examples, whatever room there is.
        let alike = sizes(&[7; 5]);
        let pairs = [vec![0, 1], vec![2, 3], vec![4]];
        for (budget, most) in [(budget(None, Some(20)), 8), (budget(None, Some(29)), 8), (budget(None, None), 2)] {
            assert_eq!(within(&[0, 1, 2, 3, 4], &alike, budget, most), pairs);
            assert_eq!(packs(&[0, 1, 2, 3, 4], &alike, budget, most), pairs);
        }
    }

    #[test]
    fn the_settings_choose_how_a_step_is_split() {
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
        let source = crate::ExampleBatches::new(5, batch).with_sizes(sizes(&[10, 20, 30, 40, 50]));
        let unsized_source = crate::ExampleBatches::new(5, batch);
        let plain = TrainConfig { micro_batch_size: 4, ..TrainConfig::default() };
        let padded = TrainConfig { micro_batch_budget: Some(budget(Some(60), None)), ..plain.clone() };
        let packed = TrainConfig { packing: true, ..padded.clone() };
        let examples = [0, 1, 2, 3, 4];
        assert_eq!(micro_batches(&examples, &source, &plain), [vec![0, 1, 2, 3], vec![4]]);
        assert_eq!(micro_batches(&examples, &source, &padded), [vec![4], vec![3], vec![2, 1], vec![0]]);
        assert_eq!(micro_batches(&examples, &source, &packed), [vec![4, 0], vec![3, 1], vec![2]]);
        assert_eq!(micro_batches(&examples, &unsized_source, &packed), [vec![0, 1, 2, 3], vec![4]]);
    }
}
