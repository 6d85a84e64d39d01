//! The special tokens that templates may name.

use std::collections::BTreeMap;

use serde_json::Value as Json;

/// Names under which `tokenizer_config.json` and `special_tokens_map.json` keep special tokens (`SPECIAL_TOKENS_ATTRIBUTES`).
pub(crate) const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Special tokens by the names under which a template finds them: `bos_token`, `pad_token`, `image_token`. What is not
/// here is undefined for the template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateTokens {
    named: BTreeMap<String, String>,
    additional: Vec<String>,
}

impl TemplateTokens {
    /// The tokens that a folder's `tokenizer_config.json` names. Those of `special_tokens_map.json` come before them where
    /// the former has no `added_tokens_decoder`, as in transformers. A model's own tokens (`image_token`) count where they
    /// are plain text, and as members of `extra_special_tokens`.
    pub fn from_config(config: &Json, special_tokens_map: &Json) -> Self {
        let mut tokens = Self::default();
        tokens.read(config);
        if let Some(extra) = config["extra_special_tokens"].as_object() {
            let own = extra.iter().filter_map(|(name, token)| Some((name.clone(), content(token)?)));
            tokens.named.extend(own);
        }
        if !config["added_tokens_decoder"].is_object() {
            tokens.read(special_tokens_map);
        }
        tokens
    }

    fn read(&mut self, file: &Json) {
        let members = file.as_object().into_iter().flatten();
        for (name, token) in members.filter(|(name, _)| name.ends_with("_token")) {
            let named = NAMES.contains(&name.as_str());
            match content(token).filter(|_| named || token.is_string()) {
                Some(text) => drop(self.named.insert(name.clone(), text)),
                None if named && token.is_null() => drop(self.named.remove(name)),
                None => {}
            }
        }
        if let Some(additional) = file["additional_special_tokens"].as_array() {
            self.additional = additional.iter().filter_map(content).collect();
        }
    }

    /// The text of a token by its name, such as `eos_token`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.named.get(name).map(String::as_str)
    }

    /// With another token.
    pub fn with(mut self, name: &str, token: &str) -> Self {
        self.named.insert(name.into(), token.into());
        self
    }

    /// Names and texts, and the list that has no names.
    pub(super) fn variables(&self) -> (impl Iterator<Item = (&str, &str)>, &[String]) {
        (self.named.iter().map(|(name, token)| (name.as_str(), token.as_str())), &self.additional)
    }
}

/// A token as a text or as an object.
pub(crate) fn content(token: &Json) -> Option<String> {
    token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
}
