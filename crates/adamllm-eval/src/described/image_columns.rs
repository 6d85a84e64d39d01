//! Where a benchmark's images stand, by what their columns are called.

use adamllm_core::{JsonObject, has_image_ending};
use serde_json::Value;

use super::{DescribedBenchmark, ImageUse};
use crate::EvalError;

/// What public data sets call the column, the likeliest first.
const KNOWN: [&str; 27] = [
    "image",
    "images",
    "img",
    "imgs",
    "image_path",
    "image_paths",
    "img_path",
    "img_paths",
    "image_file",
    "image_files",
    "img_file",
    "image_name",
    "image_names",
    "img_name",
    "image_filename",
    "img_filename",
    "file_name",
    "filename",
    "image_id",
    "img_id",
    "picture",
    "pictures",
    "photo",
    "pic",
    "figure",
    "figure_path",
    "jpg",
];

impl DescribedBenchmark {
    /// The column that holds images: the description's, else the first known one in the first record that has an image.
    pub(super) fn image_column(&self) -> Option<&str> {
        let find = || match (&self.description.columns.image, self.description.image_use) {
            (_, ImageUse::None) => None,
            (Some(column), _) => Some(column.clone()),
            (None, _) => self.readable_records().find_map(|(_, record)| known_column(&record).map(str::to_owned)),
        };
        self.image_column.get_or_init(find).as_deref()
    }

    fn readable_records(&self) -> impl Iterator<Item = (usize, std::borrow::Cow<'_, JsonObject>)> {
        (0..self.records.len()).filter_map(|index| Some((index, self.records.record(index).ok()?)))
    }

    /// Refuses a benchmark of which no record shows an image.
    pub(super) fn refuse_without_images(&self) -> Result<(), EvalError> {
        if self.description.image_use != ImageUse::Every {
            return Ok(());
        }
        let column = self.image_column();
        if column.is_some_and(|column| {
            self.readable_records().any(|(_, record)| record.get(column).is_some_and(shows_something))
        }) {
            return Ok(());
        }
        let Some((index, record)) = self.readable_records().next() else { return Ok(()) };
        Err(EvalError::NoImages {
            location: self.records.location(index),
            benchmark: self.description.name.clone(),
            column: self.looked_at(),
            hint: hint(&record, column),
            got: record.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// What is wrong with a record that shows no image.
    pub(super) fn no_image(&self, index: usize) -> Result<EvalError, EvalError> {
        let record = self.records.record(index)?;
        let hint = hint(&record, self.image_column());
        Ok(EvalError::NoImage { location: self.records.location(index), column: self.looked_at(), hint })
    }

    fn looked_at(&self) -> String {
        match self.image_column() {
            Some(column) => format!("`{column}`"),
            None => format!("any column with a known name ({}, ...)", KNOWN[..6].join(", ")),
        }
    }
}

fn known_column(record: &JsonObject) -> Option<&'static str> {
    KNOWN.into_iter().find(|column| record.get(*column).is_some_and(shows_something))
}

/// Whether a value can name an image.
fn shows_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => false,
        Value::String(text) => !text.trim().is_empty(),
        Value::Number(_) => true,
        Value::Array(items) => items.iter().any(shows_something),
        Value::Object(members) => ["path", "bytes"].iter().any(|key| members.get(*key).is_some_and(shows_something)),
    }
}

/// The columns that look as if they held images, as a question.
fn hint(record: &JsonObject, column: Option<&str>) -> String {
    let similar = |name: &str| {
        let misspelt = column.is_some_and(|column| strsim::damerau_levenshtein(column, name) <= 2);
        misspelt || KNOWN.contains(&name.to_ascii_lowercase().as_str())
    };
    let looks = |(name, value): (&String, &Value)| similar(name) && shows_something(value) || names_image(value);
    let found: Vec<String> = record
        .iter()
        .filter(|(name, _)| column != Some(name.as_str()))
        .filter(|&member| looks(member))
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    if found.is_empty() { String::new() } else { format!("; did you mean {}?", found.join(" or ")) }
}

/// Whether a value ends like an image file's name.
fn names_image(value: &Value) -> bool {
    match value {
        Value::String(text) => has_image_ending(text),
        Value::Array(items) => items.iter().any(names_image),
        Value::Object(members) => members.get("path").is_some_and(names_image),
        _ => false,
    }
}
