use std::path::{Path, PathBuf};

use adamllm_model::{Encoding, ModelFolder, PixelRange};
use adamllm_nn::{FrozenForm, LoraConfig};
use adamllm_train::TrainConfig;
use serde::{Deserialize, Serialize};

use super::PartsSettings;
use crate::base::check_frozen;
use crate::settings::{self, SettingsError};
use crate::training_set::{ImageCheck, SourceSettings};
use crate::{Dtype, RecipeError};

/// The paper's longest example, in tokens.
const MAX_TOKENS: usize = 6144;

/// Everything that a run of `post_train` is made of. The defaults are the paper's for Qwen2-VL-2B.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostTrainSettings {
    /// The base model.
    pub model: ModelSettings,
    /// What it is trained on.
    pub data: DataSettings,
    /// How conversations become tokens. Without `max_tokens`, the paper's 6144, or the model's context where that is
    /// shorter.
    pub encoding: Encoding,
    /// The training loop.
    pub train: TrainConfig,
    /// Parts of the model with a rate or a decay of their own, or that stay as they are.
    pub parts: PartsSettings,
    /// Held-out examples.
    pub validation: Option<ValidationSettings>,
    /// Low-rank adapters, and what is trained in full beside them; without them, the model's own weights are trained.
    pub adapter: Option<LoraConfig>,
    /// What is written in the end.
    pub export: ExportSettings,
}

/// The base model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// A model folder, or a Hub id where the job is built with `hub`. A name for whoever starts the job: the recipe takes the folder
    /// opened.
    pub folder: String,
    /// `flex` (the CPU), or another backend that is compiled in. A name for whoever starts the job: the recipe takes the device as an
    /// argument.
    pub device: String,
    /// What the weights are kept in.
    pub dtype: Dtype,
    /// How the linear layers beside adapters are kept, which are not trained: `stored` (as in the file, which is mapped), `int8` or
    /// `nf4` (with an adapter, QLoRA; Dettmers et al., 2023, arXiv 2305.14314). Left out, in `dtype` as all others.
    pub frozen: Option<FrozenForm>,
    /// The fewest pixels of an image after resizing, in place of the folder's own `min_pixels`: more pixels are more image tokens.
    pub min_pixels: Option<u64>,
    /// The most, in place of the folder's own `max_pixels`.
    pub max_pixels: Option<u64>,
}

impl ModelSettings {
    /// The base with this run's bounds of an image's pixels.
    pub fn with_pixels(&self, base: &ModelFolder) -> ModelFolder {
        base.clone().with_pixel_range(self.pixel_range())
    }

    /// This run's bounds of an image's pixels.
    pub fn pixel_range(&self) -> PixelRange {
        PixelRange { min_pixels: self.min_pixels, max_pixels: self.max_pixels }
    }
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            folder: String::new(),
            device: "flex".into(),
            dtype: Dtype::F32,
            frozen: None,
            min_pixels: None,
            max_pixels: None,
        }
    }
}

/// What a model is trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataSettings {
    /// Where the examples come from.
    pub sources: Vec<SourceSettings>,
    /// What is looked at before the first step.
    pub check: ImageCheck,
    /// Threads that decode and encode images; 0 for one on each processor. They change no result.
    pub workers: usize,
    /// The share of the records that may be lost to faults; whoever starts the job looks at
    /// [`PostTraining::losses`](super::PostTraining::losses) (`post_train` ends with exit code 4, after everything was written).
    pub max_lost: f64,
}

impl Default for DataSettings {
    fn default() -> Self {
        Self { sources: Vec::new(), check: ImageCheck::default(), workers: 0, max_lost: 0.1 }
    }
}

/// Held-out examples that the model is evaluated on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValidationSettings {
    /// The examples; `weight` and `stage` do not count.
    pub source: SourceSettings,
    /// After every so many steps, and after the last.
    pub every: usize,
    /// Examples in a forward pass.
    pub batch_size: usize,
    /// Ends the run when so many evaluations in succession brought no better loss.
    pub patience: Option<usize>,
}

impl Default for ValidationSettings {
    fn default() -> Self {
        Self { source: SourceSettings::default(), every: 500, batch_size: 4, patience: None }
    }
}

/// What is written in the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportSettings {
    /// The form.
    pub kind: ExportKind,
}

/// The form of the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExportKind {
    /// A Hugging Face folder like the base's; adapters are added to the weights.
    #[default]
    Merged,
    /// PEFT's folder of an adapter.
    Adapter,
}

