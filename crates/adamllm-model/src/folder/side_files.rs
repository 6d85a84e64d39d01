//! The files beside the weights that belong to a model folder and go along when it is exported.

use std::path::{Path, PathBuf};

use adamllm_core::CoreError;

use super::{ModelFolder, entries_of, files_of};
use crate::ModelError;

/// Files that a model is read with, by name. What else stands in a folder (optimizer states, pickled weights, an old
/// adapter, logs, the base's own model card) says nothing true of the exported model.
const NAMES: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "image_processor_config.json",
    "chat_template.json",
    "chat_template.jinja",
];

/// Licences go along under whatever ending they have.
const LICENCES: &[&str] = &["LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "COPYING"];

/// The folder of further named templates.
const TEMPLATES: &str = "additional_chat_templates";

impl ModelFolder {
    /// The side files of this folder, relative to it, sorted, `config.json` last. Some families
    /// keep the encoder's configuration in a folder of its own.
    pub(crate) fn side_files(&self) -> Result<Vec<PathBuf>, ModelError> {
        let mut found = Vec::new();

        for path in files_of(&self.path)? {
            let name = name_of(&path);
            let licence = LICENCES.iter().any(|start| name.to_ascii_uppercase().starts_with(start));
            if NAMES.contains(&name.as_str()) || licence {
                found.push(PathBuf::from(name));
            }
        }

        let encoder_folder = self.config.vision.as_ref().is_some_and(|vision| vision.has_encoder_folder());
        for folder in entries_of(&self.path)?.into_iter().filter(|path| path.is_dir()) {
            let folder_name = PathBuf::from(name_of(&folder));
            for file in files_of(&folder)? {
                let name = name_of(&file);
                let encoder = encoder_folder && name == "config.json";
                if encoder || (folder_name.as_os_str() == TEMPLATES && name.ends_with(".jinja")) {
                    found.push(folder_name.join(name));
                }
            }
        }

        // Files are copied in this order: a folder without a configuration is no whole model.
        found.sort_by_key(|path| (path.as_os_str() == "config.json", path.clone()));
        Ok(found)
    }

    /// Copies the side files byte for byte, `config.json` last.
    pub(super) fn copy_side_files(&self, to: &Path) -> Result<(), ModelError> {
        for name in self.side_files()? {
            let (from, target) = (self.path.join(&name), to.join(&name));
            if let Some(folder) = target.parent() {
                std::fs::create_dir_all(folder).map_err(CoreError::io("create", folder))?;
            }
            let content = std::fs::read(&from).map_err(CoreError::io("read", &from))?;
            adamllm_core::write_atomically(target, content)?;
        }
        Ok(())
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
