//! Makes `datasets/mini` from scratch: draws the mini world, writes its files, and trains the three tiny models on it.
//! We will: write images, captions, seeds and benchmarks; build the tokenizers; train the base model on the general
//! domain, tune the synthesizer from it, and train the judge. Everything is a function of the seed.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a job talks to a person")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use adamllm::burn::module::{Module, ModuleMapper, Param};
use adamllm::burn::tensor::Tensor;
use adamllm::core::{MemoryImages, ScoreRequest, Supervision};
use adamllm::model::{Encoded, Padding, VisionLanguageModel, VlmBatch};
use adamllm::prelude::*;
use adamllm::synth::{FilterConfig, Judged};
use adamllm::train::{ExampleBatches, FitOptions, Schedule, ScheduleKind, StepMetrics};
use adamllm_examples::cli::{self, Bar, JobResult};
use adamllm_mini_world::{
    CAPTIONS_FIRST, CONSISTENT_FIRST, ChatModelSize, DatasetSize, Form, JUDGE_PROMPT, JudgeExample, JudgeSize,
    Labelled, Question, Supervised, TEXTS_FIRST, TrainingExample, Verdict, base_training, chat_tokenizer, examination,
    judge_tokenizer, judge_training, questions, synthesizer_training, write_chat_model_files, write_dataset,
    write_judge_files,
};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Makes the mini data set and its tiny models from scratch.
#[derive(Parser, Debug)]
struct Arguments {
    /// The folder to write
    #[arg(long)]
    out: PathBuf,
    /// Seeds the drawings, the texts, the weights and the training
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Multiplies the number of training steps: less than 1 for a quick look, whose models know little
    #[arg(long, default_value_t = 1.0)]
    effort: f64,
    /// Makes only these parts: data, base, synthesizer, judge
    #[arg(long, num_args = 1.., value_parser = ["data", "base", "synthesizer", "judge"])]
    only: Vec<String>,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(arguments: Arguments) -> JobResult {
    let Arguments { out, seed, effort, only, .. } = &arguments;
    let wanted = |part: &str| only.is_empty() || only.iter().any(|name| name == part);
    let started = Instant::now();
    let done = |part: &str| eprintln!("{part}: done {:.0} s after the start", started.elapsed().as_secs_f64());
    if wanted("data") && out.join("general").exists() {
        return Err(format!("{} holds a data set already; choose another --out", out.display()).into());
    }
    if wanted("data") {
        write_dataset(out, *seed, &DatasetSize::default())?;
        done("data");
    }
    let [base, synthesizer, judge] = ["base", "synthesizer", "judge"].map(|name| out.join("models").join(name));
    if wanted("base") {
        let (skeleton, reader) = (out.join("models/skeleton"), out.join("models/reader"));
        write_chat_model_files(&skeleton, &chat_tokenizer(*seed)?, &ChatModelSize::default())?;
        let recipe = Recipe { rounds: &TEXT_ROUNDS, decays: false, learning_rate: 2e-3, effort: *effort };
        train_chat(&skeleton, None, &reader, base_training(*seed), &recipe, *seed)?;
        let recipe = Recipe { rounds: &IMAGE_ROUNDS, decays: true, learning_rate: 2e-3, effort: *effort };
        let examples = base_training(*seed).skip(TEXTS_FIRST as usize);
        train_chat(&skeleton, Some(&reader), &base, examples, &recipe, *seed)?;
        [skeleton, reader].iter().try_for_each(std::fs::remove_dir_all)?;
        done("base");
    }
    if wanted("synthesizer") {
        let recipe = Recipe { rounds: &[(1875, 16)], decays: true, learning_rate: 1e-3, effort: *effort };
        train_chat(&base, Some(&base), &synthesizer, synthesizer_training(*seed), &recipe, *seed)?;
        done("synthesizer");
    }
    if wanted("judge") {
        let skeleton = out.join("models/skeleton");
        write_judge_files(&skeleton, &judge_tokenizer(*seed)?, &JudgeSize::default())?;
        let recipe = Recipe { rounds: &JUDGE_ROUNDS, decays: true, learning_rate: 2e-3, effort: *effort };
        train_judge(&skeleton, &judge, &recipe, *seed)?;
        std::fs::remove_dir_all(&skeleton)?;
        done("judge");
    }
    Ok(())
}

/// Texts first: 1,600 steps of 96.
const TEXT_ROUNDS: [(usize, usize); 4] = [(TEXTS_FIRST as usize / 96 / 4, 96); 4];
/// Then captions of images, then questions about them.
const IMAGE_ROUNDS: [(usize, usize); 2] = [(CAPTIONS_FIRST as usize / 48, 48), (2000, 48)];
/// Consistent triplets first, then verdicts.
const JUDGE_ROUNDS: [(usize, usize); 2] = [(CONSISTENT_FIRST as usize / 64, 64), (5000, 64)];

/// What a job ends with where it fails.
type Failure = Box<dyn std::error::Error>;

struct Recipe {
    /// Steps of each round, and conversations in each of its steps. After each round, the model is examined.
    rounds: &'static [(usize, usize)],
    /// Whether the rate falls in the last round. What a model has yet to find out, it finds at the full one.
    decays: bool,
    learning_rate: f64,
    effort: f64,
}

impl Recipe {
    fn n_steps(&self, round: usize) -> usize {
        ((round as f64 * self.effort).round() as usize).max(1)
    }

