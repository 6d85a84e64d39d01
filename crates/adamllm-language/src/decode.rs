use adamllm_nn::{
    AttentionMask, BackboneInput, CrossAttentionInput, CrossAttentionView, KeyValueCache, LanguageBackbone, Positions,
};
use burn::tensor::{Int, Tensor, TensorData};

use crate::Sampler;

/// A batch of left-padded prompts to continue.
#[derive(Debug)]
#[non_exhaustive]
pub struct DecodeRequest<'a> {
    /// Embedded prompts, `[batch, seq, d_model]`; what stands in the padding does not matter.
    pub embeddings: Tensor<3>,
    /// `batch * seq` positions.
    pub positions: Positions,
    /// For cross-attention layers: the image features, `[batch, n_slots * n_features, d_model]`, and who attends to them.
    pub images: Option<(Tensor<3>, CrossAttentionView)>,
    /// Added to the prompts' hidden states after the backbone's first layers, as
    /// [`BackboneInput::layer_features`]; empty for most models.
    pub layer_features: Vec<Tensor<3>>,
    /// One for each batch element.
    pub prompts: Vec<PromptRequest<'a>>,
    /// Token ids that end an answer.
    pub end_tokens: &'a [u32],
}

/// What one batch element asks for.
#[derive(Debug)]
#[non_exhaustive]
pub struct PromptRequest<'a> {
    /// Its left padding.
    pub padding: usize,
    /// The position of the first new token.
    pub next_position: i32,
    /// The prompt's tokens, for the rules that look back.
    pub prompt: &'a [u32],
    /// At most this many tokens are written.
    pub max_new_tokens: usize,
    /// End tokens are forbidden until this many tokens are written.
    pub min_new_tokens: usize,
    /// Draws the tokens.
    pub sampler: Sampler,
}

impl<'a> DecodeRequest<'a> {
    /// Prompts without images: their embeddings `[batch, seq, d_model]`, `batch * seq` positions, and what each asks for.
    pub fn new(
        embeddings: Tensor<3>,
        positions: Positions,
        prompts: Vec<PromptRequest<'a>>,
        end_tokens: &'a [u32],
    ) -> Self {
        Self { embeddings, positions, images: None, layer_features: Vec::new(), prompts, end_tokens }
    }
}

impl<'a> PromptRequest<'a> {
    /// At most `max_new_tokens` tokens after a prompt without padding, the first of them at `next_position`.
    pub fn new(prompt: &'a [u32], next_position: i32, max_new_tokens: usize, sampler: Sampler) -> Self {
        Self { padding: 0, next_position, prompt, max_new_tokens, min_new_tokens: 0, sampler }
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// An end token, or the caller said stop.
    Stop,
    /// `max_new_tokens`.
    Length,
}

/// The new tokens of one batch element.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodedSequence {
    /// The tokens, the end token included where one ended the answer.
    pub tokens: Vec<u32>,
    /// Why the answer ended.
    pub end: EndReason,
}

