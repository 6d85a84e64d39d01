//! Text to token ids and back: `tokenizer.json`, and the end tokens that `generation_config.json` names.

use std::path::{Path, PathBuf};

use adamllm_core::{CoreError, TurnMarkers};
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::ModelError;
use crate::template::{ChatTemplate, TemplateTokens};

/// Names that families give to the token behind the last turn.
const END_OF_TEXT: &[&str] = &["<|end_of_text|>", "<|endoftext|>", "</s>"];

/// A folder's tokenizer and chat template.
#[derive(Debug)]
pub struct TextCodec {
    tokenizer: Tokenizer,
    path: PathBuf,
    special: Vec<String>,
    /// The ids of `special`, sorted.
    special_ids: Vec<u32>,
    template: Option<ChatTemplate>,
    markers: Option<TurnMarkers>,
    end_tokens: Vec<u32>,
    end_of_turn: Option<u32>,
    end_of_text: Option<u32>,
}

impl TextCodec {
    /// Reads `tokenizer.json`, and, where the folder has them, `tokenizer_config.json`, `generation_config.json` and the
    /// chat template.
    ///
    /// # Errors
    /// [`ModelError::FileMissing`], [`ModelError::Tokenizer`], [`ModelError::Json`], [`ModelError::Template`].
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        Self::read_or(folder, None)
    }

    /// As [`TextCodec::read`], with a template for folders that bring none of their own for images.
    pub(crate) fn read_or(folder: &Path, builtin: Option<&str>) -> Result<Self, ModelError> {
        let path = folder.join("tokenizer.json");
        if !path.exists() {
            return Err(ModelError::FileMissing { folder: folder.into(), expected: &["tokenizer.json"] });
        }
        let failed = |e: tokenizers::Error| ModelError::Tokenizer { path: path.clone(), detail: e.to_string() };
        let mut tokenizer = Tokenizer::from_file(&path).map_err(failed)?;
        // Padding and truncation are the collator's business, never silent ones of the tokenizer.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(failed)?;
        let mut special: Vec<String> = tokenizer
            .get_added_tokens_decoder()
            .values()
            .filter(|token| token.special)
            .map(|token| token.content.clone())
            .collect();
        let mut special_ids: Vec<u32> = special.iter().filter_map(|token| tokenizer.token_to_id(token)).collect();
        special_ids.sort_unstable();
        special.sort_by_key(|token| (std::cmp::Reverse(token.len()), token.clone()));

        let config = read_json(&folder.join("tokenizer_config.json"))?.unwrap_or(Value::Null);
        let template = ChatTemplate::read(folder, &config, TemplateTokens::from_config(&config), builtin)?;
        let markers = match &template {
            Some(template) => template.turn_markers(&special)?,
            None => None,
        };
        let mut codec = Self {
            tokenizer,
            path,
            special,
            special_ids,
            template,
            markers,
            end_tokens: Vec::new(),
            end_of_turn: None,
            end_of_text: None,
        };
        codec.find_end_tokens(folder, &config)?;
        Ok(codec)
    }

    fn find_end_tokens(&mut self, folder: &Path, config: &Value) -> Result<(), ModelError> {
        let generation = read_json(&folder.join("generation_config.json"))?.unwrap_or(Value::Null);
        let as_id = |v: &Value| v.as_u64().map(|id| id as u32);
        let mut ends: Vec<u32> = match &generation["eos_token_id"] {
            Value::Array(ids) => ids.iter().filter_map(as_id).collect(),
            id => as_id(id).into_iter().collect(),
        };
        self.end_of_turn = self.markers.as_ref().and_then(|m| self.tokenizer.token_to_id(&m.end_of_turn));
        let named = TemplateTokens::from_config(config).eos.and_then(|eos| self.tokenizer.token_to_id(&eos));
        ends.extend(named);
        ends.extend(self.end_of_turn);
        ends.sort_unstable();
        ends.dedup();
        let others = |id: &&u32| Some(**id) != self.end_of_turn;
        let known = END_OF_TEXT.iter().find_map(|name| self.tokenizer.token_to_id(name));
        self.end_of_text = known.or_else(|| ends.iter().find(others).copied());
        ends.extend(self.end_of_text.filter(|id| !ends.contains(id)));
        self.end_tokens = ends;
        Ok(())
    }

    /// Token ids of a text in which special tokens' texts stand for themselves. A begin-of-text token is added where
    /// the tokenizer does so, if `begin` is set.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn encode(&self, text: &str, begin: bool) -> Result<Vec<u32>, ModelError> {
        match self.tokenizer.encode_fast(text, begin) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(ModelError::Tokenizer { path: self.path.clone(), detail: error.to_string() }),
        }
    }

    /// The text of token ids.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn decode(&self, tokens: &[u32], keep_special_tokens: bool) -> Result<String, ModelError> {
        self.tokenizer
            .decode(tokens, !keep_special_tokens)
            .map_err(|error| ModelError::Tokenizer { path: self.path.clone(), detail: error.to_string() })
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

    /// The first special token whose text occurs in `text`.
    pub fn special_token_in(&self, text: &str) -> Option<&str> {
        self.special.iter().map(String::as_str).find(|token| text.contains(token))
    }

    /// Whether this is the id of a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.binary_search(&id).is_ok()
    }

    /// The chat template, where the folder has one.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// How the template writes the borders between turns.
    pub fn turn_markers(&self) -> Option<&TurnMarkers> {
        self.markers.as_ref()
    }

    /// Every id that ends an answer.
    pub fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    /// The ids that end a text of several turns: [`TextCodec::end_tokens`] without the end of a turn.
    pub fn end_tokens_through_turns(&self) -> Vec<u32> {
        self.end_tokens.iter().copied().filter(|&id| Some(id) != self.end_of_turn).collect()
    }

    /// The token behind the last turn.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// The token that closes a turn.
    pub fn end_of_turn(&self) -> Option<u32> {
        self.end_of_turn
    }

    /// The tokenizer's vocabulary, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }
}

/// A JSON file of the folder; `None` where it does not exist.
pub(crate) fn read_json(path: &Path) -> Result<Option<Value>, ModelError> {
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(CoreError::io("read", path))?;
    serde_json::from_str(&text).map(Some).map_err(|source| ModelError::Json { path: path.into(), source })
}
