//! What a field of `config.json` means where the file leaves it out: the default of its configuration class in transformers.
//!
//! `defaults.json` is written by `tools/fixtures/make_defaults.py` from the classes themselves.

use std::sync::LazyLock;

use serde_json::{Map, Value};

static DEFAULTS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("defaults.json")).expect("written by a JSON library"));

static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

/// The defaults of one section (`config`, `text_config`, `vision_config`) of a family, and of the fields that follow from
/// others, as null.
pub(crate) fn of(family: &str, section: &str) -> &'static Map<String, Value> {
    SECTIONS.get(&format!("{family}.{section}")).and_then(Value::as_object).unwrap_or(&EMPTY)
}

/// What `vision_config` holds where the file has none at all.
pub(crate) fn absent(family: &str, section: &str) -> &'static Map<String, Value> {
    DEFAULTS[family]["absent"][section].as_object().unwrap_or(&EMPTY)
}

/// By `family.section`: the defaults, with the derived fields beside them.
static SECTIONS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let mut sections = Map::new();
    let families = DEFAULTS.as_object().expect("an object of families");
    for (family, parts) in families.iter().filter(|(_, parts)| parts.get("config").is_some()) {
        for section in ["config", "text_config", "vision_config"] {
            let Some(fields) = parts.get(section).and_then(Value::as_object) else { continue };
            let mut fields = fields.clone();
            let derived = parts["derived"].get(section).and_then(Value::as_object);
            for name in derived.into_iter().flat_map(Map::keys) {
                fields.entry(name.clone()).or_insert(Value::Null);
            }
            sections.insert(format!("{family}.{section}"), Value::Object(fields));
        }
    }
    sections
});
