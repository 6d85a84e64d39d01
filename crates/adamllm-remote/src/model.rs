use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use adamllm_core::{Completion, Decoding, Generate, ImageStore, Prompt, RecordId, ScoreRequest, TurnMarkers};
use serde_json::Value;

use crate::answer::{completion, echoed, top_tokens};
use crate::attempt::Sender;
use crate::connection::{Connection, Trouble};
use crate::pool::Pool;
use crate::request::Writer;
use crate::{Dialect, RemoteConfig, RemoteError, ScoreMethod};

/// One model behind one or several OpenAI-compatible servers.
pub struct RemoteModel {
    config: RemoteConfig,
    name: String,
    dialect: Dialect,
    identity: String,
    images: Arc<dyn ImageStore>,
    sender: Sender,
}

impl std::fmt::Debug for RemoteModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteModel")
            .field("identity", &self.identity)
            .field("servers", &self.config.servers)
            .finish_non_exhaustive()
    }
}

/// What a server says it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    name: String,
    /// Where the weights come from (vLLM's `root`), or the name again.
    root: String,
    owner: String,
}

impl RemoteModel {
    /// Checks every server's health and which model it serves. Servers that do not answer are left for later, as long as
    /// one does.
    ///
    /// # Errors
    /// [`RemoteError::Config`]; [`RemoteError::NoServer`] with what each of them said; [`RemoteError::Model`] where they do
    /// not serve one and the same model.
    pub fn connect(config: RemoteConfig, images: Arc<dyn ImageStore>) -> Result<Self, RemoteError> {
        config.validate()?;
        let connection = Connection::new(&config)?;
        let pool = Pool::new(config.servers.iter().map(|url| base_url(url)).collect());
        let sender = Sender { connection, pool, retry: config.retry };
        let offer = greet(&sender, config.model.as_deref())?;
        let dialect = config.dialect.unwrap_or(match offer.owner.as_str() {
            "vllm" | "sglang" => Dialect::Vllm,
            _ => Dialect::OpenAi,
        });
        let identity = identity(&config, &offer, dialect);
        Ok(Self { name: offer.name, dialect, identity, images, sender, config })
    }

    /// The model's name on the servers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the servers understand.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    fn writer(&self) -> Writer<'_> {
        Writer { config: &self.config, model: &self.name, dialect: self.dialect, images: &*self.images }
    }

    fn complete(&self, prompt: &Prompt, options: &Decoding) -> Result<Completion, RemoteError> {
        let (path, body) = self.writer().generate(prompt, options)?;
        completion(&self.sender.send(path, &body)?, options, self.config.end_of_text.as_deref())
    }

    fn score_one(&self, request: &ScoreRequest) -> Result<Vec<f64>, RemoteError> {
        match (self.config.score_method, &request.prompt) {
            (ScoreMethod::TopTokens(n), _) => {
                let (path, body) = self.writer().top_tokens(request, n)?;
                top_tokens(&self.sender.send(path, &body)?, &request.continuations)
            }
            (ScoreMethod::Echo, Prompt::Text(prompt)) => {
                let score = |continuation: &String| {
                    let (path, body) = self.writer().echo(prompt, continuation);
                    echoed(&self.sender.send(path, &body)?, prompt, continuation)
                };
                request.continuations.iter().map(score).collect()
            }
            (ScoreMethod::Echo, Prompt::Chat { .. }) => {
                let needs = "`ScoreMethod::TopTokens`";
                Err(RemoteError::Unsupported { option: "scoring answers in a chat", needs })
            }
        }
    }

    /// Works on all items, at most `concurrency` at once: one result per item, in order.
    fn all<I: Sync, O: Send>(&self, items: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
        let n_threads = self.config.concurrency.min(items.len());
        let next = AtomicUsize::new(0);
        let results: Vec<_> = items.iter().map(|_| Mutex::new(None)).collect();
        std::thread::scope(|scope| {
            for _ in 0..n_threads {
                scope.spawn(|| {
                    while let Some((item, result)) = next_of(&next, items, &results) {
                        let done = work(item);
                        *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
                    }
                });
            }
        });
        let whole = |result: Mutex<Option<O>>| result.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.into_iter().map(|result| whole(result).expect("every item was worked on")).collect()
    }
}

fn next_of<'a, I, O>(next: &AtomicUsize, items: &'a [I], results: &'a [O]) -> Option<(&'a I, &'a O)> {
    let i = next.fetch_add(1, Ordering::Relaxed);
    items.get(i).zip(results.get(i))
}

impl Generate for RemoteModel {
    type Error = RemoteError;

    fn generate(&self, prompts: &[Prompt], options: &Decoding) -> Vec<Result<Completion, RemoteError>> {
        self.all(prompts, |prompt| self.complete(prompt, options))
    }

    fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, RemoteError>> {
        self.all(requests, |request| self.score_one(request))
    }

