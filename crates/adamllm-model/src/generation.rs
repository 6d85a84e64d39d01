//! `generation_config.json`: how a folder wants its answers written, as transformers reads it.
//!
//! Taken by [`LocalModel`](crate::LocalModel) unless the caller says otherwise: end tokens, `repetition_penalty`,
//! `no_repeat_ngram_size`, `suppress_tokens`, `begin_suppress_tokens`, `bad_words_ids`, `min_new_tokens`, `min_length`.
//! Offered to callers: `max_new_tokens`, `max_length`, and `temperature`, `top_k`, `top_p` where `do_sample` is true.
//! What would change an answer and is not done here (beam search, say) is refused by its name. Settings of speed, of
//! memory and of what transformers returns beside the answer change no answer, and are passed over.
//!
//! Where the folder has no such file, the members of the same names in `config.json` count, and then those in its
//! `text_config`.

use std::path::{Path, PathBuf};

use adamllm_core::Sampling;
use adamllm_language::LogitRules;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::ModelError;
use crate::text::read_json;

/// What a folder recommends for answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GenerationDefaults {
    /// The file that they come from; `None` where the model came without one.
    pub file: Option<PathBuf>,
    /// The ids that end an answer: these and no others.
    pub end_tokens: Vec<u32>,
    /// CTRL's penalty on tokens that occur already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// No run of so many tokens twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_repeat_ngram_size: Option<usize>,
    /// Tokens that are never written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suppress_tokens: Vec<u32>,
    /// Tokens that no answer begins with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub begin_suppress_tokens: Vec<u32>,
    /// Sequences that are never finished.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad_words_ids: Vec<Vec<u32>>,
    /// Prompt and answer together hold at least this many tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_length: Option<usize>,
    /// An answer holds at least this many tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_new_tokens: Option<usize>,
    /// Prompt and answer together hold at most this many tokens: offered, see [`GenerationDefaults::max_new_tokens_for`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// An answer holds at most this many tokens: offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
    /// Whether the folder wants random draws: offered, see [`GenerationDefaults::sampling`].
    pub do_sample: bool,
    /// Divides the logits of random draws.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Random draws keep the k most probable tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Random draws keep the smallest set of tokens that holds this much probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// What would change every answer and is not done here: the member and its value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<(String, Value)>,
    /// What would change random draws and is not done here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused_for_sampling: Vec<(String, Value)>,
}

/// What changes every answer, and the values with which it changes none.
const REFUSED: &[(&str, &[&str])] = &[
    ("num_beams", &["1"]),
    ("num_beam_groups", &["1"]),
    ("num_return_sequences", &["1"]),
    ("encoder_repetition_penalty", &["1", "1.0"]),
    ("encoder_no_repeat_ngram_size", &["0"]),
    ("guidance_scale", &["1", "1.0"]),
    ("sequence_bias", &[]),
    ("forced_bos_token_id", &[]),
    ("forced_eos_token_id", &[]),
    ("exponential_decay_length_penalty", &[]),
    ("watermarking_config", &[]),
    ("stop_strings", &["[]"]),
    ("max_time", &[]),
    ("token_healing", &["false"]),
    ("penalty_alpha", &["0", "0.0"]),
    ("dola_layers", &[]),
    ("constraints", &["[]"]),
    ("force_words_ids", &["[]"]),
];

/// What changes random draws only, and the values with which it changes none.
const REFUSED_FOR_SAMPLING: &[(&str, &[&str])] = &[
    ("min_p", &["0", "0.0"]),
    ("top_h", &[]),
    ("typical_p", &["1", "1.0"]),
    ("epsilon_cutoff", &["0", "0.0"]),
    ("eta_cutoff", &["0", "0.0"]),
];

/// The largest count that a member may hold: no context of a model is longer.
const LARGEST: u64 = 1 << 32;

