use std::path::{Path, PathBuf};

use adamllm::model::{Encoding, ModelPart};
use adamllm::nn::LoraConfig;
use adamllm::prelude::*;
use adamllm::train::{ParameterGroup, SingleStage};
use serde::{Deserialize, Serialize};

use crate::settings::{self, SettingsError};

/// Everything that a run of `post_train` is made of. The defaults are the paper's for Qwen2-VL-2B.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobConfig {
    /// The base model.
    pub model: ModelConfig,
    /// What it is trained on.
    pub data: DataConfig,
    /// How conversations become training rows. Without `max_tokens`, the paper's 6144, or the model's context where that is
    /// shorter.
    pub encoding: Encoding,
    /// The training loop.
    pub train: TrainConfig,
    /// Parts of the model with a rate or a decay of their own, or that stay as they are.
    pub parts: PartsConfig,
    /// Held-out rows.
    pub validation: Option<ValidationConfig>,
    /// Low-rank adapters; without them, the model's own weights are trained.
    pub adapter: Option<LoraConfig>,
    /// What is written in the end.
    pub export: ExportConfig,
}

/// Parts of the model with settings of their own. Where `train.groups` name some of the same parameters, those count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PartsConfig {
    /// The encoder that reads patches.
    pub vision: Option<PartConfig>,
    /// Merger or projector, and line ends.
    pub connector: Option<PartConfig>,
    /// The decoder's blocks and its last norm.
    pub language: Option<PartConfig>,
    /// The head, where it is a matrix of its own.
    pub head: Option<PartConfig>,
    /// The token embeddings, and a head that is tied to them.
    pub embeddings: Option<PartConfig>,
}

/// The settings of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PartConfig {
    /// A peak learning rate of its own.
    pub learning_rate: Option<f64>,
    /// A decay of its own.
    pub weight_decay: Option<f64>,
    /// Not trained at all.
    pub frozen: bool,
}

impl PartsConfig {
    /// The parts that have settings, by their keys.
    fn named(&self) -> impl Iterator<Item = (&'static str, ModelPart, PartConfig)> + '_ {
        let parts = [
            ("vision", ModelPart::Vision, &self.vision),
            ("connector", ModelPart::Connector, &self.connector),
            ("language", ModelPart::Language, &self.language),
            ("head", ModelPart::Head, &self.head),
            ("embeddings", ModelPart::Embeddings, &self.embeddings),
        ];
        parts.into_iter().filter_map(|(key, part, settings)| Some((key, part, (*settings)?)))
    }

    /// The same as groups of parameters, of every family.
    fn groups(&self) -> impl Iterator<Item = ParameterGroup> + '_ {
        self.named().flat_map(|(_, part, PartConfig { learning_rate, weight_decay, frozen })| {
            let group =
                move |&prefix: &&str| ParameterGroup { prefix: prefix.into(), learning_rate, weight_decay, frozen };
            part.prefixes().iter().map(group)
        })
    }
}

/// The base model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// A model folder, or a Hub id where the job is built with `hub`.
    pub folder: String,
    /// `flex` (the CPU), or another backend that is compiled in.
    pub device: String,
    /// What the weights are kept in.
    pub dtype: crate::cli::Dtype,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self { folder: String::new(), device: "flex".into(), dtype: crate::cli::Dtype::F32 }
    }
}

/// What a model is trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Where the rows come from.
    pub sources: Vec<SourceConfig>,
    /// What is looked at before the first step.
    pub check: ImageCheck,
    /// Threads that decode and encode images; 0 for one on each processor. They change no result.
    pub workers: usize,
    /// The share of the records that may be lost to faults; the job ends with exit code 4 (after everything was written) where
    /// more were.
    pub max_lost: f64,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self { sources: Vec::new(), check: ImageCheck::default(), workers: 0, max_lost: 0.1 }
    }
}

/// What is looked at of every image before the first step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageCheck {
    /// All of it: a broken image costs its row, before the run begins.
    #[default]
    Images,
    /// The header: faster; an image that turns out broken later ends the run.
    Headers,
}

/// A source of rows: either conversations, or captions with or without tasks, which are composed here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceConfig {
    /// Under this name its loss is logged.
    pub name: Option<String>,
    /// ShareGPT rows (JSON or JSON Lines), as `synthesize` and LLaMA-Factory write them.
    pub conversations: Option<PathBuf>,
    /// Image-caption pairs.
    pub captions: Option<PathBuf>,
    /// Tasks for these pairs, `tasks.jsonl` of a synthesis.
    pub tasks: Option<PathBuf>,
    /// How captions and tasks are mixed.
    pub compose: SingleStage,
    /// Folders or zip archives of images, in the order in which they are asked.
    pub images: Vec<PathBuf>,
    /// A name that stands for a blank image, whatever these places hold: the rows of `tune_synthesizer` use `blank.png`.
    pub blank_image: Option<String>,
    /// How often an epoch reads the rows: 0.5 for half of them, 2 for each of them twice.
    pub weight: f64,
    /// Stages are trained one after the other, each from the weights of the one before, with a schedule and an optimizer of
    /// its own.
    pub stage: usize,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            name: None,
            conversations: None,
            captions: None,
            tasks: None,
            compose: SingleStage::default(),
            images: Vec::new(),
            blank_image: None,
            weight: 1.0,
            stage: 1,
        }
    }
}

