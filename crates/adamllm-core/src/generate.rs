use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Conversation, IMAGE_MARKER, ImageRef, Message, Role, TurnMarkers};

/// A model as its callers see it: prompts in, text out. Local families, HTTP servers and test fakes implement it.
///
/// A model of one's own needs three methods:
///
/// ```
/// use adamllm_core::{Completion, Decoding, Generate, Prompt, ScoreRequest};
///
/// /// Says the same to everything.
/// struct Fixed(&'static str);
///
/// impl Generate for Fixed {
///     type Error = std::convert::Infallible;
///
///     fn generate(&self, prompts: &[Prompt], _options: &Decoding) -> Vec<Result<Completion, Self::Error>> {
///         prompts.iter().map(|_| Ok(Completion::new(self.0))).collect()
///     }
///
///     fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, Self::Error>> {
///         requests.iter().map(|request| Ok(vec![0.0; request.continuations.len()])).collect()
///     }
///
///     fn identity(&self) -> String {
///         format!("always {}", self.0)
///     }
/// }
///
/// let answers = Fixed("A cell.").generate(&[Prompt::ask(&"slide.png".into(), "What is this?")], &Decoding::greedy(8));
/// assert_eq!(answers[0].as_ref().expect("cannot fail").text, "A cell.");
/// ```
pub trait Generate {
    /// What one prompt's failure looks like.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Continues every prompt: one result per prompt, in the same order. A prompt that fails is an `Err` at its own index
    /// and never shifts its neighbours.
    fn generate(&self, prompts: &[Prompt], options: &Decoding) -> Vec<Result<Completion, Self::Error>>;

    /// For each request, the log-probability of each continuation given the prompt: one result per request, one number
    /// (natural logarithm, summed over the continuation's tokens) per continuation.
    fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, Self::Error>>;

    /// Names the model in cache keys and reports: changes whenever its answers may change.
    fn identity(&self) -> String;

    /// How the model's template writes the borders between turns, for callers that keep special tokens in the output.
    /// `None` where the model has no turns (a base model) or does not tell (a server).
    fn turn_markers(&self) -> Option<TurnMarkers> {
        None
    }

    /// Why the model will answer nothing more in this process, where that is so: a [`Budget`](crate::Budget) that is used up. Jobs that
    /// find failures ask this, and then end in order to be taken up again, instead of losing every record that is left.
    fn stopped(&self) -> Option<String> {
        None
    }

    /// Whether the model only notes what it is asked, and answers in a later process: its failures then say nothing about it, and a job
    /// goes through all its records.
    fn answers_later(&self) -> bool {
        false
    }
}

/// References and smart pointers answer as the model that they point to.
macro_rules! forward_generate {
    ($($pointer:ty),*) => {$(
        impl<G: Generate + ?Sized> Generate for $pointer {
            type Error = G::Error;

            fn generate(&self, prompts: &[Prompt], options: &Decoding) -> Vec<Result<Completion, Self::Error>> {
                (**self).generate(prompts, options)
            }

            fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, Self::Error>> {
                (**self).score(requests)
            }

            fn identity(&self) -> String {
                (**self).identity()
            }

            fn turn_markers(&self) -> Option<TurnMarkers> {
                (**self).turn_markers()
            }

            fn stopped(&self) -> Option<String> {
                (**self).stopped()
            }

            fn answers_later(&self) -> bool {
                (**self).answers_later()
            }
        }
    )*};
}

forward_generate!(&G, Box<G>, Rc<G>, Arc<G>);

/// A model that is chosen at run time: local, behind a server, or somebody's own. [`boxed`] makes one.
pub type BoxedModel = Box<dyn Generate<Error = GenerateError>>;

/// What any model's failure looks like once its kind is forgotten: the model's own error, with its message.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct GenerateError(Box<dyn std::error::Error + Send + Sync>);