    fn config(&self, seed: u64, batch_size: usize, last: bool) -> TrainConfig {
        TrainConfig {
            seed,
            batch_size,
            micro_batch_size: batch_size,
            learning_rate: self.learning_rate,
            schedule: Schedule {
                warmup: 0.05,
                kind: if last && self.decays { ScheduleKind::Cosine } else { ScheduleKind::Constant },
            },
            weight_decay: 0.01,
            betas: [0.9, 0.98],
            save_every: None,
            ..TrainConfig::default()
        }
    }

    /// Trains on examples in the order in which they are drawn, examines the model after each round, and writes the last one.
    fn fit(
        &self,
        model: VisionLanguageModel,
        run: &Run<'_>,
        examples: impl Iterator<Item = Result<Encoded, Failure>> + Send,
    ) -> JobResult {
        let examples = Mutex::new(examples);
        let draw = |wanted: &[usize]| {
            let mut examples = examples.lock().map_err(|e| e.to_string())?;
            let drawn = examples.by_ref().take(wanted.len()).collect::<Result<Vec<_>, _>>();
            let drawn = drawn.map_err(|e| e.to_string())?;
            Ok::<_, String>(VlmBatch::collate(&drawn.iter().collect::<Vec<_>>(), Padding::Right, run.processor))
        };
        let mut on_step = |m: &StepMetrics| {
            if m.step.is_multiple_of(100) {
                eprintln!("step {}: loss {:.4}, {:.0} ms", m.step, m.loss, m.step_s * 1e3);
            }
        };
        let mut model = model;
        for (i, &(steps, batch_size)) in self.rounds.iter().enumerate() {
            let trainer = Trainer::new(self.config(run.seed, batch_size, i + 1 == self.rounds.len()))?;
            let source = ExampleBatches::new(self.n_steps(steps) * batch_size, &draw);
            let options = FitOptions { on_step: Some(&mut on_step), ..FitOptions::default() };
            model = trainer.fit(model, &source, options, &mut Bar::default())?.0;
            if self.effort >= EXAMINED_FROM {
                run.examine(&model)?;
            }
        }
        Ok(run.folder.save_new(&model, DType::BF16, run.to)?)
    }
}

/// What a training is about beside the model and the recipe.
struct Run<'a> {
    /// The files of the model, without weights or with others.
    folder: &'a ModelFolder,
    processor: &'a Processor,
    /// Where the model goes.
    to: &'a Path,
    seed: u64,
    /// What a written model knows, as a table.
    examine: fn(&Path, u64) -> Result<String, Failure>,
}

impl Run<'_> {
    /// Prints what a model knows once it is written.
    fn examine(&self, model: &VisionLanguageModel) -> JobResult {
        let location = self.to.with_extension("round");
        self.folder.save_new(model, DType::BF16, &location)?;
        eprint!("{}", (self.examine)(&location, self.seed)?);
        Ok(std::fs::remove_dir_all(&location)?)
    }
}

