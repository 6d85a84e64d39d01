//! Chat templates: the Jinja text that a folder brings, run by minijinja as transformers runs it.

use std::path::Path;

use adamllm_core::{Conversation, CoreError, IMAGE_MARKER, Message, Role, Supervision, TurnMarkers};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};
use serde_json::Value as Json;

use crate::ModelError;
use crate::text::read_json;

/// A folder's chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    tokens: TemplateTokens,
    source: String,
}

/// The special tokens that templates may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateTokens {
    /// Begin of text.
    pub bos: Option<String>,
    /// End of text, or of a turn.
    pub eos: Option<String>,
}

/// A piece of a rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its text, special tokens included, one placeholder for each image.
    pub text: String,
    /// The message to whose turn it belongs, headers included; a system line counts with the turn behind it.
    pub message: Option<usize>,
    /// Whether its tokens count for the loss.
    pub target: bool,
}

const NAME: &str = "chat";
/// Stands for the content of a turn that is opened, and is cut off again. From a private-use area of Unicode.
const OPEN: &str = "\u{F8F0}";

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl TemplateTokens {
    pub(crate) fn from_config(config: &Json) -> Self {
        let token = |name: &str| match &config[name] {
            Json::String(text) => Some(text.clone()),
            object => object["content"].as_str().map(str::to_owned),
        };
        Self { bos: token("bos_token"), eos: token("eos_token") }
    }
}

impl ChatTemplate {
    /// The template of `chat_template.jinja`, `chat_template.json` or `tokenizer_config.json`, in this order; `None`
    /// where the folder has none (a base model). `builtin` stands in for a missing template file, before
    /// `tokenizer_config.json`.
    ///
    /// # Errors
    /// [`ModelError::Core`], [`ModelError::Json`], [`ModelError::Template`].
    pub fn read(
        folder: &Path,
        tokenizer_config: &Json,
        tokens: TemplateTokens,
        builtin: Option<&str>,
    ) -> Result<Option<Self>, ModelError> {
        let jinja = folder.join("chat_template.jinja");
        if jinja.exists() {
            let source = std::fs::read_to_string(&jinja).map_err(CoreError::io("read", &jinja))?;
            return Self::new(source, tokens).map(Some);
        }
        let json = read_json(&folder.join("chat_template.json"))?.unwrap_or(Json::Null);
        let own = source(&json["chat_template"]).or_else(|| builtin.map(str::to_owned));
        let source = own.or_else(|| source(&tokenizer_config["chat_template"]));
        source.map(|source| Self::new(source, tokens)).transpose()
    }

    /// Compiles a template.
    ///
    /// # Errors
    /// [`ModelError::Template`].
    pub fn new(source: String, tokens: TemplateTokens) -> Result<Self, ModelError> {
        let mut environment = Environment::new();
        // As transformers sets its sandbox up.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?;
        environment.set_syntax(syntax);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, source.clone()).map_err(failed)?;
        Ok(Self { environment, tokens, source })
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    fn render(&self, messages: &[Message], open_reply: bool) -> Result<String, ModelError> {
        let messages: Vec<Value> = messages.iter().map(message_value).collect();
        let template = self.environment.get_template(NAME).map_err(failed)?;
        template
            .render(context! {
                messages,
                add_generation_prompt => open_reply,
                bos_token => self.tokens.bos.as_deref().unwrap_or(""),
                eos_token => self.tokens.eos.as_deref().unwrap_or(""),
                tools => Value::from(()),
            })
            .map_err(failed)
    }

    /// The conversation, and the header of a new turn.
    ///
    /// # Errors
    /// [`ModelError::Template`].
    pub fn render_open(&self, messages: &[Message], open: Role) -> Result<String, ModelError> {
        if open == Role::Assistant {
            return self.render(messages, true);
        }
        let mut messages = messages.to_vec();
        messages.push(Message::new(open, OPEN));
        let mut text = self.render(&messages, false)?;
        match text.find(OPEN) {
            Some(at) => text.truncate(at),
            None => return Err(template_error("the template drops a turn's content")),
        }
        Ok(text)
    }