impl GenerateError {
    /// An error of a model.
    pub fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }

    /// The model's own error, where it is of this type.
    pub fn downcast_ref<E: std::error::Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }
}

/// Forgets a model's type.
///
/// ```
/// use adamllm_core::{BoxedModel, Completion, Decoding, Generate, Prompt, ScoreRequest, boxed};
///
/// struct Echo;
///
/// impl Generate for Echo {
///     type Error = std::fmt::Error;
///
///     fn generate(&self, prompts: &[Prompt], _: &Decoding) -> Vec<Result<Completion, Self::Error>> {
///         let answer = |prompt: &Prompt| match prompt {
///             Prompt::Text(text) => Ok(Completion::new(text)),
///             Prompt::Chat { .. } => Err(std::fmt::Error),
///         };
///         prompts.iter().map(answer).collect()
///     }
///
///     fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, Self::Error>> {
///         requests.iter().map(|_| Err(std::fmt::Error)).collect()
///     }
///
///     fn identity(&self) -> String {
///         "echo".into()
///     }
/// }
///
/// let model: BoxedModel = boxed(Echo);
/// let answers = model.generate(&[Prompt::Text("A round cell.".into())], &Decoding::greedy(8));
/// assert_eq!(answers[0].as_ref().expect("answers").text, "A round cell.");
/// ```
pub fn boxed<G: Generate + 'static>(model: G) -> BoxedModel {
    Box::new(Erased(model))
}

/// A model whose errors have lost their type.
struct Erased<G>(G);

impl<G: Generate> Generate for Erased<G> {
    type Error = GenerateError;

    fn generate(&self, prompts: &[Prompt], options: &Decoding) -> Vec<Result<Completion, GenerateError>> {
        erased(self.0.generate(prompts, options))
    }

    fn score(&self, requests: &[ScoreRequest]) -> Vec<Result<Vec<f64>, GenerateError>> {
        erased(self.0.score(requests))
    }

    fn identity(&self) -> String {
        self.0.identity()
    }

    fn turn_markers(&self) -> Option<TurnMarkers> {
        self.0.turn_markers()
    }

    fn stopped(&self) -> Option<String> {
        self.0.stopped()
    }

    fn answers_later(&self) -> bool {
        self.0.answers_later()
    }
}

fn erased<T, E: std::error::Error + Send + Sync + 'static>(
    results: Vec<Result<T, E>>,
) -> Vec<Result<T, GenerateError>> {
    results.into_iter().map(|result| result.map_err(GenerateError::new)).collect()
}

/// What a model is asked to continue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prompt {
    /// A conversation, rendered with the model's chat template; then a turn of role `open` is opened.
    ///
    /// `open` is [`Role::Assistant`] to get an answer. The synthesizer's protocol opens a [`Role::User`] turn: the model
    /// writes the user's question itself.
    Chat {
        /// The turns so far, with their images.
        conversation: Conversation,
        /// Whose turn the model writes.
        open: Role,
    },
    /// Plain text for a base model: no template, no images. A begin-of-text token is added where the tokenizer has one.
    Text(String),
}

impl Prompt {
    /// One question about one image, the image first.
    pub fn ask(image: &ImageRef, question: &str) -> Self {
        let message = Message::user(format!("{IMAGE_MARKER}\n{question}"));
        Self::chat(vec![message], vec![image.clone()])
    }

    /// Turns that wait for the assistant's answer.
    pub fn chat(messages: Vec<Message>, images: Vec<ImageRef>) -> Self {
        Self::Chat { conversation: Conversation::new(messages, images), open: Role::Assistant }
    }

    /// Characters of its texts.
    pub fn n_chars(&self) -> usize {
        match self {
            Self::Text(text) => text.chars().count(),
            Self::Chat { conversation, .. } => {
                conversation.messages.iter().map(|message| message.content.chars().count()).sum()
            }
        }
    }

