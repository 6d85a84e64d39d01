//! A server of the OpenAI interface, in a few threads, that fails on demand.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// What happens instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This status, with an explanation.
    Status(u16),
    /// This status, with so many seconds of `Retry-After`.
    Busy(u16, u32),
    /// The connection ends in the middle of the body.
    Cut,
    /// The body comes byte by byte, too slowly.
    Slow,
    /// A whole body that is not JSON.
    NotJson,
    /// JSON that is not an answer.
    OtherJson,
}

#[derive(Default)]
struct State {
    faults: Mutex<VecDeque<Fault>>,
    takes: Mutex<Duration>,
    key: Mutex<Option<String>>,
    redirect: Mutex<Option<String>>,
    last_body: Mutex<Value>,
    n_posts: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    is_down: AtomicBool,
    model: String,
}

pub(crate) struct FaultyServer {
    address: SocketAddr,
    state: Arc<State>,
}

impl FaultyServer {
    pub(crate) fn start(model: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State { model: model.into(), ..State::default() });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = shared.clone();
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The next posts fail so; the ones after them are answered.
    pub(crate) fn fails(&self, faults: &[Fault]) {
        self.state.faults.lock().expect("unpoisoned").extend(faults);
    }

    pub(crate) fn takes(&self, time: Duration) {
        *self.state.takes.lock().expect("unpoisoned") = time;
    }

    pub(crate) fn wants_key(&self, key: &str) {
        *self.state.key.lock().expect("unpoisoned") = Some(key.into());
    }

    pub(crate) fn redirects_posts_to(&self, url: &str) {
        *self.state.redirect.lock().expect("unpoisoned") = Some(url.into());
    }

    /// Every connection ends without a byte, as behind a port whose process has died.
    pub(crate) fn goes_down(&self) {
        self.state.is_down.store(true, Ordering::SeqCst);
    }

    pub(crate) fn comes_back(&self) {
        self.state.is_down.store(false, Ordering::SeqCst);
    }

    pub(crate) fn n_posts(&self) -> usize {
        self.state.n_posts.load(Ordering::SeqCst)
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.state.most_at_once.load(Ordering::SeqCst)
    }

    pub(crate) fn last_body(&self) -> Value {
        self.state.last_body.lock().expect("unpoisoned").clone()
    }
}

struct Request {
    is_post: bool,
    authorization: String,
    body: Vec<u8>,
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let is_post = line.starts_with("POST");
    let (mut length, mut authorization) = (0, String::new());
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = value.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { is_post, authorization, body })
}

fn serve(stream: &TcpStream, state: &State) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        if state.is_down.load(Ordering::SeqCst) || answer(stream, state, &request).is_none() {
            return;
        }
    }
}

/// `None` where the connection is to end.
fn answer(stream: &TcpStream, state: &State, request: &Request) -> Option<()> {
    if let Some(key) = &*state.key.lock().expect("unpoisoned")
        && request.authorization != format!("Bearer {key}")
    {
        let said = format!("wrong key: {}", request.authorization.trim_start_matches("Bearer "));
        return send(stream, 401, "", &json!({"error": {"message": said}}).to_string());
    }
    if !request.is_post {
        let model = json!({"id": state.model, "root": format!("/weights/{}", state.model), "owned_by": "tests"});
        return send(stream, 200, "", &json!({"object": "list", "data": [model]}).to_string());
    }
    state.n_posts.fetch_add(1, Ordering::SeqCst);
    if let Some(url) = &*state.redirect.lock().expect("unpoisoned") {
        return send(stream, 307, &format!("Location: {url}/completions\r\n"), "");
    }
    let at_once = state.at_once.fetch_add(1, Ordering::SeqCst) + 1;
    state.most_at_once.fetch_max(at_once, Ordering::SeqCst);
    let takes = *state.takes.lock().expect("unpoisoned");
    std::thread::sleep(takes);
    state.at_once.fetch_sub(1, Ordering::SeqCst);
    let body: Value = serde_json::from_slice(&request.body).expect("clients send JSON");
    *state.last_body.lock().expect("unpoisoned") = body.clone();
    let fault = state.faults.lock().expect("unpoisoned").pop_front();
    match fault {
        Some(fault) => fail(stream, fault),
        None if body["prompt"].as_str().is_some_and(|prompt| prompt.starts_with("refuse")) => {
            send(stream, 400, "", &json!({"error": {"message": "no such thing"}}).to_string())
        }
        None => send(stream, 200, "", &completion(&body).to_string()),
    }
}

fn fail(mut stream: &TcpStream, fault: Fault) -> Option<()> {
    match fault {
        Fault::Status(status) => send(stream, status, "", r#"{"error": {"message": "as asked for"}}"#),
        Fault::Busy(status, seconds) => send(stream, status, &format!("Retry-After: {seconds}\r\n"), "busy"),
        Fault::NotJson => send(stream, 200, "", "<html>It works!</html>"),
        Fault::OtherJson => send(stream, 200, "", r#"{"choices": [{"words": "x"}]}"#),
        Fault::Cut => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"choices\": [").ok()?;
            None
        }
        Fault::Slow => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n").ok()?;
            for _ in 0..100 {
                stream.write_all(b"{").ok()?;
                std::thread::sleep(Duration::from_millis(50));
            }
            None
        }
    }
}

fn send(mut stream: &TcpStream, status: u16, headers: &str, body: &str) -> Option<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream.write_all((head + body).as_bytes()).ok()
}

fn completion(body: &Value) -> Value {
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 2});
    if body["messages"].is_array() {
        let message = json!({"role": "assistant", "content": "an image"});
        return json!({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage});
    }
    let prompt = body["prompt"].as_str().unwrap_or_default();
    let logprobs = if body["echo"] == true {
        let (start, answer) = prompt.split_at(prompt.find('?').map_or(0, |at| at + 1));
        let score = match answer {
            " Yes" => -0.25,
            " No" => -2.0,
            _ => -3.5,
        };
        json!({"tokens": [start, answer, "!"], "token_logprobs": [null, score, -9.0],
            "text_offset": [0, start.len(), prompt.len()]})
    } else if body["logprobs"].is_u64() {
        json!({"top_logprobs": [{" Yes": -0.25, " No": -2.0, "\n": -4.0}]})
    } else {
        Value::Null
    };
    let choice = json!({"text": format!("answer to {prompt}"), "finish_reason": "stop", "logprobs": logprobs});
    json!({"choices": [choice], "usage": usage})
}
