use super::client::RemoteFile;
use super::{HubError, HubRepo};

/// Which files of a repository are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selection {
    /// A model: safetensors weights, config, tokenizer, processor and template files. Weights in other formats, and
    /// copies of the weights under other names, stay where they are.
    Model,
    /// A model without its weights.
    ModelSideFiles,
    /// Files whose paths match one of the patterns; `*` stands for any characters.
    Matching(Vec<String>),
}

/// What the weights of a model are called, if they are one file.
const WEIGHTS: &str = "model.safetensors";
/// Says which shard holds which tensor, if they are several.
const INDEX: &str = "model.safetensors.index.json";

impl Selection {
    /// The selected files.
    pub(super) fn choose<'a>(&self, repo: &HubRepo, files: &'a [RemoteFile]) -> Result<Vec<&'a RemoteFile>, HubError> {
        let has = |path: &str| files.iter().any(|file| file.path == path);
        let sharded = has(INDEX);
        let chosen: Vec<_> = files.iter().filter(|file| self.wants(&file.path, sharded)).collect();
        let complete = match self {
            Self::Model => chosen.iter().any(|file| file.path.ends_with(".safetensors")),
            _ => !chosen.is_empty(),
        };
        if complete {
            return Ok(chosen);
        }
        let wanted = match self {
            Self::Model => "safetensors weights".to_owned(),
            Self::ModelSideFiles => "config, tokenizer or processor files".to_owned(),
            Self::Matching(patterns) => format!("file like {}", patterns.join(", ")),
        };
        Err(HubError::NothingSelected { repo: repo.to_string(), wanted })
    }

    fn wants(&self, path: &str, sharded: bool) -> bool {
        match self {
            Self::Matching(patterns) => patterns.iter().any(|pattern| matches(pattern, path)),
            Self::Model => is_side_file(path) || is_weights(path, sharded),
            Self::ModelSideFiles => is_side_file(path) && path != INDEX,
        }
    }

    /// The first file that a folder lacks for this selection, as far as the folder itself can tell.
    pub(super) fn missing_in(&self, has: impl Fn(&str) -> bool, index: Option<&str>) -> Option<String> {
        let needed = match (self, index) {
            (Self::Model, Some(index)) => {
                let mut needed = shards(index);
                needed.push("config.json".into());
                needed
            }
            (Self::Model, None) if has("adapter_model.safetensors") => vec!["adapter_config.json".into()],
            (Self::Model, None) => vec!["config.json".into(), WEIGHTS.into()],
            (Self::ModelSideFiles, _) => vec!["config.json".into()],
            (Self::Matching(patterns), _) => patterns.iter().filter(|p| !p.contains('*')).cloned().collect(),
        };
        needed.into_iter().find(|path| !has(path))
    }
}

/// The shards that an index file names.
fn shards(index: &str) -> Vec<String> {
    let index: serde_json::Value = serde_json::from_str(index).unwrap_or_default();
    let map = index.get("weight_map").and_then(|map| map.as_object());
    let mut names: Vec<_> = map.into_iter().flat_map(|map| map.values()).filter_map(|name| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(str::to_owned).collect()
}

/// Everything small beside the weights, at the top of the repository.
fn is_side_file(path: &str) -> bool {
    const OTHER_WEIGHTS: [&str; 4] = ["pytorch_model", "tf_model", "flax_model", "consolidated"];
    let known = path.ends_with(".json") || path.ends_with(".jinja");
    let vocabulary = ["merges.txt", "vocab.txt", "tokenizer.model"].contains(&path);
    (known || vocabulary) && !path.contains('/') && !OTHER_WEIGHTS.iter().any(|other| path.starts_with(other))
}

fn is_weights(path: &str, sharded: bool) -> bool {
    let shard = || path.strip_prefix("model-").is_some_and(|rest| rest.ends_with(".safetensors"));
    path == "adapter_model.safetensors" || if sharded { shard() && !path.contains('/') } else { path == WEIGHTS }
}

/// Whether the text is the pattern with its stars filled in.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices().map(|(i, _)| i).chain([rest.len()]).any(|i| matches(tail, &rest[i..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_needs_no_copies_of_its_weights() {
        let wanted = |path: &str, sharded| Selection::Model.wants(path, sharded);
        for path in ["config.json", "tokenizer.json", "merges.txt", "chat_template.jinja", INDEX] {
            assert!(wanted(path, true), "{path}");
        }
        assert!(wanted("model-00001-of-00002.safetensors", true) && !wanted(WEIGHTS, true));
        assert!(wanted(WEIGHTS, false) && !wanted("model-00001-of-00002.safetensors", false));
        for path in [
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "original/params.json",
            "README.md",
            "consolidated.safetensors",
        ] {
            assert!(!wanted(path, true), "{path}");
        }
    }

    #[test]
    fn stars_stand_for_anything() {
        assert!(matches("data/*.arrow", "data/a-0.arrow") && matches("*", "") && matches("a*c*e", "abcde"));
        assert!(!matches("*.zip", "a.zip.txt") && !matches("a*", "ba"));
    }
}
