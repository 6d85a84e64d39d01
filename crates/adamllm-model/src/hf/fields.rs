//! Fields of `config.json`: read with the class's defaults, under any of their names, checked before use.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use adamllm_core::json::shown;
use serde_json::{Map, Value};

use crate::ModelError;

/// The largest width, count or size that a field may have: products of three stay far from overflowing.
pub(crate) const MOST: usize = 1 << 20;

/// One section of `config.json` (the root, `text_config` or `vision_config`).
///
/// A field that the file leaves out has the default of its configuration class in transformers: `save_pretrained` writes
/// only what differs from it. Every field that was read is noted, so that [`Fields::finish`] finds those that were not.
#[derive(Debug)]
pub struct Fields<'a> {
    path: &'a Path,
    /// The section's name, empty for the root.
    section: &'static str,
    given: &'a Map<String, Value>,
    defaults: &'static Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Fields<'a> {
    /// A section of a file, and the defaults of its configuration class.
    pub fn new(
        path: &'a Path,
        section: &'static str,
        given: &'a Map<String, Value>,
        defaults: &'static Map<String, Value>,
    ) -> Self {
        Self { path, section, given, defaults, read: RefCell::default() }
    }

    /// The configuration file.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// A fault of one field.
    pub fn fault(&self, field: &str, expected: impl Into<String>, got: impl ToString) -> ModelError {
        ModelError::config(self.path, self.full(field), expected, got)
    }

    fn full(&self, field: &str) -> String {
        if self.section.is_empty() { field.to_owned() } else { format!("{}.{field}", self.section) }
    }

    /// The value of a field that goes by one of several names: the file's, else the class's default. Names that stand side
    /// by side must agree; null says nothing. `None` where neither has a value.
    ///
    /// # Errors
    /// [`ModelError::ConfigField`] for names that disagree.
    pub fn value(&self, names: &[&str]) -> Result<Option<&'a Value>, ModelError> {
        self.read.borrow_mut().extend(names.iter().map(|&name| name.to_owned()));
        let mut found: Option<(&str, &Value)> = None;
        for &name in names {
            match (found, self.given.get(name).filter(|value| !value.is_null())) {
                (Some((first, value)), Some(other)) if !same(value, other) => {
                    let expected = format!("the same as `{}` beside it, {value}", self.full(first));
                    return Err(self.fault(name, expected, other));
                }
                (None, Some(value)) => found = Some((name, value)),
                _ => {}
            }
        }
        let value = found.map(|(_, value)| value).or_else(|| names.iter().find_map(|&name| self.defaults.get(name)));
        Ok(value.filter(|value| !value.is_null()))
    }

    /// Whether the file itself has a value for the field, other than null.
    pub fn has(&self, name: &str) -> bool {
        self.given.get(name).is_some_and(|value| !value.is_null())
    }

    /// A whole number in a range, or nothing.
    ///
    /// # Errors
    /// [`ModelError::ConfigField`] for a value out of the range.
    pub fn optional_count(&self, names: &[&str], range: RangeInclusive<usize>) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.value(names)? else { return Ok(None) };
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        let number = whole(value).ok_or_else(|| self.fault(names[0], expected(), shown(value)))?;
        if range.contains(&number) { Ok(Some(number)) } else { Err(self.fault(names[0], expected(), number)) }
    }

    /// A whole number in a range.
    ///
    /// # Errors
    /// [`ModelError::ConfigField`] for a value that is missing or out of the range.
    pub fn count(&self, names: &[&str], range: RangeInclusive<usize>) -> Result<usize, ModelError> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.optional_count(names, range)?.ok_or_else(|| self.fault(names[0], expected, "nothing"))
    }

    /// A positive whole number that is no wider than any model's.
    ///
    /// # Errors
    /// [`ModelError::ConfigField`] for a value that is missing or out of the range.
    pub fn size(&self, name: &str) -> Result<usize, ModelError> {
        self.count(&[name], 1..=MOST)
    }

    /// A list of whole numbers below a limit.
    ///
    /// # Errors
    /// [`ModelError::ConfigField`] for what is no such list.
    pub fn counts(&self, name: &str, below: usize) -> Result<Vec<usize>, ModelError> {
        let Some(value) = self.value(&[name])? else { return Ok(Vec::new()) };
        let expected = || format!("a list of whole numbers below {below}");
        let list = value.as_array().ok_or_else(|| self.fault(name, expected(), shown(value)))?;
        let number = |value: &Value| {
            whole(value).filter(|&n| n < below).ok_or_else(|| self.fault(name, expected(), shown(value)))
        };
        list.iter().map(number).collect()
    }

    /// Whether the file says null, which for some fields is another thing than to leave them out.
    pub fn is_null(&self, name: &str) -> bool {
        self.given.get(name).is_some_and(Value::is_null)
    }

    /// A finite number that is not negative.
    ///
    /// # Errors
    /// [`ModelError::ConfigField`] for what is no such number.
    pub fn not_negative(&self, name: &str) -> Result<f64, ModelError> {
        let value = self.value(&[name])?;
        let number = value.and_then(Value::as_f64).filter(|n| n.is_finite() && *n >= 0.0);
        number.ok_or_else(|| self.fault(name, "a number of at least 0", value.map_or("nothing".into(), shown)))
    }

    /// A finite number above zero.
    ///
    /// # Errors
    /// [`ModelError::ConfigField`] for what is no such number.
    pub fn positive(&self, name: &str) -> Result<f64, ModelError> {
        let value = self.value(&[name])?;
        let number = value.and_then(Value::as_f64).filter(|n| n.is_finite() && *n > 0.0);
        number.ok_or_else(|| self.fault(name, "a number above 0", value.map_or("nothing".into(), shown)))
    }

    /// A flag; false where neither the file nor the class says.
    ///
    /// # Errors
    /// [`ModelError::ConfigField`] for what is no flag.
    pub fn flag(&self, name: &str) -> Result<bool, ModelError> {
        match self.value(&[name])? {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.fault(name, "true or false", shown(other))),
        }
    }

    /// A word.
    ///
    /// # Errors
    /// [`ModelError::ConfigField`] for what is no word.
    pub fn word(&self, name: &str) -> Result<Option<&'a str>, ModelError> {
        match self.value(&[name])? {
            None => Ok(None),
            Some(Value::String(word)) => Ok(Some(word)),
            Some(other) => Err(self.fault(name, "a word", shown(other))),
        }
    }

    /// A field that is supported with one value only.
    ///
    /// # Errors
    /// [`ModelError::ConfigField`] for any other value.
    pub fn only(&self, name: &str, wanted: Value) -> Result<(), ModelError> {
        match self.value(&[name])? {
            Some(value) if !same(value, &wanted) => {
                Err(self.fault(name, format!("{wanted}: nothing else is supported"), shown(value)))
            }
            _ => Ok(()),
        }
    }

    /// Refuses every field that could change what the model computes and that nobody read: one that the class knows, that
    /// is not in `without_effect`, and that has another value than the class's default. What the class does not know has no
    /// effect in transformers either.
    ///
    /// # Errors
    /// [`ModelError::ConfigField`] for a field that nobody read.
    pub fn finish(self, without_effect: &[&str]) -> Result<(), ModelError> {
        let read = self.read.borrow();
        for (name, value) in self.given {
            let known = self.defaults.get(name);
            let passed = read.contains(name)
                || WITHOUT_EFFECT.contains(&name.as_str())
                || without_effect.contains(&name.as_str())
                || value.is_null()
                || known.is_none_or(|default| same(default, value));
            if !passed {
                let expected =
                    format!("{}, the default: the field changes what the model computes", shown(known.expect("known")));
                return Err(self.fault(name, expected, shown(value)));
            }
        }
        Ok(())
    }
}

