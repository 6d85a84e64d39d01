//! The cards beside what a job wrote: `README.md` with the front matter that the Hugging Face Hub and its libraries read.
//!
//! [`write_dataset_card`] makes a folder of synthesized data one that `datasets.load_dataset(FOLDER)` reads, [`write_croissant`] one that readers of
//! Croissant do. [`write_model_card`] says of
//! an exported model what it was made of, and what it scored. A card names files by their last path element: a folder that is
//! passed on tells nothing of the machine that it was made on.

use std::path::Path;

use serde_json::{Map, Value};

mod croissant;
mod dataset;
mod model;

pub use croissant::{CROISSANT, write_croissant};
pub use dataset::{DatasetCard, write_dataset_card};
pub(crate) use model::training_settings;
pub use model::{CardScore, ModelCard, write_model_card};

/// The card's file.
const CARD: &str = "README.md";

/// A card's text: its front matter, then Markdown.
fn card(front_matter: &Map<String, Value>, body: &str) -> String {
    let mut text = String::from("---\n");
    block(front_matter, 0, &mut text);
    text + "---\n\n" + body
}

/// A mapping in YAML's block style. Keys are ours, and plain; texts are written as JSON writes them, which is YAML.
fn block(mapping: &Map<String, Value>, depth: usize, text: &mut String) {
    for (i, (key, value)) in mapping.iter().enumerate() {
        // The first key of a list's item stands behind its dash.
        let indent = if i == 0 && text.ends_with("- ") { String::new() } else { "  ".repeat(depth) };
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push_str(&format!("{indent}{key}:\n"));
                block(inner, depth + 1, text);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push_str(&format!("{indent}{key}:\n"));
                for item in items {
                    text.push_str(&format!("{}- ", "  ".repeat(depth)));
                    match item {
                        Value::Object(inner) if !inner.is_empty() => block(inner, depth + 1, text),
                        other => text.push_str(&format!("{other}\n")),
                    }
                }
            }
            other => text.push_str(&format!("{indent}{key}: {other}\n")),
        }
    }
}

/// A table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A table of two columns; nothing where it has no entry.
fn table(head: [&str; 2], entries: &[(String, String)]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let entries: String =
        entries.iter().map(|(name, value)| format!("| {} | {} |\n", cell(name), cell(value))).collect();
    format!("| {} | {} |\n|---|---|\n{entries}\n", head[0], head[1])
}

/// The last path element.
pub(crate) fn last_element(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
