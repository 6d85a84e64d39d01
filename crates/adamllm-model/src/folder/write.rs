use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::Path;

use adamllm_core::CoreError;
use adamllm_nn::{LanguageBackbone, Snapshot, VisionEncoder, snapshots};
use burn::tensor::DType;
use safetensors::{Dtype, View};

use super::ModelFolder;
use crate::hf::keys::{KeyLayout, candidates, unwrapped};
use crate::hf::weights::{EMBEDDING, HEAD, INDEX, SINGLE, TensorHeader, WeightFiles, float_dtype};
use crate::{ModelError, VisionLanguageModel};

impl ModelFolder {
    /// Writes a model that was loaded from this folder to another one: the same keys, dtypes, shapes and shards, and
    /// the files beside them that belong to a model byte for byte. What else is in this folder (optimizer states, pickled
    /// weights, an adapter, the model card) is not copied. One tensor is in flight at a time.
    ///
    /// The new folder is complete once `config.json` is there: it is written last.
    ///
    /// # Errors
    /// [`ModelError::Core`] where a file cannot be read or written (the disk is full); [`ModelError::Weights`] where the
    /// model does not have what the folder's keys ask for; [`ModelError::OverItsBase`] where `to` is this folder.
    pub fn save<V: VisionEncoder, L: LanguageBackbone>(
        &self,
        model: &VisionLanguageModel<V, L>,
        to: &Path,
    ) -> Result<(), ModelError> {
        // The files of the base are mapped while those of the model are written.
        if fs::canonicalize(to).is_ok_and(|to| fs::canonicalize(&self.path).is_ok_and(|base| base == to)) {
            return Err(ModelError::OverItsBase { folder: to.into() });
        }
        let base = WeightFiles::open(&self.path)?;
        let parameters = snapshots(model);
        let by_key = self.parameters_by_key(&base, &parameters)?;
        fs::create_dir_all(to).map_err(CoreError::io("create", to))?;
        for shard in &base.shards {
            let mut views = Vec::new();
            for (key, header) in &shard.tensors {
                let values = match by_key.get(&unwrapped(key)) {
                    Some(&parameter) => Values::Parameter(&parameters[parameter]),
                    // A buffer that no model needs stays as it is.
                    None => Values::Stored(base.stored(key)?),
                };
                views.push((key.clone(), TensorView { header: header.clone(), values }));
            }
            let name = shard.path.file_name().expect("a shard is a file");
            // Older versions of transformers open no file without this word.
            let mut metadata = shard.metadata.clone().unwrap_or_default();
            metadata.entry("format".into()).or_insert_with(|| "pt".into());
            write_safetensors(views.into_iter(), Some(metadata), &to.join(name))?;
        }
        if base.has_index {
            let index = self.path.join(INDEX);
            let content = fs::read(&index).map_err(CoreError::io("read", &index))?;
            adamllm_core::write_atomically(to.join(INDEX), content)?;
        }
        self.copy_side_files(to)
    }

    /// Writes a model with this folder's side files for the first time: one `model.safetensors` in the Hub's layout.
    ///
    /// # Errors
    /// [`ModelError::Core`] where a file cannot be written; [`ModelError::ConfigField`] for a dtype that files do not have.
    pub fn save_new<V: VisionEncoder, L: LanguageBackbone>(
        &self,
        model: &VisionLanguageModel<V, L>,
        dtype: DType,
        to: &Path,
    ) -> Result<(), ModelError> {
        let stored = match dtype {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            other => {
                let path = self.path.join("config.json");
                return Err(ModelError::config(&path, "dtype", "F32, F16 or BF16", format!("{other:?}")));
            }
        };

        fs::create_dir_all(to).map_err(CoreError::io("create", to))?;

        let parameters = snapshots(model);
        let key = |snapshot: &Snapshot| KeyLayout::Hub2024.key(&self.config, &snapshot.info.name);
        let by_key: BTreeMap<String, &Snapshot> = parameters.iter().map(|snapshot| (key(snapshot), snapshot)).collect();
        let views = by_key.into_iter().map(|(key, snapshot)| {
            let shape = self.stored_shape(&snapshot.info.name, &snapshot.info.shape);
            let header = TensorHeader { dtype: stored, shape };
            (key, TensorView { header, values: Values::Parameter(snapshot) })
        });

        // Older versions of transformers open no file without this word.
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        write_safetensors(views, Some(metadata), &to.join(SINGLE))?;

        self.copy_side_files(to)
    }