impl PostTrainSettings {
    /// Reads a file with values of `assignments` in place of its own, makes paths absolute (they are relative to the file) and
    /// checks what can be checked without reading data.
    ///
    /// # Errors
    /// [`SettingsError`] with the key at fault.
    pub fn read(file: &Path, assignments: &[String]) -> Result<Self, SettingsError> {
        let mut config: Self = settings::read(Some(file), assignments)?;
        // A bare file name stands in the current folder.
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        config.resolve(&std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf()));
        config.validate()?;
        Ok(config)
    }

    fn resolve(&mut self, folder: &Path) {
        let validation = self.validation.iter_mut().map(|validation| &mut validation.source);
        for source in self.data.sources.iter_mut().chain(validation) {
            let files = [&mut source.conversations, &mut source.captions, &mut source.tasks];
            for path in files.into_iter().flatten().chain(&mut source.images) {
                *path = normal(&folder.join(&*path));
            }
        }
        // What is no folder beside the file may be a Hub id. `BASE+ADAPTER` names two folders.
        let absolute = |name: &str| {
            let beside = folder.join(name);
            let found = !name.is_empty() && beside.is_dir();
            if found { normal(&beside).to_string_lossy().into_owned() } else { name.to_owned() }
        };
        self.model.folder = match self.model.folder.split_once('+') {
            Some((base, adapter)) if !folder.join(&self.model.folder).is_dir() => {
                format!("{}+{}", absolute(base), absolute(adapter))
            }
            _ => absolute(&self.model.folder),
        };
    }

    fn validate(&self) -> Result<(), SettingsError> {
        if self.model.folder.is_empty() {
            return Err(SettingsError::value("model.folder", "expected a model folder, got none"));
        }
        if self.data.sources.is_empty() {
            return Err(SettingsError::value("data.sources", "expected at least one source, got none"));
        }

        for (i, source) in self.data.sources.iter().enumerate() {
            source.validate(&format!("data.sources.{i}"))?;
        }

        if let Some(validation) = &self.validation {
            validation.source.validate("validation.source")?;
            if validation.every == 0 || validation.batch_size == 0 {
                return Err(SettingsError::value(
                    "validation",
                    "expected `every` and `batch_size` of at least 1, got 0",
                ));
            }
        }

        check_frozen(self.model.frozen, self.adapter.as_ref(), "model.frozen")?;

        if self.export.kind == ExportKind::Adapter && self.adapter.is_none() {
            return Err(SettingsError::value(
                "export.kind",
                "expected merged where there is no [adapter], got adapter",
            ));
        }

        if !(0.0..=1.0).contains(&self.data.max_lost) {
            return Err(SettingsError::value("data.max_lost", "expected a share from 0 to 1"));
        }

        if self.adapter.as_ref().is_some_and(|adapter| adapter.rank == 0) {
            return Err(SettingsError::value("adapter.rank", "expected at least 1, got 0"));
        }
        if let Some(adapter) = self.adapter.as_ref().filter(|adapter| !(0.0..1.0).contains(&adapter.dropout)) {
            let expected = format!("expected from 0 to below 1, got {}", adapter.dropout);
            return Err(SettingsError::value("adapter.dropout", expected));
        }

        self.train.validate().map_err(|error| SettingsError::value("train", error.to_string()))
    }

    /// The training loop's settings, with those of the parts as groups of parameters.
    pub fn training(&self) -> TrainConfig {
        let groups = self.parts.groups().chain(self.train.groups.iter().cloned()).collect();
        TrainConfig { groups, ..self.train.clone() }
    }

    /// As [`PostTrainSettings::training`], for a model whose parameters have these names: a part's groups of other families are left out.
    ///
    /// # Errors
    /// [`SettingsError`] names a part that the model does not have.
    pub fn training_of(&self, names: &[&str]) -> Result<TrainConfig, SettingsError> {
        let has = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
        if let Some((key, ..)) =
            self.parts.named().find(|(_, part, _)| !part.prefixes().iter().any(|prefix| has(prefix)))
        {
            return Err(SettingsError::value(format!("parts.{key}"), "the model has no such part"));
        }
        let groups = self.parts.groups().filter(|group| has(&group.prefix)).chain(self.train.groups.iter().cloned());
        Ok(TrainConfig { groups: groups.collect(), ..self.train.clone() })
    }

    /// With the longest example that the paper and the base's context allow, where none is set.
    #[must_use]
    pub fn for_base(mut self, base: &ModelFolder) -> Self {
        self.encoding.max_tokens.get_or_insert(MAX_TOKENS.min(base.config().max_context));
        self
    }

    /// Writes the settings into a run's folder, as `config.toml`. A run goes on only with the settings that it was started with.
    ///
    /// # Errors
    /// [`RecipeError::OtherSettings`]; the file.
    pub fn save(&self, folder: &Path, resume: bool) -> Result<(), RecipeError> {
        let saved = folder.join("config.toml");
        if resume && saved.exists() {
            let started = Self::read(&saved, &[])?;
            if let Some((key, now, before)) = self.differs_from(&started)? {
                return Err(RecipeError::OtherSettings { file: saved, key, before, now });
            }
        }
        Ok(adamllm_core::write_atomically(&saved, settings::write(self)?)?)
    }

    /// The stages that sources name, ascending.
    pub fn stages(&self) -> Vec<usize> {
        let stages: std::collections::BTreeSet<usize> = self.data.sources.iter().map(|source| source.stage).collect();
        stages.into_iter().collect()
    }

    /// The first setting (key, this one's value, the other's) that differs from those of a run that is to go on, among the ones
    /// that change its result.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn differs_from(&self, other: &Self) -> Result<Option<(String, String, String)>, SettingsError> {
        let free =
            ["train.save_every", "train.keep_last", "train.log_every", "data.workers", "data.max_lost", "export.kind"];
        let found = settings::differences(self, other)?;
        Ok(found.into_iter().find(|(key, ..)| !free.contains(&key.as_str())))
    }
}

/// The path without `.` and `..`, where they can be taken out by text.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir if normal.file_name().is_some() => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests;