    /// The conversation in pieces, each wholly target or wholly not: ids and loss mask come from this one pass.
    /// `markers` are the template's own.
    ///
    /// # Errors
    /// [`ModelError::Template`] where the template fails, or where an earlier turn looks different once later ones
    /// follow, so that no piece of text could be called the reply.
    pub fn segments(
        &self,
        conversation: &Conversation,
        supervision: Supervision,
        markers: &TurnMarkers,
    ) -> Result<Vec<Segment>, ModelError> {
        let messages = &conversation.messages;
        let whole = self.render(messages, false)?;
        let replies = messages.iter().enumerate().filter(|(_, m)| m.role == Role::Assistant);
        let mut borders = Vec::new();
        for (i, _) in replies {
            let start = self.prefix(&whole, &messages[..i], true)?;
            let end = self.prefix(&whole, &messages[..=i], false)?;
            // What follows the end-of-turn token (a line feed in ChatML) is no part of the reply.
            let cut = whole[start..end].rfind(&markers.end_of_turn).map(|at| start + at + markers.end_of_turn.len());
            borders.push(Reply { start, end: cut.unwrap_or(end), message: i });
        }
        Ok(divide(&whole, &borders, messages.len(), supervision))
    }

    /// The length of what stands before turn `messages.len()`, checked to be the beginning of the whole.
    fn prefix(&self, whole: &str, messages: &[Message], open_reply: bool) -> Result<usize, ModelError> {
        let prefix = self.render(messages, open_reply)?;
        if whole.starts_with(&prefix) {
            return Ok(prefix.len());
        }
        let turns = messages.len();
        Err(template_error(&format!("the first {turns} turns look different once later ones follow")))
    }

    /// How the template writes the borders between turns; `None` if it has no special tokens there.
    pub(crate) fn turn_markers(&self, special: &[String]) -> Result<Option<TurnMarkers>, ModelError> {
        let [user, reply, next] = ["\u{F8F1}", "\u{F8F2}", "\u{F8F3}"];
        let messages = [Message::user(user), Message::assistant(reply), Message::user(next)];
        let Ok(text) = self.render(&messages, false) else { return Ok(None) };
        let between = |a: &str, b: &str| {
            let start = text.find(a)? + a.len();
            let end = start + text[start..].find(b)?;
            Some(text[start..end].to_owned())
        };
        let (Some(to_reply), Some(to_user)) = (between(user, reply), between(reply, next)) else { return Ok(None) };
        let split = |border: &str| {
            let end_of_turn = special.iter().find(|token| border.starts_with(token.as_str()))?;
            let rest = &border[end_of_turn.len()..];
            let header = special.iter().filter_map(|token| rest.find(token.as_str())).min().unwrap_or(rest.len());
            Some((end_of_turn.clone(), rest[..header].to_owned(), rest[header..].to_owned()))
        };
        let (Some(reply_border), Some(user_border)) = (split(&to_reply), split(&to_user)) else { return Ok(None) };
        Ok(Some(TurnMarkers {
            end_of_turn: user_border.0,
            separator: user_border.1,
            user_header: user_border.2,
            assistant_header: reply_border.2,
        }))
    }
}

/// One template, or the one called `default` among several.
fn source(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Array(named) => named
            .iter()
            .find(|entry| entry["name"] == "default")
            .and_then(|entry| entry["template"].as_str())
            .map(str::to_owned),
        _ => None,
    }
}

/// A message as templates expect it: plain text, or a list of parts where it holds images.
fn message_value(message: &Message) -> Value {
    let role = message.role.as_str();
    if !message.content.contains(IMAGE_MARKER) {
        return context! { role, content => message.content.as_str() };
    }
    let mut parts = Vec::new();
    for (i, text) in message.content.split(IMAGE_MARKER).enumerate() {
        if i > 0 {
            parts.push(context! { type => "image" });
        }
        if !text.is_empty() {
            parts.push(context! { type => "text", text });
        }
    }
    context! { role, content => parts }
}

/// Where a reply stands in the rendered text, its end-of-turn token included.
struct Reply {
    start: usize,
    end: usize,
    message: usize,
}

/// The text between the replies, the replies, and what follows the last.
fn divide(whole: &str, replies: &[Reply], n_messages: usize, supervision: Supervision) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut push = |text: &str, message: usize, target: bool| {
        if !text.is_empty() {
            segments.push(Segment { text: text.to_owned(), message: Some(message), target });
        }
    };
    let mut at = 0;
    for (i, &Reply { start, end, message }) in replies.iter().enumerate() {
        let learnt = Learnt::of(supervision, i, replies.len());
        push(&whole[at..start], message.saturating_sub(1), learnt.before);
        push(&whole[start..end], message, learnt.reply);
        at = end;
    }
    // The first exchange ends behind its end-of-turn token; the line feed and the next header are learnt.
    let learnt = Learnt::of(supervision, replies.len(), replies.len()).before && !replies.is_empty();
    let ends_with_text = supervision == Supervision::AfterFirstExchange;
    let rest = if ends_with_text { whole[at..].trim_end_matches('\n') } else { &whole[at..] };
    push(rest, n_messages.saturating_sub(1), learnt);
    segments
}

