//! The Hub's HTTP interface, as far as it is needed: a revision's files, and a file's bytes.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::{Component, Path};
use std::time::Duration;

use adamllm_core::{Progress, backoff};
use serde::Deserialize;
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body, Proxy};

use super::checksum::Checksum;
use super::{HubConfig, HubError, HubRepo, Token};

/// Answers of this length are read into memory; a list of a million files is shorter.
const MAX_LIST_BYTES: u64 = 1 << 28;

/// No pause between two attempts is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// One attempt at a body ends after this time; the next one goes on where it stopped. This is how a connection that has
/// fallen silent is noticed.
const BODY_TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<Token>,
    attempts: u32,
    pause: Duration,
}

/// A repository at a commit.
pub(super) struct Revision {
    pub(super) commit: String,
    pub(super) files: Vec<RemoteFile>,
}

/// A file as the Hub announces it.
#[derive(Debug)]
pub(super) struct RemoteFile {
    /// Path in the repository.
    pub(super) path: String,
    /// Bytes.
    pub(super) size: u64,
    /// SHA-256 of a large file, Git blob id of a small one: its name in the cache.
    pub(super) etag: String,
}

/// Why one attempt failed.
enum HttpFailure {
    /// It may go better the next time. Attempts that brought something forward are not counted.
    Passing { detail: String, forward: bool },
    /// It will not.
    Lasting(HubError),
}

impl HttpFailure {
    fn passing(detail: impl ToString) -> Self {
        Self::Passing { detail: detail.to_string(), forward: false }
    }
}

impl Client {
    pub(super) fn new(config: &HubConfig) -> Result<Self, HubError> {
        let proxy = config.proxy.as_ref().map(|url| {
            Proxy::new(url).map_err(|error| HubError::BadProxy { got: url.clone(), detail: error.to_string() })
        });

        // A status is no error to the agent: an answer's code decides whether another attempt makes sense.
        let agent = Agent::config_builder()
            .proxy(proxy.transpose()?)
            .http_status_as_error(false)
            .timeout_connect(Some(config.silence))
            .timeout_recv_response(Some(config.silence))
            .timeout_recv_body(Some(BODY_TIMEOUT))
            .user_agent(concat!("adamllm/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();

        Ok(Self {
            agent,
            endpoint: config.endpoint.trim_end_matches('/').to_owned(),
            token: config.token.clone(),
            attempts: config.attempts.max(1),
            pause: config.pause,
        })
    }

    /// The commit that a revision stands for, and its files.
    pub(super) fn revision(&self, repo: &HubRepo) -> Result<Revision, HubError> {
        let (kind, revision) = (repo.kind.plural(), quoted(&repo.revision, false));

        // `blobs` adds each file's size and hash.
        let url = format!("{}/api/{kind}/{}/revision/{revision}?blobs=true", self.endpoint, repo.name);
        let list: RevisionList = self.persistently(&url, || {
            let mut answer = self.get(&url, &repo.to_string(), 0)?;
            let body = answer.body_mut().with_config().limit(MAX_LIST_BYTES).read_to_vec();
            let body = body.map_err(HttpFailure::passing)?;
            serde_json::from_slice(&body).map_err(|error| {
                HttpFailure::Lasting(HubError::BadAnswer {
                    url: url.clone(),
                    expected: "a list of files",
                    got: error.to_string(),
                })
            })
        })?;

        let files = list.siblings.into_iter().map(|file| file.checked(&url)).collect::<Result<_, _>>()?;

        // It becomes a folder's name in the cache, so it must not be a path.
        let commit = list.sha;
        if commit.is_empty() || !commit.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(HubError::BadAnswer { url, expected: "a commit's hash", got: commit });
        }

        Ok(Revision { commit, files })
    }

    /// Downloads a file to `partial`, goes on where an earlier attempt stopped, and compares its checksum.
    pub(super) fn download(
        &self,
        repo: &HubRepo,
        commit: &str,
        file: &RemoteFile,
        partial: &Path,
        progress: &mut dyn Progress,
    ) -> Result<(), HubError> {
        let prefix = repo.kind.url_prefix();
        let url = format!("{}/{prefix}{}/resolve/{commit}/{}", self.endpoint, repo.name, quoted(&file.path, true));
        let mut reported = 0;
        self.persistently(&url, || self.attempt(&url, file, partial, &mut reported, progress))?;
        self.verify(repo, &url, file, partial)
    }

    /// One attempt; what arrived stays on the disk.
    fn attempt(
        &self,
        url: &str,
        file: &RemoteFile,
        partial: &Path,
        reported: &mut u64,
        progress: &mut dyn Progress,
    ) -> Result<(), HttpFailure> {
        let lasting = |action| move |source| HttpFailure::Lasting(HubError::io(action, partial)(source));

        // Goes on after what an earlier attempt left; more than the whole file cannot be a part of it.
        let mut start = fs::metadata(partial).map_or(0, |found| found.len());
        if start > file.size {
            fs::remove_file(partial).map_err(lasting("remove"))?;
            start = 0;
        }

        let mut output = OpenOptions::new().append(true).create(true).open(partial).map_err(lasting("open"))?;
        if start == file.size {
            report(reported, start, progress);
            return Ok(());
        }

        let mut answer = self.get(url, &file.path, start)?;

        // A server that knows no ranges sends the whole file again.
        if start > 0 && answer.status() != StatusCode::PARTIAL_CONTENT {
            output.set_len(0).map_err(lasting("empty"))?;
            start = 0;
        }

        report(reported, start, progress);

        let mut body = answer.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 16];
        let mut length = start;
        while length < file.size {
            let broke = |detail: String| HttpFailure::Passing { detail, forward: length > start };

            // Never more than was announced, so that the length stays comparable.
            let n = match body.read(&mut buffer) {
                Ok(0) => return Err(broke(format!("closed after {length} of {} bytes", file.size))),
                Ok(n) => n.min((file.size - length) as usize),
                Err(error) => return Err(broke(error.to_string())),
            };

            output.write_all(&buffer[..n]).map_err(lasting("write"))?;
            length += n as u64;
            report(reported, length, progress);
            if progress.is_cancelled() {
                return Err(HttpFailure::Lasting(HubError::Cancelled));
            }
        }

        output.sync_all().map_err(lasting("sync"))
    }

