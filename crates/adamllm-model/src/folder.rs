//! A model folder as Hugging Face tools lay it out: `config.json`, weights, tokenizer, processor and template files.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adamllm_core::{CoreError, Progress};
use adamllm_language::Decoder;
use adamllm_nn::{FrozenForm, LanguageBackbone, LinearWeight, LoadError, LoraConfig, VisionEncoder};
use adamllm_vision::preprocess::PixelRange;
use burn::tensor::{DType, Device};

use crate::adapter::{PeftConfig, SavedModules};
use crate::hf::config::ModelConfig;
use crate::hf::weights::{FolderSource, WeightFiles};
use crate::{AutoVisionEncoder, Families, ModelError, VisionConfig, VisionLanguageModel};

mod cause;
mod planned;
mod side_files;
mod write;

pub use self::planned::PlannedWeights;
pub(crate) use self::write::write_weights;

/// A model folder on disk.
///
/// ```no_run
/// use adamllm_model::ModelFolder;
/// use burn::tensor::{DType, Device};
///
/// let folder = ModelFolder::open("Qwen2-VL-2B-Instruct")?; // reads `config.json` alone
/// println!("{} layers", folder.config().decoder.n_layers);
/// let model = folder.load(DType::F32, &Device::default())?;
/// folder.save(&model, "copy".as_ref())?; // weights under the keys that they came from, and the side files
/// # Ok::<(), adamllm_model::ModelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ModelFolder {
    path: PathBuf,
    config: ModelConfig,
    /// A PEFT folder whose pairs are added to the weights when they are read.
    adapter: Option<PathBuf>,
    /// Whether the caller put a vision encoder before a text-only folder's decoder.
    adds_vision: bool,
    /// Bounds of an image's pixels that this run has in place of the folder's.
    pixels: PixelRange,
}

