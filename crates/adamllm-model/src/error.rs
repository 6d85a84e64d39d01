use std::path::{Path, PathBuf};

use adamllm_core::{BoxError, CoreError};

/// What can go wrong with a model folder, a conversation or a prompt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file could not be read or written, or an image or text of a conversation is at fault.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A JSON file of the folder does not parse.
    #[error("{path}: invalid JSON: {source}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// The folder lacks a file that it must have.
    #[error("{folder}: {}", absent(folder, expected), folder = folder.display())]
    FileMissing {
        /// The model folder.
        folder: PathBuf,
        /// Any of these would do.
        expected: &'static [&'static str],
    },
    /// `config.json` names a family that is not supported.
    #[error("{path}: model_type {found:?} is not supported; supported are {known:?}", path = path.display())]
    UnknownFamily {
        /// The configuration file.
        path: PathBuf,
        /// Its `model_type`.
        found: String,
        /// What is supported.
        known: Vec<&'static str>,
    },
    /// A field of a configuration file cannot be used.
    #[error("{path} field `{field}`: expected {expected}, got {got}", path = path.display())]
    ConfigField {
        /// The configuration file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What is allowed.
        expected: String,
        /// What was found.
        got: String,
    },
    /// The folder's weights are quantised.
    #[error("{path}: the checkpoint is quantised (quantization_config, {method}), which is not supported; use the folder that it was made from", path = path.display())]
    Quantised {
        /// The configuration file.
        path: PathBuf,
        /// The method's name: `awq`, `gptq`, `fp8`, `bitsandbytes`, `compressed-tensors`.
        method: String,
    },
    /// A file of a kind that is not read.
    #[error("{path}: {detail}", path = path.display())]
    NotRead {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        detail: String,
    },
    /// A safetensors file is truncated, or its header and content do not agree.
    #[error("{path}: not a whole safetensors file: {source}", path = path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: BoxError,
    },
    /// The weights do not fit the configuration. Everything at fault is held; the first five keys of each kind are shown.
    #[error("{folder}: weights do not fit `config.json`: {cause}{}{}", list("missing or unusable", missing), list("unexpected", unexpected), folder = folder.display())]
    Weights {
        /// The model folder.
        folder: PathBuf,
        /// The likely cause.
        cause: String,
        /// Keys that the model needs: the key and what is wrong.
        missing: Vec<(String, String)>,
        /// Keys that the model does not know.
        unexpected: Vec<String>,
    },
    /// A low-rank adapter does not fit the model.
    #[error("adapter: {detail}")]
    Adapter {
        /// What does not fit.
        detail: String,
    },
    /// The tokenizer could not be read or used.
    #[error("{path}: tokenizer: {source}", path = path.display())]
    Tokenizer {
        /// `tokenizer.json`.
        path: PathBuf,
        /// What the tokenizers library says.
        source: BoxError,
    },
    /// The folder asks for a way of writing answers that is not supported.
    #[error("{path}: `{field}` = {value} is not supported; without the model's defaults (`model_defaults = false`) it is passed over", path = path.display())]
    GenerationSetting {
        /// `generation_config.json`, or `config.json` where the folder has none.
        path: PathBuf,
        /// The member.
        field: String,
        /// Its value.
        value: String,
    },
    /// A model cannot be saved over the folder that its weights are read from.
    #[error("{folder}: a model cannot be saved over the folder that it was loaded from; choose another one", folder = folder.display())]
    OverItsBase {
        /// The folder.
        folder: PathBuf,
    },
    /// A token that the model needs is not in the tokenizer.
    #[error("{path}: the tokenizer has no token {token:?}", path = path.display())]
    TokenMissing {
        /// `tokenizer.json`.
        path: PathBuf,
        /// The token.
        token: String,
    },
    /// The chat template failed, or its output cannot be divided into turns.
    #[error("chat template: {}", chain(&**source))]
    Template {
        /// What the template engine says.
        source: BoxError,
    },
    /// A message contains a special token's text, which would be read as the token: as the start of another turn, say.
    #[error("record {record}: message {message} contains the special token {token:?}")]
    SpecialTokenInText {
        /// The conversation's id.
        record: String,
        /// The message, counted from 1.
        message: usize,
        /// The token's text.
        token: String,
    },
    /// An image's shape cannot be processed.
    #[error("image {image}: {source}")]
    Image {
        /// The image.
        image: String,
        /// What is wrong.
        source: BoxError,
    },
    /// A setting of [`Encoding`](crate::Encoding) cannot be followed.
    #[error("encoding field `{field}`: expected {expected}, got {got}")]
    Encoding {
        /// The setting.
        field: &'static str,
        /// What is allowed.
        expected: String,
        /// What was found.
        got: String,
    },
    /// A training example is longer than allowed, and its policy finds nothing to leave out.
    #[error("record {record}: {tokens} tokens, expected at most {limit} (max_tokens)")]
    TooLong {
        /// The conversation's id.
        record: String,
        /// Its tokens, placeholders of images included.
        tokens: usize,
        /// Tokens allowed.
        limit: usize,
    },
    /// Cutting an example as LLaMA-Factory does would leave a part of an image, or none of it, in the text.
    #[error("record {record}: max_tokens = {limit} would cut image {image}")]
    ImageCut {
        /// The conversation's id.
        record: String,
        /// The image.
        image: String,
        /// Tokens allowed.
        limit: usize,
    },
    /// A prompt holds no token: there is nothing to continue.
    #[error("record {record}: no token; the prompt, or what the chat template makes of it, is empty")]
    EmptyPrompt {
        /// The conversation's id.
        record: String,
    },
    /// The vision encoder is none of those that this crate brings, so nobody but the caller can make it.
    #[error(
        "the vision encoder of {family} is not built in; make the model and read its weights with `ModelFolder::load_into`"
    )]
    OwnVisionEncoder {
        /// The family.
        family: &'static str,
    },
    /// Nothing in an example counts for the loss.
    #[error("record {record}: no token counts for the loss")]
    NoTargets {
        /// The conversation's id.
        record: String,
    },
    /// The model reads no images.
    #[error("record {record}: {images} images for the text-only family {family}")]
    NoVision {
        /// The conversation's id.
        record: String,
        /// How many images it has.
        images: usize,
        /// The family.
        family: &'static str,
    },
    /// Prompt and answer do not fit the context. Nothing is cut silently.
    #[error("record {record}: {prompt} prompt tokens and {new} new ones exceed the context of {limit}")]
    ContextOverflow {
        /// The conversation's id.
        record: String,
        /// Tokens in the prompt, placeholders of images included.
        prompt: usize,
        /// Tokens asked for.
        new: usize,
        /// Tokens allowed.
        limit: usize,
    },
}

