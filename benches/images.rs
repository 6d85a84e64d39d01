//! Image processing: an image to the patches that the encoder reads.
#![allow(missing_docs)]

use adamllm::vision::preprocess::{LlavaNextImageConfig, MllamaImageConfig, Qwen2VlImageConfig};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use image::{Rgb, RgbImage};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [(u32, u32); 2] = [(410, 273), (1024, 768)];

fn gradient(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 7 + y * 3) as u8, (x ^ y) as u8, (x + y * 5) as u8]))
}

fn qwen2_vl(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("qwen2_vl patches");
    group.throughput(Throughput::Elements(1));
    let config = Qwen2VlImageConfig::default();
    for (width, height) in SIZES {
        let image = gradient(width, height);
        group.bench_function(format!("{width}x{height}"), |b| {
            b.iter(|| config.patches(&image).expect("an ordinary shape"));
        });
    }
    group.finish();
}

fn llava_next(criterion: &mut Criterion) {
    let config = LlavaNextImageConfig::default();
    let mut group = criterion.benchmark_group("llava_next tiles");
    group.throughput(Throughput::Elements(1));
    for (width, height) in SIZES {
        let image = gradient(width, height);
        group.bench_function(format!("{width}x{height}"), |b| b.iter(|| config.tiles(&image).expect("tiles")));
    }
    group.finish();
}

fn mllama(criterion: &mut Criterion) {
    let config = MllamaImageConfig::default();
    let mut group = criterion.benchmark_group("mllama tiles");
    group.throughput(Throughput::Elements(1));
    for (width, height) in SIZES {
        let image = gradient(width, height);
        group.bench_function(format!("{width}x{height}"), |b| b.iter(|| config.tiles(&image).expect("tiles")));
    }
    group.finish();
}

criterion_group!(benches, qwen2_vl, llava_next, mllama);
criterion_main!(benches);