/// Fields that say nothing about a forward pass: bookkeeping, initial weights, token ids that other files decide on,
/// losses that are not used. Dropout rates act in training alone, and every published checkpoint has them at zero.
const WITHOUT_EFFECT: &[&str] = &[
    "_name_or_path",
    "architectures",
    "model_type",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "use_cache",
    "initializer_range",
    "initializer_factor",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "sep_token_id",
    "decoder_start_token_id",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "task_specific_params",
    "tokenizer_class",
    "prefix",
    "attention_dropout",
    "dropout",
    "pretraining_tp",
    "chunk_size_feed_forward",
    "torchscript",
    "use_bfloat16",
    "is_encoder_decoder",
    "name_or_path",
    "base_config_key",
    "sub_configs",
    "max_position_embeddings",
    "vision_start_token_id",
    "vision_end_token_id",
    "vision_token_id",
    "video_token_id",
    "image_token_id",
    "image_token_index",
    "image_seq_length",
    "text_config",
    "vision_config",
    "projection_dim",
    "logit_scale_init_value",
    "ignore_index",
];

/// Numbers are the same whichever way they are written.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// A number without a fraction, also one that is written `4.0`.
fn whole(value: &Value) -> Option<usize> {
    let float = || value.as_f64().filter(|f| f.fract() == 0.0 && (0.0..=MOST as f64).contains(f)).map(|f| f as u64);
    usize::try_from(value.as_u64().or_else(float)?).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use serde_json::json;

    use super::*;

    static DEFAULTS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
        let json = json!({"depth": 32, "in_channels": 3, "eps": 1e-6, "rate": 1.0, "use_cache": true, "act": "gelu"});
        json.as_object().expect("an object").clone()
    });

    fn with<T>(json: Value, read: impl Fn(&Fields) -> Result<T, ModelError>) -> Result<T, String> {
        let given = json.as_object().expect("an object").clone();
        read(&Fields::new(Path::new("config.json"), "vision_config", &given, &DEFAULTS)).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_left_out_has_the_default_of_its_class() {
        assert_eq!(with(json!({}), |f| f.size("depth")), Ok(32));
        assert_eq!(with(json!({"depth": 4.0}), |f| f.size("depth")), Ok(4));
        assert_eq!(with(json!({}), |f| f.word("act").map(|w| w == Some("gelu"))), Ok(true));
    }

    #[test]
    fn two_names_of_one_field_must_agree() {
        let names = ["in_channels", "in_chans"];
        let read = |json| with(json, |f| f.count(&names, 1..=16));
        assert_eq!(read(json!({"in_channels": 3, "in_chans": 3})), Ok(3));
        assert_eq!(read(json!({"in_chans": 4})), Ok(4));
        let error = read(json!({"in_channels": 3, "in_chans": 4})).expect_err("unequal");
        assert!(error.contains("in_channels") && error.contains("in_chans"), "{error}");
    }

    #[test]
    fn numbers_out_of_reason_are_refused() {
        for depth in [json!(0), json!(-1), json!(1e30), json!(1_000_000_000), json!("4"), json!(4.5), json!([4])] {
            let error = with(json!({"depth": depth}), |f| f.size("depth")).expect_err("out of range");
            assert!(error.contains("vision_config.depth"), "{error}");
        }
        assert!(with(json!({"eps": 0}), |f| f.positive("eps")).is_err());
    }

    #[test]
    fn a_field_that_nobody_read_must_have_its_default() {
        let finish = |json: Value| {
            let given = json.as_object().expect("an object").clone();
            Fields::new(Path::new("config.json"), "", &given, &DEFAULTS).finish(&["eps"]).map_err(|e| e.to_string())
        };
        assert_eq!(finish(json!({"rate": 1, "use_cache": false, "eps": 3, "made_up": 7})), Ok(()));
        let error = finish(json!({"rate": 2.0})).expect_err("not read");
        assert!(error.contains("rate") && error.contains("1.0"), "{error}");
    }
}
