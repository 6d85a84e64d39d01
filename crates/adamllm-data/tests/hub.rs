//! Downloads against a server that speaks the Hub's protocol, with every kind of trouble on the way.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adamllm_core::Progress;
use adamllm_data::hub::{Hub, HubConfig, HubError, HubRepo, Selection, Token};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What one request was: the path, and the headers in lower case.
#[derive(Clone, Debug)]
struct Request {
    path: String,
    headers: HashMap<String, String>,
}

/// How the server misbehaves.
#[derive(Clone, Copy, Default)]
struct Trouble {
    /// Closes the connection in the middle of this many answers with a file.
    drops: usize,
    /// Answers this many requests with 503 first.
    busy: usize,
    /// Announces checksums that are not the files'.
    wrong_checksums: bool,
    /// Ignores `Range`.
    no_ranges: bool,
    /// Demands this token.
    token: Option<&'static str>,
    /// Sends the file's bytes from another host name.
    redirects: bool,
}

struct FakeHub {
    endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn weights() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("config.json", b"{\"model_type\": \"qwen2_vl\"}".to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
        ("model.safetensors", weights()),
        ("pytorch_model.bin", vec![1; 50]),
        ("images/a b.png", b"image".to_vec()),
    ]
}

fn listing(trouble: Trouble) -> Value {
    let sibling = |(path, content): (&str, Vec<u8>)| {
        let mut hasher = sha1::Sha1::new();
        hasher.update(format!("blob {}\0", content.len()));
        hasher.update(&content);
        let mut row = json!({"rfilename": path, "size": content.len(), "blobId": hex(&hasher.finalize())});
        if path.ends_with(".safetensors") {
            let mut sum = hex(&Sha256::digest(&content));
            if trouble.wrong_checksums {
                sum.replace_range(..1, if sum.starts_with('0') { "1" } else { "0" });
            }
            row["lfs"] = json!({"sha256": sum, "size": content.len(), "pointerSize": 134});
        }
        row
    };
    json!({"sha": COMMIT, "siblings": files().into_iter().map(sibling).collect::<Vec<_>>()})
}

impl FakeHub {
    fn start(trouble: Trouble) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, left) = (Arc::clone(&requests), Arc::new(Mutex::new(trouble)));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, left) = (Arc::clone(&log), Arc::clone(&left));
                std::thread::spawn(move || serve(stream, port, trouble, &left, &log));
            }
        });
        Self { endpoint: format!("http://127.0.0.1:{port}"), requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic while locked").clone()
    }

    fn config(&self, cache: &std::path::Path) -> HubConfig {
        HubConfig {
            endpoint: self.endpoint.clone(),
            pause: Duration::from_millis(1),
            attempts: 3,
            ..HubConfig::new(cache)
        }
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers = lines.take_while(|line| !line.is_empty());
    let headers = headers.filter_map(|line| line.split_once(": ").map(|(k, v)| (k.to_lowercase(), v.to_owned())));
    Some(Request { path, headers: headers.collect() })
}

fn serve(
    mut stream: TcpStream,
    port: u16,
    trouble: Trouble,
    left: &Mutex<Trouble>,
    log: &Mutex<Vec<Request>>,
) -> Option<()> {
    let request = read_request(&stream)?;
    log.lock().ok()?.push(request.clone());
    let mut answer = |status: &str, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()
    };
    let length = |body: &[u8]| format!("Content-Length: {}\r\n", body.len());
    {
        let mut left = left.lock().ok()?;
        if left.busy > 0 {
            left.busy -= 1;
            return answer("503 Service Unavailable", "Content-Length: 0\r\n", b"");
        }
    }
    let authorised = |token| request.headers.get("authorization") == Some(&format!("Bearer {token}"));
    let moved = request.path.starts_with("/moved/");
    if trouble.token.is_some_and(|token| !moved && !authorised(token)) {
        return answer("401 Unauthorized", "Content-Length: 0\r\n", b"");
    }
    if request.path.starts_with("/api/models/org/tiny/revision/main?") {
        let body = listing(trouble).to_string();
        return answer("200 OK", &length(body.as_bytes()), body.as_bytes());
    }
    let prefix = format!("/org/tiny/resolve/{COMMIT}/");
    let path = request.path.strip_prefix("/moved").unwrap_or(&request.path);
    let name = path.strip_prefix(&prefix).unwrap_or_default().replace("%20", " ");
    let Some((_, content)) = files().into_iter().find(|(path, _)| *path == name) else {
        return answer("404 Not Found", "Content-Length: 0\r\n", b"");
    };
    if trouble.redirects && !moved {
        let location = format!("Location: http://localhost:{port}/moved{}\r\nContent-Length: 0\r\n", request.path);
        return answer("302 Found", &location, b"");
    }
    let start = request.headers.get("range").filter(|_| !trouble.no_ranges);
    let start = start.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let (status, body) = match start {
        Some(start) => ("206 Partial Content", &content[start..]),
        None => ("200 OK", &content[..]),
    };
    let mut left = left.lock().ok()?;
    if left.drops > 0 && body.len() > 1000 {
        left.drops -= 1;
        return answer(status, &length(body), &body[..body.len() / 2]);
    }
    drop(left);
    answer(status, &length(body), body)
}

