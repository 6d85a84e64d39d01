use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::JsonObject;

/// The key that marks a value which JSON does not have. No tool writes it.
const UNREADABLE: &str = "\0";

/// Reads a record's text as Python's `json` does: see the [module](crate::json).
///
/// # Errors
/// What the text is instead of JSON.
pub fn parse(text: &[u8]) -> serde_json::Result<Value> {
    parsed(text, |text| serde_json::from_slice(text))
}

/// [`parse`] of an object. The inner `Err` shows what the text is instead.
///
/// # Errors
/// As [`parse`].
pub fn parse_object(text: &[u8]) -> serde_json::Result<Result<JsonObject, String>> {
    parse(text).map(|value| match value {
        Value::Object(object) => Ok(object),
        other => Err(shown(&other)),
    })
}

/// [`parse_object`] that keeps these columns only; the others are skipped without being stored.
///
/// # Errors
/// As [`parse`].
pub fn parse_columns(text: &[u8], columns: &[String]) -> serde_json::Result<Result<JsonObject, String>> {
    let object = parsed(text, |text| {
        let mut json = serde_json::Deserializer::from_slice(text);
        let object = WantedColumns(columns).deserialize(&mut json)?;
        json.end().map(|()| object)
    });
    match object {
        Ok(object) => Ok(Ok(object)),
        // Not an object, or not JSON.
        Err(_) => parse_object(text)
            .map(|object| object.map(|object| object.into_iter().filter(|(name, _)| columns.contains(name)).collect())),
    }
}

fn parsed<T>(text: &[u8], parse: impl Fn(&[u8]) -> serde_json::Result<T>) -> serde_json::Result<T> {
    match parse(text) {
        Ok(value) => Ok(value),
        Err(error) => {
            let Ok(text) = std::str::from_utf8(text).map_err(|error| error.valid_up_to()) else {
                let offset = std::str::from_utf8(text).map_or_else(|error| error.valid_up_to(), str::len);
                let cause =
                    format!("byte {offset} of the record is no UTF-8; the file may be in Latin-1 or another encoding");
                return Err(serde_json::Error::custom(cause));
            };
            match repaired(text) {
                Some(repaired) => parse(repaired.as_bytes()).map_err(|_| error),
                None if text.trim().is_empty() => Err(serde_json::Error::custom("no record between two commas")),
                None => Err(error),
            }
        }
    }
}

/// A value that JSON does not have, such as a NaN or a duration: it costs something only where somebody asks for it, because
/// it is neither text nor a number nor a list.
pub fn unreadable(what: impl Into<String>) -> Value {
    let mut marked = Map::new();
    marked.insert(UNREADABLE.into(), Value::String(what.into()));
    Value::Object(marked)
}

/// What an [`unreadable`] value is; `None` for all others.
pub fn unreadable_text(value: &Value) -> Option<&str> {
    value.as_object()?.get(UNREADABLE)?.as_str()
}

/// Whether a key's value counts as absent: no such key, or `null`.
pub fn is_absent(value: Option<&Value>) -> bool {
    value.is_none_or(Value::is_null)
}

/// An id as text: text as it is, whole numbers without a fraction (a table that had empty cells turns 7 into 7.0). `None`
/// for anything else, and for numbers that no longer are what the file said.
pub fn id_text(id: &Value) -> Option<String> {
    const EXACT: f64 = (1_u64 << 53) as f64;
    match id {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => match (id.is_f64(), id.as_f64()) {
            (false, _) => Some(id.to_string()),
            (true, Some(float)) if float.abs() > EXACT => None,
            (true, Some(float)) if float.fract() == 0.0 => Some(format!("{float:.0}").replace("-0", "0")),
            (true, _) => Some(id.to_string()),
        },
        _ => None,
    }
}

