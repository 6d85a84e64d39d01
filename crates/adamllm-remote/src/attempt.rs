//! One request, tried until it is answered, refused, or not worth another try.

use std::time::{Duration, Instant};

use adamllm_core::backoff;
use serde_json::Value;

use crate::Retry;
use crate::connection::{Connection, Trouble};
use crate::error::{AttemptError, RemoteError};
use crate::pool::{NextStep, Pool};

/// An answer and the URL that it came from.
pub(crate) struct Answered {
    pub(crate) url: String,
    pub(crate) json: Value,
}

/// Everything that a request needs.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) connection: Connection,
    pub(crate) pool: Pool,
    pub(crate) retry: Retry,
}

impl Sender {
    /// Sends a body to `path` of any of the servers.
    pub(crate) fn send(&self, path: &str, body: &Value) -> Result<Answered, RemoteError> {
        let body = serde_json::to_vec(body).expect("string keys and finite numbers");
        let (mut attempts, mut avoided, mut last) = (0, None, None);
        let gives_up_at = Instant::now() + self.retry.patience;
        loop {
            // Waiting for a server is bounded by the patience only; it is no attempt.
            let server = match self.pool.take(avoided, Instant::now()) {
                NextStep::Ask(server) => server,
                NextStep::Check(server) => {
                    self.check(server);
                    continue;
                }
                NextStep::Wait(until) if until <= gives_up_at => {
                    std::thread::sleep(until.saturating_duration_since(Instant::now()));
                    continue;
                }
                NextStep::Wait(_) => return Err(self.gave_up(path, avoided, attempts, last)),
            };

            let url = format!("{}/{path}", self.pool.urls()[server]);
            let outcome = self.connection.post(&url, &body);
            self.pool.give_back(server);

            let (failure, pause) = match outcome {
                Ok(json) => {
                    self.pool.recovered(server);
                    return Ok(Answered { url, json });
                }
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Passing { failure, pause }) => (failure, pause),
            };

            attempts += 1;
            tracing::info!(url, attempts, %failure, "a request failed");
            let rest = self.settle(server, attempts, &failure, pause);
            (avoided, last) = (Some(server), Some(failure));

            // A pause that would end after the patience is not started.
            if attempts >= self.retry.attempts || Instant::now() + rest > gives_up_at {
                return Err(self.gave_up(path, avoided, attempts, last));
            }

            std::thread::sleep(rest);
        }
    }

    /// Lets the server rest where the failure is the server's; returns how long this request itself shall rest.
    fn settle(&self, server: usize, attempts: u32, failure: &AttemptError, asked: Option<Duration>) -> Duration {
        let pause = asked.unwrap_or_else(|| self.pause(attempts));
        match failure {
            AttemptError::Connection(_) => {
                self.pool.lost(server, Instant::now(), |failures| self.pause(failures));
                Duration::ZERO
            }
            AttemptError::Busy { .. } => {
                self.pool.rest(server, Instant::now() + pause);
                Duration::ZERO
            }
            AttemptError::TimedOut(_) | AttemptError::Server { .. } | AttemptError::NotJson(_) => pause,
        }
    }

    /// Checks a server that could not be reached.
    fn check(&self, server: usize) {
        let url = format!("{}/models", self.pool.urls()[server]);
        match self.connection.get(&url) {
            Ok(_) => {
                tracing::info!(url, "a server is back");
                self.pool.recovered(server);
            }
            Err(_) => self.pool.lost(server, Instant::now(), |failures| self.pause(failures)),
        }
    }

    fn gave_up(&self, path: &str, server: Option<usize>, attempts: u32, last: Option<AttemptError>) -> RemoteError {
        match (server, last) {
            (Some(server), Some(last)) => {
                RemoteError::GaveUp { url: format!("{}/{path}", self.pool.urls()[server]), attempts, last }
            }
            _ => {
                let rests = |url: &String| format!("{url}: rests longer than {:?}", self.retry.patience);
                RemoteError::NoServer { failures: self.pool.urls().iter().map(rests).collect() }
            }
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        backoff(self.retry.pause, self.retry.longest_pause, failures)
    }
}
