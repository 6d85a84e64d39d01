use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Instant;

use adamllm_core::jsonl::{self, Journal};
use adamllm_core::{Completion, Decoding, FailureStreak, Generate, Ledger, Progress, Prompt, Reason, RecordId};
use adamllm_core::{Shard, Stage, answer_key};

use crate::survey::Survey;
use crate::{Benchmark, EvalError, Example, Prediction};

/// Where predictions go, and how many prompts the model sees at once.
#[derive(Clone, Debug)]
pub struct PredictOptions {
    /// Prompts per call of the model. Answers do not depend on it.
    pub batch_size: usize,
    /// The part of the benchmark to answer.
    pub shard: Shard,
    /// At most this many examples, from the first on (for a quick look; all where `None`).
    pub limit: Option<usize>,
    /// Finished answers are appended here and synced, batch by batch; a run that was killed goes on from here. Answers
    /// are found by prompt, image bytes, model identity and decoding.
    pub journal: Option<PathBuf>,
    /// `predictions.jsonl`, written whole at the end, in the benchmark's order.
    pub predictions: Option<PathBuf>,
    /// Replaces the benchmark's own decoding.
    pub decoding: Option<Decoding>,
    /// What else belongs into the report's [`software`](crate::RunInfo::software): the engine and its version.
    pub software: BTreeMap<String, String>,
}

impl Default for PredictOptions {
    fn default() -> Self {
        Self {
            batch_size: 8,
            shard: Shard::WHOLE,
            limit: None,
            journal: None,
            predictions: None,
            decoding: None,
            software: BTreeMap::new(),
        }
    }
}

/// Asks a model every question of a benchmark. One prediction per answered example, in the benchmark's order; an example
/// that cannot be read or answered goes to the ledger: examples in = predictions + ledger entries.
///
/// ```
/// use adamllm_core::Ledger;
/// use adamllm_core::testing::ScriptedModel;
/// use adamllm_eval::{BenchmarkDescription, DescribedBenchmark, JsonExamples, PredictOptions, predict};
///
/// let description = BenchmarkDescription::from_toml("name = \"lungs\"\nanswer = \"closed\"\nimage_use = \"none\"")?;
/// let record = serde_json::json!({"id": "1", "question": "Is the left lung clear?", "label": "no"});
/// let records = JsonExamples::from_records("lungs", record.as_object().cloned().into_iter());
/// let benchmark = DescribedBenchmark::new(description, Box::new(records))?;
///
/// let model = ScriptedModel::new(|_| Ok("No.".into())); // any `Generate`
/// let mut ledger = Ledger::new();
/// let predictions = predict(&model, &benchmark, &PredictOptions::default(), &mut ledger, &mut ())?;
/// assert_eq!(predictions[0].answer, "No.");
/// # Ok::<(), adamllm_eval::EvalError>(())
/// ```
///
/// # Errors
/// [`CoreError::Cancelled`](adamllm_core::CoreError::Cancelled), [`CoreError::ModelFails`](adamllm_core::CoreError::ModelFails);
/// [`EvalError::NoImages`] before anything is asked; journal, predictions and ledger files; a benchmark that fails as a whole ([`EvalError::is_example_error`] does not hold).
pub fn predict<G: Generate>(
    model: &G,
    benchmark: &dyn Benchmark,
    options: &PredictOptions,
    ledger: &mut Ledger,
    progress: &mut dyn Progress,
) -> Result<Vec<Prediction>, EvalError> {
    let predicted = predict_all(model, benchmark, options, ledger, progress)?;
    if let Some(path) = &options.predictions {
        jsonl::write(path, &predicted.predictions)?;
    }
    Ok(predicted.predictions)
}

/// Predictions, and what there is to say about how they came about.
pub(crate) struct Predicted<'a> {
    pub(crate) predictions: Vec<Prediction>,
    /// Inside the model; answers from the journal take no time.
    pub(crate) generate_seconds: f64,
    /// Prompts that the model was asked in that time.
    pub(crate) n_asked: usize,
    /// Tokens written in that time.
    pub(crate) n_new_tokens: u64,
    /// The examples that were asked about.
    pub(crate) survey: Survey<'a>,
}

pub(crate) fn predict_all<'a, G: Generate>(
    model: &G,
    benchmark: &'a dyn Benchmark,
    options: &PredictOptions,
    ledger: &mut Ledger,
    progress: &mut dyn Progress,
) -> Result<Predicted<'a>, EvalError> {
    benchmark.check()?;

    let n = options.limit.unwrap_or(usize::MAX).min(benchmark.len());
    let mut prediction_loop = PredictionLoop {
        model,
        benchmark,
        identity: model.identity(),
        decoding: options.decoding.clone().unwrap_or_else(|| benchmark.decoding()),
        journal: options.journal.as_ref().map(Journal::open).transpose()?,
        ledger,
        ids: HashSet::new(),
        failures: FailureStreak::of(model),
        done: Predicted {
            predictions: Vec::new(),
            generate_seconds: 0.0,
            n_asked: 0,
            n_new_tokens: 0,
            survey: Survey::of(benchmark),
        },
    };

    progress.begin(&format!("predict {}", benchmark.name()), n as u64);
    let indices: Vec<usize> = (0..n).collect();

    for batch in indices.chunks(options.batch_size.max(1)) {
        progress.check_cancelled()?;
        prediction_loop.answer_batch(batch, &options.shard)?;
        progress.advance(batch.len() as u64);
    }

    progress.end();
    prediction_loop.ledger.sync()?;
    Ok(prediction_loop.done)
}