/// Keys of each kind that an error shows; the error itself holds all of them.
const SHOWN_KEYS: usize = 5;

impl From<&ModelError> for adamllm_core::Reason {
    /// The reason code of an error that costs one record.
    fn from(error: &ModelError) -> Self {
        match error {
            ModelError::Core(error) => Self::from(error),
            ModelError::SpecialTokenInText { .. } => Self::ForgedTurn,
            ModelError::TooLong { .. } | ModelError::ImageCut { .. } | ModelError::ContextOverflow { .. } => {
                Self::TooLong
            }
            ModelError::NoTargets { .. } => Self::NoTarget,
            ModelError::Image { .. } => Self::ImageBroken,
            _ => Self::ModelError,
        }
    }
}

/// An error with what caused it: a template's own `raise_exception` stands in the cause alone.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn absent(folder: &Path, expected: &[&str]) -> String {
    if folder.is_dir() { format!("found none of {expected:?}") } else { "there is no such folder".into() }
}

fn list<T: std::fmt::Debug>(title: &str, items: &[T]) -> String {
    match items {
        [] => String::new(),
        items => {
            let lines: Vec<String> = items.iter().take(SHOWN_KEYS).map(|item| format!("\n    {item:?}")).collect();
            let more = if items.len() > SHOWN_KEYS { "\n    ..." } else { "" };
            format!("\n  {title} ({}):{}{more}", items.len(), lines.concat())
        }
    }
}

impl ModelError {
    pub(crate) fn config(
        path: &Path,
        field: impl Into<String>,
        expected: impl Into<String>,
        got: impl ToString,
    ) -> Self {
        let (field, expected) = (field.into(), expected.into());
        Self::ConfigField { path: path.into(), field, expected, got: got.to_string() }
    }
}
