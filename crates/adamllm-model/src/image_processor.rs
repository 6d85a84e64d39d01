//! The settings of a folder's image processor.

use std::path::{Path, PathBuf};

use adamllm_vision::preprocess::PreprocessError;
use serde_json::Value;

use crate::ModelError;
use crate::text::read_json;

const FILES: &[&str] = &["processor_config.json", "preprocessor_config.json"];

/// A setting that no folder can have.
pub(crate) fn invalid(path: &Path, error: PreprocessError) -> ModelError {
    match error {
        PreprocessError::Config { field, expected, got } => ModelError::config(path, field, expected, got),
        error => ModelError::config(path, "image processor", "settings of the model's family", error),
    }
}

/// Refuses a setting that the vision encoder contradicts.
pub(crate) fn agrees(path: &Path, field: &str, found: u32, encoder: usize) -> Result<(), ModelError> {
    if found as usize == encoder {
        return Ok(());
    }
    Err(ModelError::config(path, field, format!("the vision encoder's {encoder} (config.json)"), found))
}

/// The settings and the file that they come from: the member `image_processor` of `processor_config.json` (transformers 5), or
/// else `preprocessor_config.json` (2024), the order of transformers 5.23. Where a second file says something else, that is a
/// warning.
pub(crate) fn settings<T: PartialEq>(
    folder: &Path,
    parse: fn(&str) -> Result<T, PreprocessError>,
) -> Result<(PathBuf, T), ModelError> {
    let mut found: Vec<(PathBuf, Value)> = Vec::new();
    for name in FILES {
        let path = folder.join(name);
        let mut json = read_json(&path)?.unwrap_or(Value::Null);
        if *name == "processor_config.json" {
            json = json.get_mut("image_processor").map(Value::take).unwrap_or_default();
        }
        if !json.is_null() {
            found.push((path, json));
        }
    }
    let Some(((path, json), others)) = found.split_first() else {
        return Err(ModelError::FileMissing { folder: folder.into(), expected: FILES });
    };

    let taken = parse(&json.to_string()).map_err(|e| invalid(path, e))?;
    for (other, json) in others {
        if parse(&json.to_string()).ok().as_ref() != Some(&taken) {
            tracing::warn!(
                taken = %path.display(),
                passed_over = %other.display(),
                "the folder has two image processors that differ; the first is taken, as transformers does"
            );
        }
    }
    Ok((path.clone(), taken))
}
