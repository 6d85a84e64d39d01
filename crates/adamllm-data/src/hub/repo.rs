use std::fmt;
use std::str::FromStr;

use super::HubError;

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepoKind {
    /// Weights and their side files.
    Model,
    /// Rows and images.
    Dataset,
}

impl RepoKind {
    /// The plural that the cache's folders and the Hub's interface use.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// What stands before the name in a file's URL.
    pub(super) fn url_prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
        }
    }
}

/// A repository at one revision. Parsed from `org/name` or `org/name@revision`; a model, unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubRepo {
    /// Model or data set.
    pub kind: RepoKind,
    /// `org/name`, or a bare name for the oldest repositories.
    pub name: String,
    /// A branch, a tag, a commit, or `refs/pr/N`.
    pub revision: String,
}

impl HubRepo {
    /// The same name as a data set.
    pub fn dataset(mut self) -> Self {
        self.kind = RepoKind::Dataset;
        self
    }
}

impl FromStr for HubRepo {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let plain = |part: &str| {
            let letters = part.chars().all(|c| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c));
            letters && !part.is_empty() && !part.starts_with('.')
        };
        let is_name = name.split('/').count() <= 2 && name.split('/').all(plain);
        if !is_name || !revision.split('/').all(plain) {
            return Err(HubError::BadName { got: text.into(), expected: "org/name or org/name@revision" });
        }
        Ok(Self { kind: RepoKind::Model, name: name.into(), revision: revision.into() })
    }
}

impl fmt::Display for HubRepo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_differ() {
        let repo: HubRepo = "Qwen/Qwen2-VL-2B-Instruct".parse().expect("a name");
        assert_eq!((repo.name.as_str(), repo.revision.as_str()), ("Qwen/Qwen2-VL-2B-Instruct", "main"));
        let repo: HubRepo = "gpt2@refs/pr/3".parse().expect("a name");
        assert_eq!((repo.name.as_str(), repo.revision.as_str()), ("gpt2", "refs/pr/3"));
        for wrong in ["", "a/b/c", "../b", "a/..", "/a", "a b", "a@", "a@../b"] {
            assert!(wrong.parse::<HubRepo>().is_err(), "{wrong}");
        }
    }
}
