use std::time::Duration;

use adamllm_core::TurnMarkers;
use serde_json::{Map, Value};

use crate::{ApiKey, RemoteError};

/// Where a model's servers are, and how they are asked. The defaults suit servers of one's own.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteConfig {
    /// The servers' base URLs, such as `http://127.0.0.1:8000/v1` (`/v1` is added where the URL has no path). All serve the
    /// same model; a request goes to the one with the least under way.
    pub servers: Vec<String>,
    /// The model's name on the servers; where `None`, the only one that they offer.
    pub model: Option<String>,
    /// Goes into [`identity`](adamllm_core::Generate::identity): change it when the weights behind the name change, which a
    /// server cannot tell.
    pub revision: String,
    /// Sent as a bearer token.
    pub api_key: Option<ApiKey>,
    /// A proxy's URL. None is taken from the environment.
    pub proxy: Option<String>,
    /// What the servers understand; where `None`, it is known by who they say owns the model (`vllm`, `sglang`).
    pub dialect: Option<Dialect>,
    /// How the servers are made to write a user's turn.
    pub user_turn: UserTurn,
    /// The template's turn markers, for callers that keep special tokens: a server does not tell them.
    pub markers: Option<TurnMarkers>,
    /// The text that ends everything, such as `<|end_of_text|>`: where an answer may run through the ends of turns
    /// ([`Decoding::through_turns`](adamllm_core::Decoding::through_turns)), it ends here.
    pub end_of_text: Option<String>,
    /// How images are sent.
    pub image_form: ImageForm,
    /// How given answers are scored.
    pub score_method: ScoreMethod,
    /// Requests under way at once, over all servers.
    pub concurrency: usize,
    /// To find and greet a server.
    pub connect_timeout: Duration,
    /// For a whole request, from the first byte sent to the last one received.
    pub request_timeout: Duration,
    /// What happens after a failure that may pass.
    pub retry: Retry,
    /// Further fields of every request's body; they win over ours, and are part of the model's identity.
    pub extra: Map<String, Value>,
}

impl RemoteConfig {
    /// The defaults for these servers.
    pub fn new(servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            model: None,
            revision: String::new(),
            api_key: None,
            proxy: None,
            dialect: None,
            user_turn: UserTurn::default(),
            markers: None,
            end_of_text: None,
            image_form: ImageForm::default(),
            score_method: ScoreMethod::default(),
            concurrency: 16,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(600),
            retry: Retry::default(),
            extra: Map::new(),
        }
    }

    /// Checks what the client relies on.
    ///
    /// # Errors
    /// [`RemoteError::Config`].
    pub fn validate(&self) -> Result<(), RemoteError> {
        let error = |field, expected, got: String| Err(RemoteError::Config { field, expected, got });
        let lacks_scheme = |url: &&String| !url.starts_with("http://") && !url.starts_with("https://");

        if self.servers.is_empty() {
            return error("servers", "at least one URL", "none".into());
        }
        if let Some(url) = self.servers.iter().find(lacks_scheme) {
            return error("servers", "http:// or https://", url.clone());
        }

        let needs_tls = |url: &&String| !cfg!(feature = "tls") && url.starts_with("https://");
        if let Some(url) = self.servers.iter().find(needs_tls) {
            return error("servers", "http://, or the feature `tls` of adamllm-remote compiled in", url.clone());
        }

        if self.concurrency == 0 {
            return error("concurrency", "at least 1", "0".into());
        }
        if self.retry.attempts == 0 {
            return error("retry.attempts", "at least 1", "0".into());
        }

        match self.score_method {
            ScoreMethod::TopTokens(0) => error("score_method", "at least 1 token", "0".into()),
            _ => Ok(()),
        }
    }
}

/// What happens after a failure that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts at one request, the first one included.
    pub attempts: u32,
    /// The pause after the first failure; it doubles with each further one, and is cut to a random 50 to 100 %, so that
    /// many clients do not come back together.
    pub pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// A request waits this long in all for a server to be there again; a server that asks for more (`Retry-After`) is
    /// not waited for.
    pub patience: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 6,
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
            patience: Duration::from_secs(300),
        }
    }
}

