//! Makes a synthesizer of a vision-language model (paper, section 3.1): seed files in, a Hugging Face folder out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use adamllm_core::{Conversation, CoreError, ImageStore, Ledger, LostRecords, Progress, jsonl};
use adamllm_data::FolderImages;
use adamllm_model::{Encoder, Encoding, ModelFolder, Processor, VisionLanguageModel, VlmBatch};
use adamllm_nn::Objective;
use adamllm_synth::Variant;
use adamllm_synth::seed::{BlankImages, SEED_SUPERVISION, SeedConfig, SeedIndex, SeedSources, SeedSummary};
use adamllm_train::{
    FitOptions, FitOutcome, FitReport, ParameterGroup, Schedule, TrainConfig, Trainer, Validation, draw_training,
};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::cards::{ModelCard, last_element, training_settings, write_model_card};
use crate::settings::SettingsError;
use crate::training_set::{ConversationSource, ReadOptions, TrainingSetReader};
use crate::{Dtype, RecipeError, RunOptions, TrainingSet};

/// How a synthesizer is made. The defaults are the paper's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TuneSynthesizerSettings {
    /// VisionFLAN's `metadata.json`: instructions with precise responses.
    pub visionflan: PathBuf,
    /// `ALLaVA-Caption-VFLAN-4V.json`.
    pub allava_captions: PathBuf,
    /// `ALLaVA-Instruct-VFLAN-4V.json`: instructions with informative responses.
    pub allava_instructions: PathBuf,
    /// VisionFLAN's folder of images.
    pub images: PathBuf,
    /// The method, or the ablation without blank images.
    pub variant: Variant,
    /// The share of each task's images that is held out.
    pub dev_share: f64,
    /// The share of images that are replaced by a blank one.
    pub blank_share: f64,
    /// Passes over the data.
    pub epochs: f64,
    /// Ends after so many steps.
    pub max_steps: Option<usize>,
    /// Conversations in an optimizer step.
    pub batch_size: usize,
    /// Conversations in one forward pass, at most.
    pub micro_batch_size: usize,
    /// The peak learning rate.
    pub learning_rate: f64,
    /// The vision encoder's own.
    pub vision_learning_rate: f64,
    /// Longer conversations are left out; so are those that do not fit into the model's context.
    pub max_tokens: usize,
    /// A checkpoint, and an evaluation on the held-out conversations, after every so many steps.
    pub save_every: usize,
    /// Seeds every random choice.
    pub seed: u64,
    /// What the weights are kept in.
    pub dtype: Dtype,
}

impl Default for TuneSynthesizerSettings {
    fn default() -> Self {
        Self {
            visionflan: PathBuf::new(),
            allava_captions: PathBuf::new(),
            allava_instructions: PathBuf::new(),
            images: PathBuf::new(),
            variant: Variant::Full,
            dev_share: 0.1,
            blank_share: 0.1,
            epochs: 2.0,
            max_steps: None,
            batch_size: 128,
            micro_batch_size: 4,
            learning_rate: 2e-5,
            vision_learning_rate: 2e-6,
            max_tokens: 6144,
            save_every: 500,
            seed: 0,
            dtype: Dtype::F32,
        }
    }
}

/// What making a synthesizer did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TuneSynthesizerReport {
    /// What became of the seed files' records.
    pub seeds: SeedSummary,
    /// Conversations that were trained on or held out.
    pub encoded: usize,
    /// Those that could not be encoded, in `encode-ledger.jsonl`.
    pub encode_ledger_entries: u64,
    /// Steps done.
    pub steps: usize,
    /// The loss of the first step of this process, per target token in nats.
    pub loss_first: Option<f64>,
    /// The loss of the last step.
    pub loss_last: Option<f64>,
    /// The last loss on the held-out conversations.
    pub loss_held_out: Option<f64>,
    /// The synthesizer's folder.
    pub model: PathBuf,
    /// Seconds.
    pub seconds: f64,
}

