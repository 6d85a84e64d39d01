//! Opening `tokenizer.json` without a panic.

use std::borrow::Cow;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use adamllm_core::CoreError;
use base64::Engine;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::ModelError;

/// Reads the file. The tokenizers library trusts what stands in it and panics where that is wrong: the faults that are
/// known are looked for first, others are caught.
pub(super) fn open(path: &Path) -> Result<Tokenizer, ModelError> {
    let bytes = std::fs::read(path).map_err(CoreError::io("read", path))?;
    let fault = |detail: String| ModelError::Tokenizer { path: path.into(), source: detail.into() };
    check(&bytes).map_err(fault)?;
    let tokenizer = guarded(path, || Tokenizer::from_bytes(&bytes))?;
    let model = tokenizer.get_vocab_size(false);
    // One added token with an id of four thousand million would be taken for a vocabulary of that size.
    let largest = tokenizer.get_added_tokens_decoder().keys().copied().max().unwrap_or(0);
    if largest as usize > model.saturating_add(MOST_BEYOND) {
        return Err(fault(format!("added token with id {largest}, the vocabulary has {model} tokens")));
    }
    Ok(tokenizer)
}

/// Added tokens stand after the vocabulary, with small gaps at most.
const MOST_BEYOND: usize = 1 << 20;

/// Runs a piece of the tokenizers library; its panics become errors that name the file.
pub(super) fn guarded<T>(path: &Path, run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, ModelError> {
    let fault = |source: tokenizers::Error| ModelError::Tokenizer { path: path.into(), source };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(fault),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(fault(format!("the tokenizers library gave up, so the file cannot be right: {text}").into()))
        }
    }
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    model: Option<Model<'a>>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
}

/// What is checked of a model. Other members, and models of other kinds, are the library's to judge.
#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    vocab: Option<Vocabulary<'a>>,
    #[serde(borrow, default)]
    merges: Option<Vec<Merge<'a>>>,
    #[serde(borrow, default)]
    continuing_subword_prefix: Option<Cow<'a, str>>,
    #[serde(default)]
    unk_id: Value,
    #[serde(default)]
    dropout: Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vocabulary<'a> {
    Ids(#[serde(borrow)] std::collections::HashMap<Cow<'a, str>, Value>),
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge<'a> {
    Pair(#[serde(borrow)] [Cow<'a, str>; 2]),
    Line(#[serde(borrow)] Cow<'a, str>),
}

/// A normalizer, pre-tokenizer or decoder, and those inside it.
fn check_part(part: &Value) -> Result<(), String> {
    match part["type"].as_str() {
        Some("Replace") if part["pattern"]["String"] == "" => return Err("Replace: the pattern is empty".into()),
        Some("Precompiled") => {
            let map = part["precompiled_charsmap"].as_str().unwrap_or_default();
            if !charsmap(map) {
                return Err("Precompiled: precompiled_charsmap is no table of SentencePiece".into());
            }
        }
        _ => {}
    }
    let inner = ["normalizers", "pretokenizers", "decoders"].into_iter().filter_map(|name| part[name].as_array());
    inner.flatten().try_for_each(check_part)
}

/// SentencePiece's table: the length of a trie, the trie, and a text, in base64.
fn charsmap(text: &str) -> bool {
    let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text) else { return false };
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return false };
    let length = u32::from_le_bytes(*length) as usize;
    length >= 4 && rest.get(length..).is_some_and(|text| std::str::from_utf8(text).is_ok())
}

/// Looks for what is known to make the library panic: merges whose parts or whole the vocabulary lacks, or that are
/// shorter than the prefix that is cut off.
fn check(bytes: &[u8]) -> Result<(), String> {
    // What does not parse in this form is left to the library, which says where.
    let Ok(file) = serde_json::from_slice::<File<'_>>(bytes) else { return Ok(()) };
    for (name, part) in
        [("normalizer", &file.normalizer), ("pre_tokenizer", &file.pre_tokenizer), ("decoder", &file.decoder)]
    {
        check_part(part).map_err(|fault| format!("{name}: {fault}"))?;
    }
    let Some(model) = file.model else { return Ok(()) };
    if !(model.unk_id.is_null() || model.unk_id.as_u64().is_some_and(|id| id < 1 << 31)) {
        return Err(format!("model.unk_id: expected a token's id, got {}", model.unk_id));
    }
    // Dropout is for training a model: it draws the ids of a text at random.
    if model.dropout.as_f64().is_some_and(|dropout| dropout != 0.0) {
        return Err(format!("model.dropout: expected none, got {}", model.dropout));
    }
    let (Some(Vocabulary::Ids(vocabulary)), Some(merges)) = (&model.vocab, &model.merges) else { return Ok(()) };
    if model.kind.as_deref().is_some_and(|kind| kind != "BPE") {
        return Ok(());
    }
    let mut ids = HashSet::with_capacity(vocabulary.len());
    let limit = (vocabulary.len() + MOST_BEYOND) as u64;
    for (token, id) in vocabulary {
        if !id.as_u64().is_some_and(|id| id < limit && ids.insert(id)) {
            return Err(format!("model.vocab: {token:?}: expected an id of its own below {limit}, got {id}"));
        }
    }
    let prefix = model.continuing_subword_prefix.as_deref().unwrap_or("");
    for (n, merge) in merges.iter().enumerate() {
        let (left, right) = match merge {
            Merge::Pair([left, right]) => (left.as_ref(), right.as_ref()),
            // A line of another form is the library's to refuse; the first line may be a comment.
            Merge::Line(line) => match line.split_once(' ') {
                Some(pair) if !line.starts_with("#version") => pair,
                _ => continue,
            },
        };
        let whole = right.get(prefix.len()..).map(|rest| format!("{left}{rest}"));
        let missing = [Some(left.to_owned()), Some(right.to_owned()), whole.clone()].into_iter().flatten();
        let missing = missing.into_iter().find(|token| !vocabulary.contains_key(token.as_str()));
        if whole.is_none() || missing.is_some() {
            let missing = missing.unwrap_or_else(|| right.to_owned());
            return Err(format!("model.merges[{n}] ({left:?} with {right:?}): the vocabulary has no {missing:?}"));
        }
    }
    Ok(())
}
