//! Model folders by what a person writes for them.

use std::path::Path;

use adamllm::prelude::*;

use crate::cli::Answer;

/// A model folder on disk, or with the feature `hub` a model of the Hugging Face Hub by `org/name[@revision]`, which is
/// downloaded into Python's cache. A PEFT adapter's folder is opened with the base model that it names; `MODEL+ADAPTER` names
/// both.
///
/// # Errors
/// Says what was looked for where there is no such folder.
pub fn model_folder(name: &str) -> Answer<ModelFolder> {
    let path = Path::new(name);
    if let Some((base, adapter)) = name.split_once('+').filter(|_| !path.exists()) {
        return Ok(model_folder(base)?.with_adapter(adapter)?);
    }
    if path.is_dir() {
        #[cfg(feature = "hub")]
        if !path.join("config.json").exists() && path.join("adapter_config.json").exists() {
            let base = ModelFolder::base_of_adapter(path)?.unwrap_or_default();
            if !Path::new(&base).exists()
                && !path.join(&base).exists()
                && base.parse::<adamllm::data::hub::HubRepo>().is_ok()
            {
                return Ok(model_folder(&base)?.with_adapter(path)?);
            }
        }
        return Ok(ModelFolder::open(path)?);
    }
    let wanted = "give a folder with config.json, tokenizer.json and *.safetensors";
    #[cfg(feature = "hub")]
    if let Ok(repo) = name.parse::<adamllm::data::hub::HubRepo>() {
        return Ok(ModelFolder::open(crate::hub::download(&repo, &adamllm::data::hub::Selection::Model)?)?);
    }
    let hint =
        if cfg!(feature = "hub") { "or a Hub id (org/name)" } else { "or build with `--features hub` for a Hub id" };
    Err(format!("no model folder {name}: {wanted}, {hint}").into())
}