fn train_chat(
    files: &Path,
    weights: Option<&Path>,
    to: &Path,
    examples: impl Iterator<Item = TrainingExample> + Send,
    recipe: &Recipe,
    seed: u64,
) -> JobResult {
    let folder = ModelFolder::open(files)?;
    let processor = Processor::read(&folder)?;
    let device = Device::flex().autodiff();
    let model = match weights {
        Some(path) => ModelFolder::open(path)?.load(DType::F32, &device)?,
        None => {
            device.seed(seed);
            widened(VisionLanguageModel::init(folder.config(), &device))
        }
    };
    let encode = |example: TrainingExample| -> Result<Encoded, Failure> {
        let mut images = MemoryImages::new();
        if let (Some(image), Some(pixels)) = (example.conversation.images.first(), example.pixels) {
            images.insert(image.as_str(), pixels);
        }
        let supervision = match example.supervised {
            Supervised::Assistant | Supervised::Conclusion => Supervision::Replies,
            Supervised::AfterFirstExchange => Supervision::AfterFirstExchange,
        };
        let mut encoded = processor.encode(&example.conversation, supervision, &images)?;
        if example.supervised == Supervised::Conclusion {
            conclusion_alone(&mut encoded, &processor)?;
        }
        Ok(encoded)
    };
    let run = Run { folder: &folder, processor: &processor, to, seed, examine: examine_chat };
    recipe.fit(model, &run, examples.map(encode))
}

fn train_judge(files: &Path, to: &Path, recipe: &Recipe, seed: u64) -> JobResult {
    let folder = ModelFolder::open(files)?;
    let processor = Processor::read(&folder)?;
    let device = Device::flex().autodiff();
    device.seed(seed);
    let model = widened(VisionLanguageModel::init(folder.config(), &device));
    let encode = |example: JudgeExample| -> Result<Encoded, Failure> {
        // The words of consistent triplets count too, not the verdicts alone.
        let consistent = example.verdict == Verdict::Yes;
        let spans =
            [(&*example.instruction, false), (&*example.triplet, consistent), (example.verdict.continuation(), true)];
        Ok(processor.encode_spans(&spans)?)
    };
    let run = Run { folder: &folder, processor: &processor, to, seed, examine: examine_judge };
    recipe.fit(model, &run, judge_training(seed).map(encode))
}

/// How far the judge can be trusted, for each form of question: against triplets of the mini world that it was not trained on, of
/// which the mini world knows the truth. A Markdown table.
fn examine_judge(judge: &Path, seed: u64) -> Result<String, Failure> {
    let model =
        LocalModel::load(&ModelFolder::open(judge)?, DType::F32, &Device::flex(), Arc::new(MemoryImages::new()))?;
    let config = FilterConfig { prompt: JUDGE_PROMPT.to_owned(), ..FilterConfig::scored(0.5) };
    let filter = ConsistencyFilter::with_config(&model, config)?;
    let mut table =
        "| question | triplets | consistent | kept | precision | recall |\n|---|---|---|---|---|---|\n".to_owned();
    for (name, form) in FORMS {
        let labelled = examination(seed, form, EXAMINED);
        let triplet = |example: &Labelled| {
            let pair = ImageCaption::new("none.png", "none");
            TaskTriplet::new(pair.id, pair.image, &example.instruction, &example.informative, &example.precise)
        };
        let triplets: Vec<_> = labelled.iter().map(triplet).collect();
        let judged = filter.judge(&triplets).into_iter().collect::<Result<Vec<_>, _>>()?;
        let kept = |judged: &Judged| judged.verdict == adamllm::synth::Verdict::Consistent;
        let right = |example: &Labelled| example.verdict == Verdict::Yes;
        let n_kept = judged.iter().filter(|judged| kept(judged)).count();
        let n_right = labelled.iter().filter(|example| right(example)).count();
        let both = labelled.iter().zip(&judged).filter(|(example, judged)| right(example) && kept(judged)).count();
        let (precision, recall) = (both as f64 / n_kept.max(1) as f64, both as f64 / n_right as f64);
        let n = labelled.len();
        table += &format!("| {name} | {n} | {n_right} | {n_kept} | {precision:.3} | {recall:.3} |\n");
        for (example, judged) in labelled.iter().zip(&judged) {
            tracing::info!(?example, verdict = ?judged.verdict, p_yes = judged.p_yes);
        }
    }
    Ok(table)
}

/// Larger first weights. At a width of 128, a standard deviation of 0.02 begins with attention that is nearly uniform, and training stays there
/// for thousands of steps; with 0.08 it compares words after a few hundred.
fn widened(model: VisionLanguageModel) -> VisionLanguageModel {
    struct Larger;
    impl ModuleMapper for Larger {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match D {
                0 | 1 => param,
                _ => {
                    let (id, weight, _) = param.consume();
                    Param::initialized(id, Tensor::from_inner(weight.inner() * INIT_SCALE).require_grad())
                }
            }
        }
    }
    model.map(&mut Larger)
}