struct PredictionLoop<'a, 'm, G: Generate> {
    model: &'m G,
    benchmark: &'a dyn Benchmark,
    identity: String,
    decoding: Decoding,
    journal: Option<Journal<Prediction>>,
    ledger: &'m mut Ledger,
    ids: HashSet<RecordId>,
    failures: FailureStreak,
    done: Predicted<'a>,
}

/// An example that the model can be asked.
#[derive(Clone)]
struct Question {
    id: RecordId,
    key: RecordId,
    prompt: Prompt,
}

impl<G: Generate> PredictionLoop<'_, '_, G> {
    fn answer_batch(&mut self, indices: &[usize], shard: &Shard) -> Result<(), EvalError> {
        let mut questions = Vec::new();
        for &index in indices {
            match self.benchmark.question(index) {
                Ok(example) => {
                    self.done.survey.note(&example);
                    if shard.holds(&example.id) {
                        questions.extend(self.question(&example)?);
                    }
                }
                Err(error) if error.is_example_error() => {
                    let id = RecordId::given(format!("{}:{}", self.benchmark.name(), index + 1));
                    self.lose(&id, reason_of(&error), error)?;
                }
                Err(error) => return Err(error),
            }
        }
        self.answer(&questions)
    }

    /// The example's question, unless it cannot be asked.
    fn question(&mut self, example: &Example) -> Result<Option<Question>, EvalError> {
        if !self.ids.insert(example.id.clone()) {
            self.lose(&example.id, Reason::DuplicateId, "the same id came before")?;
            return Ok(None);
        }
        let hashes = match self.done.survey.hash_images(example) {
            Ok(hashes) => hashes,
            Err(error) => {
                self.lose(&example.id, Reason::from(&error), error)?;
                return Ok(None);
            }
        };
        let prompt = example.to_prompt();
        let key = answer_key("predict", &self.identity, &self.decoding, &prompt, &hashes);
        Ok(Some(Question { id: example.id.clone(), key, prompt }))
    }

    fn answer(&mut self, questions: &[Question]) -> Result<(), EvalError> {
        let (model, decoding, done) = (self.model, &self.decoding, &mut self.done);
        let mut ask = |missing: &[Question]| ask(model, missing, decoding, done);

        let results = match &mut self.journal {
            Some(journal) => {
                let keys: Vec<_> = questions.iter().map(|question| question.key.clone()).collect();
                journal.complete(&keys, questions, ask)?
            }
            None => ask(questions),
        };

        let mut failures = Vec::new();
        for (Question { id, prompt, .. }, result) in questions.iter().zip(results) {
            match result {
                Ok(known) => {
                    self.done.predictions.push(Prediction { id: id.clone(), ..known });
                    failures.push(None);
                }
                Err(detail) => {
                    // An image that is broken says nothing about the model: it does not count towards its failures.
                    let (reason, detail) = self.diagnosed(prompt, detail);
                    failures.extend((reason == Reason::ModelError).then(|| Some(detail.clone())));
                    self.lose(id, reason, detail)?;
                }
            }
        }

        Ok(self.failures.observe(failures)?)
    }

    /// Where the model failed because of an image, says so.
    fn diagnosed(&self, prompt: &Prompt, detail: String) -> (Reason, String) {
        let Some(store) = self.benchmark.images() else { return (Reason::ModelError, detail) };
        let broken = prompt.images().iter().find_map(|image| store.open(image).err());
        broken.map_or((Reason::ModelError, detail), |error| (Reason::from(&error), error.to_string()))
    }

    fn lose(&mut self, id: &RecordId, reason: Reason, detail: impl ToString) -> Result<(), EvalError> {
        Ok(self.ledger.drop_record(id, Stage::Predict, reason, detail)?)
    }
}

/// Asks the model, and keeps the time. A failure in words: it ends in the ledger.
fn ask<G: Generate>(
    model: &G,
    questions: &[Question],
    decoding: &Decoding,
    done: &mut Predicted<'_>,
) -> Vec<Result<Prediction, String>> {
    let prompts: Vec<Prompt> = questions.iter().map(|question| question.prompt.clone()).collect();
    let start = Instant::now();
    let answers = model.generate(&prompts, decoding);
    done.generate_seconds += start.elapsed().as_secs_f64();
    done.n_asked += prompts.len();
    let result = |(question, answer): (&Question, Result<Completion, G::Error>)| match answer {
        Ok(completion) => {
            done.n_new_tokens += completion.n_new_tokens as u64;
            Ok(prediction(&question.id, completion))
        }
        Err(error) => Err(error.to_string()),
    };
    questions.iter().zip(answers).map(result).collect()
}

fn prediction(id: &RecordId, completion: Completion) -> Prediction {
    Prediction {
        id: id.clone(),
        answer: completion.text,
        finish: Some(completion.finish),
        n_new_tokens: completion.n_new_tokens,
    }
}

fn reason_of(error: &EvalError) -> Reason {
    match error {
        EvalError::Core(error) => Reason::from(error),
        EvalError::NoImage { .. } => Reason::ImageMissing,
        _ => Reason::InvalidField,
    }
}
