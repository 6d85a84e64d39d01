//! Conversations to batches, and the same examples measured from their images' headers: the mini world, by every family.
#![allow(missing_docs)]

use std::path::{Path, PathBuf};

use adamllm::model::{Encoded, Encoder, Encoding, Padding, VlmBatch};
use adamllm::prelude::*;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: usize = 64;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn conversations() -> Vec<Conversation> {
    let file = here("datasets/mini/plates/captions.json");
    let conversations = adamllm::data::conversations(&file).expect("opens").take(EXAMPLES);
    conversations.collect::<Result<_, _>>().expect("sound records")
}

fn encoding(criterion: &mut Criterion) {
    let images = FolderImages::new(here("datasets/mini/plates"));
    let conversations = conversations();
    for family in ["qwen2_vl", "qwen2_5_vl", "llava_next", "mllama"] {
        let folder = here("crates/adamllm-model/tests/fixtures").join(family).join("model");
        let processor = Processor::read(&ModelFolder::open(&folder).expect("opens")).expect("reads");
        let encoder = Encoder::new(&processor, Encoding::default()).expect("the defaults fit");
        let encode = || {
            conversations
                .iter()
                .map(|conversation| encoder.encode(conversation, &images).expect("encodes"))
                .collect::<Vec<_>>()
        };
        let encoded = encode();
        let collate = |examples: &[Encoded]| {
            let examples: Vec<&Encoded> = examples.iter().collect();
            VlmBatch::collate(&examples, Padding::Right, &processor)
        };
        let mut group = criterion.benchmark_group(format!("encoding/{family}"));
        group.throughput(Throughput::Elements(conversations.len() as u64));
        group.bench_function("encode", |b| b.iter(encode));
        group.bench_function("collate", |b| b.iter(|| collate(&encoded)));
        group.bench_function("measure", |b| {
            b.iter(|| {
                conversations
                    .iter()
                    .map(|conversation| encoder.example_size(conversation, &images).expect("measures").tokens)
                    .sum::<usize>()
            });
        });
        group.finish();
    }
}

criterion_group!(benches, encoding);
criterion_main!(benches);