fn repo() -> HubRepo {
    "org/tiny".parse().expect("a name")
}

#[derive(Default)]
struct Counted {
    total: u64,
    done: u64,
}

impl Progress for Counted {
    fn begin(&mut self, _stage: &str, total: u64) {
        self.total = total;
    }
    fn advance(&mut self, n: u64) {
        self.done += n;
    }
}

fn download(config: HubConfig) -> (Result<std::path::PathBuf, HubError>, Counted) {
    let mut progress = Counted::default();
    let hub = Hub::new(config).expect("no proxy");
    (hub.download(&repo(), &Selection::Model, &mut progress), progress)
}

#[test]
fn a_model_in_pythons_cache_layout() {
    let (server, cache) = (FakeHub::start(Trouble::default()), tempfile::tempdir().expect("a folder"));
    let (folder, progress) = download(server.config(cache.path()));
    let folder = folder.expect("downloads");
    assert_eq!(folder, cache.path().join("models--org--tiny/snapshots").join(COMMIT));
    assert_eq!(fs::read(folder.join("model.safetensors")).expect("is there"), weights());
    let blob = cache.path().join("models--org--tiny/blobs").join(hex(&Sha256::digest(weights())));
    assert_eq!(fs::canonicalize(folder.join("model.safetensors")).ok(), fs::canonicalize(blob).ok());
    let reference = fs::read_to_string(cache.path().join("models--org--tiny/refs/main"));
    assert_eq!(reference.expect("written"), COMMIT);
    assert!(!folder.join("pytorch_model.bin").exists() && !folder.join("images").exists());
    assert_eq!((progress.done, progress.total), (1_200_000 + 26 + 2, 1_200_028));

    // A second time, nothing but the list is asked for.
    let before = server.requests().len();
    assert_eq!(download(server.config(cache.path())).0.expect("cached"), folder);
    assert_eq!(server.requests().len(), before + 1);
}

