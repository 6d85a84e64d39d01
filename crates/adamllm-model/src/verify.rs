use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::{ModelError, ModelFolder};

/// One thing in which a model folder differs from another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// A key that only the base has.
    Missing(String),
    /// A key that the base does not have.
    Unexpected(String),
    /// Another shape.
    Shape {
        /// The key.
        key: String,
        /// The base's.
        expected: Vec<usize>,
        /// This folder's.
        got: Vec<usize>,
    },
    /// Another dtype.
    Dtype {
        /// The key.
        key: String,
        /// The base's, as safetensors spells it.
        expected: String,
        /// This folder's.
        got: String,
    },
    /// A file beside the weights that belongs to a model and that only one of the two has, or whose bytes are not the base's.
    SideFile(String),
}

impl ModelFolder {
    /// Compares this folder with the one that it was made from: keys, shapes and dtypes of the weights, and every file
    /// beside them byte for byte. Values are not compared. Nothing is listed where an export is as it should be.
    ///
    /// # Errors
    /// As [`ModelFolder::tensors`].
    pub fn verify(&self, base: &Self) -> Result<Vec<Difference>, ModelError> {
        let (expected, got) = (base.tensors()?, self.tensors()?);

        let mut differences = Vec::new();
        for (key, (shape, dtype)) in &expected {
            match got.get(key) {
                None => differences.push(Difference::Missing(key.clone())),
                Some((other, _)) if other != shape => {
                    let (key, expected, got) = (key.clone(), shape.clone(), other.clone());
                    differences.push(Difference::Shape { key, expected, got });
                }
                Some((_, other)) if other != dtype => {
                    let (key, expected, got) = (key.clone(), dtype.clone(), other.clone());
                    differences.push(Difference::Dtype { key, expected, got });
                }
                Some(_) => {}
            }
        }

        let unexpected = got.keys().filter(|key| !expected.contains_key(*key));
        differences.extend(unexpected.cloned().map(Difference::Unexpected));

        // Files of both folders: one that is only in one of them differs too.
        let (theirs, ours) = (base.side_file_hashes()?, self.side_file_hashes()?);
        let names: std::collections::BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        let differs = |name: &&String| theirs.get(*name) != ours.get(*name);
        differences.extend(names.into_iter().filter(differs).cloned().map(Difference::SideFile));

        Ok(differences)
    }

    /// Hashes of the files beside the weights, by name.
    fn side_file_hashes(&self) -> Result<BTreeMap<String, String>, ModelError> {
        let hash =
            |name: PathBuf| Ok((name.to_string_lossy().into_owned(), adamllm_core::file_hash(self.path().join(name))?));
        self.side_files()?.into_iter().map(hash).collect()
    }
}
