//! The paper's whole path: image-caption pairs in, a better domain model out.
//!
//! 1. a synthesizer proposes a task for each pair, and a judge keeps the consistent ones,
//! 2. captions and tasks become one conversation per image,
//! 3. the base model is post-trained on them in a single stage,
//! 4. base and post-trained model answer the same held-out questions, and those of general benchmarks: what was kept.
//!
//! [`adapt`] is the whole job; the methods of [`Adaptation`] are its parts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use adamllm_core::{
    Conversation, Generate, ImageCaption, ImageStore, InstructionTask, Ledger, LedgerEntry, LostRecords, Progress,
    jsonl,
};
use adamllm_model::{Encoder, Encoding, ModelFolder, PixelRange, Processor, VisionLanguageModel, VlmBatch};
use adamllm_nn::Objective;
use adamllm_synth::{ConsistencyFilter, RunSummary, SynthesisRun, Synthesizer};
use adamllm_train::{FitOptions, FitOutcome, FitReport, SingleStage, TrainConfig, Trainer};
use burn::tensor::Device;

use crate::base::{BaseTraining, check_frozen};
use crate::captions::caption_records;
use crate::files::{read_json, write_json};
use crate::settings::differences;
use crate::training_set::{ConversationSource, ReadOptions, TrainingSetReader};
use crate::{RecipeError, RunOptions, TrainingSet};

mod ablations;
mod cards;
mod evaluation;
mod pages;
mod report;
mod settings;

pub use ablations::{AblationReport, AblationResult, AblationSettings};
pub use evaluation::{AdaptEvaluation, Sample};
pub use report::{AdaptEvent, AdaptReport};
pub use settings::AdaptSettings;

use evaluation::AskedBenchmark;

/// The whole job. Everything is written below `run.out`: `synthesis/`, `conversations.jsonl`, `training/`, `model/` (a Hugging Face
/// folder like the base), `evaluation/`, each with a page of its own, and `index.html` as their front. The two models are dropped when their part is done.
///
/// # Errors
/// Settings, files, a model's folder; [`RecipeError::NoRecordLeft`], [`RecipeError::Stopped`]. One bad record ends nothing.
pub fn adapt<S: Generate, J: Generate>(
    settings: &AdaptSettings,
    base: &ModelFolder,
    (synthesizer, judge): (S, J),
    device: &Device,
    run: &RunOptions,
    progress: &mut dyn Progress,
) -> Result<AdaptReport, RecipeError> {
    Adaptation::new(settings, base, device, run)?.run((synthesizer, judge), &mut |_| {}, progress)
}

/// An adaptation and where it happens.
pub struct Adaptation<'a> {
    settings: &'a AdaptSettings,
    base: &'a ModelFolder,
    device: &'a Device,
    run: &'a RunOptions<'a>,
    processor: Processor,
    images: Arc<dyn ImageStore>,
    benchmarks: Vec<AskedBenchmark>,
    started: Instant,
}

impl std::fmt::Debug for Adaptation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adaptation").field("settings", &self.settings).field("run", &self.run).finish_non_exhaustive()
    }
}

/// The conversations that are trained on.
#[derive(Debug)]
pub struct Composed<'a> {
    /// Those that can be encoded.
    pub examples: TrainingSet<'a>,
    /// All of them.
    pub n_conversations: usize,
}

impl<'a> Adaptation<'a> {
    /// Opens what the job needs beside the two models: the base's processor, the pairs' images and the benchmarks. The base's bounds of an
    /// image's pixels are kept in `pixels.json`: a run that goes on trains on images of the same sizes.
    ///
    /// # Errors
    /// Those files; the run's folder; [`RecipeError::OtherSettings`].
    pub fn new(
        settings: &'a AdaptSettings,
        base: &'a ModelFolder,
        device: &'a Device,
        run: &'a RunOptions<'a>,
    ) -> Result<Self, RecipeError> {
        let images = adamllm_data::images_at(&settings.images)?.into();
        let processor = Processor::read(base)?;
        std::fs::create_dir_all(&run.out).map_err(crate::error::io("create", &run.out))?;
        // A benchmark that does not open is found out now, not after the training.
        let benchmarks = AskedBenchmark::open_all(settings, &run.out.join("evaluation"))?;
        keep_pixel_range(base.pixel_range(), run)?;
        Ok(Self { settings, base, device, run, processor, images, benchmarks, started: Instant::now() })
    }