impl GenerationDefaults {
    /// Reads `generation_config.json`, or the members of its names in `config.json`.
    ///
    /// # Errors
    /// [`ModelError::Core`], [`ModelError::Json`]; [`ModelError::ConfigField`] for a member of a wrong kind.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        for name in ["generation_config.json", "config.json"] {
            let path = folder.join(name);
            let Some(json) = read_json(&path)? else { continue };
            let Some(members) = json.as_object() else {
                return Err(ModelError::config(&path, "(file)", "an object", &json));
            };
            let inner = (name == "config.json").then(|| &json["text_config"]).and_then(Value::as_object);
            return Self::from_members(&Members { path: &path, members, inner });
        }
        Ok(Self::default())
    }

    fn from_members(file: &Members) -> Result<Self, ModelError> {
        let penalty = file.float("repetition_penalty")?.filter(|&penalty| penalty != 1.0);
        if let Some(penalty) = penalty.filter(|&penalty| !(penalty > 0.0 && penalty.is_finite())) {
            return Err(file.fault("repetition_penalty", "a positive number", penalty));
        }
        let one_end = |id: &Value| file.token("eos_token_id", id);
        let end_tokens: Vec<Option<u32>> = match file.get("eos_token_id") {
            None => Vec::new(),
            Some(Value::Array(ids)) => ids.iter().map(one_end).collect::<Result<_, _>>()?,
            Some(id) => vec![one_end(id)?],
        };
        let end_tokens: Vec<u32> = end_tokens.into_iter().flatten().collect();

        // An end token by itself is no bad word: the answer may end.
        let mut bad_words_ids = file.sequences("bad_words_ids")?;
        bad_words_ids.retain(|sequence| !matches!(sequence[..], [id] if end_tokens.contains(&id)));
        Ok(Self {
            file: Some(file.path.into()),
            end_tokens,
            repetition_penalty: penalty,
            no_repeat_ngram_size: file.count("no_repeat_ngram_size")?.filter(|&n| n > 0),
            suppress_tokens: file.tokens("suppress_tokens")?,
            begin_suppress_tokens: file.tokens("begin_suppress_tokens")?,
            bad_words_ids,
            min_length: file.count("min_length")?.filter(|&n| n > 0),
            min_new_tokens: file.count("min_new_tokens")?.filter(|&n| n > 0),
            max_length: file.count("max_length")?,
            max_new_tokens: file.count("max_new_tokens")?,
            do_sample: file.switch("do_sample")?,
            temperature: file.float("temperature")?,
            top_k: file.count("top_k")?.filter(|&k| k > 0),
            top_p: file.float("top_p")?.filter(|&p| p != 1.0),
            refused: file.beyond(REFUSED),
            refused_for_sampling: file.beyond(REFUSED_FOR_SAMPLING),
        })
    }

    /// The rules for logits, with the caller's penalty where there is one.
    ///
    /// # Errors
    /// [`ModelError::GenerationSetting`] for a member that would change the answer and is not done here.
    pub(crate) fn rules(&self, penalty: Option<f64>) -> Result<LogitRules, ModelError> {
        self.check(&self.refused)?;
        Ok(LogitRules {
            repetition_penalty: penalty.or(self.repetition_penalty).unwrap_or(1.0),
            no_repeat_ngram_size: self.no_repeat_ngram_size.unwrap_or(0),
            suppressed: self.suppress_tokens.clone(),
            suppressed_at_first: self.begin_suppress_tokens.clone(),
            banned: self.bad_words_ids.clone(),
        })
    }

    /// The smallest number of new tokens after a prompt of this length.
    pub(crate) fn min_new_tokens_for(&self, prompt: usize) -> usize {
        match self.min_new_tokens {
            Some(n) => n,
            None => self.min_length.unwrap_or(0).saturating_sub(prompt),
        }
    }

    /// The largest number of new tokens after a prompt of this length that the folder recommends; `max_new_tokens` before
    /// `max_length`, as in transformers. For a caller who names none.
    pub fn max_new_tokens_for(&self, prompt: usize) -> Option<usize> {
        self.max_new_tokens.or_else(|| self.max_length.map(|n| n.saturating_sub(prompt)))
    }

    /// Random draws as the folder wants them, for a caller who asks for them. Only what the file says counts:
    /// transformers' own `top_k` of 50, which it adds where a file is silent, is not.
    ///
    /// # Errors
    /// [`ModelError::GenerationSetting`] for a member that would change the draws and is not done here;
    /// [`ModelError::ConfigField`] for a number out of its range.
    pub fn sampling(&self, seed: u64) -> Result<Sampling, ModelError> {
        self.check(&self.refused_for_sampling)?;
        let path = self.file.as_deref().unwrap_or(Path::new("generation_config.json"));
        let temperature = self.temperature.unwrap_or(1.0);
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(ModelError::config(path, "temperature", "a positive number", temperature));
        }
        if let Some(top_p) = self.top_p.filter(|p| !(0.0..=1.0).contains(p)) {
            return Err(ModelError::config(path, "top_p", "0 to 1", top_p));
        }
        Ok(Sampling::Random { temperature, top_k: self.top_k, top_p: self.top_p, seed })
    }

    fn check(&self, refused: &[(String, Value)]) -> Result<(), ModelError> {
        match refused.first() {
            None => Ok(()),
            Some((field, value)) => Err(ModelError::GenerationSetting {
                path: self.file.clone().unwrap_or_default(),
                field: field.clone(),
                value: value.to_string(),
            }),
        }
    }

    /// What changes greedy answers, as one line: `repetition_penalty = 1.05, suppress_tokens = [3]`. `None` where nothing
    /// does.
    pub fn summary(&self) -> Option<String> {
        let json = serde_json::to_value(self).ok()?;
        let taken = [
            "repetition_penalty",
            "no_repeat_ngram_size",
            "suppress_tokens",
            "begin_suppress_tokens",
            "bad_words_ids",
            "min_length",
            "min_new_tokens",
        ];
        let parts: Vec<String> =
            taken.iter().filter_map(|name| Some(format!("{name} = {}", json.get(*name)?))).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Names the defaults in cache keys: changes whenever the answers may.
    pub(crate) fn identity(&self) -> String {
        let json = serde_json::to_value(Self { file: None, ..self.clone() }).unwrap_or_default().to_string();
        adamllm_core::RecordId::of("generation-defaults", [json.as_str()]).to_string()
    }
}

