use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Instant;

use adamllm_core::jsonl::{self, Journal};
use adamllm_core::{Completion, CoreError, Decoding, Generate, ImageRef, ImageStore, Ledger, Progress, Prompt};
use adamllm_core::{Reason, RecordId, Shard, Stage};

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
}

impl Default for PredictOptions {
    fn default() -> Self {
        Self { batch_size: 8, shard: Shard::WHOLE, limit: None, journal: None, predictions: None, decoding: None }
    }
}

/// Asks a model every question of a benchmark. One prediction per answered example, in the benchmark's order; an example
/// that cannot be read or answered goes to the ledger: examples in = predictions + ledger rows.
///
/// # Errors
/// Journal, predictions and ledger files; a benchmark that fails as a whole ([`EvalError::is_row`] does not hold).
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
pub(crate) struct Predicted {
    pub(crate) predictions: Vec<Prediction>,
    /// Inside the model; answers from the journal take no time.
    pub(crate) generate_seconds: f64,
    /// Tokens written in that time.
    pub(crate) n_new_tokens: u64,
    /// A hash over all readable examples.
    pub(crate) dataset: RecordId,
    /// A hash over the pictures of the examples of this shard, where they were at hand.
    pub(crate) images: Option<RecordId>,
    /// The first readable example's prompt.
    pub(crate) first_prompt: Option<String>,
    /// Examples without a group of their own, by what their pictures hold: the same picture under two names is one.
    pub(crate) clusters: HashMap<RecordId, String>,
}

pub(crate) fn predict_all<G: Generate>(
    model: &G,
    benchmark: &dyn Benchmark,
    options: &PredictOptions,
    ledger: &mut Ledger,
    progress: &mut dyn Progress,
) -> Result<Predicted, EvalError> {
    let decoding = options.decoding.clone().unwrap_or_else(|| benchmark.decoding());
    let journal = options.journal.as_ref().map(Journal::open).transpose()?;
    let keys = KeyMaker::new(&model.identity(), &decoding, benchmark.images());
    let n = options.limit.unwrap_or(usize::MAX).min(benchmark.len());
    let mut examinee = Examinee {
        model,
        decoding,
        journal,
        keys,
        ledger,
        done: Vec::new(),
        seen: HashSet::new(),
        seconds: 0.0,
        n_new_tokens: 0,
        dataset: RecordId::of("dataset", [benchmark.name()]),
        images: RecordId::of("images", [benchmark.name()]),
        first_prompt: None,
        clusters: HashMap::new(),
    };
    progress.begin(&format!("predict {}", benchmark.name()), n as u64);
    let indices: Vec<usize> = (0..n).collect();
    for batch in indices.chunks(options.batch_size.max(1)) {
        examinee.answer_batch(benchmark, batch, &options.shard)?;
        progress.advance(batch.len() as u64);
    }
    progress.end();
    examinee.ledger.sync()?;
    examinee.done.sort_by_key(|(index, _)| *index);
    Ok(Predicted {
        predictions: examinee.done.into_iter().map(|(_, prediction)| prediction).collect(),
        generate_seconds: examinee.seconds,
        n_new_tokens: examinee.n_new_tokens,
        dataset: examinee.dataset,
        images: benchmark.images().map(|_| examinee.images),
        first_prompt: examinee.first_prompt,
        clusters: examinee.clusters,
    })
}

struct Examinee<'a, G: Generate> {
    model: &'a G,
    decoding: Decoding,
    journal: Option<Journal<Prediction>>,
    keys: KeyMaker<'a>,
    ledger: &'a mut Ledger,
    done: Vec<(usize, Prediction)>,
    seen: HashSet<RecordId>,
    seconds: f64,
    n_new_tokens: u64,
    dataset: RecordId,
    images: RecordId,
    first_prompt: Option<String>,
    clusters: HashMap<RecordId, String>,
}

/// An example that the model has yet to answer.
struct Pending {
    index: usize,
    id: RecordId,
    key: RecordId,
    prompt: Prompt,
}