    /// The pairs' images, for the synthesizer to look at.
    pub fn images(&self) -> Arc<dyn ImageStore> {
        self.images.clone()
    }

    /// All parts, one after the other; `on_event` hears of each.
    ///
    /// # Errors
    /// As [`adapt`].
    pub fn run<S: Generate, J: Generate>(
        &self,
        (synthesizer, judge): (S, J),
        on_event: &mut dyn FnMut(AdaptEvent),
        progress: &mut dyn Progress,
    ) -> Result<AdaptReport, RecipeError> {
        let synthesis = self.synthesize(&synthesizer, &judge, progress)?;
        let asked = [synthesizer.identity(), judge.identity()];
        // Their memory is wanted for training.
        drop((synthesizer, judge));
        on_event(AdaptEvent::Synthesized(&synthesis));
        self.train_and_evaluate(synthesis, asked, on_event, progress)
    }

    /// Parts 2 and 3. Compiled once, whatever the two models are.
    fn train_and_evaluate(
        &self,
        synthesis: RunSummary,
        asked: [String; 2],
        on_event: &mut dyn FnMut(AdaptEvent),
        progress: &mut dyn Progress,
    ) -> Result<AdaptReport, RecipeError> {
        let composed = self.compose(progress)?;
        on_event(AdaptEvent::Composed(&composed));

        let (steps, batch_size) = (self.n_steps(&composed), self.settings.batch_size);
        on_event(AdaptEvent::PostTraining { steps, batch_size });
        let model = self.base_model(progress)?;
        let (model, fitted) = self.post_train(model, &composed, progress)?;
        self.base.save_with(&model, &self.model(), progress)?;
        drop(model);
        on_event(AdaptEvent::PostTrained(&fitted));

        let descriptions: Vec<&Path> = self.settings.descriptions().collect();
        if !descriptions.is_empty() {
            on_event(AdaptEvent::Evaluating(&descriptions));
        }
        let evaluations = self.evaluate(progress)?;
        let samples = self.samples(self.settings.samples)?;
        let losses = self.losses(&synthesis)?;
        let report = AdaptReport::new(synthesis, &composed, &fitted, evaluations, losses);
        let report = AdaptReport { asked, samples, model: self.model(), ..report };
        let page = self.write_pages(&report)?;
        let report = AdaptReport { page, seconds: self.started.elapsed().as_secs_f64(), ..report };
        self.write_cards(&report)?;
        Ok(report)
    }

    /// Part 1: pairs to tasks, in `synthesis`.
    ///
    /// # Errors
    /// Files; the judge's prompt.
    pub fn synthesize<S: Generate, J: Generate>(
        &self,
        synthesizer: &S,
        judge: &J,
        progress: &mut dyn Progress,
    ) -> Result<RunSummary, RecipeError> {
        let filter = ConsistencyFilter::with_config(judge, self.settings.filter()?)?;
        let run = SynthesisRun::new(self.file("synthesis"), &*self.images).resuming(self.run.resume);
        let pairs = caption_records(&self.settings.captions)?;
        Ok(run.run(pairs, &Synthesizer::new(synthesizer), &filter, progress)?)
    }

    /// Part 2, first half: one conversation per image, in `conversations.jsonl`. What cannot be encoded stands in
    /// `encode-ledger.jsonl`, each with its own reason.
    ///
    /// # Errors
    /// Files; [`RecipeError::NoRecordLeft`].
    pub fn compose(&self, progress: &mut dyn Progress) -> Result<Composed<'_>, RecipeError> {
        let pairs = self.pairs()?;
        let tasks: Vec<InstructionTask> = jsonl::read_all(self.file("synthesis").join("tasks.jsonl"))?;
        let stage = SingleStage { seed: self.settings.seed, ..SingleStage::default() };
        let conversations: Vec<Conversation> = stage.compose(&pairs, &tasks)?;
        let file = self.file("conversations.jsonl");
        jsonl::write(&file, &conversations)?;