impl ModelFolder {
    /// Opens a folder and reads its `config.json`. A PEFT adapter's folder is opened with its base model, where that is a
    /// folder too.
    ///
    /// # Errors
    /// As [`ModelConfig::read`]; for an adapter also as [`ModelFolder::with_adapter`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, ModelError> {
        Self::open_with(path, &Families::default())
    }

    /// As [`ModelFolder::open`], with the folder's family looked for among `families`, which may hold some of the caller's own.
    ///
    /// # Errors
    /// As [`ModelFolder::open`].
    pub fn open_with(path: impl Into<PathBuf>, families: &Families) -> Result<Self, ModelError> {
        let path = path.into();
        let file = path.join("config.json");
        if !file.exists() {
            if path.join(crate::adapter::CONFIG).exists() {
                return Self::open_adapter(&path, families);
            }
            return Err(ModelError::FileMissing { folder: path, expected: &["config.json"] });
        }
        let config = ModelConfig::read_with(&file, families)?;
        Ok(Self { path, config, adapter: None, adds_vision: false, pixels: PixelRange::default() })
    }

    /// The same folder with a PEFT adapter, whose pairs [`ModelFolder::load`] adds to the weights.
    ///
    /// # Errors
    /// As [`ModelFolder::load_adapter`] for the adapter's settings; its weights are read later.
    pub fn with_adapter(self, adapter: impl Into<PathBuf>) -> Result<Self, ModelError> {
        let adapter = adapter.into();
        PeftConfig::read(&adapter)?;
        Ok(Self { adapter: Some(adapter), ..self })
    }

    /// The same folder with a vision encoder of the caller's own before its decoder: `vision` makes the image processor, and each
    /// image's placeholders are the token `image_token` of the folder's tokenizer. [`Processor::read`](crate::Processor::read)
    /// then reads conversations with images.
    pub fn with_vision(mut self, vision: Arc<dyn VisionConfig>, image_token: u32) -> Self {
        self.adds_vision |= self.config.vision.is_none();
        self.config.vision = Some(vision);
        self.config.image_token = Some(image_token);
        self
    }

    /// The same folder with bounds of its own for an image's pixels, in place of the image processor's `min_pixels` and `max_pixels`:
    /// what [`Processor::read`](crate::Processor::read) and [`LocalModel::load`](crate::LocalModel::load) make of it follows them. The
    /// folder's files stay as they are, also where the folder is saved.
    #[must_use]
    pub fn with_pixel_range(self, pixels: PixelRange) -> Self {
        Self { pixels, ..self }
    }

    /// As [`ModelFolder::with_pixel_range`] set them.
    pub fn pixel_range(&self) -> PixelRange {
        self.pixels
    }

    /// Whether the folder's own template and processor files know no images.
    pub(crate) fn adds_vision(&self) -> bool {
        self.adds_vision
    }

    /// The base model that an adapter's own settings name, where it is a folder: as the path stands, or beside the adapter.
    fn open_adapter(adapter: &Path, families: &Families) -> Result<Self, ModelError> {
        let base = PeftConfig::read(adapter)?.base.unwrap_or_default();
        let candidates = [PathBuf::from(&base), adapter.join(&base)];
        match candidates.into_iter().find(|path| !base.is_empty() && path.join("config.json").exists()) {
            Some(path) => Ok(Self { adapter: Some(adapter.into()), ..Self::open_with(path, families)? }),
            None => {
                let expected = "the folder of the base model; give the base model, and the adapter beside it";
                let field = "base_model_name_or_path";
                Err(ModelError::config(&adapter.join(crate::adapter::CONFIG), field, expected, format!("{base:?}")))
            }
        }
    }

    /// What a PEFT folder's own settings name as its base model: a folder or a Hub id.
    ///
    /// # Errors
    /// As [`ModelFolder::with_adapter`].
    pub fn base_of_adapter(adapter: impl AsRef<Path>) -> Result<Option<String>, ModelError> {
        Ok(PeftConfig::read(adapter.as_ref())?.base)
    }

    /// The adapter, where there is one.
    pub fn adapter(&self) -> Option<&Path> {
        self.adapter.as_deref()
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `config.json` says.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Reads the weights onto a device, converted to `dtype`; one tensor is in flight at a time.
    ///
    /// # Errors
    /// [`ModelError::FileMissing`], [`ModelError::NotRead`], [`ModelError::Safetensors`], [`ModelError::ConfigField`] for sizes
    /// that the files cannot fill, and [`ModelError::Weights`] with the likely cause and every missing, misshapen, unreadable
    /// and unexpected key.
    pub fn load(&self, dtype: DType, device: &Device) -> Result<VisionLanguageModel, ModelError> {
        self.load_with(dtype, device, &mut ())
    }

    /// As [`ModelFolder::load`]; `progress` hears of the bytes that are read from the files, and may end it.
    ///
    /// # Errors
    /// As [`ModelFolder::load`]; [`CoreError::Cancelled`].
    pub fn load_with(
        &self,
        dtype: DType,
        device: &Device,
        progress: &mut dyn Progress,
    ) -> Result<VisionLanguageModel, ModelError> {
        self.load_made(dtype, |config| VisionLanguageModel::try_init(config, device), None, progress)
    }

    /// As [`ModelFolder::load_with`], with the linear layers that will not be trained in a smaller form, and embedding and head as they
    /// stand in the file. Layers that bitsandbytes has packed in 4 bits are loaded so in any case.
    ///
    /// ```no_run
    /// # use adamllm_model::{FrozenLayers, ModelFolder};
    /// # use adamllm_nn::{FrozenForm, LoraConfig};
    /// # use burn::tensor::{DType, Device};
    /// # let folder = ModelFolder::open("Qwen2-VL-2B-Instruct")?;
    /// // QLoRA (Dettmers et al., 2023, arXiv 2305.14314): adapters beside weights in 4 bits.
    /// let lora = LoraConfig::new(16, 32.0);
    /// let frozen = FrozenLayers { form: FrozenForm::Nf4, adapter: Some(&lora) };
    /// let device = Device::flex().autodiff();
    /// let model = folder.load_frozen(DType::F32, &device, &frozen, &mut ())?.with_lora(&lora)?;
    /// # Ok::<(), adamllm_model::ModelError>(())
    /// ```
    ///
    /// # Errors
    /// As [`ModelFolder::load_with`]; [`ModelError::Adapter`] for an adapter's settings at fault.
    pub fn load_frozen(
        &self,
        dtype: DType,
        device: &Device,
        frozen: &FrozenLayers,
        progress: &mut dyn Progress,
    ) -> Result<VisionLanguageModel, ModelError> {
        self.load_made(dtype, |config| VisionLanguageModel::try_init(config, device), Some(frozen), progress)
    }

    /// As [`ModelFolder::load`], into a model of the caller's own: one with the encoder or the backbone that this crate does not
    /// bring. Parameters that the family does not know stand in the files under their own names.
    ///
    /// # Errors
    /// As [`ModelFolder::load`].
    pub fn load_into<V: VisionEncoder, L: LanguageBackbone>(
        &self,
        model: VisionLanguageModel<V, L>,
        dtype: DType,
    ) -> Result<VisionLanguageModel<V, L>, ModelError> {
        self.load_made(dtype, |_| Ok(model), None, &mut ())
    }

    /// Fills the model that `make` makes of the configuration, in which the files have decided whether the head is the embedding.
    fn load_made<V: VisionEncoder, L: LanguageBackbone>(
        &self,
        dtype: DType,
        make: impl FnOnce(&ModelConfig) -> Result<VisionLanguageModel<V, L>, ModelError>,
        frozen: Option<&FrozenLayers>,
        progress: &mut dyn Progress,
    ) -> Result<VisionLanguageModel<V, L>, ModelError> {
        let files = WeightFiles::open(&self.path)?;
        self.check_sizes(&files)?;
        let mut config = self.config.clone();
        config.decoder.tied_head = files.tied_head(&config)?;
        let family = config.family;
        let mut made = make(&config)?;
        progress.begin("load", files.n_bytes());
        let used = HashSet::new();
        let mut source = FolderSource { files: &files, config: &config, dtype, prefix: "", used, progress };
        // A frozen weight is no parameter, so the loader passes over it.
        let frozen_faults = freeze(&mut made, frozen, &mut source)?;
        let model = match adamllm_nn::load(made, &mut source) {
            Ok(model) if frozen_faults.is_empty() => Ok(model),
            Ok(_) => Err(LoadError { faults: frozen_faults }),
            Err(LoadError { faults }) => Err(LoadError { faults: [frozen_faults, faults].concat() }),
        };
        let unexpected = source.unexpected();
        progress.end();
        // Every parameter after that has a fault that is none.
        progress.check_cancelled()?;

        let faults = match model {
            Ok(model) if unexpected.is_empty() => {
                tracing::info!(folder = %self.path.display(), family = family.as_str(), ?dtype, "model loaded");
                return match &self.adapter {
                    None => Ok(model),
                    // Merged, a weight in a smaller form would be a large one again.
                    Some(adapter) if frozen.is_some() => self.load_adapter(model, adapter),
                    Some(adapter) => Ok(self.load_adapter(model, adapter)?.merge_lora()),
                };
            }
            Ok(_) => Vec::new(),
            Err(LoadError { faults }) => faults,
        };
        Err(self.unfit(&files, &config, faults, unexpected))
    }

    /// What is wrong with the files: parameters at fault, by our names, and keys that no parameter asked for.
    fn unfit(
        &self,
        files: &WeightFiles,
        config: &ModelConfig,
        faults: Vec<(String, String)>,
        unexpected: Vec<String>,
    ) -> ModelError {
        let named = |name: &str| match files.stored_keys(config, name).into_iter().next() {
            Some(key) => key,
            None => files.expected_key(config, name),
        };
        let missing: Vec<_> = faults.into_iter().map(|(name, fault)| (named(&name), fault)).collect();
        let cause = cause::likely(files, config, &missing, &unexpected);
        ModelError::Weights { folder: self.path.clone(), cause, missing, unexpected }
    }

    /// Reads the vision encoder with its connector alone: nothing of the decoder is read. Its
    /// [`encode`](VisionEncoder::encode) turns the images of a [`Processor`](crate::Processor) into features of the decoder's
    /// width.
    ///
    /// # Errors
    /// [`ModelError::NoVision`] for a text-only family; otherwise as [`ModelFolder::load`]. Keys of other parts are passed over.
    pub fn load_vision(&self, dtype: DType, device: &Device) -> Result<AutoVisionEncoder, ModelError> {
        let Some(vision) = &self.config.vision else {
            let (record, family) = (self.path.display().to_string(), self.config.family.as_str());
            return Err(ModelError::NoVision { record, images: 0, family });
        };
        let own = ModelError::OwnVisionEncoder { family: self.config.family.as_str() };
        let files = WeightFiles::open(&self.path)?;
        self.load_part(&files, "vision.", vision.init(device).ok_or(own)?, dtype)
    }

    /// Reads the decoder alone, to join it to a vision encoder of the caller's own. Keys of other parts are passed over.
    ///
    /// # Errors
    /// As [`ModelFolder::load`].
    pub fn load_language(&self, dtype: DType, device: &Device) -> Result<Decoder, ModelError> {
        let files = WeightFiles::open(&self.path)?;
        let mut config = self.config.decoder.clone();
        config.tied_head = files.tied_head(&self.config)?;
        self.load_part(&files, "language.", config.init(device), dtype)
    }

    /// Fills a part of the model, whose parameters' names begin with `prefix`.
    fn load_part<M: burn::module::Module>(
        &self,
        files: &WeightFiles,
        prefix: &'static str,
        part: M,
        dtype: DType,
    ) -> Result<M, ModelError> {
        self.check_sizes(files)?;
        let config = &self.config;
        let mut source = FolderSource { files, config, dtype, prefix, used: HashSet::new(), progress: &mut () };
        adamllm_nn::load(part, &mut source).map_err(|LoadError { faults }| {
            let faults = faults.into_iter().map(|(name, fault)| (format!("{prefix}{name}"), fault)).collect();
            self.unfit(files, config, faults, Vec::new())
        })
    }

    /// Refuses sizes that the files cannot fill, before anything is made of them.
    fn check_sizes(&self, files: &WeightFiles) -> Result<(), ModelError> {
        let config = &self.config;
        let n_tensors = files.n_tensors();
        let n_layers = config.decoder.n_layers + config.decoder.cross_layers.len();
        let sizes = [
            ("num_hidden_layers", n_layers),
            ("vision_config (blocks)", config.vision.as_ref().map_or(0, |vision| vision.n_blocks())),
        ];
        for (field, n_blocks) in sizes {
            if n_blocks > n_tensors {
                let expected = format!("no more layers than the weights' {n_tensors} tensors");
                return Err(ModelError::config(&self.path.join("config.json"), field, expected, n_blocks));
            }
        }
        Ok(())
    }

    /// A hash of the weights and of every file that changes answers: the model's identity in cache keys and reports.
    ///
    /// # Errors
    /// [`CoreError::Io`].
    pub fn fingerprint(&self) -> Result<String, ModelError> {
        let mut hashes = BTreeMap::new();
        let adapter = self.adapter.as_deref().map(files_of).transpose()?.unwrap_or_default();
        for (part, files) in [("", self.files()?), ("adapter/", adapter)] {
            for path in files {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let relevant = [".safetensors", ".json", ".jinja", ".txt"].iter().any(|end| name.ends_with(end));
                if relevant {
                    hashes.insert(format!("{part}{name}"), adamllm_core::file_hash(&path)?);
                }
            }
        }
        let parts: Vec<&str> = hashes.iter().flat_map(|(name, hash)| [name.as_str(), hash.as_str()]).collect();
        Ok(adamllm_core::RecordId::of("model-folder", parts).to_string())
    }

    /// The folder's files, without its subfolders, sorted.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, ModelError> {
        files_of(&self.path)
    }

    /// Names, shapes and dtypes of the weights, by key.
    ///
    /// # Errors
    /// As [`ModelFolder::load`], without reading any tensor.
    pub fn tensors(&self) -> Result<BTreeMap<String, (Vec<usize>, String)>, ModelError> {
        let files = WeightFiles::open(&self.path)?;
        let headers = files.shards.iter().flat_map(|shard| shard.tensors.iter());
        Ok(headers.map(|(k, h)| (k.clone(), (h.shape.clone(), format!("{:?}", h.dtype)))).collect())
    }
}

