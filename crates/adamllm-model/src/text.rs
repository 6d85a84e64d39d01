//! Text to token ids and back: `tokenizer.json` with the tokens that other files add, and the end tokens that
//! `generation_config.json` names.

use std::path::{Path, PathBuf};

use adamllm_core::{CoreError, IMAGE_MARKER, TurnMarkers};
use serde_json::Value;
use tokenizers::{Encoding, Tokenizer};

use crate::template::{ChatTemplate, Segment, TemplateTokens};
use crate::{GenerationDefaults, ModelError};

mod added;
mod file;

/// Names that families give to the token after the last turn.
const END_OF_TEXT: &[&str] = &["<|end_of_text|>", "<|endoftext|>", "</s>"];

/// A folder's tokenizer and chat template.
#[derive(Debug)]
pub struct TextCodec {
    tokenizer: Tokenizer,
    path: PathBuf,
    special: Vec<String>,
    /// The ids of `special`, sorted.
    special_ids: Vec<u32>,
    tokens: TemplateTokens,
    template: Option<ChatTemplate>,
    markers: Option<TurnMarkers>,
    generation: GenerationDefaults,
    end_of_turn: Option<u32>,
    end_of_text: Option<u32>,
    /// Whether the folder's processor, not its tokenizer, writes chats: it adds a begin-of-text token that the template
    /// does not write.
    processor: bool,
    /// See [`FolderKind::begin_after`].
    begin_after: Option<String>,
    /// Tokens that the model has embeddings for.
    n_embeddings: Option<usize>,
}

/// What kind of folder a tokenizer is read from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FolderKind<'a> {
    /// Whether transformers reads it by a processor, not by a tokenizer alone.
    pub(crate) processor: bool,
    /// A template for folders that bring none of their own for images.
    pub(crate) builtin: Option<&'a str>,
    /// The placeholder of a processor that writes the begin-of-text token itself where the text has none, after the
    /// placeholders that the text begins with: Mllama's.
    pub(crate) begin_after: Option<&'a str>,
}

/// Tokens that were written in one piece: of one message, and all for the loss or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) tokens: Vec<u32>,
    pub(crate) message: Option<usize>,
    pub(crate) target: bool,
}

