//! Dropout whose masks are a pure function of a pass's seed, the layer and the call (Srivastava et al., 2014).
//!
//! burn's own dropout draws from the device's generator, which is one for the whole process and cannot be saved: a resumed
//! run would draw other masks, and activation checkpointing other ones in the second forward pass than in the first. Masks are
//! therefore made on the host, from counters.

use std::cell::Cell;

use burn::tensor::{Bool, Tensor, TensorData};

/// The dropout of one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The share of the elements that become 0, from 0 to below 1; the others are divided by what is left.
    pub probability: f64,
    /// Tells layers apart: their masks in one pass differ.
    pub layer: u64,
}

impl Dropout {
    /// The dropout of a layer by its name; `None` for a probability of 0.
    pub fn of(name: &str, probability: f64) -> Option<Self> {
        // FNV-1a: the same in every version and on every machine, which the standard library's hasher is not.
        let layer = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        (probability > 0.0).then_some(Self { probability, layer })
    }
}

/// Where random numbers come from: a pass, and the call of a block in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DropoutCall {
    seed: u64,
    call: u64,
}

thread_local! {
    /// `None` outside training passes.
    static CURRENT: Cell<Option<DropoutCall>> = const { Cell::new(None) };
}

/// Runs a training pass, forward and backward, in which layers with dropout drop elements; everywhere else they drop none, so
/// that evaluation needs no switch. The same seed gives the same masks, on every thread and machine.
///
/// ```
/// use adamllm_nn::{Dropout, Linear, LinearConfig, Lora, LoraConfig, with_dropout};
/// use burn::module::Param;
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let mut layer = LinearConfig::new(64, 1).init(&device);
/// let mut lora = Lora::init(64, 1, &LoraConfig::new(2, 4.0), &device);
/// lora.b = Param::from_tensor(Tensor::ones([1, 2], &device));
/// lora.dropout = Dropout::of("a layer", 0.5);
/// layer.lora = Some(lora);
/// let y = || layer.forward(Tensor::<2>::ones([1, 64], &device)).into_scalar::<f32>();
/// assert_eq!(with_dropout(7, y), with_dropout(7, y));
/// assert_ne!(with_dropout(7, y), with_dropout(8, y));
/// assert_ne!(with_dropout(7, y), y());
/// ```
pub fn with_dropout<T>(seed: u64, pass: impl FnOnce() -> T) -> T {
    within(Some(DropoutCall { seed, call: 0 }), pass)
}

/// Numbers a block's call, so that a block that is called several times in a pass draws new masks each time.
pub(crate) fn next_call() -> Option<DropoutCall> {
    CURRENT.with(|current| {
        let next = current.get().map(|DropoutCall { seed, call }| DropoutCall { seed, call: call + 1 });
        current.set(next);
        next
    })
}

/// Runs `pass` as a part of a call: when activation checkpointing runs a block again, it draws the masks of the first time.
pub(crate) fn within<T>(call: Option<DropoutCall>, pass: impl FnOnce() -> T) -> T {
    /// Puts the state back, also where the pass panics: trainers catch a backend's panics.
    struct Restore(Option<DropoutCall>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(call));
    pass()
}

/// `x` without the elements that the current pass drops: `x * mask / (1 - probability)`.
pub(crate) fn drop_elements(x: Tensor<2>, dropout: Option<Dropout>) -> Tensor<2> {
    let (Some(Dropout { probability, layer }), Some(DropoutCall { seed, call })) = (dropout, CURRENT.get()) else {
        return x;
    };
    let [n, d] = x.dims();
    let start = mixed(mixed(mixed(seed) ^ layer) ^ call);
    let mask = TensorData::new(dropped(start, n * d, probability), [n, d]);
    let mask = Tensor::<2, Bool>::from_data(mask, &x.device());
    x.mask_fill(mask, 0.0) * (1.0 / (1.0 - probability))
}