/// Continues every prompt of the batch until each has ended. After each new token, `stop(batch element, tokens)` may end its
/// answer; it also serves to stream.
pub fn decode<L: LanguageBackbone>(
    backbone: &L,
    request: DecodeRequest,
    mut stop: impl FnMut(usize, &[u32]) -> bool,
) -> Vec<DecodedSequence> {
    let DecodeRequest { embeddings, positions, images, layer_features, mut prompts, end_tokens } = request;
    let [batch, seq, _] = embeddings.dims();
    let (device, dtype) = (embeddings.device(), embeddings.dtype());
    let (features, view) = images.unzip();
    let padding: Vec<usize> = prompts.iter().map(|prompt| prompt.padding).collect();
    let longest = prompts.iter().map(|prompt| prompt.max_new_tokens).max().unwrap_or(0);
    let mut cache = backbone.cache(seq + longest);
    let mut written: Vec<Vec<u32>> = vec![Vec::new(); batch];
    let mut ends: Vec<Option<EndReason>> =
        prompts.iter().map(|prompt| (prompt.max_new_tokens == 0).then_some(EndReason::Length)).collect();

    // The prompts, in one pass.
    let mask = AttentionMask::causal(&padding, 0, seq, &device);
    let cross = view.as_ref().map(|view| view.input(features, 0..seq, dtype, &device));
    let input = BackboneInput { embeddings, positions: &positions, mask, cross, layer_features };
    let mut last = backbone.forward_cached(input, &mut cache).narrow(1, seq - 1, 1);

    // One token of each answer a pass.
    while ends.iter().any(Option::is_none) {
        let logits = backbone.logits(last.flatten(0, 1));
        let chosen = choose(logits, &mut prompts, &written, &ends, end_tokens);
        for (b, &token) in chosen.iter().enumerate() {
            if ends[b].is_some() {
                continue;
            }
            written[b].push(token);
            let stopped = end_tokens.contains(&token) || stop(b, &written[b]);
            ends[b] = if stopped {
                Some(EndReason::Stop)
            } else {
                (written[b].len() == prompts[b].max_new_tokens).then_some(EndReason::Length)
            };
        }
        if ends.iter().all(Option::is_some) {
            break;
        }
        let past = cache.len();
        let cross = view.as_ref().map(|view| view.input(None, past..past + 1, dtype, &device));
        last = step(backbone, &mut cache, &chosen, &positions, &prompts, &padding, cross);
        prompts.iter_mut().for_each(|prompt| prompt.next_position += 1);
    }
    let answer = |(tokens, end): (_, Option<_>)| DecodedSequence { tokens, end: end.unwrap_or(EndReason::Length) };
    written.into_iter().zip(ends).map(answer).collect()
}

/// Reads one new token of each batch element; `[batch, 1, d_model]`.
fn step<L: LanguageBackbone>(
    backbone: &L,
    cache: &mut L::Cache,
    chosen: &[u32],
    like: &Positions,
    prompts: &[PromptRequest],
    padding: &[usize],
    cross: Option<CrossAttentionInput>,
) -> Tensor<3> {
    let device = &backbone.device();
    let ids: Vec<i32> = chosen.iter().map(|&t| t as i32).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, [chosen.len(), 1]), device);
    let next: Vec<i32> = prompts.iter().map(|prompt| prompt.next_position).collect();
    let mask = AttentionMask::causal(padding, cache.len(), 1, device);
    let positions = Positions::single(like, &next);
    let embeddings = backbone.embed(tokens);
    let input = BackboneInput { embeddings, positions: &positions, mask, cross, layer_features: Vec::new() };
    backbone.forward_cached(input, cache)
}

/// One token for each batch element. Where every one wants the argmax, only the chosen ids leave the device.
fn choose(
    logits: Tensor<2>,
    prompts: &mut [PromptRequest],
    written: &[Vec<u32>],
    ends: &[Option<EndReason>],
    end_tokens: &[u32],
) -> Vec<u32> {
    let may_end = |b: usize, prompt: &PromptRequest| written[b].len() >= prompt.min_new_tokens;
    if prompts.iter().enumerate().all(|(b, prompt)| prompt.sampler.is_argmax() && may_end(b, prompt)) {
        let ids = logits.argmax(1).into_data().convert::<i64>();
        return ids.as_slice::<i64>().expect("converted").iter().map(|&id| id as u32).collect();
    }

    let [_, vocab_size] = logits.dims();
    let mut values = logits.into_data().convert::<f32>().try_into_vec::<f32>().expect("converted");
    let elements = values.chunks_mut(vocab_size).zip(prompts.iter_mut()).enumerate();
    let draw = |(b, (logits, prompt)): (usize, (&mut [f32], &mut PromptRequest))| {
        if ends[b].is_some() {
            return 0;
        }
        let forbidden = if written[b].len() >= prompt.min_new_tokens { &[][..] } else { end_tokens };
        let so_far: Vec<u32> = prompt.prompt.iter().chain(&written[b]).copied().collect();
        prompt.sampler.choose(logits, &so_far, written[b].len(), forbidden)
    };
    elements.map(draw).collect()
}