    /// The prompt's images, in order.
    pub fn images(&self) -> &[ImageRef] {
        match self {
            Self::Chat { conversation, .. } => &conversation.images,
            Self::Text(_) => &[],
        }
    }
}

/// A prompt and the continuations whose probabilities are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoreRequest {
    /// What stands before each continuation.
    pub prompt: Prompt,
    /// The texts to score, such as `" Yes"` and `" No"`.
    pub continuations: Vec<String>,
}

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// The most probable token.
    Greedy,
    /// Drawn from the distribution, narrowed first by `top_k`, then by `top_p`.
    Random {
        /// Divides the logits; must be positive.
        temperature: f64,
        /// Keeps the k most probable tokens.
        top_k: Option<usize>,
        /// Keeps the smallest set of tokens that holds this much probability.
        top_p: Option<f64>,
        /// The stream's seed. Each prompt draws from a stream of its own, so its answer does not depend on its batch.
        seed: u64,
    },
}

/// How answers are decoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Decoding {
    /// At most this many tokens are written.
    pub max_new_tokens: usize,
    /// The end token is forbidden until this many tokens are written.
    pub min_new_tokens: usize,
    /// Greedy or random.
    pub sampling: Sampling,
    /// Divides (multiplies, where negative) the logits of tokens that occurred before, as in CTRL; 1 leaves them as they are. `None`:
    /// as the model's own defaults say, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// Whether what a model recommends for its answers (`generation_config.json`) applies where nothing here says
    /// otherwise: penalties, suppressed tokens, smallest lengths. Greedy stays greedy and `max_new_tokens` stays the
    /// caller's: those two are never taken from a model.
    pub model_defaults: bool,
    /// Texts that end an answer; they are cut off.
    pub stop: Vec<String>,
    /// Keeps special tokens in the text. The synthesizer needs them: they delimit turns.
    pub keep_special_tokens: bool,
    /// Ends at end-of-text only, not at the end of a turn, so that one completion holds several turns.
    pub through_turns: bool,
    /// Prompt and answer together may hold this many tokens; the model's own limit where `None`.
    pub max_context: Option<usize>,
}

impl Default for Decoding {
    fn default() -> Self {
        Self {
            max_new_tokens: 1024,
            min_new_tokens: 0,
            sampling: Sampling::Greedy,
            repetition_penalty: None,
            model_defaults: true,
            stop: Vec::new(),
            keep_special_tokens: false,
            through_turns: false,
            max_context: None,
        }
    }
}

impl Decoding {
    /// Greedy decoding of at most `max_new_tokens` tokens.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { max_new_tokens, ..Self::default() }
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finish {
    /// An end token or a stop text.
    Stop,
    /// `max_new_tokens` or the context's end: the text may be cut.
    Length,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Completion {
    /// The answer's text.
    pub text: String,
    /// The answer's token ids, the token that ended it included (empty where a server does not tell).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens in the prompt, image tokens included (0 where a server does not tell).
    pub n_prompt_tokens: usize,
    /// Tokens written (0 where a server does not tell).
    pub n_new_tokens: usize,
}

impl Completion {
    /// An answer of which nothing but its text is known, as a model of one's own may give it: not cut, no counts.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), tokens: Vec::new(), finish: Finish::Stop, n_prompt_tokens: 0, n_new_tokens: 0 }
    }

    /// The answer with the token ids that were written, and how many the prompt had.
    pub fn with_tokens(self, tokens: Vec<u32>, n_prompt_tokens: usize) -> Self {
        Self { n_new_tokens: tokens.len(), tokens, n_prompt_tokens, ..self }
    }

    /// The answer with the numbers of tokens, where their ids are not known.
    pub fn with_counts(self, n_prompt_tokens: usize, n_new_tokens: usize) -> Self {
        Self { n_prompt_tokens, n_new_tokens, ..self }
    }

    /// The answer with another reason for its end.
    pub fn ended_by(self, finish: Finish) -> Self {
        Self { finish, ..self }
    }
}
