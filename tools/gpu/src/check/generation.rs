//! Answers with a cache: transformers' tokens, and the tokens that the device itself finds best without a cache.

use adamllm::core::Completion;
use adamllm::model::{BatchLimits, LocalModel};
use adamllm::prelude::*;
use serde_json::Value;

use super::Checked;
use super::logits::{local, logits};
use crate::Answer;
use crate::cases::Found;
use crate::compare::{largest, worst};
use crate::fixtures::prompt;

/// New tokens of each prompt.
const TOKENS: usize = 16;

/// One prompt at a time.
pub(super) fn alone(checked: &Checked, family: &str) -> Answer<Found> {
    generation(checked, family, 1)
}

/// Eight prompts at a time, with padding before the short ones.
pub(super) fn together(checked: &Checked, family: &str) -> Answer<Found> {
    generation(checked, family, 8)
}

/// In f32 the tokens are transformers'. In every dtype each token's logit, computed without a cache, is the largest but for
/// rounding: which of two tokens that are almost equally good was taken is no error in a narrow dtype, a wrong cache is.
fn generation(checked: &Checked, family: &str, rows: usize) -> Answer<Found> {
    let fixture = checked.fixture(family)?;
    let local = local(checked, &fixture)?.with_limits(BatchLimits { prompts: rows, ..BatchLimits::default() });
    let prompts: Vec<Prompt> = fixture.prompts().iter().map(prompt).collect::<Answer<_>>()?;
    let options = Decoding { max_new_tokens: TOKENS, keep_special_tokens: true, ..Decoding::default() };
    let answers = local.generate(&prompts, &options);

    let (mut below, mut different, mut n) = (Vec::new(), 0, 0);
    for ((case, prompt), answer) in fixture.prompts().iter().zip(&prompts).zip(answers) {
        let answer = answer?;
        below.push(below_best(&local, prompt, &answer)?);
        different += usize::from(answer.tokens != recorded(&local, &case["greedy_ids"])?);
        n += answer.tokens.len();
    }
    let below = worst(below);
    let note = format!("{n} tokens, {different} of {} answers differ from transformers'", prompts.len());
    if checked.in_f32() && different > 0 {
        return Err(format!("{note}; logits up to {below:.1e} below the best").into());
    }
    Ok(Found::new(below, checked.limits.logits, note))
}

/// How far the logit of a token of the answer lies below the best one, relative to the largest.
fn below_best(local: &LocalModel, prompt: &Prompt, answer: &Completion) -> Answer<f64> {
    let mut row = local.processor().encode_prompt(prompt, local.images())?;
    let first = row.tokens.len();
    row.tokens.extend_from_slice(&answer.tokens);
    row.targets.resize(row.tokens.len(), false);
    let logits = logits(local, &row);
    let below = answer.tokens.iter().enumerate().map(|(i, &token)| {
        let logits = &logits[first + i - 1];
        let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        f64::from(best - logits[token as usize]) / largest(logits)
    });
    Ok(worst(below))
}

/// transformers' tokens; the recorded ones go on after the first end token, an answer does not.
fn recorded(local: &LocalModel, ids: &Value) -> Answer<Vec<u32>> {
    let mut ids: Vec<u32> = serde_json::from_value(ids.clone())?;
    ids.truncate(TOKENS);
    if let Some(end) = ids.iter().position(|id| local.processor().text().end_tokens().contains(id)) {
        ids.truncate(end + 1);
    }
    Ok(ids)
}
