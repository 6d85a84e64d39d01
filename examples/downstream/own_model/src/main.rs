//! A model of one's own through the trainer: each character of a text from the one before it.

use std::ops::Range;

use adamllm_nn::{Batch, BlockExecutor, Linear, LinearConfig, Objective, cross_entropy, index_tensor};
use adamllm_train::{ExampleBatches, FitOptions, TrainConfig, Trainer};
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

#[derive(Module, Debug)]
struct Bigrams {
    embedding: Param<Tensor<2>>,
    head: Linear,
}

/// Pairs of bytes, the second of which is predicted.
struct Pairs(Vec<[u8; 2]>);

impl Batch for Pairs {
    fn n_targets(&self) -> usize {
        self.0.len()
    }
    fn n_tokens(&self) -> usize {
        self.0.len()
    }
}

impl Objective for Bigrams {
    type Batch = Pairs;

    fn target_hidden_states<'a>(&'a self, batch: &Pairs, _: &mut dyn BlockExecutor<'a>) -> Tensor<2> {
        let bytes = batch.0.iter().map(|pair| i32::from(pair[0])).collect();
        self.embedding.val().select(0, index_tensor(bytes, &self.embedding.val().device()))
    }
    fn token_losses(&self, hidden: Tensor<2>, batch: &Pairs, range: Range<usize>) -> Tensor<1> {
        let targets: Vec<u32> = batch.0[range].iter().map(|pair| u32::from(pair[1])).collect();
        cross_entropy(self.head.forward(hidden), &targets)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex().autodiff();
    device.seed(0);
    let embedding = Initializer::Normal { mean: 0.0, std: 0.1 }.init([256, 32], &device);
    let model = Bigrams { embedding, head: LinearConfig::new(32, 256).init(&device) };
    let text = b"the cat sat on the mat and the rat sat on the cat ".repeat(8);
    let pairs: Vec<[u8; 2]> = text.windows(2).map(|pair| [pair[0], pair[1]]).collect();
    let source = ExampleBatches::new(pairs.len(), |examples: &[usize]| {
        Ok::<_, String>(Pairs(examples.iter().map(|&example| pairs[example]).collect()))
    });
    let config = TrainConfig { epochs: 12.0, batch_size: 64, learning_rate: 0.02, ..TrainConfig::default() };
    let (_trained, report) = Trainer::new(config)?.fit(model, &source, FitOptions::default(), &mut ())?;
    let losses = (report.metrics[0].loss, report.metrics[report.steps - 1].loss);
    println!("{} steps, loss {:.2} -> {:.2}", report.steps, losses.0, losses.1);
    assert!(losses.1 < 0.5 * losses.0);
    Ok(())
}