impl TextCodec {
    /// Reads `tokenizer.json`, and, where the folder has them, `tokenizer_config.json`, `special_tokens_map.json`,
    /// `added_tokens.json`, `generation_config.json` and the chat template. A folder with a file for images is read as
    /// transformers' processors read it.
    ///
    /// # Errors
    /// [`ModelError::FileMissing`], [`ModelError::Tokenizer`], [`ModelError::Json`], [`ModelError::Template`];
    /// [`ModelError::ConfigField`] for added tokens that cannot follow those of `tokenizer.json`.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let files = ["preprocessor_config.json", "processor_config.json"];
        let processor = files.iter().any(|name| folder.join(name).exists());
        Self::read_as(folder, FolderKind { processor, ..FolderKind::default() })
    }

    /// As [`TextCodec::read`], for a folder of this kind.
    pub(crate) fn read_as(folder: &Path, kind: FolderKind<'_>) -> Result<Self, ModelError> {
        let path = folder.join("tokenizer.json");
        if !path.exists() {
            return Err(ModelError::FileMissing { folder: folder.into(), expected: &["tokenizer.json"] });
        }
        let object = |name: &str| -> Result<Value, ModelError> {
            let path = folder.join(name);
            match read_json(&path)? {
                None => Ok(Value::Null),
                Some(value) if value.is_object() => Ok(value),
                Some(value) => Err(ModelError::config(&path, "(file)", "an object", value)),
            }
        };
        let config = object("tokenizer_config.json")?;
        let special_tokens_map = object("special_tokens_map.json")?;

        let mut tokenizer = file::open(&path)?;
        added::complete(&mut tokenizer, &path, folder, &config, &special_tokens_map)?;
        // Padding and truncation are the collator's business, never silent ones of the tokenizer.
        tokenizer.with_padding(None);
        file::guarded(&path, || tokenizer.with_truncation(None).map(drop))?;
        let mut special: Vec<String> = tokenizer
            .get_added_tokens_decoder()
            .values()
            .filter(|token| token.special && !token.content.is_empty())
            .map(|token| token.content.clone())
            .collect();
        let mut special_ids: Vec<u32> = special.iter().filter_map(|token| tokenizer.token_to_id(token)).collect();
        special_ids.sort_unstable();
        special.sort_by_key(|token| (std::cmp::Reverse(token.len()), token.clone()));

        let tokens = TemplateTokens::from_config(&config, &special_tokens_map);
        let template = ChatTemplate::read(folder, &config, tokens.clone(), kind.processor, kind.builtin)?;
        let markers = match &template {
            Some(template) => template.turn_markers(&special)?,
            None => None,
        };
        let generation = GenerationDefaults::read(folder)?;
        if generation.end_tokens.is_empty() {
            tracing::warn!(
                folder = %folder.display(),
                "neither generation_config.json nor config.json names an end token: answers end at their limit only"
            );
        }
        let mut codec = Self {
            tokenizer,
            path,
            special,
            special_ids,
            tokens,
            template,
            markers,
            generation,
            end_of_turn: None,
            end_of_text: None,
            processor: kind.processor,
            begin_after: kind.begin_after.map(str::to_owned),
            n_embeddings: None,
        };
        codec.name_ends();
        Ok(codec)
    }

    /// Which token closes a turn, and which follows the last.
    fn name_ends(&mut self) {
        self.end_of_turn = self.markers.as_ref().and_then(|m| self.tokenizer.token_to_id(&m.end_of_turn));
        let known = END_OF_TEXT.iter().find_map(|name| self.tokenizer.token_to_id(name));
        let named = self.tokens.get("eos_token").and_then(|token| self.tokenizer.token_to_id(token));
        let other = |id: &u32| Some(*id) != self.end_of_turn;
        let mut ends = self.generation.end_tokens.iter().copied().chain(named);
        self.end_of_text = known.or_else(|| ends.find(other));
    }

    /// How many embeddings the model has: a token beyond them is an error of the text that holds it.
    pub(crate) fn with_embeddings(mut self, n: usize) -> Self {
        if self.vocab_size() > n {
            tracing::warn!(
                file = %self.path.display(),
                tokens = self.vocab_size(),
                embeddings = n,
                "the tokenizer has more tokens than the model has embeddings; texts that hold one of the last are refused"
            );
        }
        self.n_embeddings = Some(n);
        self
    }

    /// Token ids of a text in which special tokens' texts stand for themselves. A begin-of-text token is added where
    /// the tokenizer does so, if `begin` is set.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn encode(&self, text: &str, begin: bool) -> Result<Vec<u32>, ModelError> {
        let encoding = file::guarded(&self.path, || self.tokenizer.encode_fast(text, begin))?;
        self.checked(encoding.get_ids()).map(<[u32]>::to_vec)
    }

    /// Token ids of a conversation that a template wrote: where the folder has a processor, it adds a begin-of-text token
    /// unless the template wrote one.
    ///
    /// # Errors
    /// As [`TextCodec::encode`].
    pub fn encode_chat(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let with_begin = self.with_begin(text);
        self.encode(&with_begin.0, self.begins(text))
    }

    /// The text with the begin-of-text token that a processor writes, and the range that it takes.
    fn with_begin<'t>(&self, text: &'t str) -> (std::borrow::Cow<'t, str>, std::ops::Range<usize>) {
        let (Some(image), Some(token)) = (self.begin_after.as_deref(), self.tokens.get("bos_token")) else {
            return (text.into(), 0..0);
        };
        if image.is_empty() || text.contains(token) {
            return (text.into(), 0..0);
        }
        let rest = text.trim_start_matches(image);
        let offset = text.len() - rest.len();
        (format!("{}{token}{rest}", &text[..offset]).into(), offset..offset + token.len())
    }

    fn begins(&self, text: &str) -> bool {
        let written = self.tokens.get("bos_token").is_some_and(|token| text.starts_with(token));
        self.processor && !written
    }

    /// Token ids of a conversation in segments: those of the whole text, each counted to its segment. A
    /// token across a border counts for the loss if either side does, as in transformers' masks of assistant tokens.
    ///
    /// # Errors
    /// As [`TextCodec::encode`].
    pub(crate) fn encode_segments(&self, segments: &[Segment]) -> Result<Vec<Piece>, ModelError> {
        let text: String = segments.iter().map(|segment| segment.text.as_str()).collect();
        let begin = self.begins(&text);
        let (text, written) = self.with_begin(&text);
        let encoding = file::guarded(&self.path, || self.tokenizer.encode(text.as_ref(), begin))?;
        self.checked(encoding.get_ids())?;
        // What the processor writes belongs to the segment that it is in.
        let mut ends = Vec::with_capacity(segments.len());
        let mut length = 0;
        for segment in segments {
            let holds = !written.is_empty() && (length..length + segment.text.len()).contains(&written.start);
            length += segment.text.len() + if holds { written.len() } else { 0 };
            ends.push(length);
        }
        Ok(pieces(&encoding, segments, &ends))
    }

    fn checked<'a>(&self, ids: &'a [u32]) -> Result<&'a [u32], ModelError> {
        let n = self.n_embeddings.unwrap_or(usize::MAX);
        match ids.iter().find(|&&id| id as usize >= n) {
            None => Ok(ids),
            Some(&id) => {
                let token = self.token_text(id).unwrap_or_default();
                let detail = format!("token {token:?} has id {id}, the model has embeddings for {n} tokens");
                Err(ModelError::Tokenizer { path: self.path.clone(), source: detail.into() })
            }
        }
    }

    /// The text of token ids.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn decode(&self, tokens: &[u32], keep_special_tokens: bool) -> Result<String, ModelError> {
        file::guarded(&self.path, || self.tokenizer.decode(tokens, !keep_special_tokens))
    }

    /// The id of a token that the model cannot do without.
    ///
    /// # Errors
    /// [`ModelError::TokenMissing`].
    pub fn required_token(&self, token: &str) -> Result<u32, ModelError> {
        let missing = || ModelError::TokenMissing { path: self.path.clone(), token: token.into() };
        self.tokenizer.token_to_id(token).ok_or_else(missing)
    }

    /// The text of one token as the vocabulary spells it.
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The first special token whose text occurs in a message. The marker of an image is none, even where the tokenizer
    /// calls its placeholder by the same name: the template writes the placeholder, not the message.
    pub fn special_token_in(&self, text: &str) -> Option<&str> {
        let mut parts = text.split(IMAGE_MARKER);
        parts.find_map(|part| self.special.iter().map(String::as_str).find(|token| part.contains(token)))
    }

    /// The texts of the special tokens, the longest first.
    pub(crate) fn special_tokens(&self) -> &[String] {
        &self.special
    }

    /// Whether this is the id of a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.binary_search(&id).is_ok()
    }

    /// As [`ChatTemplate::with_image_text`].
    pub(crate) fn with_image_text(mut self, placeholder: &str) -> Self {
        self.template = self.template.map(|template| template.with_image_text(placeholder));
        self
    }

    /// The chat template, where the folder has one.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// How the template writes the borders between turns.
    pub fn turn_markers(&self) -> Option<&TurnMarkers> {
        self.markers.as_ref()
    }

    /// What `generation_config.json` recommends for answers.
    pub fn generation(&self) -> &GenerationDefaults {
        &self.generation
    }

    /// Every id that ends an answer: those that `generation_config.json` names, or `config.json` where the folder has none.
    /// The tokenizer's `eos_token` is none of them by itself, as in transformers.
    pub fn end_tokens(&self) -> &[u32] {
        &self.generation.end_tokens
    }

    /// The ids that end a text of several turns: [`TextCodec::end_tokens`] without the end of a turn, and
    /// [`TextCodec::end_of_text`].
    pub fn end_tokens_through_turns(&self) -> Vec<u32> {
        let mut ends = self.generation.end_tokens.clone();
        ends.extend(self.end_of_text.filter(|id| !ends.contains(id)));
        ends.retain(|&id| Some(id) != self.end_of_turn);
        ends
    }

    /// The token after the last turn.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// The token that closes a turn.
    pub fn end_of_turn(&self) -> Option<u32> {
        self.end_of_turn
    }

    /// The tokenizer's vocabulary without added tokens.
    pub(crate) fn model_vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(false)
    }

    /// The tokenizer's vocabulary, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }
}

