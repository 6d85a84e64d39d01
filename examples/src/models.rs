//! Models by what a person writes for them: a folder, a Hub id, or the URLs of servers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adamllm::core::{BoxedModel, TurnMarkers, boxed};
use adamllm::nn::FrozenForm;
use adamllm::prelude::*;
use adamllm::recipes::Dtype;
use adamllm::remote::{ApiKey, BatchModel, Dialect, RemoteConfig, RemoteModel, ScoreMethod, UserTurn};

use crate::cli::{Answer, JobResult, setting};
use crate::folders::model_folder;
use crate::pixels::PixelArguments;

/// How the models of a job are loaded, or asked where they are servers.
#[derive(clap::Args, Clone, Debug)]
pub struct ModelArguments {
    /// flex (the CPU), or another backend that is compiled in
    #[arg(long, default_value = "flex")]
    pub device: String,
    /// The dtype of the weights on the device: f32, bf16 or f16
    #[arg(long, value_parser = setting::<Dtype>, default_value = "f32")]
    pub dtype: Dtype,
    /// The form of the linear layers' weights: stored (as in the file, which is mapped), int8 or nf4; left out, in --dtype. What is
    /// trained is an adapter beside them
    #[arg(long, value_parser = setting::<FrozenForm>)]
    pub quantize: Option<FrozenForm>,
    /// How large images are.
    #[command(flatten)]
    pub pixels: PixelArguments,
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
    /// Each answer is sent after the prompt, and its log-probability read back.
    Echo,
}

/// A model in this process, or behind servers.
pub struct OpenedModel {
    /// The model.
    pub model: BoxedModel,
    /// What of its folder's generation settings a local model follows; a server follows its own.
    pub generation_defaults: Option<String>,
}

impl std::fmt::Debug for OpenedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OpenedModel").field(&self.model.identity()).finish()
    }
}

/// Finds out that a model folder is not there before anything is written. Servers are asked later.
///
/// # Errors
/// As [`model_folder`].
pub fn check(name: &str) -> JobResult {
    if is_url(name) { Ok(()) } else { model_folder(name).map(drop) }
}

/// Loads a model folder (or a Hub id), or connects to servers: `http://host:port[/v1]`, several with commas between them, and
/// `#name` after the last one where they serve several models.
///
/// # Errors
/// What was wrong with the folder or the servers.
pub fn open(name: &str, arguments: &ModelArguments, images: Arc<dyn ImageStore>) -> Answer<OpenedModel> {
    if is_url(name) {
        if arguments.pixels.min_pixels.or(arguments.pixels.max_pixels).is_some() {
            #[expect(clippy::print_stderr, reason = "a job talks to a person")]
            {
                eprintln!(
                    "note: {name} resizes images by its own settings: --min-pixels and --max-pixels do not reach it"
                );
            }
        }
        let model = RemoteModel::connect(remote_config(name, arguments)?, images)?;
        return Ok(OpenedModel { model: boxed(model), generation_defaults: None });
    }
    let folder = model_folder(name)?;
    // A judge without images has none to resize.
    let folder = if folder.config().vision.is_some() { arguments.pixels.of(folder) } else { folder };
    let device = crate::devices::device(&arguments.device)?;
    let dtype = arguments.dtype.into();
    let model = LocalModel::load_frozen(&folder, dtype, arguments.quantize, &device, images)?;
    let generation_defaults = model.generation_defaults().summary();
    Ok(OpenedModel { model: boxed(model), generation_defaults })
}

/// A model that is asked through files in `folder`, where its name says so: `batch:NAME`, or `vllm-batch:NAME` for what `vllm run-batch` understands
/// beyond OpenAI's own fields.
///
/// # Errors
/// The folder's files.
pub fn open_batch(
    name: &str,
    folder: &Path,
    arguments: &ModelArguments,
    images: Arc<dyn ImageStore>,
) -> Answer<Option<Arc<BatchModel>>> {
    let Some((name, dialect)) = batch_name(name) else { return Ok(None) };
    let config = remote_config("", arguments)?;
    Ok(Some(Arc::new(BatchModel::open(folder, name, dialect, config, images)?)))
}

pub(crate) fn batch_name(name: &str) -> Option<(&str, Dialect)> {
    let plain = name.strip_prefix("batch:").map(|name| (name, Dialect::OpenAi));
    plain.or_else(|| Some((name.strip_prefix("vllm-batch:")?, Dialect::Vllm)))
}

/// Whether a name is that of servers.
pub fn is_url(name: &str) -> bool {
    name.starts_with("http://") || name.starts_with("https://")
}

fn remote_config(name: &str, arguments: &ModelArguments) -> Answer<RemoteConfig> {
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