impl<G: Generate> Examinee<'_, G> {
    fn answer_batch(&mut self, benchmark: &dyn Benchmark, indices: &[usize], shard: &Shard) -> Result<(), EvalError> {
        let mut pending = Vec::new();
        for &index in indices {
            let example = benchmark.example(index);
            if let Ok(example) = &example {
                self.note(example);
            }
            match example {
                Ok(example) if !shard.holds(&example.id) => {}
                Ok(example) => pending.extend(self.look_up(index, &example)?),
                Err(error) if error.is_row() => {
                    let id = RecordId::given(format!("{}:{}", benchmark.name(), index + 1));
                    self.lose(&id, reason_of(&error), error)?;
                }
                Err(error) => return Err(error),
            }
        }
        self.ask(&pending)
    }

    /// Adds the example to the data set's hash.
    fn note(&mut self, example: &Example) {
        let mut parts = vec![self.dataset.as_str(), example.id.as_str(), &example.prompt];
        let expected = format!("{} {}", example.expected.answer_type().as_str(), example.expected.describe());
        parts.push(&expected);
        parts.extend(example.images.iter().map(ImageRef::as_str));
        self.dataset = RecordId::of("example", parts);
        if self.first_prompt.is_none() {
            self.first_prompt = Some(example.prompt.clone());
        }
    }

    /// The example as work to do, unless its answer is known already or it cannot be asked.
    fn look_up(&mut self, index: usize, example: &Example) -> Result<Option<Pending>, EvalError> {
        if !self.seen.insert(example.id.clone()) {
            self.lose(&example.id, Reason::DuplicateId, "the same id came before")?;
            return Ok(None);
        }
        let prompt = example.to_prompt();
        let key = match self.keys.key(&prompt) {
            Ok((key, pictures)) => {
                let pictures = pictures.concat();
                self.images = RecordId::of("images", [self.images.as_str(), &pictures]);
                if example.group.is_none() && !pictures.is_empty() {
                    self.clusters.insert(example.id.clone(), pictures);
                }
                key
            }
            Err(error) => {
                self.lose(&example.id, Reason::from(&error), error)?;
                return Ok(None);
            }
        };
        let known = self.journal.as_mut().map(|journal| journal.get(&key)).transpose()?.flatten();
        let Some(known) = known else { return Ok(Some(Pending { index, id: example.id.clone(), key, prompt })) };
        self.done.push((index, Prediction { id: example.id.clone(), ..known }));
        Ok(None)
    }

    fn ask(&mut self, pending: &[Pending]) -> Result<(), EvalError> {
        if pending.is_empty() {
            return Ok(());
        }
        let prompts: Vec<Prompt> = pending.iter().map(|p| p.prompt.clone()).collect();
        let begun = Instant::now();
        let answers = self.model.generate(&prompts, &self.decoding);
        self.seconds += begun.elapsed().as_secs_f64();
        let mut finished = Vec::new();
        for (work, answer) in pending.iter().zip(answers) {
            match answer {
                Ok(completion) => finished.push((work, prediction(&work.id, completion))),
                Err(error) => self.lose(&work.id, Reason::ModelError, error)?,
            }
        }
        self.n_new_tokens += finished.iter().map(|(_, prediction)| prediction.n_new_tokens as u64).sum::<u64>();
        if let Some(journal) = &mut self.journal {
            journal.append(finished.iter().map(|(work, prediction)| (&work.key, prediction)))?;
        }
        self.done.extend(finished.into_iter().map(|(work, prediction)| (work.index, prediction)));
        Ok(())
    }

    fn lose(&mut self, id: &RecordId, reason: Reason, detail: impl ToString) -> Result<(), EvalError> {
        Ok(self.ledger.drop_row(id, Stage::Predict, reason, detail)?)
    }
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
        _ => Reason::InvalidField,
    }
}

/// Makes cache keys of everything that an answer depends on.
struct KeyMaker<'a> {
    run: String,
    images: Option<&'a dyn ImageStore>,
    digests: HashMap<ImageRef, RecordId>,
}

impl<'a> KeyMaker<'a> {
    fn new(identity: &str, decoding: &Decoding, images: Option<&'a dyn ImageStore>) -> Self {
        let decoding = serde_json::to_string(decoding).expect("decoding has string keys and finite numbers");
        Self { run: RecordId::of("run", [identity, &decoding]).to_string(), images, digests: HashMap::new() }
    }

    /// The key, and the pictures' hashes.
    fn key(&mut self, prompt: &Prompt) -> Result<(RecordId, Vec<String>), CoreError> {
        let text = serde_json::to_string(prompt).expect("prompts have string keys");
        let mut pictures = Vec::new();
        for image in prompt.images() {
            pictures.push(self.digest(image)?.to_string());
        }
        let parts = [self.run.as_str(), &text].into_iter().chain(pictures.iter().map(String::as_str));
        Ok((RecordId::of("prediction", parts), pictures))
    }

    /// A hash of the picture's file, of its pixels where there is no file, of its name where there is no store.
    fn digest(&mut self, image: &ImageRef) -> Result<RecordId, CoreError> {
        if let Some(digest) = self.digests.get(image) {
            return Ok(digest.clone());
        }
        let digest = match self.images {
            None => RecordId::of("image name", [image.as_str()]),
            Some(store) => match store.bytes(image)? {
                Some(bytes) => RecordId::of_bytes("image file", [&bytes[..]]),
                None => {
                    let picture = store.open(image)?;
                    let size = format!("{}x{}", picture.width(), picture.height());
                    RecordId::of_bytes("pixels", [size.as_bytes(), picture.as_raw()])
                }
            },
        };
        self.digests.insert(image.clone(), digest.clone());
        Ok(digest)
    }
}
