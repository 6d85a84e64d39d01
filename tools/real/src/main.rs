//! Joins SmolLM2-135M to a vision encoder with random weights, post-trains the pair on easy-VQA in a single stage, and asks it the test
//! questions, with their images and with white ones.
//!
//!     real-run train DATA OUT [--set KEY=VALUE]..   # goes on with what is in OUT
//!     real-run evaluate DATA OUT
//!     real-run start DATA OUT STEPS                 # the first weights and the first steps' examples, for `torch_steps.py`

mod encoder;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use adamllm::burn::module::Module;
use adamllm::core::{Ledger, write_atomically};
use adamllm::model::VisionLanguageModel;
use adamllm::nn::{Parameters, StoredTensor, snapshots, write_safetensors};
use adamllm::prelude::*;
use adamllm::recipes::benchmarks::BenchmarkSettings;
use adamllm::recipes::evaluate::{Evaluation, EvaluationSettings};
use adamllm::recipes::post_train::{PostTrainEvent, PostTraining, begin};
use adamllm::recipes::{PostTrainSettings, RunOptions};
use adamllm::train::{BatchOrder, BatchSource};
use encoder::{ConnectedConvEncoder, ConvEncoderConfig};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Model = VisionLanguageModel<ConnectedConvEncoder>;
type Answer<T> = Result<T, Box<dyn Error>>;

/// A token of the tokenizer that no text of the data has: it stands for an image.
const PLACEHOLDER: &str = "<filename>";
/// Questions of each benchmark that are asked again over white images.
const BLANK_SAMPLE: usize = 1000;

fn main() -> Answer<()> {
    keep_pages();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "real-run train|evaluate|start DATA OUT [STEPS] [--set KEY=VALUE]..";
    let (set, places): (Vec<_>, Vec<_>) = arguments.into_iter().partition(|argument| argument.contains('='));
    let places: Vec<_> = places.iter().map(String::as_str).filter(|argument| *argument != "--set").collect();
    let [task, data, out, steps @ ..] = &places[..] else { return Err(usage.into()) };
    let (data, out) = (Path::new(data), PathBuf::from(out));
    let settings = PostTrainSettings::read(&data.join("settings.toml"), &set)?;
    let run = Run::open(settings, out)?;
    match *task {
        "train" => run.train(),
        "evaluate" => run.evaluate(data),
        "start" => run.write_start(steps.first().ok_or(usage)?.parse()?),
        _ => Err(usage.into()),
    }
}