/// What a running job tells.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum TuneEvent<'e> {
    /// The seed conversations are written.
    Seeds(&'e SeedSummary),
    /// They are encoded.
    Encoded {
        /// Conversations to train on.
        train: usize,
        /// Conversations held out.
        held_out: usize,
    },
    /// The synthesizer is written.
    Ended(&'e TuneSynthesizerReport),
}

/// What happened, in a line.
impl std::fmt::Display for TuneEvent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Seeds(SeedSummary { records_in, records_used, ledger_entries, train, dev, blank, .. }) => write!(
                f,
                "seeds: {records_in} records in, {records_used} used, {ledger_entries} in the ledger; {train} conversations to train on, \
                 {dev} held out, {blank} with a blank image"
            ),
            Self::Encoded { train, held_out } => write!(f, "{train} of them fit into the context, {held_out} held out"),
            Self::Ended(report) => {
                let shown = |loss: Option<f64>| loss.map_or_else(|| "none".into(), |loss| format!("{loss:.3}"));
                let [first, last, held_out] = [report.loss_first, report.loss_last, report.loss_held_out].map(shown);
                write!(f, "{} steps, loss {first} -> {last}, held out {held_out}", report.steps)
            }
        }
    }
}

/// The whole job: seeds, training, the synthesizer's folder `model`, and `index.html`, everything below `run.out`.
///
/// # Errors
/// Settings, files, seed files of another layout; [`RecipeError::NoRecordLeft`], [`RecipeError::Stopped`].
pub fn tune_synthesizer(
    settings: &TuneSynthesizerSettings,
    base: &ModelFolder,
    device: &Device,
    run: &RunOptions,
    on_event: &mut dyn FnMut(TuneEvent),
    progress: &mut dyn Progress,
) -> Result<TuneSynthesizerReport, RecipeError> {
    let started = Instant::now();
    let seeds = settings.write_seeds(&run.out, progress)?;
    on_event(TuneEvent::Seeds(&seeds));

    let processor = Processor::read(base)?;
    let conversations = SeedConversations::read(settings, &processor, &run.out, progress)?;
    let held_out = conversations.held_out.as_ref().map_or(0, TrainingSet::len);
    on_event(TuneEvent::Encoded { train: conversations.train.len(), held_out });

    let model: VisionLanguageModel = base.load_with(settings.dtype.into(), &device.clone().autodiff(), progress)?;
    let (model, fitted) = conversations.fit(model, settings, run, progress)?;
    let to = run.out.join("model");
    let is_first = run.collective().rank() == 0;
    if is_first {
        base.save_with(&model, &to, progress)?;
    }

    let report = TuneSynthesizerReport {
        encoded: conversations.train.len() + held_out,
        encode_ledger_entries: conversations.n_lost,
        seeds,
        steps: fitted.steps,
        loss_first: fitted.metrics.first().map(|step| step.loss),
        loss_last: fitted.metrics.last().map(|step| step.loss),
        loss_held_out: fitted.validation.last().map(|evaluation| evaluation.loss),
        model: to,
        seconds: started.elapsed().as_secs_f64(),
    };

    if is_first {
        write_model_card(&report.model, &settings.card(base, &report))?;
        draw_training(&run.out.join("training"))?;
        crate::page::tune_synthesizer::write(settings, base.path(), &report, &run.out)?;
    }

    on_event(TuneEvent::Ended(&report));
    Ok(report)
}

impl TuneSynthesizerSettings {
    /// The three files, joined and streamed to `seeds/train.jsonl`, `seeds/dev.jsonl` and `seeds/ledger.jsonl` below `out`.
    ///
    /// # Errors
    /// Settings; files that are not laid out as published.
    pub fn write_seeds(&self, out: &Path, progress: &mut dyn Progress) -> Result<SeedSummary, RecipeError> {
        if !matches!(self.variant, Variant::Full | Variant::NoBlankImages) {
            let detail = format!("expected full or no_blank_images, got {}", self.variant.as_str());
            return Err(SettingsError::value("variant", detail).into());
        }
        let index = SeedIndex::build(SeedSources {
            precise: self.visionflan.clone(),
            captions: self.allava_captions.clone(),
            informative: self.allava_instructions.clone(),
        })?;
        let blank_share = self.variant.blank_share(self.blank_share);
        let config = SeedConfig { seed: self.seed, dev_share: self.dev_share, blank_share, ..SeedConfig::default() };
        Ok(index.write(&out.join("seeds"), &config, progress)?)
    }

