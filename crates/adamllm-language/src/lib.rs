//! Embeddings to next tokens: the decoder that Llama 3, Qwen2 and Qwen3 (and the language sides of Qwen2-VL and Qwen3-VL) share, its
//! key-value cache, sampling, and the decode loop.
//!
//! This crate reads embeddings and token ids, never a text or a tokenizer. Text-only models, vision-language models and
//! backbones of one's own ([`LanguageBackbone`](adamllm_nn::LanguageBackbone)) decode through the same [`decode`] loop:
//! image features stand among the embeddings, or go to cross-attention layers ([`CrossLayer`]).
//!
//! | item | what it is |
//! |---|---|
//! | [`DecoderConfig`], [`Decoder`] | sizes, and the decoder with its [`SelfAttention`] and, where the family has them, [`CrossAttention`] layers |
//! | [`RopeConfig`], [`RopeScaling`], [`SlidingWindow`] | rotary positions and attention windows |
//! | [`KvCache`] | keys and values of the tokens so far |
//! | [`decode`], [`DecodeRequest`], [`DecodedSequence`] | prompts to tokens, in batches |
//! | [`Sampler`], [`SamplingRule`], [`LogitRules`] | how the next token is chosen |
//!
//! ```
//! use adamllm_language::DecoderConfig;
//! use adamllm_nn::{AttentionMask, BackboneInput, Eager, LanguageBackbone, Positions};
//! use burn::tensor::{Device, Int, Tensor};
//!
//! let device = Device::flex();
//! let decoder = DecoderConfig::tiny().init(&device);
//! let tokens = Tensor::<2, Int>::from_ints([[1, 2, 3]], &device);
//! let input = BackboneInput {
//!     embeddings: decoder.embed(tokens),
//!     positions: &Positions::plain(1, 0..3),
//!     mask: AttentionMask::causal(&[0], 0, 3, &device),
//!     cross: None,
//!     layer_features: vec![],
//! };
//! let hidden = decoder.forward(input, &mut Eager); // [1, 3, d_model]
//! let logits = decoder.logits(hidden.narrow(1, 2, 1).flatten(0, 1)); // the last token only
//! assert_eq!(logits.dims(), [1, DecoderConfig::tiny().vocab_size]);
//! ```

mod cache;
mod config;
mod cross;
mod decode;
mod decoder;
mod memory;
mod positions;
mod sampling;

pub use cache::KvCache;
pub use config::{DecoderConfig, RopeConfig, RopeScaling, SlidingWindow};
pub use cross::{CrossAttention, CrossLayer};
pub use decode::{DecodeRequest, DecodedSequence, EndReason, PromptRequest, decode};
pub use decoder::{Decoder, DecoderLayer, SelfAttention};
pub use sampling::{LogitRules, Sampler, SamplingRule};

pub use burn;
/// What a [`Sampler`] draws from, and what seeds it.
pub use rand::SeedableRng;
pub use rand_chacha::ChaCha8Rng;

/// The README's example is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
