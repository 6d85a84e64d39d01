//! Safetensors files, memory-mapped, one or many.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adamllm_core::{CoreError, Progress};
use adamllm_nn::{ParameterInfo, ParameterSource, SharedBytes, float_dtype};
use burn::tensor::{DType, TensorData};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use super::config::ModelConfig;
use super::keys::{KeyLayout, candidates, unwrapped};
use super::values;
use crate::ModelError;

pub(crate) const SINGLE: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Keys that old checkpoints carry and no model needs.
const IGNORED_ENDINGS: &[&str] = &["rotary_emb.inv_freq", "masked_bias", "position_ids"];

/// The head and the embedding, as we call them.
pub(crate) const HEAD: &str = "language.head.weight";
pub(crate) const EMBEDDING: &str = "language.embedding";

/// All safetensors files of a folder.
#[derive(Debug)]
pub(crate) struct WeightFiles {
    pub(crate) shards: Vec<WeightShard>,
    /// Whether the shards are those of an index.
    pub(crate) has_index: bool,
    /// By key, without the names of wrapping modules.
    locations: HashMap<String, TensorLocation>,
}

/// Where a tensor is.
#[derive(Clone, Debug)]
struct TensorLocation {
    shard: usize,
    /// The key as it stands in the file.
    key: String,
}

/// One safetensors file.
#[derive(Debug)]
pub(crate) struct WeightShard {
    pub(crate) path: PathBuf,
    map: Arc<Mmap>,
    /// Name, dtype and shape of each tensor.
    pub(crate) tensors: BTreeMap<String, TensorHeader>,
    /// Where each tensor's bytes are in the file.
    ranges: HashMap<String, Range<usize>>,
    pub(crate) metadata: Option<HashMap<String, String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TensorHeader {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl WeightFiles {
    /// Maps `model.safetensors`, or every shard of `model.safetensors.index.json`.
    ///
    /// A single file beside an index is what a second `save_pretrained` into the same folder leaves. transformers reads the
    /// single file; so do we where the index's shards are gone. Where they are there too, it is ambiguous which is meant.
    pub(crate) fn open(folder: &Path) -> Result<Self, ModelError> {
        let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
        let files = match (single.exists(), index.exists()) {
            (false, false) => return Err(no_weights(folder)),
            (true, false) => return Self::map(vec![single], None),
            (single_there, true) => {
                let parsed = read_index(&index)?;
                let shards = shard_paths(folder, &index, &parsed)?;
                if !single_there || shards == [single.clone()] {
                    return Self::map(shards, Some((&index, &parsed)));
                }
                shards
            }
        };

        if let Some(shard) = files.iter().find(|path| **path != single && path.exists()) {
            let expected =
                format!("one set of weights: {SINGLE} and {} stand side by side; remove the stale one", shown(shard));
            return Err(ModelError::config(&index, "weight_map", expected, shown(shard)));
        }

        tracing::warn!(folder = %folder.display(), "{INDEX} names files that are not there; {SINGLE} is read, as transformers does");
        Self::map(vec![single], None)
    }

    /// Maps the files, and notes where each tensor is.
    fn map(paths: Vec<PathBuf>, index: Option<(&Path, &Index)>) -> Result<Self, ModelError> {
        let shards: Vec<WeightShard> = paths.into_iter().map(WeightShard::open).collect::<Result<_, _>>()?;
        let mut files = Self { shards, has_index: index.is_some(), locations: HashMap::new() };
        for shard in 0..files.shards.len() {
            let keys: Vec<String> = files.shards[shard].tensors.keys().cloned().collect();
            for key in keys {
                files.add(TensorLocation { shard, key })?;
            }
        }
        if let Some((path, index)) = index {
            let absent = index.weight_map.iter().find(|(key, _)| !files.locations.contains_key(&unwrapped(key)));
            if let Some((key, file)) = absent {
                let expected = format!("a tensor {key}, as the index says");
                return Err(ModelError::config(path, "weight_map", expected, format!("{file} without it")));
            }
        }
        Ok(files)
    }

    /// Notes a tensor. One that is stored twice must be the same in both.
    fn add(&mut self, location: TensorLocation) -> Result<(), ModelError> {
        let bare = unwrapped(&location.key);
        if let Some(first) = self.locations.get(&bare) {
            if self.bytes(first)? != self.bytes(&location)? {
                let (path, other) = (&self.shards[location.shard].path, &self.shards[first.shard].path);
                let detail = format!("{} has other values than {} of {}", location.key, first.key, shown(other));
                return Err(ModelError::Safetensors { path: path.clone(), source: detail.into() });
            }
            return Ok(());
        }
        self.locations.insert(bare, location);
        Ok(())
    }

    /// Keys without the names of wrapping modules.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.locations.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this key, without the names of wrapping modules.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.locations.contains_key(key)
    }

    /// The tensors' bytes.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.shards.iter().map(WeightShard::n_bytes).sum()
    }

