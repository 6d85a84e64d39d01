//! A model that is asked through files: the batch form of the OpenAI interface.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use adamllm_core::jsonl::{self, Appender};
use adamllm_core::{
    Completion, CoreError, Decoding, Generate, ImageStore, Ledger, Message, Prompt, Reason, RecordId, ScoreRequest,
    Stage, TurnMarkers,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::answer::completion;
use crate::attempt::Answered;
use crate::model::settings_hash;
use crate::request::Writer;
use crate::{Dialect, RemoteConfig, RemoteError};

/// The files of a batch in its folder.
pub mod batch_files {
    /// Out: a request for each prompt without an answer, `{"custom_id", "method", "url", "body"}`.
    pub const REQUESTS: &str = "requests.jsonl";
    /// In: answers, `{"custom_id", "response": {"status_code", "body"}, "error"}`. Every file whose name begins with `results` and ends in
    /// `.jsonl` is read, in the order of their names.
    pub const RESULTS: &str = "results.jsonl";
    /// The ids of all requests that were ever written.
    pub const SENT: &str = "sent.jsonl";
    /// Unknown, missing, doubled and failed ids, by name.
    pub const LEDGER: &str = "batch-ledger.jsonl";
}

/// A model behind no server but in a folder: what it is asked stands in `requests.jsonl`, what it answered is read from `results.jsonl`
/// (see [`batch_files`]). A prompt without an answer is an `Err` ([`RemoteError::Waiting`]), as any failure, so a job goes through all its records, and
/// once the answers are there it goes on.
///
/// A request's `custom_id` is a hash of everything in it: the same prompt is asked once, whoever asks, and an answer belongs to what was
/// asked. Plain text is sent as one user's turn, since the batch interface has chats only.
///
/// ```no_run
/// use std::sync::Arc;
/// use adamllm_core::{Decoding, Generate, MemoryImages, Prompt};
/// use adamllm_remote::{BatchModel, Dialect, RemoteConfig};
///
/// let config = RemoteConfig::new(Vec::<String>::new()); // no server
/// let model = BatchModel::open("batch", "gpt-4o-mini", Dialect::OpenAi, config, Arc::new(MemoryImages::new()))?;
/// // The first time each answer is `RemoteError::Waiting`, and `batch/requests.jsonl` holds what to send.
/// let answers = model.generate(&[Prompt::Text("The capital of France is".into())], &Decoding::greedy(8));
/// # let _ = answers;
/// # Ok::<(), adamllm_remote::RemoteError>(())
/// ```
#[derive(Debug)]
pub struct BatchModel {
    config: RemoteConfig,
    name: String,
    dialect: Dialect,
    identity: String,
    images: Images,
    folder: PathBuf,
    state: Mutex<State>,
}

struct Images(Arc<dyn ImageStore>);

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Images(..)")
    }
}

#[derive(Debug)]
struct State {
    results: BTreeMap<String, Outcome>,
    /// Requests that were ever written.
    sent: BTreeSet<String>,
    sent_file: Appender,
    /// Requests of this process without an answer, and the file that they go to, renamed at the end.
    waiting: BTreeSet<String>,
    requests: Appender,
    /// Requests of this process that failed.
    failed: BTreeMap<String, String>,
    n_taken: u64,
    ledger: Vec<(String, Reason, String)>,
}

/// What came back for a request.
#[derive(Debug)]
enum Outcome {
    Answered(Value),
    Failed(String),
}

/// One line of `results.jsonl`, as far as it is read.
#[derive(Deserialize)]
struct ResultLine {
    custom_id: String,
    #[serde(default)]
    response: Option<ResponsePart>,
    #[serde(default)]
    error: Value,
}

#[derive(Deserialize)]
struct ResponsePart {
    status_code: u16,
    #[serde(default)]
    body: Value,
}

#[derive(Serialize, Deserialize)]
struct SentLine {
    custom_id: String,
}

/// How a batch stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BatchReport {
    /// Where the requests are that wait for an answer.
    pub requests: PathBuf,
    /// How many wait.
    pub waiting: u64,
    /// Answers that were taken.
    pub taken: u64,
    /// Requests that failed; they are among those that wait, to be sent again.
    pub failed: u64,
    /// Results for ids that were never sent.
    pub unknown: u64,
    /// Requests that were sent before, while there are results, but none for them.
    pub missing: u64,
    /// Second results for one id.
    pub duplicate: u64,
    /// Lines that are no result.
    pub unreadable: u64,
}

