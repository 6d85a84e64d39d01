//! Answers: how long the prompt takes, and how long each token after it.

use std::sync::Arc;
use std::time::Instant;

use adamllm::model::{BatchLimits, LocalModel};
use adamllm::prelude::*;
use serde_json::{Value, json};

use super::Bench;
use crate::Answer;

/// Answers to `n` prompts together.
pub(super) fn answers(bench: &Bench, dtype: DType, n: usize) -> Answer<Value> {
    let started = Instant::now();
    let model = bench.folder.load(dtype, &bench.device)?;
    let processor = Processor::read(&bench.folder)?;
    let local = LocalModel::new(model, processor, Arc::new(bench.work.images.clone()), "bench".into())
        .with_limits(BatchLimits { prompts: n, tokens: usize::MAX });
    bench.device.sync()?;
    let load_s = started.elapsed().as_secs_f64();

    let prompts = &bench.work.prompts[..n];
    let options = Decoding::greedy(bench.arguments.new_tokens.max(2));
    let (mut runs, mut first_s) = (Vec::new(), None);
    for _ in 0..3 {
        let run = run(&local, prompts, &options)?;
        // The first run compiles and chooses kernels.
        if first_s.is_none() {
            first_s = Some(run.prefill_s + run.decode_s);
        } else {
            runs.push(run);
        }
        if started.elapsed() >= bench.part_limit() {
            break;
        }
    }
    let Some(best) = runs.iter().min_by(|a, b| a.decode_s.total_cmp(&b.decode_s)) else {
        return Ok(json!({"load_s": load_s, "first_s": first_s, "note": "no time left for a second run"}));
    };
    let prefill_s = runs.iter().map(|run| run.prefill_s).fold(f64::INFINITY, f64::min);
    let steps = best.n_steps as f64;
    Ok(json!({
        "load_s": load_s, "first_s": first_s, "prompt_tokens": best.n_prompt, "new_tokens": best.n_new,
        "prefill_s": prefill_s, "prefill_tokens_per_s": best.n_prompt as f64 / prefill_s,
        "decode_s_per_step": best.decode_s / steps, "decode_tokens_per_s": steps * n as f64 / best.decode_s,
        "tokens": best.tokens,
    }))
}

struct Run {
    /// Until the first token of the whole batch, the images' preprocessing included.
    prefill_s: f64,
    /// From then on.
    decode_s: f64,
    n_steps: usize,
    n_prompt: usize,
    n_new: usize,
    /// The first answer.
    tokens: Vec<u32>,
}

fn run(local: &LocalModel, prompts: &[Prompt], options: &Decoding) -> Answer<Run> {
    let started = Instant::now();
    let mut first = None;
    let answers = local.generate_with(prompts, options, |_, _| {
        first.get_or_insert_with(|| started.elapsed().as_secs_f64());
    });
    let all_s = started.elapsed().as_secs_f64();
    let answers: Vec<_> = answers.into_iter().collect::<Result<_, _>>()?;
    let prefill_s = first.unwrap_or(all_s);
    // Each step writes a token in every row that has not ended.
    let n_steps = answers.iter().map(|answer| answer.n_new_tokens).max().unwrap_or(0).saturating_sub(1).max(1);
    Ok(Run {
        prefill_s,
        decode_s: all_s - prefill_s,
        n_steps,
        n_prompt: answers.iter().map(|answer| answer.n_prompt_tokens).sum(),
        n_new: answers.iter().map(|answer| answer.n_new_tokens).sum(),
        tokens: answers[0].tokens.clone(),
    })
}
