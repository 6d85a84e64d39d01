//! What is trained on and asked: examples of a given length, each with an image of noise that repeats in every process.

use adamllm::core::{MemoryImages, Supervision};
use adamllm::model::{Encoded, Padding, VlmBatch};
use adamllm::nn::ExampleSize;
use adamllm::prelude::*;
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use crate::Answer;

/// Examples, and prompts of the same length.
pub(super) struct Work {
    pub(super) processor: Processor,
    pub(super) examples: Vec<Encoded>,
    pub(super) prompts: Vec<Prompt>,
    pub(super) images: MemoryImages,
    side: u32,
}

/// An image of noise.
fn picture(side: u32, seed: u32) -> RgbImage {
    let value =
        |x: u32, y: u32, c: u32| (((x * 31 + y * 17 + c * 7 + seed * 13).wrapping_mul(2_654_435_761)) >> 24) as u8;
    RgbImage::from_fn(side, side, |x, y| Rgb([value(x, y, 0), value(x, y, 1), value(x, y, 2)]))
}

/// So many letters.
fn letters(n: usize, seed: usize) -> String {
    (0..n).map(|i| char::from(b'a' + ((i * 7 + seed) % 26) as u8)).collect()
}

/// The text length at which something has as many tokens as wanted, or as near as lengths come.
fn length(wanted: usize, mut n_tokens: impl FnMut(usize) -> Answer<usize>) -> Answer<usize> {
    let mut letters = 1;
    for _ in 0..12 {
        let n = n_tokens(letters)?;
        if n == wanted {
            break;
        }
        letters = (letters + wanted).saturating_sub(n).max(1);
    }
    Ok(letters)
}

impl Work {
    /// `n` examples and prompts of about `tokens` tokens, those of an image of `side` pixels included.
    pub(super) fn new(folder: &ModelFolder, n: usize, tokens: usize, side: u32) -> Answer<Self> {
        let processor = Processor::read(folder)?;
        let mut work = Self { processor, examples: vec![], prompts: vec![], images: MemoryImages::new(), side };
        for row in 0..n {
            let name = format!("{row}.png");
            work.images.insert(name.as_str(), picture(side, row as u32));
            let conversation = |question: usize, reply: usize| {
                let question = format!("<image>\n{}", letters(question, row));
                let mut messages = vec![Message::user(question)];
                messages.extend((reply > 0).then(|| Message::assistant(letters(reply, row))));
                Conversation::new(messages, vec![name.as_str().into()])
            };
            let encode = |n: usize| work.processor.encode(&conversation(12, n), Supervision::Replies, &work.images);
            let n = length(tokens, |n| Ok(encode(n)?.tokens.len()))?;
            work.examples.push(encode(n)?);
            let prompt = |n: usize| Prompt::Chat { conversation: conversation(n, 0), open: Role::Assistant };
            let n = length(tokens, |n| Ok(work.processor.encode_prompt(&prompt(n), &work.images)?.tokens.len()))?;
            work.prompts.push(prompt(n));
        }
        Ok(work)
    }

    /// Some examples, padded.
    pub(super) fn batch(&self, examples: &[usize]) -> VlmBatch {
        let examples: Vec<&Encoded> = examples.iter().map(|&i| &self.examples[i]).collect();
        VlmBatch::collate(&examples, Padding::Right, &self.processor)
    }

    /// Tokens of the first `n` examples.
    pub(super) fn n_tokens(&self, n: usize) -> usize {
        self.examples[..n].iter().map(|example| example.tokens.len()).sum()
    }

    /// How large an example is.
    pub(super) fn size_of(&self, example: usize) -> ExampleSize {
        let example = &self.examples[example];
        let (tokens, targets) = (example.tokens.len(), example.n_targets());
        let mut size = ExampleSize { tokens, targets, ..ExampleSize::default() };
        example.images.iter().for_each(|image| size.add_image(image.layout()));
        size
    }

    /// Token ids and labels of examples, and ids of prompts.
    pub(super) fn as_json(&self) -> Value {
        let label = |(&token, &target): (&u32, &bool)| if target { i64::from(token) } else { -100 };
        let ids: Vec<&Vec<u32>> = self.examples.iter().map(|example| &example.tokens).collect();
        let labels =
            self.examples.iter().map(|example| example.tokens.iter().zip(&example.targets).map(label).collect());
        let labels: Vec<Vec<i64>> = labels.collect();
        let prompt = |prompt| self.processor.encode_prompt(prompt, &self.images).map(|e| e.tokens).unwrap_or_default();
        let prompts: Vec<Vec<u32>> = self.prompts.iter().map(prompt).collect();
        json!({"ids": ids, "labels": labels, "prompts": prompts, "side": self.side})
    }
}