impl BatchModel {
    /// A model by its name, asked through the files in `folder`, which is made if it is not there. Of `config` everything counts but servers,
    /// keys and time-outs.
    ///
    /// # Errors
    /// Files. A line that is no result costs itself only.
    pub fn open(
        folder: impl Into<PathBuf>,
        name: &str,
        dialect: Dialect,
        config: RemoteConfig,
        images: Arc<dyn ImageStore>,
    ) -> Result<Self, RemoteError> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder).map_err(CoreError::io("create", &folder))?;

        let sent_file = folder.join(batch_files::SENT);
        let sent_appender = Appender::open(&sent_file)?;
        let sent: BTreeSet<String> =
            jsonl::read::<SentLine>(&sent_file)?.map(|line| Ok(line?.custom_id)).collect::<Result<_, CoreError>>()?;

        // What an earlier process left here unfinished is dropped: its prompts are asked for again.
        let beside = partial(&folder);
        std::fs::write(&beside, "").map_err(CoreError::io("create", &beside))?;

        let mut state = State {
            results: BTreeMap::new(),
            sent,
            sent_file: sent_appender,
            waiting: BTreeSet::new(),
            requests: Appender::open(&beside)?,
            failed: BTreeMap::new(),
            n_taken: 0,
            ledger: Vec::new(),
        };
        state.read_results(&folder)?;

        let identity = format!("batch:{name}:{}:{}", config.revision, settings_hash(&config, dialect));
        let (name, images, state) = (name.to_owned(), Images(images), Mutex::new(state));
        Ok(Self { config, name, dialect, identity, images, folder, state })
    }

    fn complete(&self, prompt: &Prompt, options: &Decoding) -> Result<Completion, RemoteError> {
        let chat = match prompt {
            Prompt::Text(text) => &Prompt::chat(vec![Message::user(text)], Vec::new()),
            chat @ Prompt::Chat { .. } => chat,
        };
        let writer = Writer { config: &self.config, model: &self.name, dialect: self.dialect, images: &*self.images.0 };
        let (path, body) = writer.generate(chat, options)?;
        let url = format!("/v1/{path}");
        let text = serde_json::to_string(&body).expect("JSON values are JSON");
        let custom_id = RecordId::of("batch-request", [url.as_str(), &text]).to_string();

        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = match state.results.get(&custom_id) {
            Some(Outcome::Answered(json)) => {
                let answered =
                    Answered { url: self.folder.join(batch_files::RESULTS).display().to_string(), json: json.clone() };
                state.n_taken += 1;
                return completion(&answered, options, self.config.end_of_text.as_deref());
            }
            Some(Outcome::Failed(message)) => Some(message.clone()),
            None => None,
        };
        if state.waiting.insert(custom_id.clone()) {
            state.requests.append([&json!({"custom_id": custom_id, "method": "POST", "url": url, "body": body})])?;
        }
        let requests = self.folder.join(batch_files::REQUESTS);
        Err(match failure {
            Some(message) => {
                state.failed.insert(custom_id.clone(), message.clone());
                RemoteError::Batch { custom_id, message, requests }
            }
            None => RemoteError::Waiting { custom_id, requests },
        })
    }

    /// Puts `requests.jsonl` in place, with the requests of this process that have no answer (also where there is none), and writes what was wrong
    /// with the results into `batch-ledger.jsonl`. Call it once a job has gone through its records.
    ///
    /// # Errors
    /// Files.
    pub fn finish(&self) -> Result<BatchReport, RemoteError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let mut report = BatchReport {
            requests: self.folder.join(batch_files::REQUESTS),
            waiting: state.waiting.len() as u64,
            taken: state.n_taken,
            failed: state.failed.len() as u64,
            ..BatchReport::default()
        };

        // Written ids are remembered before the requests can be seen: a result for a request that was seen is never unknown.
        let new: Vec<SentLine> = state
            .waiting
            .iter()
            .filter(|id| !state.sent.contains(*id))
            .map(|custom_id| SentLine { custom_id: custom_id.clone() })
            .collect();
        state.sent_file.append(&new)?;
        state.sent_file.sync()?;
        state.requests.sync()?;
        let beside = partial(&self.folder);
        std::fs::rename(&beside, &report.requests).map_err(CoreError::io("rename", &beside))?;

        let mut ledger = Ledger::create(self.folder.join(batch_files::LEDGER))?;
        let mut note =
            |id: &str, reason, detail: &str| ledger.drop_record(&RecordId::given(id), Stage::Read, reason, detail);
        for (id, reason, detail) in &state.ledger {
            note(id, *reason, detail)?;
            match reason {
                Reason::DuplicateId => report.duplicate += 1,
                _ => report.unreadable += 1,
            }
        }
        for id in state.results.keys().filter(|id| !state.sent.contains(*id) && !state.waiting.contains(*id)) {
            report.unknown += 1;
            note(id, Reason::Unmatched, "a result for a request that was never written")?;
        }
        for (id, message) in &state.failed {
            note(id, Reason::ModelError, message)?;
        }
        let missing = |id: &&String| state.sent.contains(*id) && !state.results.contains_key(*id);
        for id in state.waiting.iter().filter(missing).filter(|_| !state.results.is_empty()) {
            report.missing += 1;
            note(id, Reason::Unmatched, "written before, and there are results, but none for it")?;
        }
        ledger.sync()?;
        Ok(report)
    }
}