/// Which linear layers are loaded as frozen weights, and how those are kept: all of encoder, connector and decoder but the output
/// head and what is trained in full.
#[derive(Clone, Copy, Debug)]
pub struct FrozenLayers<'a> {
    /// The form in memory.
    pub form: FrozenForm,
    /// The adapter that will be trained beside them. Its [`LoraConfig::modules_to_save`] stay parameters.
    pub adapter: Option<&'a LoraConfig>,
}

impl FrozenLayers<'_> {
    /// Every linear layer in a form, for a model that only answers.
    pub fn all(form: FrozenForm) -> Self {
        Self { form, adapter: None }
    }
}

/// Loads the linear layers that are to be frozen, or that the files have packed, and says which of them are at fault. Embedding and
/// head are kept as they stand in the file, whatever the form of the others: their values are looked up and compared one by one.
fn freeze<V: VisionEncoder, L: LanguageBackbone>(
    model: &mut VisionLanguageModel<V, L>,
    frozen: Option<&FrozenLayers>,
    source: &mut FolderSource,
) -> Result<Vec<(String, String)>, ModelError> {
    let mut faults = Vec::new();
    let trained = frozen.and_then(|frozen| frozen.adapter).map(SavedModules::of).transpose()?;
    let is_frozen = |name: &str| frozen.is_some() && !trained.as_ref().is_some_and(|trained| trained.contains(name));
    let form = frozen.map_or(FrozenForm::Stored, |frozen| frozen.form);
    for (name, linear) in model.linear_layers_mut() {
        let name = format!("{name}.weight");
        let frozen = is_frozen(&name);
        faults.extend(source.freeze(name, &mut linear.weight, form, frozen)?);
    }
    for (name, weight) in model.language.vocabulary_weights_mut() {
        let name = format!("language.{name}");
        let frozen = is_frozen(&name);
        faults.extend(source.freeze(name, weight, FrozenForm::Stored, frozen)?);
    }
    Ok(faults)
}