    /// The bytes of the largest tensor.
    pub(crate) fn largest_tensor(&self) -> u64 {
        let of_shards = self.shards.iter().flat_map(|shard| shard.ranges.values());
        of_shards.map(|range| range.len() as u64).max().unwrap_or(0)
    }

    /// The bytes of the tensor that stands in the files under this key; 0 where there is none.
    pub(crate) fn tensor_bytes(&self, key: &str) -> u64 {
        let location = self.locations.get(&unwrapped(key));
        let range = location.and_then(|location| self.shards[location.shard].ranges.get(&location.key));
        range.map_or(0, |range| range.len() as u64)
    }

    /// Whether the files have a tensor of this key, as it stands in them.
    pub(crate) fn contains_stored(&self, key: &str) -> bool {
        self.locations.contains_key(&unwrapped(key))
    }

    pub(crate) fn n_tensors(&self) -> usize {
        self.locations.len()
    }

    /// The keys, as they stand in the files, under which the parameter that we call `name` is stored.
    pub(crate) fn stored_keys(&self, config: &ModelConfig, name: &str) -> Vec<String> {
        let known = candidates(config, name).into_iter().map(|(prefix, rest)| prefix.to_owned() + &rest);
        known.filter_map(|key| self.locations.get(&key)).map(|location| location.key.clone()).collect()
    }

    /// The key under which the files would be expected to have a parameter that they lack: the longest prefix of its part
    /// that other keys have.
    pub(crate) fn expected_key(&self, config: &ModelConfig, name: &str) -> String {
        let known = candidates(config, name);
        let used = |prefix: &str| !prefix.is_empty() && self.keys().any(|key| key.starts_with(prefix));
        let best = known.iter().filter(|(prefix, _)| used(prefix)).max_by_key(|(prefix, _)| prefix.len());
        best.map_or_else(|| KeyLayout::Hub2024.key(config, name), |(prefix, rest)| format!("{prefix}{rest}"))
    }

    /// Whether keys that no model needs stand in the files for other reasons.
    pub(crate) fn is_ignored(key: &str) -> bool {
        IGNORED_ENDINGS.iter().any(|ending| key.ends_with(ending))
    }

    /// Whether head and embedding are one matrix: where the files have a head, it counts, unless it is the embedding's copy;
    /// where they have none, `config.json` decides. This is what transformers 5 does.
    pub(crate) fn tied_head(&self, config: &ModelConfig) -> Result<bool, ModelError> {
        let first = |name| self.stored_keys(config, name).into_iter().next();
        let (Some(head), Some(embedding)) = (first(HEAD), first(EMBEDDING)) else {
            return Ok(config.decoder.tied_head);
        };
        if !config.decoder.tied_head {
            return Ok(false);
        }
        let location = |key: &str| &self.locations[&unwrapped(key)];
        let same = self.bytes(location(&head))? == self.bytes(location(&embedding))?;
        if !same {
            tracing::warn!(%head, "the files' head is not the embedding, though config.json says so (tie_word_embeddings); the head is used");
        }
        Ok(same)
    }

    fn bytes(&self, location: &TensorLocation) -> Result<&[u8], ModelError> {
        self.shards[location.shard].bytes(&location.key)
    }

    /// The bytes of a tensor as they are stored, by its key in the files.
    pub(crate) fn stored(&self, key: &str) -> Result<&[u8], ModelError> {
        self.bytes(&self.locations[&unwrapped(key)])
    }