/// Held-out rows that the model is examined on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValidationConfig {
    /// The rows; `weight` and `stage` do not count.
    pub source: SourceConfig,
    /// After every so many steps, and behind the last.
    pub every: usize,
    /// Rows in a forward pass.
    pub batch_size: usize,
    /// Ends the run when so many examinations in a row brought no better loss.
    pub patience: Option<usize>,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        Self { source: SourceConfig::default(), every: 500, batch_size: 4, patience: None }
    }
}

/// What is written in the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportConfig {
    /// The form.
    pub kind: ExportKind,
}

/// The form of the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportKind {
    /// A Hugging Face folder like the base's; adapters are added to the weights.
    #[default]
    Merged,
    /// PEFT's folder of an adapter.
    Adapter,
}

impl JobConfig {
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
            return Err(fault("model.folder", "expected a model folder, got none"));
        }
        if self.data.sources.is_empty() {
            return Err(fault("data.sources", "expected at least one source, got none"));
        }
        for (i, source) in self.data.sources.iter().enumerate() {
            source.validate(&format!("data.sources.{i}"))?;
        }
        if let Some(validation) = &self.validation {
            validation.source.validate("validation.source")?;
            if validation.every == 0 || validation.batch_size == 0 {
                return Err(fault("validation", "expected `every` and `batch_size` of at least 1, got 0"));
            }
        }
        if self.export.kind == ExportKind::Adapter && self.adapter.is_none() {
            return Err(fault("export.kind", "expected merged where there is no [adapter], got adapter"));
        }
        if !(0.0..=1.0).contains(&self.data.max_lost) {
            return Err(fault("data.max_lost", "expected a share from 0 to 1"));
        }
        if self.adapter.as_ref().is_some_and(|adapter| adapter.rank == 0) {
            return Err(fault("adapter.rank", "expected at least 1, got 0"));
        }
        self.train.validate().map_err(|e| SettingsError::Value { key: "train".into(), detail: e.to_string() })
    }

    /// The training loop's settings, with those of the parts as groups of parameters.
    pub fn training(&self) -> TrainConfig {
        let groups = self.parts.groups().chain(self.train.groups.iter().cloned()).collect();
        TrainConfig { groups, ..self.train.clone() }
    }

    /// As [`JobConfig::training`], for a model whose parameters have these names: a part's groups of other families are left out.
    ///
    /// # Errors
    /// [`SettingsError`] names a part that the model does not have.
    pub fn training_of(&self, names: &[&str]) -> Result<TrainConfig, SettingsError> {
        let has = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
        if let Some((key, ..)) =
            self.parts.named().find(|(_, part, _)| !part.prefixes().iter().any(|prefix| has(prefix)))
        {
            return Err(fault(&format!("parts.{key}"), "the model has no such part"));
        }
        let groups = self.parts.groups().filter(|group| has(&group.prefix)).chain(self.train.groups.iter().cloned());
        Ok(TrainConfig { groups: groups.collect(), ..self.train.clone() })
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

impl SourceConfig {
    fn validate(&self, key: &str) -> Result<(), SettingsError> {
        let below = |field: &str| format!("{key}.{field}");
        match (&self.conversations, &self.captions, &self.tasks) {
            (Some(_), None, None) | (None, Some(_), _) => {}
            (None, None, _) => {
                return Err(fault(key, "expected `conversations`, or `captions` with or without `tasks`"));
            }
            (Some(_), ..) => return Err(fault(&below("conversations"), "expected no `captions` or `tasks` beside it")),
        }
        if !(self.weight > 0.0 && self.weight.is_finite()) {
            return Err(fault(&below("weight"), &format!("expected a positive number, got {}", self.weight)));
        }
        Ok(())
    }
}

fn fault(key: &str, detail: &str) -> SettingsError {
    SettingsError::Value { key: key.into(), detail: detail.into() }
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
mod tests {
    use adamllm::model::Preset;

    use super::*;

    fn configs() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
    }

    /// Every ready file parses, is valid, and comes back from what is saved with a run.
    #[test]
    fn every_ready_file_is_valid() {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(configs()).expect("the folder") {
            let path = entry.expect("an entry").path();
            let config = JobConfig::read(&path, &[]).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let folder = tempfile::tempdir().expect("a temporary folder");
            let saved = folder.path().join("config.toml");
            std::fs::write(&saved, settings::write(&config).expect("TOML")).expect("written");
            assert_eq!(JobConfig::read(&saved, &[]).expect("its own output"), config, "{}", path.display());
            names.push(path.file_stem().expect("a name").to_string_lossy().into_owned());
        }
        for domain in ["biomed", "food", "remote_sensing"] {
            for model in ["qwen2_vl_2b", "llava_next_llama3_8b", "llama_3_2_11b_vision"] {
                assert!(names.contains(&format!("{domain}_{model}")), "{domain}_{model}");
            }
        }
        assert_eq!(names.len(), 9 + 3);
    }

    /// The paper's table of settings.
    #[test]
    fn ready_files_say_what_the_paper_says() {
        for domain in ["biomed", "food", "remote_sensing"] {
            for (model, rate, vision, decay, warmup) in [
                ("qwen2_vl_2b", 1e-5, None, 0.1, 0.1),
                ("llava_next_llama3_8b", 2e-5, Some(2e-6), 0.0, 0.03),
                ("llama_3_2_11b_vision", 5e-6, None, 0.1, 0.1),
            ] {
                let config = JobConfig::read(&configs().join(format!("{domain}_{model}.toml")), &[]).expect("valid");
                let train = &config.train;
                assert_eq!((train.learning_rate, train.weight_decay, train.schedule.warmup), (rate, decay, warmup));
                assert_eq!((train.epochs, train.batch_size, train.save_every), (1.0, 128, Some(500)));
                assert_eq!((config.encoding.max_tokens, train.max_gradient_norm), (Some(6144), Some(1.0)));
                assert_eq!(config.parts.vision.and_then(|part| part.learning_rate), vision, "{model}");
                let groups = config.training().groups;
                let frozen: Vec<_> = groups.iter().filter(|group| group.frozen).map(|g| g.prefix.as_str()).collect();
                let encoder = ["vision.encoder.", "vision.patch_embedding.", "vision.blocks.", "vision.merger."];
                let qwen = model.starts_with("qwen");
                assert_eq!(encoder.iter().all(|prefix| frozen.contains(prefix)), qwen, "{model}: {frozen:?}");
            }
        }
        let synthesizer = JobConfig::read(&configs().join("synthesizer.toml"), &[]).expect("valid");
        assert_eq!(synthesizer.train.epochs, 2.0);
        assert_eq!(synthesizer.encoding.supervision, adamllm::core::Supervision::AfterFirstExchange);
        assert_eq!(synthesizer.encoding.preset, Preset::ChatTemplate);
    }

    /// A part is several beginnings of names, of which a family has some.
    #[test]
    fn groups_are_those_of_the_model() {
        let config = JobConfig::read(&configs().join("food_qwen2_vl_2b.toml"), &[]).expect("valid");
        let names = ["vision.blocks.0.norm1.weight", "vision.merger.norm.weight", "language.embedding"];
        let groups = config.training_of(&names).expect("both parts are there").groups;
        let prefixes: Vec<_> = groups.iter().map(|group| group.prefix.as_str()).collect();
        assert_eq!(prefixes, ["vision.blocks.", "vision.merger."]);
        let error = config.training_of(&names[1..]).expect_err("no encoder").to_string();
        assert!(error.contains("`parts.vision`"), "{error}");
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("job.toml");
        let text =
            "[model]\nfolder = \"org/name\"\n[[data.sources]]\nconversations = \"../rows.jsonl\"\nimages = [\"a\"]\n";
        std::fs::write(&file, text).expect("written");
        let config = JobConfig::read(&file, &["data.sources.0.weight=0.5".into()]).expect("valid");
        assert_eq!(config.model.folder, "org/name");
        let source = &config.data.sources[0];
        assert_eq!(source.conversations, Some(folder.path().parent().expect("a parent").join("rows.jsonl")));
        assert_eq!((source.images.as_slice(), source.weight), (&[folder.path().join("a")][..], 0.5));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("job.toml");
        std::fs::write(&file, "[model]\nfolder = \"m\"\n[[data.sources]]\ncaptions = \"c.json\"\n").expect("written");
        let fault = |assignment: &str| JobConfig::read(&file, &[assignment.into()]).expect_err("at fault").to_string();
        assert!(fault("data.sources.0.weight=0").contains("`data.sources.0.weight`"));
        assert!(fault("data.sources.0.conversations=x").contains("`data.sources.0.conversations`"));
        assert!(fault("export.kind=adapter").contains("`export.kind`"));
        assert!(fault("train.batch_size=0").contains("batch_size"));
        assert!(fault("train.lerning_rate=1").ends_with("did you mean `train.learning_rate`?"));
        assert!(fault("encoding.max_token=1").ends_with("did you mean `encoding.max_tokens`?"));
        assert!(fault("model.dtype=f64").contains("`model.dtype`"));
    }

    #[test]
    fn a_run_goes_on_with_the_settings_that_made_it() {
        let config = JobConfig::default();
        let mut other = config.clone();
        (other.train.log_every, other.data.workers) = (7, 3);
        assert_eq!(config.differs_from(&other).expect("plain values"), None);
        other.encoding.max_tokens = Some(99);
        let (key, ..) = config.differs_from(&other).expect("plain values").expect("differs");
        assert_eq!(key, "encoding.max_tokens");
    }
}