/// What a server understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// The fields of OpenAI's own interface only: llama.cpp, mistral.rs, `transformers serve` and others. Special tokens cannot be
    /// kept, nor turns be run through.
    OpenAi,
    /// vLLM's and SGLang's further fields too: `top_k`, `repetition_penalty`, `min_tokens`, `skip_special_tokens`, `ignore_eos`,
    /// `add_generation_prompt`, `continue_final_message`, `chat_template`.
    Vllm,
}

/// How a server is made to write a user's turn ([`Prompt::Chat`](adamllm_core::Prompt::Chat) with an open
/// [`Role::User`](adamllm_core::Role::User)). OpenAI's interface has no word for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UserTurn {
    /// Not at all: such prompts are refused.
    #[default]
    Refused,
    /// The chat template that the server was started with opens a user's turn where it would open the assistant's (vLLM:
    /// `--chat-template FILE`). Works with every server; that server then serves as a synthesizer only.
    ServersTemplate,
    /// Such a template is sent with each request, as `chat_template`. vLLM takes it when started with
    /// `--trust-request-chat-template`.
    Template(String),
    /// The turn is sent empty and continued (`continue_final_message`). Exact where the template puts the content right after
    /// the header; a template that trims contents (Llama 3's does) also loses the line feeds after the header: take
    /// one of the other ways there.
    Continued,
}

/// How images are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageForm {
    /// The file as it is stored, where it is a PNG, JPEG, WebP or GIF; else as [`ImageForm::Pixels`].
    #[default]
    Stored,
    /// Decoded here, upright, and sent as a PNG: the server sees exactly the pixels that a local model would see. Larger.
    Pixels,
}

/// How log-probabilities of given answers are read from a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScoreMethod {
    /// The most probable next tokens of one answer of one token, so many of them (vLLM: at most 20 unless started with
    /// `--max-logprobs`; OpenAI's completions: at most 5). Each answer must be a single token. An answer that is not among
    /// them scores minus infinity: its probability is below the least of those listed. Where none is among them, the
    /// result is an error.
    TopTokens(u32),
    /// The prompt with each answer after it is sent and its tokens' log-probabilities are read back (`echo`): exact, for answers
    /// of any length, one request each. Plain text prompts only; vLLM, SGLang and OpenAI's base models can, llama.cpp cannot.
    Echo,
}

impl Default for ScoreMethod {
    fn default() -> Self {
        Self::TopTokens(20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_relies_on_is_checked() {
        let field = |config: RemoteConfig| match config.validate() {
            Err(RemoteError::Config { field, .. }) => Some(field),
            other => other.map(|()| None).expect("no other error"),
        };
        let config = || RemoteConfig::new(["http://a:8000"]);
        let retry = |attempts| Retry { attempts, ..Retry::default() };
        assert_eq!(field(config()), None);
        for servers in [&[][..], &["a:8000"], &["http://a", "ftp://b"]] {
            assert_eq!(field(RemoteConfig::new(servers.iter().copied())), Some("servers"), "{servers:?}");
        }
        let secure = field(RemoteConfig::new(["https://a"]));
        assert_eq!(secure, if cfg!(feature = "tls") { None } else { Some("servers") });
        assert_eq!(field(RemoteConfig { concurrency: 0, ..config() }), Some("concurrency"));
        assert_eq!(field(RemoteConfig { retry: retry(0), ..config() }), Some("retry.attempts"));
        assert_eq!(field(RemoteConfig { retry: retry(1), concurrency: 1, ..config() }), None);
        let tokens = |n| RemoteConfig { score_method: ScoreMethod::TopTokens(n), ..config() };
        assert_eq!([field(tokens(0)), field(tokens(1))], [Some("score_method"), None]);
        assert_eq!(field(RemoteConfig { score_method: ScoreMethod::Echo, ..config() }), None);
    }
}