    /// The bytes of a tensor that stay mapped as long as somebody holds them, its dtype and its shape.
    pub(super) fn mapped(&self, key: &str) -> Option<(SharedBytes, &TensorHeader)> {
        let location = self.locations.get(&unwrapped(key))?;
        let shard = &self.shards[location.shard];
        let bytes = SharedBytes::new(shard.map.clone(), shard.ranges.get(&location.key)?.clone())?;
        Some((bytes, &shard.tensors[&location.key]))
    }

    /// Gives the pages of a tensor that was copied back to the system.
    pub(crate) fn release(&self, key: &str) {
        let Some(location) = self.locations.get(&unwrapped(key)) else { return };
        let shard = &self.shards[location.shard];
        if let Ok(bytes) = shard.bytes(&location.key) {
            shard.release(bytes);
        }
    }

    /// The tensor's values in `dtype`.
    fn read(&self, key: &str, dtype: DType) -> Result<TensorData, String> {
        let location = &self.locations[&unwrapped(key)];
        self.shards[location.shard].read(&location.key, dtype)
    }
}

fn shown(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What to say of a folder without weights that we read.
fn no_weights(folder: &Path) -> ModelError {
    let has = |name: &str| folder.join(name).exists();
    let pickled =
        ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"].into_iter().find(|name| has(name));
    match (pickled, has("adapter_model.safetensors")) {
        (Some(name), _) => {
            let detail = "pickled weights are not read; save them again as safetensors (`save_pretrained` does)";
            ModelError::NotRead { path: folder.join(name), detail: detail.into() }
        }
        (None, true) => {
            let detail = "an adapter without its base model; give the base model's folder, and the adapter beside it";
            ModelError::NotRead { path: folder.join("adapter_model.safetensors"), detail: detail.into() }
        }
        (None, false) => ModelError::FileMissing { folder: folder.into(), expected: &[SINGLE, INDEX] },
    }
}

fn read_index(path: &Path) -> Result<Index, ModelError> {
    let text = std::fs::read_to_string(path).map_err(CoreError::io("read", path))?;
    serde_json::from_str(&text).map_err(|source| ModelError::Json { path: path.into(), source })
}

fn shard_paths(folder: &Path, index: &Path, parsed: &Index) -> Result<Vec<PathBuf>, ModelError> {
    let mut files: Vec<&String> = parsed.weight_map.values().collect();
    files.sort();
    files.dedup();
    // A shard's name comes from a file; it must not lead out of the folder.
    let leads_out = |name: &str| name.is_empty() || name == ".." || name.contains(['/', '\\']);
    match files.iter().find(|file| leads_out(file)) {
        Some(file) => Err(ModelError::config(index, "weight_map", "file names without folders", file)),
        None => Ok(files.into_iter().map(|file| folder.join(file)).collect()),
    }
}

impl WeightShard {
    fn open(path: PathBuf) -> Result<Self, ModelError> {
        let file = File::open(&path).map_err(CoreError::io("open", &path))?;
        // SAFETY: the map is read-only, and nothing here writes through it. The file must keep its length and bytes while it is
        // mapped, which no process can enforce: as for every reader of mapped weights, whoever truncates the file meanwhile
        // breaks the contract. `ModelFolder::save` does not: it refuses its own folder.
        let map = unsafe { Mmap::map(&file) }.map_err(CoreError::io("map", &path))?;
        let broken = |e: safetensors::SafeTensorError| ModelError::Safetensors { path: path.clone(), source: e.into() };
        let (header_length, metadata) = SafeTensors::read_metadata(&map).map_err(broken)?;
        // Checks that the tensors fill the file without gaps.
        SafeTensors::deserialize(&map).map_err(broken)?;

        // Data begin after the header's length (8 bytes) and the header.
        let start = 8 + header_length;
        let (mut tensors, mut ranges) = (BTreeMap::new(), HashMap::new());
        for (name, info) in metadata.tensors() {
            let (from, to) = info.data_offsets;
            tensors.insert(name.clone(), TensorHeader { dtype: info.dtype, shape: info.shape.clone() });
            ranges.insert(name, start + from..start + to);
        }
        let metadata = metadata.metadata().clone();
        Ok(Self { path, map: Arc::new(map), tensors, ranges, metadata })
    }

    /// The tensors' bytes.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.ranges.values().map(|range| range.len() as u64).sum()
    }

    /// A tensor's bytes as they are stored.
    fn bytes(&self, key: &str) -> Result<&[u8], ModelError> {
        let range = self.ranges.get(key).and_then(|range| self.map.get(range.clone()));
        range.ok_or_else(|| ModelError::Safetensors {
            path: self.path.clone(),
            source: format!("no tensor {key}").into(),
        })
    }

    fn read(&self, key: &str, dtype: DType) -> Result<TensorData, String> {
        let bytes = self.bytes(key).map_err(|e| e.to_string())?;
        let TensorHeader { dtype: stored, shape } = &self.tensors[key];
        let source = float_dtype(*stored).ok_or_else(|| format!("expected F32, F16, BF16 or F64, got {stored:?}"))?;
        let data = values::read(bytes, shape.clone(), source, dtype);
        self.release(bytes);
        data.map_err(|index| format!("value {index} is not finite"))
    }

    /// Gives the pages of a tensor that was copied back to the system, so that the process holds the model and not the file
    /// beside it.
    #[cfg(unix)]
    fn release(&self, bytes: &[u8]) {
        let start = bytes.as_ptr() as usize - self.map.as_ptr() as usize;
        // SAFETY: `bytes` is a slice of this map (from `Self::bytes`), so the range lies inside of it. The map is read-only and backed
        // by a file: dropped pages hold nothing that the file lacks, and are read again when needed.
        let dropped =
            unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, bytes.len()) };
        if let Err(error) = dropped {
            tracing::debug!(%error, "the system keeps the pages of a tensor");
        }
    }

    #[cfg(not(unix))]
    fn release(&self, _bytes: &[u8]) {}
}