    /// The model's name, where the server says that its weights come from, and a hash of every setting that may change
    /// an answer. A server does not tell when the weights behind a name change: that is what
    /// [`RemoteConfig::revision`] is for.
    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn turn_markers(&self) -> Option<TurnMarkers> {
        self.config.markers.clone()
    }
}

fn identity(config: &RemoteConfig, offer: &Offer, dialect: Dialect) -> String {
    format!("remote:{}:{}:{}:{}", offer.name, offer.root, config.revision, settings_hash(config, dialect))
}

/// Every setting that may change an answer.
pub(crate) fn settings_hash(config: &RemoteConfig, dialect: Dialect) -> RecordId {
    let RemoteConfig { user_turn, end_of_text, image_form, score_method, extra, .. } = config;
    let settings = format!("{dialect:?} {user_turn:?} {end_of_text:?} {image_form:?} {score_method:?}");
    let extra = serde_json::to_string(extra).expect("JSON values are JSON");
    RecordId::of("remote-settings", [settings.as_str(), &extra])
}

/// The wanted model as the servers offer it.
fn greet(sender: &Sender, wanted: Option<&str>) -> Result<Offer, RemoteError> {
    let (mut found, mut failures): (Option<Offer>, _) = (None, Vec::new());
    for url in sender.pool.urls() {
        let list = match sender.connection.get(&format!("{url}/models")) {
            Ok(list) => list,
            // A server without a list; it will say whether it knows the named model.
            Err(Trouble::Lasting(RemoteError::Refused { status: 404 | 405, .. })) if wanted.is_some() => Value::Null,
            Err(Trouble::Lasting(error)) => return Err(error),
            Err(Trouble::Passing { failure, .. }) => {
                failures.push(format!("{url}: {failure}"));
                continue;
            }
        };
        let wanted = found.as_ref().map(|offer| offer.name.as_str()).or(wanted);
        let offer = offered(&list, wanted).map_err(|offered| RemoteError::Model {
            url: url.clone(),
            expected: wanted.map_or_else(|| "one model".into(), |name| format!("{name:?}")),
            offered,
        })?;
        if let Some(other) = found.as_ref().filter(|other| other.root != offer.root) {
            let expected = format!("weights from {:?}", other.root);
            return Err(RemoteError::Model { url: url.clone(), expected, offered: vec![offer.root] });
        }
        found = Some(offer);
    }
    for failure in failures.iter().filter(|_| found.is_some()) {
        tracing::warn!(failure, "a server does not answer");
    }
    found.ok_or(RemoteError::NoServer { failures })
}

/// The wanted model in a server's list; the only one where none is named. `Err` holds the names that it offers.
fn offered(list: &Value, wanted: Option<&str>) -> Result<Offer, Vec<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let offers: Vec<Offer> = list["data"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| {
            let (name, root) = (text(&entry["id"]), text(&entry["root"]));
            Offer { root: if root.is_empty() { name.clone() } else { root }, name, owner: text(&entry["owned_by"]) }
        })
        .collect();
    let names = || offers.iter().map(|offer| offer.name.clone()).collect();
    match (wanted, &offers[..]) {
        // `transformers serve` lists what is in its cache, not what it serves.
        (Some(wanted), []) => Ok(Offer { name: wanted.into(), root: wanted.into(), owner: String::new() }),
        (None, [only]) => Ok(only.clone()),
        (Some(wanted), _) => offers.iter().find(|offer| offer.name == wanted).cloned().ok_or_else(names),
        (None, _) => Err(names()),
    }
}

/// Without a slash at its end, and with `/v1` where it has no path.
fn base_url(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let has_path = url.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    if has_path { url.to_owned() } else { format!("{url}/v1") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn base_urls_get_their_version() {
        for (given, expected) in [
            ("http://a:8000", "http://a:8000/v1"),
            ("http://a:8000/", "http://a:8000/v1"),
            ("http://a/v1/", "http://a/v1"),
            ("https://a/openai/v1", "https://a/openai/v1"),
        ] {
            assert_eq!(base_url(given), expected);
        }
    }

    #[test]
    fn finds_the_wanted_model() {
        let list = json!({"data": [{"id": "a", "root": "/models/a", "owned_by": "vllm"}, {"id": "b"}]});
        assert_eq!(offered(&list, Some("a")).map(|offer| offer.root), Ok("/models/a".into()));
        assert_eq!(offered(&list, Some("b")).map(|offer| offer.root), Ok("b".into()));
        assert_eq!(offered(&list, None), Err(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(offered(&list, Some("c")), Err(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(offered(&json!({"data": []}), Some("a")).map(|offer| offer.name), Ok("a".into()), "an empty list");
        assert_eq!(offered(&json!({"data": []}), None), Err(vec![]));
        assert_eq!(offered(&json!({"data": [{"id": "a"}]}), None).map(|offer| offer.name), Ok("a".into()));
    }
}