#[test]
fn a_dropped_connection_goes_on_where_it_stopped() {
    for no_ranges in [false, true] {
        let trouble = Trouble { drops: 2, busy: 1, no_ranges, ..Trouble::default() };
        let (server, cache) = (FakeHub::start(trouble), tempfile::tempdir().expect("a folder"));
        let (folder, progress) = download(server.config(cache.path()));
        assert_eq!(fs::read(folder.expect("downloads").join("model.safetensors")).expect("is there"), weights());
        assert_eq!(progress.done, progress.total);
        let ranges = server.requests().into_iter().filter_map(|request| request.headers.get("range").cloned());
        let expected: [&str; 2] =
            if no_ranges { ["bytes=600000-", "bytes=600000-"] } else { ["bytes=600000-", "bytes=900000-"] };
        assert_eq!(ranges.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn an_interrupted_download_goes_on_in_the_next_run() {
    let trouble = Trouble { drops: usize::MAX, ..Trouble::default() };
    let (server, cache) = (FakeHub::start(trouble), tempfile::tempdir().expect("a folder"));
    let partial = format!("models--org--tiny/blobs/{}.incomplete", hex(&Sha256::digest(weights())));
    let partial = cache.path().join(partial);
    fs::create_dir_all(partial.parent().expect("in a folder")).expect("created");
    fs::write(&partial, &weights()[..1_199_500]).expect("written");
    // 500 bytes are left: too few to be dropped.
    let (folder, _) = download(server.config(cache.path()));
    assert_eq!(fs::read(folder.expect("downloads").join("model.safetensors")).expect("is there"), weights());
    assert!(!partial.exists());
}

/// Stops the work as soon as something is done.
struct Impatient(u64);

impl Progress for Impatient {
    fn advance(&mut self, n: u64) {
        self.0 += n;
    }
    fn is_cancelled(&self) -> bool {
        self.0 > 100_000
    }
}

#[test]
fn a_cancelled_download_goes_on_in_the_next_run() {
    let (server, cache) = (FakeHub::start(Trouble::default()), tempfile::tempdir().expect("a folder"));
    let hub = Hub::new(server.config(cache.path())).expect("a client");
    let ended = hub.download(&repo(), &Selection::Model, &mut Impatient(0));
    assert!(matches!(ended, Err(HubError::Cancelled)), "{ended:?}");
    let (folder, progress) = download(server.config(cache.path()));
    assert_eq!(fs::read(folder.expect("downloads").join("model.safetensors")).expect("is there"), weights());
    assert_eq!(progress.done, progress.total);
    assert!(server.requests().iter().any(|request| request.headers.contains_key("range")), "it goes on");
}

#[test]
fn a_wrong_checksum_is_an_error_and_leaves_nothing() {
    let trouble = Trouble { wrong_checksums: true, ..Trouble::default() };
    let (server, cache) = (FakeHub::start(trouble), tempfile::tempdir().expect("a folder"));
    let (result, _) = download(server.config(cache.path()));
    match result {
        Err(HubError::Checksum { file, got, .. }) => {
            assert_eq!((file.as_str(), got), ("model.safetensors", hex(&Sha256::digest(weights()))));
        }
        other => panic!("expected a wrong checksum, got {other:?}"),
    }
    let blobs = fs::read_dir(cache.path().join("models--org--tiny/blobs")).expect("is there");
    assert_eq!(blobs.count(), 2, "only the two small files are kept");
}

#[test]
fn tokens_stay_with_the_endpoint() {
    let trouble = Trouble { token: Some("secret"), redirects: true, ..Trouble::default() };
    let (server, cache) = (FakeHub::start(trouble), tempfile::tempdir().expect("a folder"));
    let (result, _) = download(server.config(cache.path()));
    assert!(matches!(result, Err(HubError::Denied { status: 401, .. })));

    let config = HubConfig { token: Some(Token::from("secret")), ..server.config(cache.path()) };
    assert!(!format!("{config:?}").contains("secret"));
    download(config).0.expect("downloads");
    let moved: Vec<_> = server.requests().into_iter().filter(|request| request.path.starts_with("/moved/")).collect();
    assert_eq!(moved.len(), 3);
    assert!(moved.iter().all(|request| !request.headers.contains_key("authorization")));
}

#[test]
fn offline_uses_the_cache_and_no_connection() {
    let (server, cache) = (FakeHub::start(Trouble::default()), tempfile::tempdir().expect("a folder"));
    let offline = HubConfig { offline: true, ..server.config(cache.path()) };
    let (result, _) = download(offline.clone());
    assert!(matches!(result, Err(HubError::NotCached { .. })));
    let folder = download(server.config(cache.path())).0.expect("downloads");
    let before = server.requests().len();
    assert_eq!(download(offline.clone()).0.expect("cached"), folder);
    assert_eq!(server.requests().len(), before);
    // A server that is gone is no obstacle either.
    let gone = HubConfig { endpoint: "http://127.0.0.1:1".into(), ..server.config(cache.path()) };
    assert_eq!(download(gone).0.expect("cached"), folder);

    fs::remove_file(folder.join("model.safetensors")).expect("removed");
    match download(offline).0 {
        Err(HubError::NotCached { detail, .. }) => assert_eq!(detail, "model.safetensors"),
        other => panic!("expected a missing file, got {other:?}"),
    }
}

#[test]
fn selected_files_and_missing_ones() {
    let (server, cache) = (FakeHub::start(Trouble::default()), tempfile::tempdir().expect("a folder"));
    let hub = Hub::new(server.config(cache.path())).expect("no proxy");
    let images = Selection::Matching(vec!["images/*.png".into()]);
    let folder = hub.download(&repo(), &images, &mut ()).expect("downloads");
    assert_eq!(fs::read(folder.join("images/a b.png")).expect("is there"), b"image");
    let nothing = hub.download(&repo(), &Selection::Matching(vec!["*.zip".into()]), &mut ());
    assert!(matches!(nothing, Err(HubError::NothingSelected { .. })));
    let unknown = hub.download(&"org/unknown".parse().expect("a name"), &Selection::Model, &mut ());
    assert!(matches!(unknown, Err(HubError::NotFound { .. })));
    let gone = HubConfig { endpoint: "http://127.0.0.1:1".into(), ..server.config(cache.path()) };
    let result = Hub::new(gone).expect("no proxy").download(&repo(), &Selection::Model, &mut ());
    assert!(matches!(result, Err(HubError::Connection { attempts: 3, .. })));
}
