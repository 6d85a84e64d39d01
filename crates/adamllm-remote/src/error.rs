use std::path::PathBuf;

use adamllm_core::CoreError;

/// What can go wrong with a model behind a server. One failed prompt is one of these at its own index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// A setting that cannot be.
    #[error("setting `{field}`: expected {expected}, got {got}")]
    Config {
        /// The setting's name.
        field: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What was found.
        got: String,
    },
    /// An image or a conversation, before the server is involved.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The server would not understand an option; it would answer something else than was asked for.
    #[error("{option} needs {needs}")]
    Unsupported {
        /// The option.
        option: &'static str,
        /// What would be needed.
        needs: &'static str,
    },
    /// The server refused the request: another try would end the same way.
    #[error("{url}: status {status}: {message}")]
    Refused {
        /// The URL asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the server said.
        message: String,
    },
    /// Failures that might have passed, until the attempts or the patience were used up.
    #[error("{url}: gave up after {attempts} attempts: {last}")]
    GaveUp {
        /// The URL asked last.
        url: String,
        /// Attempts made.
        attempts: u32,
        /// The last failure.
        last: AttemptError,
    },
    /// The server answered with JSON that is not an answer.
    #[error("{url}: expected {expected}, got {got}")]
    Answer {
        /// The URL asked.
        url: String,
        /// What an answer holds.
        expected: &'static str,
        /// What was found.
        got: String,
    },
    /// A request of a batch has no answer yet.
    #[error("request {custom_id} waits for its answer: it is in {requests}, its answer belongs into results.jsonl beside it", requests = requests.display())]
    Waiting {
        /// The request's id.
        custom_id: String,
        /// The file of requests.
        requests: PathBuf,
    },
    /// A request of a batch failed.
    #[error("request {custom_id} failed in the batch: {message}; it is in {requests} again", requests = requests.display())]
    Batch {
        /// The request's id.
        custom_id: String,
        /// What was said of it.
        message: String,
        /// The file of requests.
        requests: PathBuf,
    },
    /// No server is there.
    #[error("no server answers: {}", .failures.join("; "))]
    NoServer {
        /// Each server with what it said.
        failures: Vec<String>,
    },
    /// The servers do not serve the one model that is wanted.
    #[error("{url} serves {offered:?}, expected {expected}")]
    Model {
        /// The server.
        url: String,
        /// The wanted model.
        expected: String,
        /// The models it serves.
        offered: Vec<String>,
    },
    /// The prompt fills the context that the caller allows.
    #[error("the prompt has {prompt} tokens, expected fewer than {limit}")]
    ContextOverflow {
        /// Tokens, as the server counts them.
        prompt: usize,
        /// [`Decoding::max_context`](adamllm_core::Decoding::max_context).
        limit: usize,
    },
    /// None of the answers to score is among the most probable tokens.
    #[error("none of {answers:?} is among the most probable tokens {listed:?}")]
    NotListed {
        /// The answers.
        answers: Vec<String>,
        /// The tokens.
        listed: Vec<String>,
    },
}

/// One failure that may pass.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// The server could not be reached, or the connection broke.
    #[error("connection: {0}")]
    Connection(String),
    /// No whole answer in time.
    #[error("no answer in time ({0})")]
    TimedOut(String),
    /// The server is too busy (429, 503).
    #[error("busy, status {status}: {message}")]
    Busy {
        /// The HTTP status.
        status: u16,
        /// What the server said.
        message: String,
    },
    /// The server failed (408, 5xx).
    #[error("status {status}: {message}")]
    Server {
        /// The HTTP status.
        status: u16,
        /// What the server said.
        message: String,
    },
    /// The body was not JSON, or was cut.
    #[error("not JSON: {0}")]
    NotJson(String),
}
