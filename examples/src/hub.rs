//! Models and data sets of the Hugging Face Hub, by the variables that Python's `huggingface_hub` reads.

use std::path::PathBuf;

use crate::cli::Bar;

/// The cached folder of a repository, with what is selected in it. Where the Hub is and how it is asked stands in the
/// variables that Python's `huggingface_hub` reads: `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`,
/// and `HTTPS_PROXY`.
///
/// # Errors
/// What the Hub said.
pub fn download(
    repo: &adamllm::data::hub::HubRepo,
    selection: &adamllm::data::hub::Selection,
) -> Result<PathBuf, Box<dyn std::error::Error>> {
    use adamllm::data::hub::{Hub, HubConfig};
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let home = variable("HF_HOME").map(PathBuf::from);
    let home =
        home.or_else(|| Some(std::env::home_dir()?.join(".cache/huggingface"))).ok_or("no home folder; set HF_HOME")?;
    let token = variable("HF_TOKEN").or_else(|| std::fs::read_to_string(home.join("token")).ok());
    let offline = variable("HF_HUB_OFFLINE").is_some_and(|value| value != "0");
    let cache = variable("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from);
    let standard = HubConfig::new(cache);
    let config = HubConfig {
        endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| standard.endpoint.clone()),
        token: token.map(|token| token.trim().to_owned().into()),
        proxy: variable("HTTPS_PROXY").or_else(|| variable("https_proxy")),
        offline,
        ..standard
    };
    Ok(Hub::new(config)?.download(repo, selection, &mut Bar::default())?)
}