/// Feeds a module from [`WeightFiles`], and notes which keys it used.
pub(crate) struct FolderSource<'a> {
    pub(crate) files: &'a WeightFiles,
    pub(crate) config: &'a ModelConfig,
    pub(crate) dtype: DType,
    /// What stands before the module's own parameter names in the model's.
    pub(crate) prefix: &'static str,
    /// Keys as they stand in the files.
    pub(crate) used: HashSet<String>,
    /// Hears of the bytes.
    pub(crate) progress: &'a mut dyn Progress,
}

impl ParameterSource for FolderSource<'_> {
    type Error = String;

    fn take(&mut self, parameter: &ParameterInfo) -> Result<Option<TensorData>, String> {
        self.progress.check_cancelled().map_err(|e| e.to_string())?;
        let name = format!("{}{}", self.prefix, parameter.name);
        let mut keys = self.files.stored_keys(self.config, &name);
        if keys.is_empty() && name == EMBEDDING && self.config.decoder.tied_head {
            keys = self.files.stored_keys(self.config, HEAD); // one matrix, under its other name
        }
        self.used.extend(keys.iter().cloned());
        let Some(key) = keys.first() else { return Ok(None) };
        let stored = |key: &str| self.files.stored(key).map_err(|e| e.to_string());
        for other in &keys[1..] {
            if stored(key)? != stored(other)? {
                return Err(format!("stands twice with different values, also as {other}"));
            }
        }
        let data = self.files.read(key, self.dtype)?;
        self.progress.advance(stored(key)?.len() as u64);
        Ok(Some(flatten_kernel(data, &parameter.shape)))
    }
}

impl FolderSource<'_> {
    /// Keys of the files that no parameter asked for. A tied head may be stored all the same.
    pub(crate) fn unexpected(&self) -> Vec<String> {
        let head = if self.config.decoder.tied_head { self.files.stored_keys(self.config, HEAD) } else { Vec::new() };
        let known = |key: &String| self.used.contains(key) || head.contains(key) || WeightFiles::is_ignored(key);
        let keys = self.files.locations.values().map(|location| &location.key);
        let mut keys: Vec<String> = keys.filter(|key| !known(key)).cloned().collect();
        keys.sort();
        keys
    }
}

/// A convolution's kernel `[out, in, ...]` is a linear layer's weight `[out, in * ...]` for us.
pub(crate) fn flatten_kernel(data: TensorData, wanted: &[usize]) -> TensorData {
    let shape = data.shape().as_slice().to_vec();
    let same_first_axis = shape.len() > 2 && wanted.len() == 2 && shape[0] == wanted[0];
    if same_first_axis && shape[1..].iter().product::<usize>() == wanted[1] {
        let (bytes, _, dtype) = data.into_parts();
        return TensorData::from_bytes(bytes, wanted.to_vec(), dtype);
    }
    data
}
