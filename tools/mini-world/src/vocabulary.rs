//! Tokenizers of the real kind at a tiny size: byte-level BPE trained on the mini world's text.

use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, ModelWrapper, SplitDelimiterBehavior, Tokenizer};

use super::training::{CONSISTENT_FIRST, TEXTS_FIRST, base_training, judge_training, synthesizer_words};
use super::{MiniError, TrainingExample};

/// The special tokens of Qwen2-VL that the mini models use, in Qwen2-VL's order.
pub(super) const CHAT_SPECIALS: [&str; 8] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
];

/// The special tokens of Llama 3 that the mini judge uses, in Llama 3's order.
pub(super) const JUDGE_SPECIALS: [&str; 5] =
    ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"];

/// How Qwen2 splits text before BPE; Llama 3 takes up to three digits at a time where this takes one.
const QWEN2_PATTERN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The most tokens that BPE may make, special tokens not counted.
const MOST_TOKENS: usize = 1100;

/// How many examples of each stream the tokenizers read.
const TRAINING_EXAMPLES: usize = 3000;

/// The tokenizer of the base model and of the synthesizer: Qwen2's, with a vocabulary of about a thousand tokens.
///
/// # Errors
/// [`MiniError::Tokenizer`].
pub fn chat_tokenizer(seed: u64) -> Result<Tokenizer, MiniError> {
    // Some of each kind of example.
    let base = base_training(seed).skip(TEXTS_FIRST as usize - TRAINING_EXAMPLES / 3).take(TRAINING_EXAMPLES);
    let examples = base.chain(synthesizer_words(seed).take(TRAINING_EXAMPLES));
    let mut texts: Vec<String> = examples.flat_map(texts_of).collect();
    texts.extend(
        ["system\nYou look and answer.", "user\n", "assistant\n"].map(String::from).into_iter().cycle().take(3000),
    );
    let mut tokenizer = trained(QWEN2_PATTERN, BPE::default(), &texts)?;
    tokenizer.with_normalizer(Some(NFC)).map_err(failed("set the normalizer"))?;
    add_specials(&mut tokenizer, &CHAT_SPECIALS)?;
    Ok(tokenizer)
}

/// The tokenizer of the judge: Llama 3's, with a vocabulary of its own.
///
/// # Errors
/// [`MiniError::Tokenizer`].
pub fn judge_tokenizer(seed: u64) -> Result<Tokenizer, MiniError> {
    let examples = judge_training(seed).skip(CONSISTENT_FIRST as usize).take(TRAINING_EXAMPLES);
    let texts: Vec<String> = examples.map(|example| example.text()).collect();
    let model = BPE::builder().ignore_merges(true).build().map_err(failed("build BPE"))?;
    let pattern = QWEN2_PATTERN.replace(r"|\p{N}|", r"|\p{N}{1,3}|");
    let mut tokenizer = trained(&pattern, model, &texts)?;
    add_specials(&mut tokenizer, &JUDGE_SPECIALS)?;
    let begin = JUDGE_SPECIALS[0];
    let id = tokenizer.token_to_id(begin).unwrap_or_default();
    let processor = TemplateProcessing::builder()
        .try_single(format!("{begin} $A"))
        .and_then(|builder| builder.try_pair(format!("{begin} $A {begin} $B")))
        .map_err(|detail| MiniError::Tokenizer { action: "write the post-processor", detail })?
        .special_tokens(vec![(begin, id)])
        .build();
    let processor = processor
        .map_err(|error| MiniError::Tokenizer { action: "build the post-processor", detail: error.to_string() })?;
    tokenizer.with_post_processor(Some(processor));
    Ok(tokenizer)
}

fn texts_of(example: TrainingExample) -> Vec<String> {
    example
        .conversation
        .messages
        .into_iter()
        .map(|message| message.content.replace(adamllm_core::IMAGE_MARKER, ""))
        .collect()
}

fn trained(pattern: &str, model: BPE, texts: &[String]) -> Result<Tokenizer, MiniError> {
    let mut tokenizer = Tokenizer::new(model);
    let split = Split::new(SplitPattern::Regex(pattern.into()), SplitDelimiterBehavior::Isolated, false);
    let split = split.map_err(failed("compile the pattern"))?;
    let bytes = ByteLevel::new(false, true, false);
    let steps = vec![PreTokenizerWrapper::Split(split), PreTokenizerWrapper::ByteLevel(bytes)];
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let alphabet = ByteLevel::alphabet().into_iter().collect();
    let trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(MOST_TOKENS)
        .initial_alphabet(alphabet)
        .min_frequency(3);
    let mut trainer = tokenizers::models::TrainerWrapper::from(trainer.build());
    tokenizer.train(&mut trainer, texts.iter()).map_err(failed("train BPE"))?;
    debug_assert!(matches!(tokenizer.get_model(), ModelWrapper::BPE(_)));
    Ok(tokenizer)
}

fn add_specials(tokenizer: &mut Tokenizer, specials: &[&str]) -> Result<(), MiniError> {
    let specials = specials.iter().map(|text| AddedToken::from(*text, true).normalized(false));
    let added = tokenizer.add_special_tokens(specials.collect::<Vec<_>>());
    added.map(drop).map_err(failed("add the special tokens"))
}

fn failed(action: &'static str) -> impl Fn(tokenizers::Error) -> MiniError {
    move |error| MiniError::Tokenizer { action, detail: error.to_string() }
}