/// Which parts of an exchange count for the loss.
pub(crate) struct Learnt {
    /// What stands before the reply: the question and all headers.
    pub(crate) before: bool,
    /// The reply with the token that ends it.
    pub(crate) reply: bool,
}

impl Learnt {
    /// Of the exchange of this number, among `n`.
    pub(crate) fn of(supervision: Supervision, exchange: usize, n: usize) -> Self {
        let (before, reply) = match supervision {
            Supervision::Replies => (false, true),
            Supervision::LastReply => (false, exchange + 1 == n),
            Supervision::Everything => (true, true),
            Supervision::AfterFirstExchange => (exchange > 0, exchange > 0),
        };
        Self { before, reply }
    }
}

fn failed(error: minijinja::Error) -> ModelError {
    let mut detail = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        detail = format!("{detail}: {cause}");
        source = cause.source();
    }
    ModelError::Template { detail }
}

fn template_error(detail: &str) -> ModelError {
    ModelError::Template { detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}\
        {% else %}{% for p in m.content %}{% if p.type == 'image' %}<|image_pad|>{% else %}{{ p.text }}{% endif %}\
        {% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    fn template() -> ChatTemplate {
        ChatTemplate::new(CHATML.into(), TemplateTokens::default()).expect("compiles")
    }

    fn conversation() -> Conversation {
        let messages = vec![
            Message::user("<image>\nDescribe the image."),
            Message::assistant("A cat."),
            Message::user("Colour?"),
            Message::assistant("Red."),
        ];
        Conversation::new(messages, vec!["cat.png".into()])
    }

    #[test]
    fn finds_its_own_borders() {
        let special = ["<|im_start|>", "<|im_end|>", "<|image_pad|>"].map(str::to_owned);
        let markers = template().turn_markers(&special).expect("renders");
        assert_eq!(markers, Some(TurnMarkers::chatml()));
    }

    #[test]
    fn replies_and_their_end_are_targets() {
        let segments =
            template().segments(&conversation(), Supervision::Replies, &TurnMarkers::chatml()).expect("renders");
        let targets: Vec<_> = segments.iter().filter(|s| s.target).map(|s| s.text.as_str()).collect();
        assert_eq!(targets, ["A cat.<|im_end|>", "Red.<|im_end|>"]);
        assert!(segments[0].text.starts_with("<|im_start|>user\n<|image_pad|>\nDescribe"));
        let whole: String = segments.iter().map(|s| s.text.as_str()).collect();
        assert!(whole.ends_with("Red.<|im_end|>\n"));
    }

    #[test]
    fn the_synthesizer_learns_questions_too() {
        let segments = template()
            .segments(&conversation(), Supervision::AfterFirstExchange, &TurnMarkers::chatml())
            .expect("renders");
        let text = |target| segments.iter().filter(|s| s.target == target).map(|s| s.text.as_str()).collect::<String>();
        assert!(text(false).ends_with("A cat.<|im_end|>"));
        assert_eq!(text(true), "\n<|im_start|>user\nColour?<|im_end|>\n<|im_start|>assistant\nRed.<|im_end|>");
        let messages: Vec<_> = segments.iter().filter_map(|s| s.message).collect();
        assert_eq!(messages, [0, 1, 2, 3]);
    }

    #[test]
    fn opens_a_user_turn() {
        let text = template().render_open(&conversation().messages, Role::User).expect("renders");
        assert!(text.ends_with("Red.<|im_end|>\n<|im_start|>user\n"));
    }

    #[test]
    fn what_the_template_raises_is_the_error() {
        let source = "{{ raise_exception('roles must alternate') }}";
        let template = ChatTemplate::new(source.into(), TemplateTokens::default()).expect("compiles");
        let error = template.render_open(&[], Role::Assistant).expect_err("raises").to_string();
        assert!(error.contains("roles must alternate"), "{error}");
    }
}