impl FolderSource<'_> {
    /// Fills a weight that is to be frozen, or that the files have packed; its name and the fault, where it cannot be.
    fn freeze(
        &mut self,
        name: String,
        weight: &mut LinearWeight,
        form: FrozenForm,
        is_frozen: bool,
    ) -> Result<Option<(String, String)>, ModelError> {
        self.progress.check_cancelled()?;
        let files = self.files;
        let Some(key) = files.stored_keys(self.config, &name).into_iter().next() else { return Ok(None) };
        let parts = files.packed_parts(&key);
        if parts.is_empty() && !is_frozen {
            return Ok(None);
        }
        let fault = match files.frozen(&key, weight.dims()) {
            Ok(found) => {
                self.progress.advance(found.n_bytes() as u64);
                *weight = LinearWeight::Frozen(found.into_form(form));
                // Quantised, or not looked at before the first product: the process holds none of the file meanwhile.
                files.release(&key);
                None
            }
            Err(fault) => Some((name, fault)),
        };
        self.used.extend(parts);
        self.used.insert(key);
        Ok(fault)
    }
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    Ok(entries_of(folder)?.into_iter().filter(|path| path.is_file()).collect())
}

fn entries_of(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let entries = std::fs::read_dir(folder).map_err(CoreError::io("list", folder))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(CoreError::io("list", folder))?.path());
    }
    paths.sort();
    Ok(paths)
}
