use adamllm_nn::AttentionMask;
use burn::tensor::{Int, Tensor, TensorData};

use crate::cross::CrossInput;
use crate::{Decoder, DecoderInput, ImageView, KvCache, Positions, Sampler};

/// A batch of left-padded prompts to continue.
#[derive(Debug)]
pub struct DecodeRequest<'a> {
    /// Embedded prompts, `[batch, seq, d_model]`; what stands in the padding does not matter.
    pub rows: Tensor<3>,
    /// `batch * seq` positions.
    pub positions: Positions,
    /// For the layers that read images: the images' rows, `[batch, n_slots * slot, d_model]`, and who sees them.
    pub pictures: Option<(Tensor<3>, ImageView)>,
    /// One entry for each row of the batch.
    pub requests: Vec<RowRequest<'a>>,
    /// Token ids that end an answer.
    pub end_tokens: &'a [u32],
}

/// What one row of the batch asks for.
#[derive(Debug)]
pub struct RowRequest<'a> {
    /// Left padding of the row.
    pub padding: usize,
    /// The position of the first new token.
    pub next_position: i32,
    /// The prompt's tokens, for the rules that look back.
    pub prompt: &'a [u32],
    /// At most this many tokens are written.
    pub max_new_tokens: usize,
    /// End tokens are forbidden until this many tokens are written.
    pub min_new_tokens: usize,
    /// Draws the row's tokens.
    pub sampler: Sampler,
}

/// Why a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// An end token, or the caller said stop.
    Stop,
    /// `max_new_tokens`.
    Length,
}

/// One row's new tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The tokens, the end token included where one ended the row.
    pub tokens: Vec<u32>,
    /// Why the row ended.
    pub end: EndReason,
}

/// Continues every prompt of the batch until each has ended. After each new token, `stop(row, tokens)` may end the row;
/// it also serves to stream.
pub fn decode(decoder: &Decoder, request: DecodeRequest, mut stop: impl FnMut(usize, &[u32]) -> bool) -> Vec<Answer> {
    let DecodeRequest { rows, positions, pictures, mut requests, end_tokens } = request;
    let [batch, seq, _] = rows.dims();
    let (device, dtype) = (rows.device(), rows.dtype());
    let (picture_rows, view) = pictures.unzip();
    let padding: Vec<usize> = requests.iter().map(|r| r.padding).collect();
    let longest = requests.iter().map(|r| r.max_new_tokens).max().unwrap_or(0);
    let mut cache = decoder.cache(seq + longest);
    let mut written: Vec<Vec<u32>> = vec![Vec::new(); batch];
    let mut ends: Vec<Option<EndReason>> =
        requests.iter().map(|r| (r.max_new_tokens == 0).then_some(EndReason::Length)).collect();

    let mask = AttentionMask::causal(&padding, 0, seq, &device);
    let cross = view.as_ref().map(|view| view.input(picture_rows, 0..seq, dtype, &device));
    let hidden = decoder.forward(DecoderInput { rows, positions: &positions, mask, cross }, Some(&mut cache));
    let mut last = hidden.narrow(1, seq - 1, 1);
    while ends.iter().any(Option::is_none) {
        let logits = decoder.logits(last.flatten(0, 1));
        let chosen = choose(logits, &mut requests, &written, &ends, end_tokens);
        for (row, &token) in chosen.iter().enumerate() {
            if ends[row].is_some() {
                continue;
            }
            written[row].push(token);
            let stopped = end_tokens.contains(&token) || stop(row, &written[row]);
            ends[row] = if stopped {
                Some(EndReason::Stop)
            } else if written[row].len() == requests[row].max_new_tokens {
                Some(EndReason::Length)
            } else {
                None
            };
        }
        if ends.iter().all(Option::is_some) {
            break;
        }
        let past = cache.len();
        let cross = view.as_ref().map(|view| view.input(None, past..past + 1, dtype, &device));
        last = step(decoder, &mut cache, &chosen, &positions, &requests, &padding, cross);
        requests.iter_mut().for_each(|r| r.next_position += 1);
    }
    written
        .into_iter()
        .zip(ends)
        .map(|(tokens, end)| Answer { tokens, end: end.unwrap_or(EndReason::Length) })
        .collect()
}

/// Reads one new token in each row; `[batch, 1, d_model]`.
fn step(
    decoder: &Decoder,
    cache: &mut KvCache,
    chosen: &[u32],
    like: &Positions,
    requests: &[RowRequest],
    padding: &[usize],
    cross: Option<CrossInput>,
) -> Tensor<3> {
    let device = &decoder.embedding.val().device();
    let ids: Vec<i32> = chosen.iter().map(|&t| t as i32).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, [chosen.len(), 1]), device);
    let at: Vec<i32> = requests.iter().map(|r| r.next_position).collect();
    let mask = AttentionMask::causal(padding, cache.len(), 1, device);
    let input = DecoderInput { rows: decoder.embed(tokens), positions: &Positions::single(like, &at), mask, cross };
    decoder.forward(input, Some(cache))
}

/// One token for each row. Where every row wants the argmax, only the chosen ids leave the device.
fn choose(
    logits: Tensor<2>,
    requests: &mut [RowRequest],
    written: &[Vec<u32>],
    ends: &[Option<EndReason>],
    end_tokens: &[u32],
) -> Vec<u32> {
    let may_end = |row: usize, r: &RowRequest| written[row].len() >= r.min_new_tokens;
    if requests.iter().enumerate().all(|(row, r)| r.sampler.is_argmax() && may_end(row, r)) {
        let ids = logits.argmax(1).into_data().convert::<i64>();
        return ids.as_slice::<i64>().expect("converted").iter().map(|&id| id as u32).collect();
    }
    let [_, vocab_size] = logits.dims();
    let mut values = logits.into_data().convert::<f32>().try_into_vec::<f32>().expect("converted");
    let rows = values.chunks_mut(vocab_size).zip(requests.iter_mut()).enumerate();
    rows.map(|(row, (logits, request))| {
        if ends[row].is_some() {
            return 0;
        }
        let forbidden = if written[row].len() >= request.min_new_tokens { &[][..] } else { end_tokens };
        let seen: Vec<u32> = request.prompt.iter().chain(&written[row]).copied().collect();
        request.sampler.choose(logits, &seen, written[row].len(), forbidden)
    })
    .collect()
}
