//! Inputs of tests: pseudo-random, and the same in every run.
#![cfg(test)]

use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt as _, SeedableRng as _};

/// Values of uniform distribution with mean 0 and this standard deviation, a function of `seed` and of the shape alone. (The
/// backend's own generator is one for the whole process: what a test drew from it would depend on the tests beside it.)
pub(crate) fn random<const D: usize>(shape: [usize; D], std: f32, seed: u64) -> Tensor<D> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let bound = std * 3f32.sqrt();
    let values = (0..shape.iter().product()).map(|_| rng.random_range(-bound..bound)).collect();
    Tensor::from_data(TensorData::new::<f32, _>(values, shape), &Device::flex())
}
