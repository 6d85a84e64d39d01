use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use adamllm_core::{CoreError, Progress};
use adamllm_nn::{
    LanguageBackbone, LinearWeight, Snapshot, StoredTensor, VisionEncoder, snapshots, stored_dtype, write_safetensors,
};
use burn::tensor::DType;
use safetensors::SafeTensorError;

use super::ModelFolder;
use crate::hf::keys::{KeyLayout, candidates, unwrapped};
use crate::hf::weights::{EMBEDDING, HEAD, INDEX, SINGLE, TensorHeader, WeightFiles};
use crate::{ModelError, VisionLanguageModel};

impl ModelFolder {
    /// Writes a model that was loaded from this folder to another one: the same keys, dtypes, shapes and shards, and
    /// the files beside them that belong to a model byte for byte. What else is in this folder (optimizer states, pickled
    /// weights, an adapter, the model card) is not copied. One tensor is in flight at a time: adapters are merged, and frozen
    /// weights expanded, as their turn comes.
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
        self.save_with(model, to, &mut ())
    }

    /// As [`ModelFolder::save`]; `progress` hears of each file's bytes, and may end it between two files.
    ///
    /// # Errors
    /// As [`ModelFolder::save`]; [`CoreError::Cancelled`], after which the folder has no `config.json`.
    pub fn save_with<V: VisionEncoder, L: LanguageBackbone>(
        &self,
        model: &VisionLanguageModel<V, L>,
        to: &Path,
        progress: &mut dyn Progress,
    ) -> Result<(), ModelError> {
        // The files of the base are mapped while those of the model are written.
        if fs::canonicalize(to).is_ok_and(|to| fs::canonicalize(&self.path).is_ok_and(|base| base == to)) {
            return Err(ModelError::OverItsBase { folder: to.into() });
        }
        let base = WeightFiles::open(&self.path)?;
        self.check_not_packed(&base)?;
        let parameters = merged_snapshots(model);
        let by_key = self.parameters_by_key(&base, &parameters)?;
        fs::create_dir_all(to).map_err(CoreError::io("create", to))?;

        progress.begin("save", base.n_bytes());
        for shard in &base.shards {
            progress.check_cancelled()?;
            let mut tensors = Vec::new();
            for (key, header) in &shard.tensors {
                let TensorHeader { dtype, shape } = header.clone();
                let stored = match by_key.get(&unwrapped(key)) {
                    Some(&i) => {
                        let parameter = &parameters[i];
                        StoredTensor::from_read(dtype, shape, || parameter.read())
                    }
                    // A buffer that no model needs stays as it is.
                    None => StoredTensor::from_bytes(dtype, shape, base.stored(key)?),
                };
                tensors.push((key.clone(), stored));
            }
            let name = shard.path.file_name().expect("a shard is a file");
            // Older versions of transformers open no file without this word.
            let mut metadata = shard.metadata.clone().unwrap_or_default();
            metadata.entry("format".into()).or_insert_with(|| "pt".into());
            write_weights(tensors, metadata, &to.join(name))?;
            progress.advance(shard.n_bytes());
        }
        progress.end();

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
        let stored = stored_dtype(dtype).ok_or_else(|| {
            let path = self.path.join("config.json");
            ModelError::config(&path, "dtype", "F32, F16 or BF16", format!("{dtype:?}"))
        })?;

        fs::create_dir_all(to).map_err(CoreError::io("create", to))?;

        // A folder may have no weights yet.
        if let Ok(files) = WeightFiles::open(&self.path) {
            self.check_not_packed(&files)?;
        }
        let parameters = merged_snapshots(model);
        let key = |snapshot: &Snapshot| KeyLayout::Hub2024.key(&self.config, &snapshot.info.name);
        let by_key: BTreeMap<String, &Snapshot> = parameters.iter().map(|snapshot| (key(snapshot), snapshot)).collect();
        let tensors = by_key.into_iter().map(|(key, snapshot)| {
            let shape = self.stored_shape(&snapshot.info.name, &snapshot.info.shape);
            (key, StoredTensor::from_read(stored, shape, || snapshot.read()))
        });

        // Older versions of transformers open no file without this word.
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        write_weights(tensors, metadata, &to.join(SINGLE))?;

        self.copy_side_files(to)
    }

    /// Refuses a folder that bitsandbytes has packed: its `config.json` says so, and is copied.
    fn check_not_packed(&self, files: &WeightFiles) -> Result<(), ModelError> {
        if !files.is_packed() {
            return Ok(());
        }
        let expected = "weights that are not packed, to write a model as they are; write the adapter alone";
        Err(ModelError::config(&self.path.join("config.json"), "quantization_config", expected, "bitsandbytes"))
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

/// What the files of a model hold: its parameters, frozen weights among them, with the products of the adapters beside them.
fn merged_snapshots<V: VisionEncoder, L: LanguageBackbone>(model: &VisionLanguageModel<V, L>) -> Vec<Snapshot> {
    // Handles: no value is copied.
    let mut model = model.clone();
    let mut merged = BTreeMap::new();
    for (name, linear) in model.linear_layers_mut() {
        if linear.lora.is_none() && linear.weight.parameter().is_some() {
            continue;
        }
        let dtype = linear.weight.parameter().map_or(DType::F32, |weight| weight.val().dtype());
        let (shape, layer) = (linear.weight.dims().to_vec(), linear.clone());
        let read = move || match layer.clone().merge_lora().weight {
            LinearWeight::Parameter(weight) => weight.val().into_data(),
            LinearWeight::Frozen(weight) => weight.to_data(),
        };
        merged.insert(format!("{name}.weight"), Snapshot::new(format!("{name}.weight"), shape, dtype, read));
        linear.lora = None;
    }

    for (name, weight) in model.language.vocabulary_weights_mut() {
        if let LinearWeight::Frozen(weight) = weight {
            let (name, weight) = (format!("language.{name}"), weight.clone());
            let shape = weight.shape().to_vec();
            merged.insert(name.clone(), Snapshot::new(name, shape, DType::F32, move || weight.to_data()));
        }
    }

    let mut parameters = snapshots(&model);
    for parameter in &mut parameters {
        if let Some(with_adapter) = merged.remove(&parameter.info.name) {
            *parameter = with_adapter;
        }
    }
    parameters.extend(merged.into_values());
    parameters
}

/// Writes a safetensors file of weights.
pub(crate) fn write_weights<'a>(
    tensors: impl IntoIterator<Item = (String, StoredTensor<'a>)>,
    metadata: HashMap<String, String>,
    path: &Path,
) -> Result<(), ModelError> {
    write_safetensors(tensors, Some(metadata), path).map_err(|error| match error {
        SafeTensorError::IoError(source) => CoreError::io("write", path)(source).into(),
        other => ModelError::Safetensors { path: path.into(), source: other.into() },
    })
}