    fn card(&self, base: &ModelFolder, report: &TuneSynthesizerReport) -> ModelCard<'static> {
        let files = [&self.visionflan, &self.allava_captions, &self.allava_instructions];
        let data = files.map(|file| (last_element(file), "seeds".to_owned()));
        let counts = [
            ("conversations trained on or held out", report.encoded as u64),
            ("left out, with a reason in a ledger", report.encode_ledger_entries + report.seeds.ledger_entries),
        ];
        let counts = counts.map(|(name, count)| (name.to_owned(), count.to_string()));
        ModelCard {
            name: format!("{}, a synthesizer", last_element(base.path())),
            base: base.path().to_owned(),
            data: data.into_iter().chain(counts).collect(),
            settings: training_settings(&self.training()),
            outcome: vec![("the job".into(), TuneEvent::Ended(report).to_string())],
            ..ModelCard::default()
        }
    }

    /// The training loop's settings.
    fn training(&self) -> TrainConfig {
        let vision = ParameterGroup {
            prefix: "vision.".into(),
            learning_rate: Some(self.vision_learning_rate),
            weight_decay: None,
            frozen: false,
        };

        TrainConfig {
            seed: self.seed,
            epochs: self.epochs,
            max_steps: self.max_steps,
            batch_size: self.batch_size,
            micro_batch_size: self.micro_batch_size,
            learning_rate: self.learning_rate,
            schedule: Schedule { warmup: 0.03, ..Schedule::default() },
            weight_decay: 0.0,
            groups: vec![vision],
            save_every: Some(self.save_every),
            ..TrainConfig::default()
        }
    }
}

/// Seed conversations that fit into the model's context.
#[derive(Debug)]
pub struct SeedConversations<'a> {
    /// Those to train on.
    pub train: TrainingSet<'a>,
    /// Those held out.
    pub held_out: Option<TrainingSet<'a>>,
    /// Conversations that stand in `encode-ledger.jsonl`.
    pub n_lost: u64,
    /// Why.
    pub losses: LostRecords,
}

impl<'a> SeedConversations<'a> {
    /// Reads `seeds/train.jsonl` and `seeds/dev.jsonl` below `out`. What cannot be encoded stands in `encode-ledger.jsonl`, each with
    /// its own reason. Only texts are held in memory: images are read again for each batch.
    ///
    /// # Errors
    /// Files; [`RecipeError::NoRecordLeft`].
    pub fn read(
        settings: &TuneSynthesizerSettings,
        processor: &'a Processor,
        out: &Path,
        progress: &mut dyn Progress,
    ) -> Result<Self, RecipeError> {
        let max_tokens = Some(settings.max_tokens.min(processor.config().max_context));
        let encoding = Encoding { supervision: SEED_SUPERVISION, max_tokens, ..Encoding::default() };
        let encoder = Encoder::new(processor, encoding)?;
        let ledger = Ledger::create(out.join("encode-ledger.jsonl"))?;
        let mut reader = TrainingSetReader::new(processor, encoder, ReadOptions::default(), ledger)?;
        let blank = SeedConfig::default().blank_image;
        let images: Arc<dyn ImageStore> = Arc::new(BlankImages::new(FolderImages::new(&settings.images), blank));
        let source = |name: &str| -> Result<ConversationSource, CoreError> {
            let file = out.join("seeds").join(name);
            let conversations: Vec<Conversation> = jsonl::read_all(&file)?;
            let place = file.display().to_string();
            Ok(ConversationSource { place, conversations, images: images.clone(), weight: 1.0 })
        };

        let train = reader.take(source("train.jsonl")?, progress)?;
        // Without held-out conversations, a run is not evaluated on the way.
        let held_out = source("dev.jsonl")?;
        let held_out = match reader.take(held_out, progress) {
            Err(RecipeError::NoRecordLeft { .. }) => None,
            other => Some(other?),
        };
        Ok(Self { train, held_out, n_lost: reader.counts().ledger_entries, losses: reader.losses() })
    }

    /// Trains a model on them, evaluated on the held-out ones. Checkpoints and metrics go to `training` below `run.out`.
    ///
    /// # Errors
    /// The run's own; [`RecipeError::Stopped`].
    pub fn fit<M>(
        &self,
        model: M,
        settings: &TuneSynthesizerSettings,
        run: &RunOptions,
        progress: &mut dyn Progress,
    ) -> Result<(M, FitReport), RecipeError>
    where
        M: Objective<Batch = VlmBatch> + 'static,
    {
        let (every, batch_size) = (settings.save_every, settings.micro_batch_size);
        let validation = self.held_out.as_ref();
        let validation = validation.map(|source| Validation { source, every, batch_size, patience: None });

        let options = FitOptions {
            folder: Some(run.out.join("training")),
            resume: run.resume,
            stop: run.stop,
            collective: run.collective,
            ..FitOptions::default()
        };

        let trainer = Trainer::new(settings.training())?;
        let (model, report) = trainer.fit_validated(model, &self.train, validation, options, progress)?;

        match report.outcome {
            FitOutcome::Stopped => Err(RecipeError::Stopped { step: report.steps }),
            _ => Ok((model, report)),
        }
    }
}