    fn verify(&self, repo: &HubRepo, url: &str, file: &RemoteFile, partial: &Path) -> Result<(), HubError> {
        let mut checksum = Checksum::for_etag(&file.etag, file.size).ok_or_else(|| HubError::BadAnswer {
            url: url.into(),
            expected: "a SHA-256 or a Git blob id",
            got: file.etag.clone(),
        })?;
        checksum.update_from_file(partial).map_err(HubError::io("read", partial))?;
        let got = checksum.finish();
        if got == file.etag {
            return Ok(());
        }
        fs::remove_file(partial).map_err(HubError::io("remove", partial))?;
        let expected = file.etag.clone();
        Err(HubError::Checksum { repo: repo.to_string(), file: file.path.clone(), expected, got })
    }

    /// Asks for a URL from byte `start` on.
    fn get(&self, url: &str, what: &str, start: u64) -> Result<Response<Body>, HttpFailure> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.0));
        }
        if start > 0 {
            request = request.header(header::RANGE, format!("bytes={start}-"));
        }
        let answer = request.call().map_err(HttpFailure::passing)?;
        let (status, url, what) = (answer.status(), url.to_owned(), what.to_owned());
        match status.as_u16() {
            200 | 206 => Ok(answer),
            404 => Err(HttpFailure::Lasting(HubError::NotFound { what, url })),
            401 | 403 => Err(HttpFailure::Lasting(HubError::Denied { what, status: status.as_u16(), url })),
            408 | 429 | 500.. => Err(HttpFailure::passing(format!("status {status}"))),
            other => Err(HttpFailure::Lasting(HubError::Status { url, status: other })),
        }
    }

    /// Repeats an attempt until it succeeds, fails for good, or has failed `attempts` times without getting forward.
    fn persistently<T>(&self, url: &str, mut attempt: impl FnMut() -> Result<T, HttpFailure>) -> Result<T, HubError> {
        let mut failures = 0;
        loop {
            let (detail, forward) = match attempt() {
                Ok(value) => return Ok(value),
                Err(HttpFailure::Lasting(error)) => return Err(error),
                Err(HttpFailure::Passing { detail, forward }) => (detail, forward),
            };
            if forward {
                failures = 0;
            }
            failures += 1;
            if failures >= self.attempts {
                return Err(HubError::Connection { url: url.into(), attempts: failures, detail });
            }
            tracing::info!(url, failures, detail, "trying again");
            std::thread::sleep(backoff(self.pause, LONGEST_PAUSE, failures));
        }
    }
}

/// Tells the progress about bytes that it does not know yet; bytes that come a second time are not counted twice.
fn report(reported: &mut u64, length: u64, progress: &mut dyn Progress) {
    if length > *reported {
        progress.advance(length - *reported);
        *reported = length;
    }
}

/// Percent-encodes what is not plain in a URL's path.
fn quoted(text: &str, keep_slashes: bool) -> String {
    let mut url = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => url.push(char::from(byte)),
            b'/' if keep_slashes => url.push('/'),
            _ => {
                let _ = write!(url, "%{byte:02X}"); // a String takes everything
            }
        }
    }
    url
}

#[derive(Deserialize)]
struct RevisionList {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

impl Sibling {
    /// Refuses paths that would leave the cache, and files without size or checksum.
    fn checked(self, url: &str) -> Result<RemoteFile, HubError> {
        let bad = |expected, got: &str| HubError::BadAnswer { url: url.into(), expected, got: got.into() };
        let inside = Path::new(&self.rfilename).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || self.rfilename.is_empty() || self.rfilename.contains('\\') {
            return Err(bad("a path inside the repository", &self.rfilename));
        }
        let (size, etag) = match (self.lfs, self.size, self.blob_id) {
            (Some(lfs), ..) => (lfs.size, lfs.sha256),
            (None, Some(size), Some(id)) => (size, id),
            _ => return Err(bad("size and checksum of every file", &self.rfilename)),
        };
        if Checksum::for_etag(&etag, size).is_none() {
            return Err(bad("a SHA-256 or a Git blob id", &etag));
        }
        Ok(RemoteFile { path: self.rfilename, size, etag })
    }
}