/// Whether each of `n` elements is dropped: two 32-bit decisions from each 64-bit number.
fn dropped(start: u64, n: usize, probability: f64) -> Vec<bool> {
    let below = (probability * 2f64.powi(32)).round() as u64;
    let mut all = Vec::with_capacity(n + 1);
    for i in 0..n.div_ceil(2) as u64 {
        let bits = mixed(start.wrapping_add(i));
        all.extend([bits & 0xffff_ffff, bits >> 32].map(|half| half < below));
    }
    all.truncate(n);
    all
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the number of the sequence at a counter.
fn mixed(counter: u64) -> u64 {
    let z = counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use burn::module::{Module, Param};

    use super::*;
    use crate::{BlockExecutor, BlockFn, Eager, GradMode, Linear, LinearConfig, Lora, LoraConfig, run_block};

    /// Runs every block twice, as activation checkpointing does, the second time after all others have run.
    #[derive(Default)]
    struct Twice<'a>(Vec<(Vec<Tensor<3>>, Tensor<3>, BlockFn<'a>)>);

    impl<'a> BlockExecutor<'a> for Twice<'a> {
        fn block(&mut self, inputs: Vec<Tensor<3>>, _: bool, forward: BlockFn<'a>) -> Tensor<3> {
            let output = forward(&inputs, GradMode::Disabled);
            self.0.push((inputs, output.clone(), forward));
            output
        }
    }

    #[derive(Module, Debug)]
    struct Block {
        layer: Linear,
    }

    #[test]
    fn a_block_that_runs_again_drops_the_same() {
        let device = Device::flex();
        let mut layer = LinearConfig::new(16, 16).init(&device);
        let mut lora = Lora::init(16, 16, &LoraConfig::new(16, 160.0), &device);
        lora.b = Param::from_tensor(Tensor::ones([16, 16], &device));
        lora.dropout = Dropout::of("layer", 0.5);
        layer.lora = Some(lora);
        let block = Block { layer };
        let x = || Tensor::<3>::ones([1, 3, 16], &device);
        let values = |x: Tensor<3>| x.into_data().try_to_vec::<f32>().expect("f32");
        let forward = |block: &Block, x: &[Tensor<3>]| block.layer.forward(x[0].clone());
        with_dropout(5, || {
            let mut blocks = Twice::default();
            let first = run_block(&mut blocks, &block, vec![x()], forward);
            let second = run_block(&mut blocks, &block, vec![x()], forward);
            assert_ne!(values(first), values(second), "each call draws anew");
            for (inputs, output, forward) in blocks.0.into_iter().rev() {
                assert_eq!(values(forward(&inputs, GradMode::Enabled)), values(output));
            }
        });
        let [first, second] = [(); 2].map(|()| run_block(&mut Eager, &block, vec![x()], forward));
        assert_eq!(values(first), values(second), "no pass, no dropout");
    }

    #[test]
    fn as_many_elements_are_dropped_as_asked_for() {
        let share = |probability| {
            let dropped = dropped(3, 100_001, probability);
            dropped.iter().filter(|dropped| **dropped).count() as f64 / dropped.len() as f64
        };
        assert!((share(0.1) - 0.1).abs() < 0.004);
        assert!((share(0.5) - 0.5).abs() < 0.006);
        assert_eq!(share(0.0), 0.0);
    }

    #[test]
    fn masks_differ_by_layer_and_call_and_come_again_in_a_repeated_call() {
        let x = || Tensor::<2>::ones([3, 40], &Device::flex());
        let layer = |name: &str| Dropout::of(name, 0.25);
        let values = |x: Tensor<2>| x.into_data().try_to_vec::<f32>().expect("f32");
        with_dropout(1, || {
            let first = next_call();
            let a = within(first, || values(drop_elements(x(), layer("a"))));
            assert_ne!(a, within(first, || values(drop_elements(x(), layer("b")))));
            assert_ne!(a, within(next_call(), || values(drop_elements(x(), layer("a")))));
            assert_eq!(a, within(first, || values(drop_elements(x(), layer("a")))));
            assert!(a.iter().all(|&v| v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6), "the rest is scaled up");
        });
        assert_eq!(values(drop_elements(x(), layer("a"))), vec![1.0; 120], "no pass, no dropout");
    }
}
