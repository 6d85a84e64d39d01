//! Opening `tokenizer.json` without a panic.

use std::borrow::Cow;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use adamllm_core::CoreError;
use serde::Deserialize;
use tokenizers::Tokenizer;

use crate::ModelError;

/// Reads the file. The tokenizers library trusts what stands in it and panics where that is wrong: the faults that are
/// known are looked for first, others are caught.
pub(super) fn open(path: &Path) -> Result<Tokenizer, ModelError> {
    let bytes = std::fs::read(path).map_err(CoreError::io("read", path))?;
    let fault = |detail: String| ModelError::Tokenizer { path: path.into(), detail };
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

/// Added tokens stand behind the vocabulary, with small gaps at most.
const MOST_BEYOND: usize = 1 << 20;

/// Runs a piece of the tokenizers library; its panics become errors that name the file.
pub(super) fn guarded<T>(path: &Path, run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, ModelError> {
    let fault = |detail: String| ModelError::Tokenizer { path: path.into(), detail };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| fault(error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(fault(format!("the tokenizers library panicked, so the file cannot be right: {text}")))
        }
    }
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    model: Option<Model<'a>>,
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
    unk_id: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vocabulary<'a> {
    Ids(#[serde(borrow)] std::collections::HashMap<Cow<'a, str>, serde_json::Value>),
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge<'a> {
    Pair(#[serde(borrow)] [Cow<'a, str>; 2]),
    Line(#[serde(borrow)] Cow<'a, str>),
}

/// Looks for what is known to make the library panic: merges whose parts or whole the vocabulary lacks, or that are
/// shorter than the prefix that is cut off.
fn check(bytes: &[u8]) -> Result<(), String> {
    // What does not parse in this form is left to the library, which says where.
    let Ok(File { model: Some(model) }) = serde_json::from_slice::<File<'_>>(bytes) else { return Ok(()) };
    if let Some(id) = &model.unk_id
        && !(id.is_null() || id.as_u64().is_some_and(|id| id < 1 << 31))
    {
        return Err(format!("model.unk_id: expected a token's id, got {id}"));
    }
    let (Some(Vocabulary::Ids(vocabulary)), Some(merges)) = (&model.vocab, &model.merges) else { return Ok(()) };
    if model.kind.as_deref().is_some_and(|kind| kind != "BPE") {
        return Ok(());
    }
    let mut ids = HashSet::with_capacity(vocabulary.len());
    let most = (vocabulary.len() + MOST_BEYOND) as u64;
    for (token, id) in vocabulary {
        if !id.as_u64().is_some_and(|id| id < most && ids.insert(id)) {
            return Err(format!("model.vocab: {token:?}: expected an id of its own below {most}, got {id}"));
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
