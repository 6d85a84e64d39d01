//! A model behind an OpenAI-compatible HTTP server (vLLM, SGLang, llama.cpp, mistral.rs, `transformers serve`), as
//! [`Generate`](adamllm_core::Generate).
//!
//! | item | what it does |
//! |---|---|
//! | [`RemoteModel`] | several servers of one model as one `Generate`: bounded concurrency, one result per prompt |
//! | [`RemoteConfig`] | where the servers are, time-outs, retries, what the servers understand |
//! | [`Dialect`] | whether a server knows more than the fields of OpenAI's own interface |
//! | [`UserTurn`] | how a server is made to write a user's turn: the synthesizer's protocol needs it |
//! | [`ScoreMethod`] | how log-probabilities of given answers are read from a server |
//! | [`BatchModel`] | the same questions as files of the batch interface: `requests.jsonl` out, `results.jsonl` in |
//! | [`ApiKey`] | a secret that shows itself nowhere |
//!
//! Requests are blocking, one thread for each that is under way; there is no asynchronous runtime. A prompt that fails is
//! an `Err` at its own index. What may pass (a refused or cut connection, 408, 429, 5xx, a body that is not JSON, a
//! time-out) is tried again, on another server where there is one, after a pause that doubles and is jittered, and never
//! before the time that the server asks for (`Retry-After`). What will not pass (400, 401, 404, ...) is not tried again.
//!
//! An option that a server would not understand is refused ([`RemoteError::Unsupported`]) rather than left out.
//!
//! ```no_run
//! use std::sync::Arc;
//! use adamllm_core::{Decoding, Generate, MemoryImages, Prompt};
//! use adamllm_remote::{RemoteConfig, RemoteModel};
//!
//! let config = RemoteConfig::new(["http://127.0.0.1:8000/v1", "http://127.0.0.1:8001/v1"]);
//! let model = RemoteModel::connect(config, Arc::new(MemoryImages::new()))?;
//! let answers = model.generate(&[Prompt::Text("The capital of France is".into())], &Decoding::greedy(8));
//! # Ok::<(), adamllm_remote::RemoteError>(())
//! ```

mod answer;
mod api_key;
mod attempt;
mod batch;
mod config;
mod connection;
mod error;
mod http_date;
mod image_url;
mod model;
mod pool;
mod request;

pub use api_key::ApiKey;
pub use batch::{BatchModel, BatchReport, batch_files};
pub use config::{Dialect, ImageForm, RemoteConfig, Retry, ScoreMethod, UserTurn};
pub use error::{AttemptError, RemoteError};
pub use model::RemoteModel;

/// The README's example is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