/// A file's members, with those of `text_config` after them.
struct Members<'a> {
    path: &'a Path,
    members: &'a Map<String, Value>,
    inner: Option<&'a Map<String, Value>>,
}

impl Members<'_> {
    /// A member that is not null.
    fn get(&self, name: &str) -> Option<&Value> {
        let own = self.members.get(name).filter(|value| !value.is_null());
        own.or_else(|| self.inner?.get(name).filter(|value| !value.is_null()))
    }

    fn fault(&self, name: &str, expected: &str, got: impl ToString) -> ModelError {
        ModelError::config(self.path, name, expected, got)
    }

    fn float(&self, name: &str) -> Result<Option<f64>, ModelError> {
        let number = |value: &Value| value.as_f64().ok_or_else(|| self.fault(name, "a number", value));
        self.get(name).map(number).transpose()
    }

    fn switch(&self, name: &str) -> Result<bool, ModelError> {
        let switch = |value: &Value| value.as_bool().ok_or_else(|| self.fault(name, "true or false", value));
        self.get(name).map_or(Ok(false), switch)
    }

    fn count(&self, name: &str) -> Result<Option<usize>, ModelError> {
        let count = |value: &Value| {
            let whole = value.as_f64().filter(|n| n.fract() == 0.0 && (0.0..=LARGEST as f64).contains(n));
            whole.map(|n| n as usize).ok_or_else(|| self.fault(name, "a whole number, not negative", value))
        };
        self.get(name).map(count).transpose()
    }

    /// A token's id; `None` for a negative one, which some tools write for no token.
    fn token(&self, name: &str, value: &Value) -> Result<Option<u32>, ModelError> {
        match value.as_i64() {
            Some(id) if id < 0 => Ok(None),
            Some(id) if u32::try_from(id).is_ok() => Ok(Some(id as u32)),
            _ => Err(self.fault(name, "token ids", value)),
        }
    }

    fn list<'v>(&self, name: &str, value: &'v Value) -> Result<&'v [Value], ModelError> {
        value.as_array().map(Vec::as_slice).ok_or_else(|| self.fault(name, "a list of token ids", value))
    }

    fn tokens(&self, name: &str) -> Result<Vec<u32>, ModelError> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        self.ids(name, value)
    }

    fn ids(&self, name: &str, value: &Value) -> Result<Vec<u32>, ModelError> {
        let ids = self.list(name, value)?.iter().map(|id| self.token(name, id));
        Ok(ids.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    fn sequences(&self, name: &str) -> Result<Vec<Vec<u32>>, ModelError> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let sequences = self.list(name, value)?.iter().map(|sequence| match self.ids(name, sequence)? {
            ids if ids.is_empty() => Err(self.fault(name, "sequences of token ids", sequence)),
            ids => Ok(ids),
        });
        sequences.collect()
    }

    /// The members of a table that are set to something else than what changes nothing.
    fn beyond(&self, table: &[(&str, &[&str])]) -> Vec<(String, Value)> {
        let set = |(name, harmless): &(&str, &[&str])| {
            let value = self.get(name)?;
            (!harmless.contains(&value.to_string().as_str())).then(|| ((*name).to_owned(), value.clone()))
        };
        table.iter().filter_map(set).collect()
    }
}
