use std::borrow::Cow;
use std::fs::{self, File};
use std::path::Path;

use adamllm_core::CoreError;
use adamllm_nn::snapshots;
use burn::tensor::DType;
use safetensors::{Dtype, View};

use super::{ByKey, ModelFolder, files_of};
use crate::hf::keys::KeyLayout;
use crate::hf::weights::{SINGLE, TensorHeader, WeightFiles};
use crate::{ModelError, VisionLanguageModel};

impl ModelFolder {
    /// Writes a model that was loaded from this folder to another one: the same keys, dtypes, shapes and shards, and
    /// every other file byte for byte. One tensor is in flight at a time.
    ///
    /// The new folder is complete once `config.json` is there: it is written last.
    ///
    /// # Errors
    /// [`ModelError::Core`] where a file cannot be read or written (the disk is full); [`ModelError::Weights`] where the
    /// model does not have what the folder's keys ask for.
    pub fn save(&self, model: &VisionLanguageModel, to: &Path) -> Result<(), ModelError> {
        let base = WeightFiles::open(&self.path)?;
        let layout = KeyLayout::detect(base.keys());
        let parameters = self.by_key(model, layout);
        self.check_keys(&base, layout, &parameters)?;
        fs::create_dir_all(to).map_err(CoreError::io("create", to))?;
        for shard in &base.shards {
            let views = shard.tensors.iter().map(|(key, header)| {
                (key.clone(), TensorView { header: header.clone(), parameters: &parameters, key: key.clone() })
            });
            let name = shard.path.file_name().expect("a shard is a file");
            write_safetensors(views, shard.metadata.clone(), &to.join(name))?;
        }
        self.copy_side_files(to)
    }

    /// Writes a model with this folder's side files for the first time: one `model.safetensors` in the Hub's layout.
    ///
    /// # Errors
    /// [`ModelError::Core`] where a file cannot be written; [`ModelError::ConfigField`] for a dtype that files do not have.
    pub fn save_new(&self, model: &VisionLanguageModel, dtype: DType, to: &Path) -> Result<(), ModelError> {
        let stored = match dtype {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            other => {
                let path = self.path.join("config.json");
                return Err(ModelError::config(&path, "dtype", "F32, F16 or BF16", format!("{other:?}")));
            }
        };
        let parameters = self.by_key(model, KeyLayout::Hub2024);
        fs::create_dir_all(to).map_err(CoreError::io("create", to))?;
        let mut keys: Vec<&String> = parameters.keys().collect();
        keys.sort();
        let views = keys.into_iter().map(|key| {
            let header = TensorHeader { dtype: stored, shape: self.stored_shape(key, &parameters[key].info.shape) };
            (key.clone(), TensorView { header, parameters: &parameters, key: key.clone() })
        });
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        write_safetensors(views, Some(metadata), &to.join(SINGLE))?;
        self.copy_side_files(to)
    }

    fn by_key(&self, model: &VisionLanguageModel, layout: KeyLayout) -> ByKey {
        let named = snapshots(model).into_iter().map(|s| (layout.key(&self.config, &s.info.name), s));
        named.collect()
    }

    fn check_keys(&self, base: &WeightFiles, layout: KeyLayout, parameters: &ByKey) -> Result<(), ModelError> {
        let head = layout.head_key(self.config.family);
        let tied = |key: &str| key == head && self.config.decoder.tied_head;
        let has = |key: &str| parameters.contains_key(key) || tied(key);
        let unknown = base.keys().filter(|key| !has(key));
        let missing: Vec<_> = unknown.map(|k| (k.to_owned(), "not in the model".to_owned())).collect();
        let unexpected: Vec<_> = parameters.keys().filter(|key| !base.contains(key)).cloned().collect();
        if missing.is_empty() && unexpected.is_empty() {
            return Ok(());
        }
        Err(self.weights_error(missing, unexpected))
    }

    /// The patch embedding is a convolution in the files.
    fn stored_shape(&self, key: &str, shape: &[usize]) -> Vec<usize> {
        match &self.config.vision {
            Some(vision) if key.ends_with("patch_embed.proj.weight") || key.ends_with("patch_embedding.weight") => {
                vision.kernel()
            }
            _ => shape.to_vec(),
        }
    }

    /// Copies everything that is not a weight, `config.json` last. Of subfolders the JSON files go along: LLaVA's first
    /// layout keeps the tower's configuration in one.
    fn copy_side_files(&self, to: &Path) -> Result<(), ModelError> {
        for folder in self.subfolders()? {
            let target = to.join(folder.file_name().expect("a folder has a name"));
            for file in files_of(&folder)?.into_iter().filter(|file| file.extension().is_some_and(|e| e == "json")) {
                fs::create_dir_all(&target).map_err(CoreError::io("create", &target))?;
                copy(&file, &target)?;
            }
        }
        let mut files = self.files()?;
        files.retain(|path| path.extension().is_none_or(|e| e != "safetensors"));
        files.sort_by_key(|path| path.ends_with("config.json"));
        for path in files {
            copy(&path, to)?;
        }
        Ok(())
    }
}

/// The same bytes under the same name in another folder.
fn copy(file: &Path, to: &Path) -> Result<(), ModelError> {
    let content = fs::read(file).map_err(CoreError::io("read", file))?;
    Ok(adamllm_core::write_atomically(to.join(file.file_name().expect("a file has a name")), content)?)
}

/// A tensor that leaves the device when safetensors asks for its bytes.
struct TensorView<'a> {
    header: TensorHeader,
    parameters: &'a ByKey,
    key: String,
}

impl View for TensorView<'_> {
    fn dtype(&self) -> Dtype {
        self.header.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.header.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let dtype = match self.header.dtype {
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            _ => DType::F32,
        };
        // A tied head that is stored all the same is the embedding.
        let embedding = || self.parameters.iter().find(|(k, _)| k.ends_with("embed_tokens.weight")).map(|(_, s)| s);
        let snapshot = self.parameters.get(&self.key).or_else(embedding).expect("keys were checked");
        let data = snapshot.read();
        let data = if data.dtype() == dtype { data } else { data.convert_dtype(dtype) };
        Cow::Owned(data.as_bytes().to_vec())
    }

    fn data_len(&self) -> usize {
        self.header.shape.iter().product::<usize>() * self.header.dtype.bitsize() / 8
    }
}

/// safetensors writes beside the file and renames; what is left is to sync, and to give the file ordinary permissions.
fn write_safetensors<'a>(
    views: impl Iterator<Item = (String, TensorView<'a>)>,
    metadata: Option<std::collections::HashMap<String, String>>,
    path: &Path,
) -> Result<(), ModelError> {
    let failed = |detail: String| ModelError::Safetensors { path: path.into(), detail };
    // An ordinary file first: its permissions follow the user's umask, those of a temporary file do not.
    let permissions =
        File::create(path).and_then(|f| f.metadata()).map_err(CoreError::io("create", path))?.permissions();
    safetensors::serialize_to_file(views, metadata, path).map_err(|e| failed(e.to_string()))?;
    let file = File::open(path).map_err(CoreError::io("open", path))?;
    file.set_permissions(permissions).map_err(CoreError::io("set permissions of", path))?;
    file.sync_all().map_err(CoreError::io("sync", path))?;
    Ok(())
}