/// Tells the allocator to keep freed pages, as adamllm's jobs do: a training step takes and frees the same blocks again and again.
fn keep_pages() {
    /// `mi_option_purge_delay` of mimalloc 3: milliseconds after which free pages go back, -1 for never.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: an option of the allocator, set before any thread is started.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}

/// A folder's decoder with the encoder before it, and what is done with them.
struct Run {
    settings: PostTrainSettings,
    encoder: ConvEncoderConfig,
    folder: ModelFolder,
    processor: Processor,
    out: PathBuf,
}

impl Run {
    fn open(settings: PostTrainSettings, out: PathBuf) -> Answer<Self> {
        let base = ModelFolder::open(&settings.model.folder)?;
        let settings = settings.for_base(&base);
        let encoder = ConvEncoderConfig { widths: [32, 64, 128], d_model: base.config().decoder.d_model };
        let folder = join(base, &encoder)?;
        Ok(Self { settings, processor: Processor::read(&folder)?, encoder, folder, out })
    }

    /// Random weights before the folder's, and an adapter beside these.
    fn model(&self) -> Answer<Model> {
        let device = Device::flex().autodiff();
        device.seed(self.settings.train.seed);
        let language = self.folder.load_language(DType::F32, &device)?;
        let model = VisionLanguageModel::new(Some(self.encoder.build(&device)), language);
        Ok(model.with_lora(self.settings.adapter.as_ref().ok_or("the settings have an [adapter]")?)?)
    }

    fn read(&self, ledger: Ledger) -> Answer<PostTraining<'_>> {
        Ok(PostTraining::read(&self.settings, &self.folder, &self.processor, ledger, &mut ())?)
    }

    fn train(&self) -> Answer<()> {
        let options = RunOptions { resume: true, ..RunOptions::new(&self.out) };
        let job = self.read(begin(&self.settings, &options)?)?;
        for stage in job.stages() {
            println!("{}", stage.plan);
        }
        let model = self.model()?;
        println!("{} parameters, {} of them trained", Parameters::of(&model).n_elements(), n_trained(&model));

        let started = Instant::now();
        let mut on_event = |event: PostTrainEvent| match event {
            PostTrainEvent::Step { steps, metrics, .. } if metrics.step % 10 == 0 => println!(
                "step {} of {steps}: loss {:.4}, {:.2} s, {:.0} s in all",
                metrics.step,
                metrics.loss,
                metrics.step_s,
                started.elapsed().as_secs_f64()
            ),
            PostTrainEvent::StageEnded(report) => println!("{report}"),
            _ => {}
        };
        let (model, _) = job.fit(model, &options, &mut on_event, &mut ())?;
        self.folder.save_new(&model.merge_lora(), DType::F32, &self.out.join("model"))?;
        println!("trained in {:.0} s", started.elapsed().as_secs_f64());
        Ok(())
    }

    fn evaluate(&self, data: &Path) -> Answer<()> {
        let settings = EvaluationSettings {
            benchmarks: BenchmarkSettings {
                descriptions: ["shape", "color", "yes-no"].map(|kind| data.join(format!("{kind}.toml"))).to_vec(),
                ..BenchmarkSettings::default()
            },
            name: "post-trained".into(),
            batch_size: 64,
            blank_sample: BLANK_SAMPLE,
            ..EvaluationSettings::default()
        };
        let none = |task: &adamllm::eval::BenchmarkDescription| Err(format!("where are the data of {}?", task.name));
        let opened = settings.benchmarks.open(none)?;
        let mut evaluation = Evaluation::new(&settings, opened, &self.out.join("evaluation"))?;
        let images = Arc::new(evaluation.images());

        let device = Device::flex();
        let saved = join(ModelFolder::open(self.out.join("model"))?, &self.encoder)?;
        let decoder = saved.config().decoder.init(&device);
        let skeleton = VisionLanguageModel::new(Some(self.encoder.build(&device)), decoder);
        let model = saved.load_into(skeleton, DType::F32)?;
        let local = LocalModel::new(model, Processor::read(&saved)?, images, saved.fingerprint()?);

        let started = Instant::now();
        let mut on_task = |task: &adamllm::recipes::evaluate::TaskScores| {
            println!("{}", adamllm::eval::report_table(&[("post-trained", &task.scored.report)]));
        };
        evaluation.ask(&local, &mut on_task, &mut ())?;
        for blank in evaluation.report().blank.values() {
            println!("{}", blank.sentence());
        }
        evaluation.write_pages()?;
        println!("asked in {:.0} s", started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Writes what a training elsewhere needs to begin as this one does: `start.safetensors` and `steps.jsonl`.
    fn write_start(&self, steps: usize) -> Answer<()> {
        std::fs::create_dir_all(&self.out)?;
        let model = self.model()?;
        let names = Parameters::of(&model);
        println!("{} parameters", names.n_elements());
        let tensors = snapshots(&model).into_iter().map(|snapshot| (snapshot.info.name.clone(), snapshot));
        let tensors = tensors.map(|(name, snapshot)| (name, StoredTensor::from_snapshot(snapshot)));
        write_safetensors(tensors, None, &self.out.join("start.safetensors"))?;

        let job = self.read(Ledger::new())?;
        let examples = &job.stages()[0].examples;
        let order = BatchOrder::of(examples, &self.settings.train)?;
        let total = self.settings.train.n_steps(examples.examples_per_epoch());
        write_atomically(self.out.join("total.json"), total.to_string())?;
        let mut shuffled = None;
        let mut lines = String::new();
        for step in 0..steps {
            let of_step = order.examples_of(examples, step, &mut shuffled).to_vec();
            let mut encoded = Vec::new();
            for example in of_step {
                let batch = examples.batch(&[example])?;
                let image = &examples.conversation(example).images[0];
                encoded.push(json!({"tokens": batch.tokens(), "targets": batch.targets(), "image": image.as_str()}));
            }
            lines += &format!("{}\n", json!(encoded));
        }
        Ok(write_atomically(self.out.join("steps.jsonl"), lines)?)
    }
}

/// The folder with the encoder before its decoder.
fn join(base: ModelFolder, encoder: &ConvEncoderConfig) -> Answer<ModelFolder> {
    let token = Processor::read(&base)?.text().required_token(PLACEHOLDER)?;
    Ok(base.with_vision(Arc::new(encoder.clone()), token))
}

/// Elements of the parameters that are trained.
fn n_trained(model: &Model) -> usize {
    use adamllm::burn::module::{ModuleVisitor, Param};
    use adamllm::burn::tensor::Tensor;
    struct Trained(usize);
    impl ModuleVisitor for Trained {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 += if param.is_require_grad() { param.lazy_shape().num_elements() } else { 0 };
        }
    }
    let mut trained = Trained(0);
    model.visit(&mut trained);
    trained.0
}
