//! Reading a model folder, reading a prompt, and writing tokens: on a decoder of 24 million parameters with random weights.
#![allow(missing_docs)]

use adamllm::language::{
    DecodeRequest, Decoder, DecoderConfig, LogitRules, PromptRequest, RopeConfig, Sampler, SamplingRule,
};
use adamllm::model::ModelFolder;
use adamllm::nn::{LanguageBackbone, Positions};
use adamllm::prelude::*;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PROMPT: usize = 256;

fn decoder() -> Decoder {
    let rope = RopeConfig { mrope_section: None, ..RopeConfig::plain(10_000.0) };
    DecoderConfig::new(512, 8, 8, 2, 64, 1536, 8192, rope).with_tied_head(true).init(&Device::flex())
}

/// Reads `PROMPT` tokens and writes `n`.
fn write(decoder: &Decoder, batch: usize, n: usize) -> usize {
    let tokens = burn_tokens(batch);
    let greedy = || Sampler::new(SamplingRule::Greedy, ChaCha8Rng::seed_from_u64(0), LogitRules::default());
    let prompts = (0..batch).map(|_| PromptRequest::new(&[], PROMPT as i32, n, greedy())).collect();
    let positions = Positions::plain(batch, 0..PROMPT as i32);
    let request = DecodeRequest::new(decoder.embed(tokens), positions, prompts, &[]);
    adamllm::language::decode(decoder, request, |_, _| false).iter().map(|answer| answer.tokens.len()).sum()
}

fn burn_tokens(batch: usize) -> adamllm::burn::tensor::Tensor<2, adamllm::burn::tensor::Int> {
    use adamllm::burn::tensor::{Tensor, TensorData};
    let ids: Vec<i32> = (0..batch * PROMPT).map(|i| (i * 31 % 8192) as i32).collect();
    Tensor::from_data(TensorData::new(ids, [batch, PROMPT]), &Device::flex())
}

fn generation(criterion: &mut Criterion) {
    let decoder = decoder();
    let mut group = criterion.benchmark_group("generation");
    group.sample_size(10);
    for batch in [1, 8] {
        group.throughput(Throughput::Elements((batch * PROMPT) as u64));
        group.bench_function(format!("prefill, batch {batch}"), |b| b.iter(|| write(&decoder, batch, 1)));
        group.throughput(Throughput::Elements((batch * 64) as u64));
        group
            .bench_function(format!("prefill and 64 tokens, batch {batch}"), |b| b.iter(|| write(&decoder, batch, 64)));
    }
    group.finish();
}

fn load(criterion: &mut Criterion) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../datasets/mini/models/base");
    let folder = ModelFolder::open(path).expect("the mini base");
    criterion.bench_function("load the mini base (bf16 to f32)", |b| {
        b.iter(|| folder.load(DType::F32, &Device::flex()).expect("loads"));
    });
}

criterion_group!(benches, generation, load);
criterion_main!(benches);
