//! Tokens that other files of the folder add to `tokenizer.json`, as transformers 5 adds them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer};

use super::{file, read_json};
use crate::ModelError;
use crate::template::tokens::{NAMES, content};

/// Adds what `tokenizer.json` lacks: the tokens of `added_tokens_decoder` (`tokenizer_config.json`), else those of
/// `added_tokens.json`; then the tokens that `tokenizer_config.json` and `special_tokens_map.json` call by a name.
///
/// transformers gives a new token the next free id, whatever id the folder says. Where the two differ the model would read
/// other embeddings than it was trained with: that is an error.
pub(super) fn complete(
    tokenizer: &mut Tokenizer,
    path: &Path,
    folder: &Path,
    config: &Value,
    special_tokens_map: &Value,
) -> Result<(), ModelError> {
    let named = named(config, special_tokens_map);
    let own = tokenizer.get_added_tokens_decoder();
    let has = |token: &AddedToken| own.values().any(|known| known == token);
    let (source, declared) = declared(folder, config, &named)?;

    let mut missing: Vec<AddedToken> = Vec::new();
    let mut ids: Vec<(u32, String)> = Vec::new();
    for (id, mut token) in declared {
        if has(&token) {
            continue;
        }
        if tokenizer.token_to_id(&token.content).is_none() {
            ids.push((id, token.content.clone()));
        }
        token.special |= named.contains(&token.content);
        missing.push(token);
    }
    for name in named {
        let known = own.values().chain(&missing).any(|token| token.content == name);
        if !known {
            missing.push(AddedToken::from(name, true));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    file::guarded(path, || tokenizer.add_tokens(missing))?;

    for (id, token) in ids {
        let got = tokenizer.token_to_id(&token);
        if got != Some(id) {
            let got = got.map_or_else(|| "none".to_owned(), |got| format!("the next free one, {got}"));
            let expected = format!("an id that `tokenizer.json`, which lacks {token:?}, leaves for it ({got})");
            return Err(ModelError::config(&folder.join(source), token, expected, id));
        }
        tracing::info!(token, id, file = source, "token added that tokenizer.json lacks");
    }
    Ok(())
}

/// The file's name, and its tokens by their ids.
fn declared(
    folder: &Path,
    config: &Value,
    named: &[String],
) -> Result<(&'static str, BTreeMap<u32, AddedToken>), ModelError> {
    let path = folder.join("tokenizer_config.json");

    // Here the tokens have their switches beside them, and `added_tokens.json` is not read.
    if let Some(decoder) = config["added_tokens_decoder"].as_object() {
        let fault = |id: &str, got: &Value| {
            let field = format!("added_tokens_decoder.{id}");
            Err(ModelError::config(&path, field, "a token with `content` and switches", got))
        };

        let mut tokens = BTreeMap::new();
        for (id, value) in decoder {
            match (id.parse(), token(value)) {
                (Ok(number), Some(token)) => drop(tokens.insert(number, token)),
                _ => return fault(id, value),
            }
        }

        return Ok(("tokenizer_config.json", tokens));
    }

    // Here they have ids alone: a token is special where a configuration calls it by a name, and normalized where it is
    // not.
    let path = folder.join("added_tokens.json");
    let members = read_json(&path)?.unwrap_or(Value::Null);

    let mut tokens = BTreeMap::new();
    for (text, id) in members.as_object().into_iter().flatten() {
        let Some(number) = id.as_u64().and_then(|id| u32::try_from(id).ok()) else {
            return Err(ModelError::config(&path, text, "a token's id", id));
        };

        let special = named.contains(text);
        tokens.insert(number, AddedToken::from(text, special).normalized(!special));
    }

    Ok(("added_tokens.json", tokens))
}

/// A token of `added_tokens_decoder`; `None` where a member is of a wrong kind.
fn token(value: &Value) -> Option<AddedToken> {
    let switch = |name: &str, default: bool| match &value[name] {
        Value::Null => Some(default),
        value => value.as_bool(),
    };
    let special = switch("special", false)?;
    let token = AddedToken::from(value["content"].as_str()?, special)
        .lstrip(switch("lstrip", false)?)
        .rstrip(switch("rstrip", false)?)
        .single_word(switch("single_word", false)?)
        .normalized(switch("normalized", !special)?);
    Some(token)
}

/// The special tokens that the two files call by a name or list as further ones.
fn named(config: &Value, special_tokens_map: &Value) -> Vec<String> {
    let legacy = !config["added_tokens_decoder"].is_object();
    let mut tokens: Vec<String> = Vec::new();
    for name in NAMES {
        // The older file counts where the newer one has no list of added tokens.
        let older = legacy.then(|| content(&special_tokens_map[name])).flatten();
        tokens.extend(older.or_else(|| content(&config[name])));
    }
    // A model's own tokens, such as `image_token`.
    let own = config.as_object().into_iter().flatten();
    let own = own.filter(|(name, _)| name.ends_with("_token") && !NAMES.contains(&name.as_str()));
    tokens.extend(own.filter_map(|(_, token)| token.as_str()).map(str::to_owned));
    for list in ["extra_special_tokens", "additional_special_tokens"] {
        let of = |file: &Value| -> Vec<String> {
            match &file[list] {
                Value::Array(tokens) => tokens.iter().filter_map(content).collect(),
                Value::Object(tokens) => tokens.values().filter_map(content).collect(),
                _ => Vec::new(),
            }
        };
        tokens.extend(of(config));
        if legacy {
            tokens.extend(of(special_tokens_map));
        }
    }
    let mut known = std::collections::HashSet::new();
    tokens.retain(|token| !token.is_empty() && known.insert(token.clone()));
    tokens
}
