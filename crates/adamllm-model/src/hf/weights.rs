//! Safetensors files, memory-mapped, one or many.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use adamllm_core::CoreError;
use adamllm_nn::{ParameterInfo, ParameterSource};
use burn::tensor::{DType, TensorData};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use super::config::ModelConfig;
use super::keys::KeyLayout;
use crate::ModelError;

pub(crate) const SINGLE: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Keys that old checkpoints carry and no model needs.
const IGNORED_ENDINGS: &[&str] = &["rotary_emb.inv_freq", "masked_bias", "position_ids"];

/// All safetensors files of a folder.
#[derive(Debug)]
pub(crate) struct WeightFiles {
    pub(crate) shards: Vec<Shard>,
    places: HashMap<String, usize>,
}

/// One safetensors file.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) path: PathBuf,
    map: Mmap,
    /// Name, dtype and shape of each tensor.
    pub(crate) tensors: BTreeMap<String, TensorHeader>,
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
    pub(crate) fn open(folder: &Path) -> Result<Self, ModelError> {
        let index = folder.join(INDEX);
        let paths = if index.exists() { shard_paths(folder, &index)? } else { vec![single_path(folder)?] };
        let shards: Vec<Shard> = paths.into_iter().map(Shard::open).collect::<Result<_, _>>()?;
        let names = |(i, shard): (usize, &Shard)| shard.tensors.keys().map(|k| (k.clone(), i)).collect::<Vec<_>>();
        let places = shards.iter().enumerate().flat_map(names).collect();
        Ok(Self { shards, places })
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// The tensor's values in `dtype`.
    fn read(&self, key: &str, dtype: DType) -> Result<Option<TensorData>, String> {
        let Some(&shard) = self.places.get(key) else { return Ok(None) };
        self.shards[shard].read(key, dtype).map(Some)
    }
}

fn single_path(folder: &Path) -> Result<PathBuf, ModelError> {
    let path = folder.join(SINGLE);
    let missing = || ModelError::FileMissing { folder: folder.into(), expected: &[SINGLE, INDEX] };
    path.exists().then_some(path).ok_or_else(missing)
}

fn shard_paths(folder: &Path, index: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let text = std::fs::read_to_string(index).map_err(CoreError::io("read", index))?;
    let parsed: Index =
        serde_json::from_str(&text).map_err(|source| ModelError::Json { path: index.into(), source })?;
    let mut files: Vec<String> = parsed.weight_map.into_values().collect();
    files.sort();
    files.dedup();
    // A shard's name comes from a file; it must not lead out of the folder.
    match files.iter().find(|f| f.contains(['/', '\\'])) {
        Some(file) => Err(ModelError::config(index, "weight_map", "file names without folders", file)),
        None => Ok(files.into_iter().map(|file| folder.join(file)).collect()),
    }
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self, ModelError> {
        let file = File::open(&path).map_err(CoreError::io("open", &path))?;
        // SAFETY: the map is read-only and private to this process; as for every reader of mapped weights, another
        // process that truncates the file while it is mapped breaks the contract.
        let map = unsafe { Mmap::map(&file) }.map_err(CoreError::io("map", &path))?;
        let broken = |detail: String| ModelError::Safetensors { path: path.clone(), detail };
        let (_, metadata) = SafeTensors::read_metadata(&map).map_err(|e| broken(e.to_string()))?;
        let tensors = SafeTensors::deserialize(&map).map_err(|e| broken(e.to_string()))?;
        let header =
            |view: safetensors::tensor::TensorView| TensorHeader { dtype: view.dtype(), shape: view.shape().to_vec() };
        let tensors = tensors.iter().map(|(name, view)| (name.to_owned(), header(view))).collect();
        let metadata = metadata.metadata().clone();
        Ok(Self { path, map, tensors, metadata })
    }

    fn read(&self, key: &str, dtype: DType) -> Result<TensorData, String> {
        let tensors = SafeTensors::deserialize(&self.map).map_err(|e| e.to_string())?;
        let view = tensors.tensor(key).map_err(|e| e.to_string())?;
        let source = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => return Err(format!("expected F32, F16 or BF16, got {other:?}")),
        };
        if let Some(at) = first_not_finite(view.data(), source) {
            return Err(format!("value {at} is not finite"));
        }
        let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), source);
        self.release(view.data());
        Ok(if source == dtype { data } else { data.convert_dtype(dtype) })
    }

    /// Gives the pages of a tensor that was copied back to the system, so that the process holds the model and not the file
    /// beside it.
    #[cfg(unix)]
    fn release(&self, bytes: &[u8]) {
        let start = bytes.as_ptr() as usize - self.map.as_ptr() as usize;
        // SAFETY: the map is read-only and backed by a file, so pages that are dropped are read again when needed.
        let dropped =
            unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, bytes.len()) };
        if let Err(error) = dropped {
            tracing::debug!(%error, "the system keeps the pages of a tensor");
        }
    }

    #[cfg(not(unix))]
    fn release(&self, _bytes: &[u8]) {}
}

