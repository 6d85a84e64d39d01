//! The synthesis without its models: text to triplets, triplets to tasks, ids, cache keys and lines of JSON. One core.
#![allow(missing_docs)]

use adamllm::core::{ImageCaption, RecordId, TurnMarkers};
use adamllm::synth::hygiene::{DuplicateIndex, MinHash, normalise};
use adamllm::synth::{INFORMATIVE_HINT, Judged, PRECISE_HINT, TaskTriplet, combine, find_triplet, parse_turns};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const N: usize = 1000;

/// What a synthesizer writes about one image: two questions, each asked both ways, about 900 characters.
fn text(i: usize, markers: &TurnMarkers) -> String {
    let TurnMarkers { end_of_turn, separator, user_header, assistant_header } = markers;
    let exchange = |hint: &str, question: &str, answer: &str| {
        format!("{hint}{question}{end_of_turn}{separator}{assistant_header}{answer}{end_of_turn}{separator}")
    };
    let first = format!("How many stained cells of kind {i} lie on the left of the slide, and how are they arranged?");
    let second = "Which of the visible features suggests that the sample was prepared with care?";
    let reason = format!(
        "The left part of the slide holds {} cells whose walls have taken the stain. They lie in short chains of three \
         or four along the edge, and each chain points towards the middle, where the medium is clearer. Counting the \
         chains one by one gives the number that was asked for.",
        i % 90
    );
    [
        exchange(PRECISE_HINT, &first, &format!("{} cells in chains", i % 90)),
        exchange(INFORMATIVE_HINT, second, "The even stain and the absence of bubbles suggest careful preparation."),
        exchange(INFORMATIVE_HINT, &first, &reason),
        exchange(PRECISE_HINT, second, "Its even stain"),
    ]
    .join(user_header)
}

fn triplets(markers: &TurnMarkers) -> Vec<Judged> {
    let judged = |i: usize| {
        let found = find_triplet(&parse_turns(&text(i, markers), markers)).expect("both hints occur");
        let pair = ImageCaption::new(format!("images/{i}.png"), format!("Slide {i}."));
        Judged::unjudged(TaskTriplet::new(pair.id, pair.image, found.question, found.informative, found.precise))
    };
    (0..N).map(judged).collect()
}

fn stages(criterion: &mut Criterion) {
    let markers = TurnMarkers::llama3();
    let texts: Vec<_> = (0..N).map(|i| text(i, &markers)).collect();
    let pairs: Vec<_> = (0..N).map(|i| ImageCaption::new(format!("images/{i}.png"), format!("Slide {i}."))).collect();
    let judged = triplets(&markers);
    let parse = |text: &String| find_triplet(&parse_turns(text, &markers)).expect("both hints occur");

    let mut group = criterion.benchmark_group("synthesis");
    group.throughput(Throughput::Elements(N as u64));
    group.bench_function("parse", |b| b.iter(|| texts.iter().map(parse).collect::<Vec<_>>()));
    group.bench_function("combine", |b| b.iter(|| judged.iter().map(|judged| combine(judged, 0)).collect::<Vec<_>>()));
    group.bench_function("parse and combine", |b| {
        let both = |(text, pair): (&String, &ImageCaption)| {
            let found = parse(text);
            let (id, image) = (pair.id.clone(), pair.image.clone());
            let triplet = TaskTriplet::new(id, image, found.question, found.informative, found.precise);
            combine(&Judged::unjudged(triplet), 0)
        };
        b.iter(|| texts.iter().zip(&pairs).map(both).collect::<Vec<_>>());
    });
    group.bench_function("format", |b| {
        b.iter(|| judged.iter().map(|judged| serde_json::to_string(judged).expect("JSON").len()).sum::<usize>());
    });
    group.bench_function("read back", |b| {
        let lines: Vec<_> = judged.iter().map(|judged| serde_json::to_string(judged).expect("JSON")).collect();
        b.iter(|| lines.iter().map(|line| serde_json::from_str::<Judged>(line).expect("JSON")).collect::<Vec<_>>());
    });
    group.finish();
}

fn hashes(criterion: &mut Criterion) {
    let markers = TurnMarkers::llama3();
    let texts: Vec<_> = (0..N).map(|i| text(i, &markers)).collect();
    let mut group = criterion.benchmark_group("hash");
    group.throughput(Throughput::Elements(N as u64));
    group.bench_function("content id", |b| {
        b.iter(|| texts.iter().map(|text| RecordId::of("bench", [text.as_str()])).collect::<Vec<_>>());
    });
    group.bench_function("min-hash signature", |b| {
        let (hasher, normal) = (MinHash::default(), texts.iter().map(|text| normalise(text)).collect::<Vec<_>>());
        b.iter(|| normal.iter().map(|text| hasher.signature(text)).collect::<Vec<_>>());
    });
    group.bench_function("near-duplicate look-up", |b| {
        let look_up = |mut index: DuplicateIndex| {
            let ids = texts.iter().zip(0..).map(|(text, i): (_, u32)| (text, RecordId::given(i.to_string())));
            ids.filter(|(text, id)| index.insert("", text, id).is_some()).count()
        };
        b.iter_batched(|| DuplicateIndex::new(Some(0.95)), look_up, BatchSize::LargeInput);
    });
    let image = image::RgbImage::from_fn(672, 672, |x, y| image::Rgb([(x * 7 + y * 3) as u8, (x ^ y) as u8, y as u8]));
    group.throughput(Throughput::Elements(1));
    group.bench_function("image 672x672", |b| b.iter(|| adamllm::synth::hygiene::perceptual_hash(&image)));
    group.bench_function("image file of 200 kB", |b| {
        let file = vec![7; 200_000];
        b.iter(|| RecordId::of_bytes("image-file", [file.as_slice()]));
    });
    group.finish();
}

criterion_group!(benches, stages, hashes);
criterion_main!(benches);
