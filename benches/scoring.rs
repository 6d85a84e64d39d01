//! Scoring: examples in memory to scores, one task of each kind.
#![allow(missing_docs)]

use adamllm::core::JsonObject;
use adamllm::eval::{JsonExamples, score_examples, tasks};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const N_EXAMPLES: usize = 2000;

/// Answers as models give them: a sentence around the label, another label, or nothing that can be read.
fn examples(task: &str) -> Vec<JsonObject> {
    let names = tasks::named(task).expect("a task").names.clone().unwrap_or_default();
    let name = |i: usize| names[i * 7919 % names.len()].as_str();
    let example = |i: usize| match task {
        "SLAKE" => {
            let (label, answer_type) =
                if i.is_multiple_of(2) { ("the left upper lobe", "OPEN") } else { ("Yes", "CLOSED") };
            json!({"label": label, "answer_type": answer_type, "pred": format!("It's seen in the left lobe, no. {i}: yes.")})
        }
        "PMC_VQA" => {
            let answer = ["The answer is (B).", "the left lung", "I cannot tell"][i % 3];
            json!({"label": "B", "A": "a nodule", "B": "the left lung", "C": "3.5 cm", "D": "air", "pred": answer})
        }
        "Food101" => json!({"label": name(i), "pred": format!("This looks like {}.", name(i + i % 2))}),
        "FoodSeg103" => json!({"label": [name(i), name(i + 1), name(i + 2)],
                               "pred": format!("[{}, {}, {}]", name(i), name(i + 2), name(i + 9))}),
        _ => json!({"label": "Mix the flour with two eggs. Add salt and bake it at 375 for 8 minutes. ".repeat(4),
                    "pred": "Mix two eggs and the flour. Bake for 8 minutes at 375, then serve it warm. ".repeat(4)}),
    };
    let object = |i| match example(i) {
        serde_json::Value::Object(example) => example,
        other => unreachable!("{other} is an object"),
    };
    (0..N_EXAMPLES).map(object).collect()
}

fn scoring(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("score examples");
    group.throughput(Throughput::Elements(N_EXAMPLES as u64)).sample_size(20);
    for name in ["SLAKE", "PMC_VQA", "Food101", "FoodSeg103", "Recipe1M"] {
        let (task, examples) = (tasks::named(name).expect("a task"), examples(name));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter_batched(
                || Box::new(JsonExamples::from_records(name, examples.clone())),
                |examples| score_examples(task, examples).expect("the task's examples"),
                criterion::BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, scoring);
criterion_main!(benches);