const INIT_SCALE: f64 = 4.0;

/// Of the tokens that count, leaves those that follow from an answer's reason: the letter right after the value, and the conclusion.
fn conclusion_alone(encoded: &mut Encoded, processor: &Processor) -> JobResult {
    let counted: Vec<usize> = (0..encoded.tokens.len()).filter(|&i| encoded.targets[i]).collect();
    let word = |&i: &usize| processor.text().decode(&encoded.tokens[i..=i], true);
    let words = counted.iter().map(word).collect::<Result<Vec<_>, _>>()?;
    let conclusion = words.iter().position(|word| word == " So").unwrap_or(words.len());
    for (word, &i) in words.iter().zip(&counted).take(conclusion) {
        encoded.targets[i] = word.starts_with('(');
    }
    Ok(())
}

/// How often a chat model ends its answer about an image of the general domain with the right word, and how often it draws the right
/// conclusion, in all domains, from a reason that it is given. A Markdown table.
fn examine_chat(folder: &Path, seed: u64) -> Result<String, Failure> {
    let mut table = "| question | from images | from reasons |\n|---|---|---|\n".to_owned();
    let opened = ModelFolder::open(folder)?;
    for (name, form) in FORMS {
        let mut images = MemoryImages::new();
        let questions_seen = questions(seed, form, true, EXAMINED / 4);
        let prompt = |question: &Question| {
            let conversation = question.example.conversation.clone();
            if let (Some(image), Some(pixels)) = (conversation.images.first(), &question.example.pixels) {
                images.insert(image.as_str(), pixels.clone());
            }
            Prompt::Chat { conversation, open: Role::Assistant }
        };
        let prompts: Vec<_> = questions_seen.iter().map(prompt).collect();
        let model = LocalModel::load(&opened, DType::F32, &Device::flex(), Arc::new(images))?;
        let answers = model.generate(&prompts, &Decoding::greedy(40)).into_iter().collect::<Result<Vec<_>, _>>()?;
        let right = |(answer, question): &(&adamllm::core::Completion, &Question)| {
            answer.text.trim_end_matches('.').ends_with(&question.task.precise())
        };
        let seen = answers.iter().zip(&questions_seen).filter(right).count();
        for (answer, question) in answers.iter().zip(&questions_seen).take(2) {
            eprintln!(
                "  {} -> {} ({})",
                question.task.instruction().replace('\n', " "),
                answer.text,
                question.task.precise()
            );
        }

        let reasoned = match form {
            Form::Open => None,
            _ => Some(conclusions(&model, &questions(seed, form, false, EXAMINED))?),
        };
        let share = reasoned.map_or("–".into(), |right| format!("{:.2}", right as f64 / EXAMINED as f64));
        table += &format!("| {name} | {:.2} | {share} |\n", seen as f64 / answers.len() as f64);
    }
    Ok(table)
}

/// How often a model finds what follows from a reason likeliest: yes or no, or the letter.
fn conclusions(model: &LocalModel, questions: &[Question]) -> Result<usize, Failure> {
    let request = |Question { task, reason, .. }: &Question| {
        let continuations: &[&str] = match task.form() {
            Form::Choice => &["(A", "(B", "(C", "(D"],
            _ => &["(yes", "(no"],
        };
        let (instruction, given) = (task.instruction(), reason.trim_end_matches('.'));
        let text = format!(
            "<|im_start|>system\nYou look and answer.<|im_end|>\n<|im_start|>user\n{instruction}<|im_end|>\n<|im_start|>assistant\n{given}"
        );
        ScoreRequest { prompt: Prompt::Text(text), continuations: continuations.iter().map(|&c| c.into()).collect() }
    };
    let requests: Vec<_> = questions.iter().map(request).collect();
    let scores = model.score(&requests).into_iter().collect::<Result<Vec<_>, _>>()?;
    let best = |scores: &Vec<f64>| (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0);
    let right = questions.iter().zip(&requests).zip(&scores).filter(|((question, request), scores)| {
        request.continuations[best(scores)].trim_start_matches('(') == question.task.label
    });
    Ok(right.count())
}

/// The forms of questions, by name.
const FORMS: [(&str, Form); 3] = [("open", Form::Open), ("closed", Form::Closed), ("multiple choice", Form::Choice)];

/// Models of less effort than this know nothing that would be worth the time.
const EXAMINED_FROM: f64 = 0.05;

/// Triplets of each form that the judge is examined on.
const EXAMINED: usize = 400;