/// The place of the first value that is infinite or not a number: all bits of its exponent are set.
fn first_not_finite(bytes: &[u8], dtype: DType) -> Option<usize> {
    let halves = |exponent: u16| {
        let set = move |half: &[u8]| u16::from_le_bytes([half[0], half[1]]) & exponent == exponent;
        bytes.chunks_exact(2).position(set)
    };
    match dtype {
        DType::F16 => halves(0x7c00),
        DType::BF16 => halves(0x7f80),
        _ => {
            const EXPONENT: u32 = 0x7f80_0000;
            let set = |word: &[u8]| u32::from_le_bytes([word[0], word[1], word[2], word[3]]) & EXPONENT == EXPONENT;
            bytes.chunks_exact(4).position(set)
        }
    }
}

/// Feeds a module from [`WeightFiles`], and notes which keys it used.
pub(crate) struct FolderSource<'a> {
    pub(crate) files: &'a WeightFiles,
    pub(crate) config: &'a ModelConfig,
    pub(crate) layout: KeyLayout,
    pub(crate) dtype: DType,
    pub(crate) used: HashSet<String>,
}

impl ParameterSource for FolderSource<'_> {
    type Error = String;

    fn take(&mut self, parameter: &ParameterInfo) -> Result<Option<TensorData>, String> {
        let key = self.layout.key(self.config, &parameter.name);
        let data = self.files.read(&key, self.dtype).map_err(|fault| format!("{key}: {fault}"))?;
        self.used.insert(key);
        Ok(data.map(|data| flatten_kernel(data, &parameter.shape)))
    }
}

impl FolderSource<'_> {
    /// Keys of the files that no parameter asked for. A tied head may be stored all the same.
    pub(crate) fn unexpected(&self) -> Vec<String> {
        let (tied_head, head) = (self.config.decoder.tied_head, self.layout.head_key(self.config.family));
        let known = |key: &str| {
            self.used.contains(key)
                || (tied_head && key == head)
                || IGNORED_ENDINGS.iter().any(|ending| key.ends_with(ending))
        };
        let mut keys: Vec<String> = self.files.keys().filter(|key| !known(key)).map(str::to_owned).collect();
        keys.sort();
        keys
    }
}

/// A convolution's kernel `[out, in, ...]` is a linear layer's weight `[out, in * ...]` for us.
fn flatten_kernel(data: TensorData, wanted: &[usize]) -> TensorData {
    let shape = data.shape().as_slice().to_vec();
    let same_rows = shape.len() > 2 && wanted.len() == 2 && shape[0] == wanted[0];
    if same_rows && shape[1..].iter().product::<usize>() == wanted[1] {
        let (bytes, _, dtype) = data.into_parts();
        return TensorData::from_bytes(bytes, wanted.to_vec(), dtype);
    }
    data
}