/// The tokens of a text, run by run of one segment; `ends` are where the segments end in the text.
fn pieces(encoding: &Encoding, segments: &[Segment], ends: &[usize]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut of: Option<(usize, bool)> = None;
    let tokens = encoding.get_ids().iter().zip(encoding.get_offsets()).zip(encoding.get_special_tokens_mask());
    for ((&id, &(start, end)), &added) in tokens {
        let first = ends.partition_point(|&e| e <= start).min(segments.len().saturating_sub(1));
        // Tokens that the tokenizer adds stand for no text: they go with their neighbour, and are never in the loss.
        let of_text = added == 0 && end > start;
        let overlapped = (first..segments.len()).take_while(|&i| i == first || ends[i - 1] < end);
        let target = overlapped.into_iter().find(|&i| of_text && segments[i].target);
        let segment = match target {
            Some(segment) => segment,
            None if added != 0 => of.map_or(0, |(segment, _)| segment),
            None => first,
        };
        let here = (segment, target.is_some());
        match pieces.last_mut().filter(|_| of == Some(here)) {
            Some(piece) => piece.tokens.push(id),
            None => {
                let message = segments.get(segment).and_then(|segment| segment.message);
                pieces.push(Piece { tokens: vec![id], message, target: target.is_some() });
            }
        }
        of = Some(here);
    }
    pieces
}

/// A JSON file of the folder; `None` where it does not exist.
pub(crate) fn read_json(path: &Path) -> Result<Option<Value>, ModelError> {
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(CoreError::io("read", path))?;
    serde_json::from_str(&text).map(Some).map_err(|source| ModelError::Json { path: path.into(), source })
}

#[cfg(test)]
mod tests;
