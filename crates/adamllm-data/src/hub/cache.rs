//! The layout of `huggingface_hub`'s cache:
//!
//! ```text
//! models--org--name/blobs/<checksum>            the files' contents
//!                  /snapshots/<commit>/<path>   links to them
//!                  /refs/<revision>             the commit of a branch or tag
//! .locks/models--org--name/<checksum>.lock
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{HubError, HubRepo, Selection};

/// One repository's part of the cache.
pub(super) struct RepoCache {
    folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(super) fn new(root: &Path, repo: &HubRepo) -> Self {
        let name = format!("{}--{}", repo.kind.plural(), repo.name.replace('/', "--"));
        Self { locks: root.join(".locks").join(&name), folder: root.join(name) }
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    pub(super) fn partial(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{etag}.incomplete"))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Whether the snapshot has the file, with its content.
    pub(super) fn has(&self, commit: &str, path: &str) -> bool {
        self.snapshot(commit).join(path).exists()
    }

    /// Waits until no other process writes this blob. The lock ends with the value.
    pub(super) fn lock(&self, etag: &str) -> Result<File, HubError> {
        for folder in [&self.locks, &self.folder.join("blobs")] {
            fs::create_dir_all(folder).map_err(HubError::io("create", folder))?;
        }
        let path = self.locks.join(format!("{etag}.lock"));
        let file = File::create(&path).map_err(HubError::io("create", &path))?;
        file.lock().map_err(HubError::io("lock", &path))?;
        Ok(file)
    }

    /// Gives a blob its path in a snapshot: a relative link, so that the cache can be moved; a copy where there are none.
    pub(super) fn link(&self, commit: &str, path: &str, etag: &str) -> Result<(), HubError> {
        let link = self.snapshot(commit).join(path);
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder).map_err(HubError::io("create", folder))?;
        }
        let up = "../".repeat(2 + path.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        match symbolic_link(&target, &link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&link).map_err(HubError::io("replace", &link))?;
                symbolic_link(&target, &link)
            }
            other => other,
        }
        .or_else(|_| fs::copy(self.blob(etag), &link).map(drop))
        .map_err(HubError::io("link", &link))
    }

    /// Notes which commit a branch or tag stands for.
    pub(super) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if revision == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(HubError::io("create", folder))?;
        }
        fs::write(&path, commit).map_err(HubError::io("write", &path))
    }

    /// The folder of a revision that was downloaded before, if nothing of the selection is missing in it.
    pub(super) fn complete_snapshot(&self, repo: &HubRepo, selection: &Selection) -> Result<PathBuf, HubError> {
        let reference = fs::read_to_string(self.folder.join("refs").join(&repo.revision));
        let commit = reference.map_or_else(|_| repo.revision.clone(), |commit| commit.trim().to_owned());
        let folder = self.snapshot(&commit);
        let index = fs::read_to_string(folder.join("model.safetensors.index.json")).ok();
        let missing = if folder.is_dir() {
            selection.missing_in(|path| folder.join(path).exists(), index.as_deref())
        } else {
            Some(format!("revision {}", repo.revision))
        };
        match missing {
            None => Ok(folder),
            Some(detail) => Err(HubError::NotCached { repo: repo.to_string(), folder: self.folder.clone(), detail }),
        }
    }
}

#[cfg(unix)]
fn symbolic_link(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symbolic_link(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}