        let (n_conversations, place) = (conversations.len(), file.display().to_string());
        let mut reader = self.reader(&self.file("encode-ledger.jsonl"))?;
        Ok(Composed { examples: self.examples(&mut reader, conversations, place, progress)?, n_conversations })
    }

    /// The pairs that can be read and say something; the others stand in the synthesis' ledger already.
    fn pairs(&self) -> Result<Vec<ImageCaption>, RecipeError> {
        Ok(caption_records(&self.settings.captions)?.flatten().filter(|pair| pair.validate().is_ok()).collect())
    }

    /// A reader of training sets that notes what cannot be encoded in a new ledger.
    fn reader(&self, ledger: &Path) -> Result<TrainingSetReader<'_>, RecipeError> {
        let encoder = Encoder::new(&self.processor, Encoding::default())?;
        TrainingSetReader::new(&self.processor, encoder, ReadOptions::default(), Ledger::create(ledger)?)
    }

    /// Conversations about the pairs' images as a training set.
    fn examples<'p>(
        &'p self,
        reader: &mut TrainingSetReader<'p>,
        conversations: Vec<Conversation>,
        place: String,
        progress: &mut dyn Progress,
    ) -> Result<TrainingSet<'p>, RecipeError> {
        let source = ConversationSource { place, conversations, images: self.images.clone(), weight: 1.0 };
        reader.take(source, progress)
    }

    /// Optimizer steps of [`Adaptation::post_train`].
    pub fn n_steps(&self, composed: &Composed) -> usize {
        self.settings.training().n_steps(composed.examples.len())
    }

    /// Part 2, second half: the single stage, with checkpoints and metrics in `training`. Any model that reads the batches will do.
    ///
    /// # Errors
    /// The run's own; [`RecipeError::Stopped`].
    pub fn post_train<M>(
        &self,
        model: M,
        composed: &Composed,
        progress: &mut dyn Progress,
    ) -> Result<(M, FitReport), RecipeError>
    where
        M: Objective<Batch = VlmBatch> + 'static,
    {
        let folder = Some(self.file("training"));
        let options = FitOptions { folder, resume: self.run.resume, ..FitOptions::default() };
        self.fit(model, &composed.examples, self.settings.training(), options, progress)
    }

    /// The base on a device with autodiff, with a fresh adapter and frozen weights where the settings say so.
    fn base_model(&self, progress: &mut dyn Progress) -> Result<VisionLanguageModel, RecipeError> {
        let AdaptSettings { dtype, adapter, frozen, seed, .. } = self.settings;
        check_frozen(*frozen, adapter.as_ref(), "frozen")?;
        let training = BaseTraining { dtype: *dtype, frozen: *frozen, adapter: adapter.as_ref(), seed: *seed };
        training.load(self.base, self.device, progress)
    }

    /// Trains to the end, unless the run is stopped.
    fn fit<M>(
        &self,
        model: M,
        examples: &TrainingSet,
        config: TrainConfig,
        options: FitOptions<'a>,
        progress: &mut dyn Progress,
    ) -> Result<(M, FitReport), RecipeError>
    where
        M: Objective<Batch = VlmBatch> + 'static,
    {
        let options = FitOptions { stop: self.run.stop, collective: self.run.collective, ..options };
        let (model, report) = Trainer::new(config)?.fit(model, examples, options, progress)?;
        match report.outcome {
            FitOutcome::Stopped => Err(RecipeError::Stopped { step: report.steps }),
            _ => Ok((model, report)),
        }
    }

    /// Pairs that could not be read, asked about or encoded.
    fn losses(&self, synthesis: &RunSummary) -> Result<LostRecords, RecipeError> {
        let [first, second] = self.ledgers();
        let mut losses = LostRecords::from_ledger(synthesis.records_in, first)?;
        for lost in jsonl::read::<LedgerEntry>(second)? {
            losses.add(&lost?);
        }
        Ok(losses)
    }

    /// The ledgers of synthesis and encoding.
    pub fn ledgers(&self) -> [PathBuf; 2] {
        [self.file("synthesis").join("ledger.jsonl"), self.file("encode-ledger.jsonl")]
    }

    /// The post-trained model's folder.
    pub fn model(&self) -> PathBuf {
        self.file("model")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.run.out.join(name)
    }
}

/// Notes the bounds of an image's pixels in the run's folder. A run that goes on is refused others than it was started with.
fn keep_pixel_range(range: PixelRange, run: &RunOptions) -> Result<(), RecipeError> {
    let file = run.out.join("pixels.json");
    if run.resume && file.exists() {
        let started: PixelRange = read_json(&file)?;
        if let Some((key, now, before)) = differences(&range, &started)?.into_iter().next() {
            return Err(RecipeError::OtherSettings { file, key, before, now });
        }
    }
    Ok(write_json(file, &range)?)
}
