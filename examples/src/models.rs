//! Models by what a person writes for them: a folder, a Hub id, or the URLs of servers.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use adamllm::core::{Completion, ScoreRequest, TurnMarkers};
use adamllm::prelude::*;
use adamllm::remote::{ApiKey, RemoteConfig, RemoteModel, ScoreMethod, UserTurn};

use crate::cli::{self, Dtype, JobResult};

/// How the models of a job are loaded, or asked where they are servers.
#[derive(clap::Args, Clone, Debug)]
pub struct ModelArguments {
    /// flex (the CPU), or another backend that is compiled in
    #[arg(long, default_value = "flex")]
    pub device: String,
    /// The dtype of the weights on the device
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: Dtype,
    /// A file that holds the servers' API key
    #[arg(long)]
    pub api_key_file: Option<PathBuf>,
    /// Requests to a model's servers under way at once
    #[arg(long, default_value_t = 16)]
    pub concurrency: usize,
    /// Seconds after which a request to a server is given up and tried again
    #[arg(long, default_value_t = 600)]
    pub request_timeout: u64,
    /// Part of a served model's identity: change it when the weights behind its name change
    #[arg(long, default_value = "")]
    pub revision: String,
    /// How a server is made to write the user's turn: `server` (its own chat template does), `continue`
    /// (continue_final_message), or a template's file that is sent along
    #[arg(long, default_value = "server")]
    pub user_turn: String,
    /// The template of a served synthesizer, whose markers its text is parsed by
    #[arg(long, value_enum, default_value = "llama3")]
    pub template: TemplateName,
    /// How a served judge is scored
    #[arg(long, value_enum, default_value = "top-tokens")]
    pub score_by: ScoreBy,
}

/// Templates whose markers are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TemplateName {
    /// Llama 3's headers, the published synthesizer's.
    Llama3,
    /// ChatML, the Qwen families'.
    Chatml,
}

impl TemplateName {
    /// The texts between turns.
    pub fn markers(self) -> TurnMarkers {
        match self {
            Self::Llama3 => TurnMarkers::llama3(),
            Self::Chatml => TurnMarkers::chatml(),
        }
    }

    /// The token that ends everything.
    fn end_of_text(self) -> &'static str {
        match self {
            Self::Llama3 => "<|end_of_text|>",
            Self::Chatml => "<|endoftext|>",
        }
    }
}

/// How a served judge is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ScoreBy {
    /// The answers are looked for among the 20 most probable tokens.
    TopTokens,
    /// Each answer is sent behind the prompt, and its log-probability read back.
    Echo,
}

/// A model in this process, or behind servers.
#[derive(Debug)]
pub enum AnyModel {
    /// In this process.
    Local(Box<LocalModel>),
    /// Behind servers.
    Remote(Box<RemoteModel>),
}

/// What either of them fails with.
#[derive(Debug)]
pub struct AnyError(Box<dyn std::error::Error + Send + Sync>);

impl fmt::Display for AnyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for AnyError {}

impl AnyModel {
    /// Finds out that a model folder is not there before anything is written. Servers are asked later.
    ///
    /// # Errors
    /// As [`cli::model_folder`].
    pub fn check(name: &str) -> JobResult {
        if is_url(name) { Ok(()) } else { cli::model_folder(name).map(drop) }
    }

    /// Loads a model folder (or a Hub id), or connects to servers: `http://host:port[/v1]`, several with commas between
    /// them, and `#name` behind the last one where they serve several models.
    ///
    /// # Errors
    /// What was wrong with the folder or the servers.
    pub fn open(
        name: &str,
        arguments: &ModelArguments,
        images: Arc<dyn ImageStore>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        if is_url(name) {
            return Ok(Self::Remote(Box::new(RemoteModel::connect(remote_config(name, arguments)?, images)?)));
        }
        let folder = cli::model_folder(name)?;
        let device = cli::device(&arguments.device)?;
        Ok(Self::Local(Box::new(LocalModel::load(&folder, arguments.dtype.into(), &device, images)?)))
    }
}

impl AnyModel {
    /// What of its folder's generation settings a local model follows; a server follows its own.
    pub fn generation_defaults(&self) -> Option<String> {
        match self {
            Self::Local(model) => model.generation_defaults().summary(),
            Self::Remote(_) => None,
        }
    }
}

fn is_url(name: &str) -> bool {
    name.starts_with("http://") || name.starts_with("https://")
}

fn remote_config(name: &str, arguments: &ModelArguments) -> Result<RemoteConfig, Box<dyn std::error::Error>> {
    let (urls, model) = name.split_once('#').map_or((name, None), |(urls, model)| (urls, Some(model.to_owned())));
    let user_turn = match arguments.user_turn.as_str() {
        "server" => UserTurn::ServersTemplate,
        "continue" => UserTurn::Continued,
        file => UserTurn::Template(
            std::fs::read_to_string(file)
                .map_err(|e| format!("--user-turn: expected server, continue or a file, got {file}: {e}"))?,
        ),
    };
    Ok(RemoteConfig {
        model,
        revision: arguments.revision.clone(),
        api_key: arguments.api_key_file.as_ref().map(ApiKey::read).transpose()?,
        user_turn,
        markers: Some(arguments.template.markers()),
        end_of_text: Some(arguments.template.end_of_text().into()),
        score_method: match arguments.score_by {
            ScoreBy::TopTokens => ScoreMethod::default(),
            ScoreBy::Echo => ScoreMethod::Echo,
        },
        concurrency: arguments.concurrency,
        request_timeout: std::time::Duration::from_secs(arguments.request_timeout.max(1)),
        ..RemoteConfig::new(urls.split(',').map(str::trim).filter(|url| !url.is_empty()))
    })
}

impl Generate for AnyModel {
    type Error = AnyError;

    fn generate(&self, prompts: &[Prompt], options: &Decoding) -> Vec<Result<Completion, AnyError>> {
        match self {
            Self::Local(model) => boxed(model.generate(prompts, options)),
            Self::Remote(model) => boxed(model.generate(prompts, options)),
        }
    }

    fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, AnyError>> {
        match self {
            Self::Local(model) => boxed(model.score(requests)),
            Self::Remote(model) => boxed(model.score(requests)),
        }
    }

    fn identity(&self) -> String {
        match self {
            Self::Local(model) => model.identity(),
            Self::Remote(model) => model.identity(),
        }
    }

    fn turn_markers(&self) -> Option<TurnMarkers> {
        match self {
            Self::Local(model) => model.turn_markers(),
            Self::Remote(model) => model.turn_markers(),
        }
    }
}

fn boxed<T, E: std::error::Error + Send + Sync + 'static>(slots: Vec<Result<T, E>>) -> Vec<Result<T, AnyError>> {
    slots.into_iter().map(|slot| slot.map_err(|error| AnyError(Box::new(error)))).collect()
}