/// A value in an error message: short, whatever it is.
pub fn shown(value: &Value) -> String {
    let text = unreadable_text(value).map_or_else(|| value.to_string(), str::to_owned);
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The text with everything that Python's `json` reads and JSON has not put in other words; `None` where there is nothing
/// of the kind.
fn repaired(text: &str) -> Option<String> {
    let (mut out, mut rest, mut changed) = (String::with_capacity(text.len() + 16), text, false);
    while let Some(next) = rest.chars().next() {
        let (taken, said) = match next {
            '"' => string(rest),
            'N' | 'I' | '-' | '0'..='9' => number(rest),
            _ => (next.len_utf8(), None),
        };
        match said {
            Some(said) => (changed, out) = (true, out + &said),
            None => out.push_str(&rest[..taken]),
        }
        rest = &rest[taken..];
    }
    changed.then_some(out)
}

/// A number's length, and what to say instead where no float can hold it.
fn number(rest: &str) -> (usize, Option<String>) {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    let word = &rest[..length];
    let is_name = matches!(word, "NaN" | "Infinity" | "-Infinity");
    let is_too_large = || {
        word.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
            && !word.contains(['N', 'I', 'i', 'n'])
            && word.parse::<f64>().is_ok_and(f64::is_infinite)
    };
    (length, (is_name || is_too_large()).then(|| unreadable(word).to_string()))
}

/// A string's length with its quotes, and what to say instead where it holds half a surrogate pair.
fn string(rest: &str) -> (usize, Option<String>) {
    let bytes = rest.as_bytes();
    let (mut offset, mut said, mut kept) = (1, String::new(), 0);
    while offset < bytes.len() && bytes[offset] != b'"' {
        if bytes[offset] != b'\\' {
            offset += 1;
            continue;
        }

        let code = |offset: usize| match rest.get(offset..offset + 6) {
            Some(escape) if escape.starts_with("\\u") => u16::from_str_radix(&escape[2..], 16).ok(),
            _ => None,
        };

        // Two halves in the right order are one character. Half a pair alone is sound JSON to Python, but no character.
        match code(offset) {
            Some(0xD800..=0xDBFF) if matches!(code(offset + 6), Some(0xDC00..=0xDFFF)) => offset += 12,
            Some(0xD800..=0xDFFF) => {
                said.push_str(&rest[kept..offset]);
                said.push_str("\\ufffd");
                offset += 6;
                kept = offset;
            }

            // An escape with its backslash, so that `\"` does not end the string.
            _ => offset += 2,
        }
    }

    // Where the text breaks off, the offset may lie inside a character.
    let end = (offset + 1).min(rest.len());
    let end = (end..=rest.len()).find(|&end| rest.is_char_boundary(end)).unwrap_or(rest.len());

    if kept == 0 {
        return (end, None);
    }

    tracing::warn!("half a surrogate pair in a text is no character; it is read as U+FFFD");
    said.push_str(&rest[kept..end]);
    (end, Some(said))
}

/// Reads a JSON object and keeps these columns.
struct WantedColumns<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for WantedColumns<'_> {
    type Value = JsonObject;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<JsonObject, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WantedColumns<'_> {
    type Value = JsonObject;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonObject, A::Error> {
        let mut object = JsonObject::with_capacity(self.0.len());
        while let Some(wanted) = map.next_key_seed(WantedKey(self.0))? {
            match wanted {
                Some(column) => drop(object.insert(column.clone(), map.next_value()?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(object)
    }
}

/// Reads a key without storing it: the wanted column that it names.
struct WantedKey<'a>(&'a [String]);

impl<'de, 'a> DeserializeSeed<'de> for WantedKey<'a> {
    type Value = Option<&'a String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for WantedKey<'a> {
    type Value = Option<&'a String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a column's name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|column| *column == key))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_python_reads_and_json_has_not() {
        let value =
            parse(br#"{"a": NaN, "b": [-Infinity, 1e999, "NaN"], "c": "\ud83d ok \ud83d\ude00 \\ud83d", "a": 2}"#);
        let value = value.expect("reads");
        assert_eq!(value["a"], 2, "the last value of a key");
        let shown: Vec<_> = value["b"].as_array().expect("a list").iter().map(shown).collect();
        assert_eq!(shown, ["-Infinity", "1e999", "\"NaN\""]);
        assert_eq!(value["c"], "\u{FFFD} ok \u{1F600} \\ud83d");
        assert_eq!(unreadable_text(&parse(b"NaN").expect("reads")), Some("NaN"));
        for wrong in ["{\"a\": Nan}", "{\"a\": NaN", "{\"a\": nan}", "[1e999 2]", "", "{\"a\": \"\\", "\"\\u12"] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(parse(b"{\"a\": \"\xE9\"}").expect_err("Latin-1").to_string().contains("Latin-1"));
    }

    #[test]
    fn skipped_columns_are_checked_but_not_kept() {
        let columns = ["a".to_owned(), "c".to_owned()];
        let columns_of = |text: &str| parse_columns(text.as_bytes(), &columns).map(|object| object.map(Value::Object));
        let kept = columns_of(r#"{"a": [1], "b": {"a": NaN}, "\u0063": "x"}"#).expect("JSON");
        assert_eq!(kept, Ok(json!({"a": [1], "c": "x"})));
        assert!(columns_of(r#"{"a": 1, "b": }"#).is_err() && columns_of(r#"{"a": 1} 2"#).is_err());
        assert_eq!(columns_of("3").expect("JSON"), Err("3".to_owned()));
    }

    #[test]
    fn ids_are_what_the_file_says() {
        let id = |text: &str| id_text(&parse(text.as_bytes()).expect("JSON"));
        for (text, expected) in [
            ("7", "7"),
            ("7.0", "7"),
            ("\"7\"", "7"),
            ("-0.0", "0"),
            ("1.5", "1.5"),
            ("-9007199254740992.0", "-9007199254740992"),
            ("18446744073709551615", "18446744073709551615"),
        ] {
            assert_eq!(id(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(
            id("[7]").or(id("NaN")).or(id("null")).or(id("123456789012345678901")).or(id("9007199254740994.0")),
            None
        );
    }
    #[test]
    fn unwanted_columns_are_passed_over_while_reading() {
        let columns = ["b".to_owned()];
        let mut json = serde_json::Deserializer::from_slice(br#"{"a": {"b": 1}, "b": 2, "c": [3]}"#);
        let object = WantedColumns(&columns).deserialize(&mut json).expect("an object");
        assert_eq!(Value::Object(object), json!({"b": 2}));
    }

    #[test]
    fn a_value_in_a_message_is_short() {
        assert_eq!(shown(&json!("x".repeat(78))), format!("\"{}\"", "x".repeat(78)));
        assert_eq!(shown(&json!("x".repeat(79))), format!("\"{}...", "x".repeat(79)));
        assert_eq!((shown(&unreadable("NaN")), unreadable_text(&json!({"a": 1}))), ("NaN".to_owned(), None));
        assert!(is_absent(None) && is_absent(Some(&Value::Null)) && !is_absent(Some(&json!(0))));
    }
}
