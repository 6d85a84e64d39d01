//! One HTTP exchange, and what its outcome means for the next one.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use ureq::http::{Response, header};
use ureq::{Agent, Body, Error, Proxy};

use crate::error::{AttemptError, RemoteError};
use crate::http_date::retry_after;
use crate::{ApiKey, RemoteConfig};

/// Longer answers are refused: no completion is that long.
const MAX_BODY_BYTES: u64 = 1 << 26;
/// How much of a server's explanation is kept.
const MAX_MESSAGE_CHARS: usize = 500;

/// How an exchange failed.
pub(crate) enum Trouble {
    /// It may pass. `pause`: the server asked for this much time.
    Passing { failure: AttemptError, pause: Option<Duration> },
    /// It will not.
    Lasting(RemoteError),
}

impl Trouble {
    fn passing(failure: AttemptError) -> Self {
        Self::Passing { failure, pause: None }
    }
}

/// What all requests share. The pool of open connections is ureq's.
#[derive(Debug)]
pub(crate) struct Connection {
    agent: Agent,
    api_key: Option<ApiKey>,
    connect_timeout: Duration,
}

impl Connection {
    pub(crate) fn new(config: &RemoteConfig) -> Result<Self, RemoteError> {
        let expected = "a proxy's URL";
        let proxy = config.proxy.as_deref().map(|url| {
            Proxy::new(url).map_err(|_| RemoteError::Config { field: "proxy", expected, got: url.to_owned() })
        });
        let agent = Agent::config_builder()
            .proxy(proxy.transpose()?)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(config.connect_timeout))
            .timeout_global(Some(config.request_timeout))
            .max_idle_connections_per_host(config.concurrency)
            .max_idle_connections(config.concurrency * config.servers.len())
            .user_agent(concat!("adamllm/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Ok(Self { agent, api_key: config.api_key.clone(), connect_timeout: config.connect_timeout })
    }

    /// Sends a body, and returns the JSON of the answer.
    pub(crate) fn post(&self, url: &str, body: &[u8]) -> Result<Value, Trouble> {
        let mut request = self.agent.post(url).header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.api_key {
            request = request.header(header::AUTHORIZATION, key.bearer());
        }
        self.read(url, request.send(body))
    }

    /// Asks for a URL in the time that a connection may take: how a server's health is checked.
    pub(crate) fn get(&self, url: &str) -> Result<Value, Trouble> {
        let mut request = self.agent.get(url);
        if let Some(key) = &self.api_key {
            request = request.header(header::AUTHORIZATION, key.bearer());
        }
        let request = request.config().timeout_global(Some(self.connect_timeout)).build();
        self.read(url, request.call())
    }

    fn read(&self, url: &str, answer: Result<Response<Body>, Error>) -> Result<Value, Trouble> {
        let mut answer = answer.map_err(|error| self.broken(&error))?;
        let status = answer.status().as_u16();
        let pause = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let pause = pause.and_then(|value| retry_after(value, SystemTime::now()));
        let body = answer.body_mut().with_config().limit(MAX_BODY_BYTES).read_to_vec();
        if status == 200 {
            let body = body.map_err(|error| self.broken(&error))?;
            let not_json = |error: serde_json::Error| Trouble::passing(AttemptError::NotJson(error.to_string()));
            return serde_json::from_slice(&body).map_err(not_json);
        }
        let message = self.message(&body.unwrap_or_default());
        match status {
            429 | 503 => Err(Trouble::Passing { failure: AttemptError::Busy { status, message }, pause }),
            408 | 500.. => Err(Trouble::Passing { failure: AttemptError::Server { status, message }, pause }),
            _ => Err(Trouble::Lasting(RemoteError::Refused { url: url.to_owned(), status, message })),
        }
    }

    fn broken(&self, error: &Error) -> Trouble {
        let detail = self.redacted(&error.to_string());
        match error {
            Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Trouble::passing(AttemptError::Connection(detail))
            }
            Error::Timeout(_) => Trouble::passing(AttemptError::TimedOut(detail)),
            _ => Trouble::passing(AttemptError::Connection(detail)),
        }
    }

    /// What a server says is wrong: `error.message`, `message` or `detail` of its JSON, or its text.
    fn message(&self, body: &[u8]) -> String {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let fields = [&json["error"]["message"], &json["error"], &json["message"], &json["detail"]];
        let said = fields.into_iter().find(|field| !field.is_null()).map(|field| match field {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let said = said.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
        self.redacted(&said.chars().take(MAX_MESSAGE_CHARS).collect::<String>())
    }

    fn redacted(&self, text: &str) -> String {
        self.api_key.as_ref().map_or_else(|| text.to_owned(), |key| key.redact(text))
    }
}