fn partial(folder: &Path) -> PathBuf {
    folder.join(batch_files::REQUESTS).with_added_extension("partial")
}

impl State {
    /// Reads all files of results. An answer counts before a failure, whichever comes first: what failed may have been sent again.
    fn read_results(&mut self, folder: &Path) -> Result<(), CoreError> {
        let entries = std::fs::read_dir(folder).map_err(CoreError::io("read", folder))?;
        let is_results = |name: &str| name.starts_with("results") && name.ends_with(".jsonl");
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(|n| is_results(n)).collect();
        names.sort();

        for name in names {
            for (index, line) in jsonl::read::<Value>(folder.join(&name))?.enumerate() {
                // A file that cannot be read is an error; a line that says nothing costs itself only.
                let line = line.map_err(|error| match error {
                    CoreError::Io { .. } => Err(error),
                    other => Ok(other.to_string()),
                });

                let read = match line {
                    Ok(value) => serde_json::from_value::<ResultLine>(value).map_err(|error| error.to_string()),
                    Err(Ok(detail)) => Err(detail),
                    Err(Err(error)) => return Err(error),
                };

                match read {
                    Ok(result) => self.take(result),
                    Err(detail) => {
                        let id = format!("{name}:{}", index + 1);
                        self.ledger.push((id, Reason::InvalidJson, format!("no result of a batch: {detail}")));
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, ResultLine { custom_id, response, error }: ResultLine) {
        let outcome = match response {
            Some(ResponsePart { status_code: 200, body }) if error.is_null() => Outcome::Answered(body),
            Some(ResponsePart { status_code, body }) => {
                Outcome::Failed(format!("status {status_code}: {}", message(&body, &error)))
            }
            None => Outcome::Failed(message(&Value::Null, &error)),
        };
        match (self.results.get(&custom_id), &outcome) {
            (Some(Outcome::Failed(_)), Outcome::Answered(_)) | (None, _) => {
                self.results.insert(custom_id, outcome);
            }
            // A failure beside an answer is the try before it.
            (Some(Outcome::Answered(_)), Outcome::Failed(_)) => {}
            (Some(_), _) => {
                self.ledger.push((custom_id, Reason::DuplicateId, "a second result; the first one counts".into()));
            }
        }
    }
}

/// What a failed line says, wherever it says it.
fn message(body: &Value, error: &Value) -> String {
    let places = [&body["error"]["message"], &error["message"], &error["code"], &body["error"]];
    let said = places.into_iter().find_map(Value::as_str).map(str::to_owned);
    said.unwrap_or_else(|| format!("error {error}, body {body}").chars().take(300).collect())
}

impl Generate for BatchModel {
    type Error = RemoteError;

    fn generate(&self, prompts: &[Prompt], options: &Decoding) -> Vec<Result<Completion, RemoteError>> {
        prompts.iter().map(|prompt| self.complete(prompt, options)).collect()
    }

    fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, RemoteError>> {
        let needs = "a server; a judge that is asked in batches writes its verdict (`generated`)";
        requests.iter().map(|_| Err(RemoteError::Unsupported { option: "scoring answers in a batch", needs })).collect()
    }

    /// The model's name, [`RemoteConfig::revision`] and a hash of every setting that may change an answer.
    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn turn_markers(&self) -> Option<TurnMarkers> {
        self.config.markers.clone()
    }

    fn answers_later(&self) -> bool {
        true
    }
}