    /// The parameter that is written under each key: by key of the base, without the names of wrapping modules. A parameter
    /// that the base stores twice, and a tied head that it stores all the same, go to each of their keys.
    fn parameters_by_key(
        &self,
        base: &WeightFiles,
        parameters: &[Snapshot],
    ) -> Result<HashMap<String, usize>, ModelError> {
        let mut by_key = HashMap::new();
        let mut unexpected = Vec::new();

        let has_head = parameters.iter().any(|snapshot| snapshot.info.name == HEAD);
        for (i, snapshot) in parameters.iter().enumerate() {
            let name = snapshot.info.name.as_str();
            let mut keys = candidates(&self.config, name);
            // A tied head has no parameter of its own; the file may hold its copy all the same.
            if name == EMBEDDING && !has_head {
                keys.extend(candidates(&self.config, HEAD));
            }

            let before = by_key.len();
            let keys = keys.into_iter().map(|(prefix, rest)| format!("{prefix}{rest}"));
            by_key.extend(keys.filter(|key| base.contains(key)).map(|key| (key, i)));
            if by_key.len() == before {
                unexpected.push(base.expected_key(&self.config, name));
            }
        }

        let unknown = base.keys().filter(|key| !by_key.contains_key(*key) && !WeightFiles::is_ignored(key));
        let missing: Vec<_> = unknown.map(|key| (key.to_owned(), "not in the model".to_owned())).collect();
        if missing.is_empty() && unexpected.is_empty() {
            return Ok(by_key);
        }

        let cause = "the model was not loaded from this folder".into();
        Err(ModelError::Weights { folder: self.path.clone(), cause, missing, unexpected })
    }

    /// The shape that a parameter has in files: the patch embedding is a convolution in most.
    pub(crate) fn stored_shape(&self, name: &str, shape: &[usize]) -> Vec<usize> {
        let is_patch_embedding = name.starts_with("vision.") && name.ends_with("patch_embedding.weight");
        let kernel = self.config.vision.as_ref().filter(|_| is_patch_embedding).map(|vision| vision.patch_kernel());
        match kernel {
            Some(kernel) if !kernel.is_empty() => [&shape[..1], &kernel].concat(),
            _ => shape.to_vec(),
        }
    }
}

/// A tensor that leaves the device when safetensors asks for its bytes.
struct TensorView<'a> {
    header: TensorHeader,
    values: Values<'a>,
}

/// Where a tensor's bytes come from.
enum Values<'a> {
    /// The model.
    Parameter(&'a Snapshot),
    /// The base's file.
    Stored(&'a [u8]),
}

impl View for TensorView<'_> {
    fn dtype(&self) -> Dtype {
        self.header.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.header.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.values {
            Values::Stored(bytes) => Cow::Borrowed(bytes),
            Values::Parameter(snapshot) => {
                let dtype = float_dtype(self.header.dtype).unwrap_or(DType::F32);
                let data = snapshot.read();
                let data = if data.dtype() == dtype { data } else { data.convert_dtype(dtype) };
                Cow::Owned(data.as_bytes().to_vec())
            }
        }
    }

    fn data_len(&self) -> usize {
        self.header.shape.iter().product::<usize>() * self.header.dtype.bitsize() / 8
    }
}

/// safetensors writes beside the file and renames; what is left is to sync, and to give the file ordinary permissions.
fn write_safetensors<'a>(
    views: impl Iterator<Item = (String, TensorView<'a>)>,
    metadata: Option<HashMap<String, String>>,
    path: &Path,
) -> Result<(), ModelError> {
    let failed = |e: safetensors::SafeTensorError| ModelError::Safetensors { path: path.into(), source: e.into() };
    // An ordinary file first: its permissions follow the user's umask, those of a temporary file do not.
    let permissions =
        File::create(path).and_then(|f| f.metadata()).map_err(CoreError::io("create", path))?.permissions();
    safetensors::serialize_to_file(views, metadata, path).map_err(failed)?;
    let file = File::open(path).map_err(CoreError::io("open", path))?;
    file.set_permissions(permissions).map_err(CoreError::io("set permissions of", path))?;
    file.sync_all().map_err(CoreError::io("sync", path))?;
    Ok(())
}
