//! Models and data sets from the Hugging Face Hub, in the cache that Python's `huggingface_hub` keeps.
//!
//! The reasons why this is not a dependency: a download that stops in the middle goes on where it stopped, every file's
//! checksum is compared, nothing is read from the environment, and plain blocking HTTP needs a tenth of the code.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adamllm_core::Progress;

use cache::RepoCache;
use client::Client;

mod cache;
mod checksum;
mod client;
mod error;
mod repo;
mod selection;

pub use error::HubError;
pub use repo::{HubRepo, RepoKind};
pub use selection::Selection;

/// Where the Hub is, and how it is asked. The caller fills it from the environment (`HF_HOME`, `HF_TOKEN`, `HF_ENDPOINT`,
/// `HF_HUB_OFFLINE`) or from a config file: this crate reads neither.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// The cache's folder: `HF_HUB_CACHE`, else `$HF_HOME/hub`, else `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// Where the Hub or a mirror of it answers.
    pub endpoint: String,
    /// For private and gated repositories. Sent to the endpoint only, never to where it redirects.
    pub token: Option<Token>,
    /// A proxy's URL.
    pub proxy: Option<String>,
    /// Uses what the cache holds and opens no connection.
    pub offline: bool,
    /// How often one file is asked for before its failure is an error.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles from attempt to attempt, up to a minute, and is cut to a random 50 to 100 %.
    pub pause: Duration,
    /// How long a server may take to answer at all.
    pub silence: Duration,
}

impl HubConfig {
    /// The public Hub, with the given cache folder.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            cache: cache.into(),
            endpoint: "https://huggingface.co".into(),
            token: None,
            proxy: None,
            offline: false,
            attempts: 5,
            pause: Duration::from_millis(500),
            silence: Duration::from_secs(30),
        }
    }
}

/// An access token; it is not shown where its owner is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl<T: Into<String>> From<T> for Token {
    fn from(token: T) -> Self {
        Self(token.into())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(...)")
    }
}

/// A Hub and a cache of it.
#[derive(Debug)]
pub struct Hub {
    config: HubConfig,
    client: Client,
}

impl Hub {
    /// Prepares downloads; nothing is asked yet.
    ///
    /// # Errors
    /// [`HubError::BadProxy`].
    pub fn new(config: HubConfig) -> Result<Self, HubError> {
        Ok(Self { client: Client::new(&config)?, config })
    }

    /// The folder of one revision with the selected files in it: downloads what is missing, no more.
    ///
    /// Progress is counted in bytes. Where the Hub cannot be reached and the cache holds the selection already, the
    /// cached folder is returned, with a warning in the log.
    ///
    /// # Errors
    /// [`HubError`].
    pub fn download(
        &self,
        repo: &HubRepo,
        selection: &Selection,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, HubError> {
        let cache = RepoCache::new(&self.config.cache, repo);
        if self.config.offline {
            return cache.complete_snapshot(repo, selection);
        }

        // Only a Hub that cannot be reached is replaced by the cache: one that refuses has something to say.
        let revision = match self.client.revision(repo) {
            Ok(revision) => revision,
            Err(error @ HubError::Connection { .. }) => {
                let Ok(folder) = cache.complete_snapshot(repo, selection) else { return Err(error) };
                tracing::warn!(%repo, %error, folder = %folder.display(), "the Hub cannot be reached, using the cache");
                return Ok(folder);
            }
            Err(error) => return Err(error),
        };

        let files = selection.choose(repo, &revision.files)?;
        let missing: Vec<_> = files.into_iter().filter(|file| !cache.has(&revision.commit, &file.path)).collect();
        progress.begin(&format!("download {repo}"), missing.iter().map(|file| file.size).sum());

        for file in &missing {
            progress.note(&file.path);
            self.fetch(repo, &cache, &revision.commit, file, progress)?;
        }
        progress.end();

        // The name is written last: whoever finds it finds the files too.
        cache.write_ref(&repo.revision, &revision.commit)?;
        Ok(cache.snapshot(&revision.commit))
    }

    /// One file into the cache. The lock keeps other processes (Python's too) from writing the same file.
    fn fetch(
        &self,
        repo: &HubRepo,
        cache: &RepoCache,
        commit: &str,
        file: &client::RemoteFile,
        progress: &mut dyn Progress,
    ) -> Result<(), HubError> {
        let _lock = cache.lock(&file.etag)?;
        let blob = cache.blob(&file.etag);
        if fs::metadata(&blob).is_ok_and(|found| found.len() == file.size) {
            progress.advance(file.size);
        } else {
            let partial = cache.partial(&file.etag);
            self.client.download(repo, commit, file, &partial, progress)?;
            rename(&partial, &blob)?;
        }
        cache.link(commit, &file.path, &file.etag)
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), HubError> {
    fs::rename(from, to).map_err(HubError::io("rename", from))
}
