//! Which of a folder's files the chat template comes from.
//!
//! | a folder for images (transformers' processor) | a text folder (transformers' tokenizer) |
//! |---|---|
//! | `chat_template` in `processor_config.json` | `chat_template.jinja` |
//! | `chat_template.json` | `additional_chat_templates/*.jinja` |
//! | `chat_template.jinja` | `chat_template` in `tokenizer_config.json` |
//! | `additional_chat_templates/*.jinja` | |
//! | (LLaVA's first layout: the built-in template) | |
//! | `chat_template` in `tokenizer_config.json` | |
//!
//! The first that is there counts, as in transformers 5.23. transformers' processors never read the last line of the left
//! column; folders that have a template there only are read all the same, since their answer would else be an error. The
//! files of the right column that transformers' tokenizers never read (`chat_template.json`, `processor_config.json`) are
//! not read for text folders. Among several named templates, `default` counts.

use std::path::{Path, PathBuf};

use adamllm_core::CoreError;
use serde_json::Value as Json;

use crate::ModelError;
use crate::text::read_json;

const ADDITIONAL: &str = "additional_chat_templates";

/// A template and where it was found.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    text: String,
}

/// The folder's template; `None` where it has none. `builtin` is for folders of LLaVA's first layout.
pub(super) fn find(
    folder: &Path,
    tokenizer_config: &Json,
    processor: bool,
    builtin: Option<&str>,
) -> Result<Option<String>, ModelError> {
    let mut found: Vec<Found> = Vec::new();
    let mut push = |path: PathBuf, value: &Json| -> Result<(), ModelError> {
        found.extend(template(&path, value)?.map(|text| Found { path, text }));
        Ok(())
    };
    if processor {
        for name in ["processor_config.json", "chat_template.json"] {
            let path = folder.join(name);
            if let Some(json) = read_json(&path)? {
                push(path, &json["chat_template"])?;
            }
        }
    }
    if let Some(files) = files(folder)? {
        push(folder.join("chat_template.jinja"), &files)?;
    }
    if let Some(builtin) = builtin {
        push(folder.join("(built-in)"), &builtin.into())?;
    }
    push(folder.join("tokenizer_config.json"), &tokenizer_config["chat_template"])?;

    warn_of_others(&found, builtin.is_some());
    Ok(found.into_iter().next().map(|found| found.text))
}

/// `chat_template.jinja` and the folder of further ones, as named templates; `None` where there are neither.
fn files(folder: &Path) -> Result<Option<Json>, ModelError> {
    let mut named = serde_json::Map::new();

    let mut read = |name: &str, path: &Path| -> Result<(), ModelError> {
        let text = std::fs::read_to_string(path).map_err(CoreError::io("read", path))?;
        named.insert(name.to_owned(), python_lines(text).into());
        Ok(())
    };

    let further = folder.join(ADDITIONAL);
    if further.is_dir() {
        for entry in std::fs::read_dir(&further).map_err(CoreError::io("list", &further))? {
            let path = entry.map_err(CoreError::io("list", &further))?.path();
            let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
            if let Some(name) = name.filter(|_| path.extension().is_some_and(|end| end == "jinja")) {
                read(&name, &path)?;
            }
        }
    }

    // Last, so that it counts where the folder of further ones has a `default` too.
    let main = folder.join("chat_template.jinja");
    if main.exists() {
        read("default", &main)?;
    }

    Ok(if named.is_empty() { None } else { Some(Json::Object(named)) })
}

/// As Python reads a text file: every line ends with one line feed.
fn python_lines(text: String) -> String {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text }
}

/// One template, or the one called `default` among several: a list of objects with names, or an object by name.
fn template(path: &Path, value: &Json) -> Result<Option<String>, ModelError> {
    let names: Vec<&str> = match value {
        Json::Null => return Ok(None),
        Json::String(text) => return Ok(Some(text.clone())),
        Json::Array(named) => {
            // The last of a name counts, as in the mapping that transformers makes of the list.
            let default = named.iter().rfind(|entry| entry["name"] == "default");
            if let Some(text) = default.and_then(|entry| entry["template"].as_str()) {
                return Ok(Some(text.to_owned()));
            }
            named.iter().filter_map(|entry| entry["name"].as_str()).collect()
        }

        Json::Object(named) => {
            if let Some(text) = named.get("default").and_then(Json::as_str) {
                return Ok(Some(text.to_owned()));
            }
            named.keys().map(String::as_str).collect()
        }
        _ => Vec::new(),
    };

    let got =
        if names.is_empty() { "neither a text nor named templates".to_owned() } else { format!("only {names:?}") };
    Err(ModelError::config(path, "chat_template", "a template, or one named \"default\" among several", got))
}

/// Two templates that differ are two ways to write the same conversation: which one counts is said.
fn warn_of_others(found: &[Found], first_layout: bool) {
    // The template of LLaVA's first layout knows no images, and is always another one.
    let Some((taken, others)) = found.split_first().filter(|_| !first_layout) else { return };
    for other in others.iter().filter(|other| other.text != taken.text) {
        tracing::warn!(
            taken = %taken.path.display(),
            passed_over = %other.path.display(),
            "the folder has two chat templates that differ; the first is taken, as transformers does"
        );
    }
}
