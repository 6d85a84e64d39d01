//! Chat templates: the Jinja text that a folder brings, run by minijinja as transformers runs it by jinja2.
//!
//! | file | what it holds |
//! |---|---|
//! | `source` | which of a folder's files the template comes from |
//! | `environment` | minijinja set up as transformers sets up jinja2 |
//! | `generation` | `{% generation %}` |
//! | `json` | the `tojson` filter |
//! | `tokens` | the special tokens that templates may name |
//! | `replies` | where the replies stand in a rendered conversation |

use std::path::Path;

use adamllm_core::{Conversation, IMAGE_MARKER, Message, Role, Supervision, TurnMarkers};
use chrono::{DateTime, Local};
use minijinja::{Environment, Value, context};
use serde_json::Value as Json;

use crate::ModelError;
use replies::Reply;
pub use tokens::TemplateTokens;

mod environment;
mod generation;
mod json;
mod replies;
mod source;
pub(crate) mod tokens;

/// A folder's chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    tokens: TemplateTokens,
    source: String,
    /// Whether it has `{% generation %}`.
    marks_replies: bool,
    contents: Contents,
    /// What stands for an image among a message's words, where the template itself writes none.
    image_text: Option<String>,
    now: DateTime<Local>,
}

/// A piece of a rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// Its text, special tokens included, one placeholder for each image.
    pub text: String,
    /// The message to whose turn it belongs, headers included; a system line counts with the turn after it.
    pub message: Option<usize>,
    /// Whether its tokens count for the loss.
    pub target: bool,
}

/// How a template wants a message's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    /// A plain text, or a list of parts where the message holds images.
    TextOrParts,
    /// Always a list of parts: the template passes plain texts over, as LLaVA's published ones do.
    Parts,
}

/// What rendering gave: the text, and what `{% generation %}` enclosed.
struct Rendering {
    text: String,
    marked: Vec<std::ops::Range<usize>>,
}

const NAME: &str = "chat";
/// Characters of a private-use area of Unicode that mark positions while a template runs. Messages may not hold them.
const RESERVED: std::ops::RangeInclusive<char> = '\u{F8F0}'..='\u{F8F7}';
/// Stands for the content of a turn that is opened, and is cut off again.
const OPEN: &str = "\u{F8F0}";

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// The folder's template; `None` where it has none (a base model). Among several files the first counts:
    ///
    /// | a folder for images (`processor`) | a text folder |
    /// |---|---|
    /// | `processor_config.json` | `chat_template.jinja` |
    /// | `chat_template.json` | `additional_chat_templates/*.jinja` |
    /// | `chat_template.jinja` | `tokenizer_config.json` |
    /// | `additional_chat_templates/*.jinja` | |
    /// | `builtin` | |
    /// | `tokenizer_config.json` | |
    ///
    /// Where two of them differ, that is logged as a warning. Among several named templates the one called `default`
    /// counts.
    ///
    /// # Errors
    /// [`ModelError::Core`], [`ModelError::Json`], [`ModelError::ConfigField`], [`ModelError::Template`].
    pub fn read(
        folder: &Path,
        tokenizer_config: &Json,
        tokens: TemplateTokens,
        processor: bool,
        builtin: Option<&str>,
    ) -> Result<Option<Self>, ModelError> {
        let source = source::find(folder, tokenizer_config, processor, builtin)?;
        source.map(|source| Self::new(source, tokens)).transpose()
    }

    /// Compiles a template. `strftime_now` gives the date of this moment, whenever the template is rendered.
    ///
    /// # Errors
    /// [`ModelError::Template`].
    pub fn new(source: String, tokens: TemplateTokens) -> Result<Self, ModelError> {
        Self::of_date(source, tokens, Local::now())
    }

    pub(crate) fn of_date(source: String, tokens: TemplateTokens, now: DateTime<Local>) -> Result<Self, ModelError> {
        let mut environment = environment::environment(now).map_err(failed)?;
        let (text, marks_replies) = generation::rewrite(&source);
        environment.add_template_owned(NAME, text).map_err(failed)?;
        let contents = Contents::TextOrParts;
        let image_text = None;
        let mut template = Self { environment, tokens, source, marks_replies, contents, image_text, now };
        template.contents = template.wanted_contents();
        Ok(template)
    }

    /// Tries both forms of content with a text that is easy to find again. Plain text is taken where the template shows
    /// it, in a turn of either role, or shows neither form.
    fn wanted_contents(&self) -> Contents {
        let [user, reply] = ["\u{F8F1}", "\u{F8F2}"];
        let messages = [Message::user(user), Message::assistant(reply)];
        let shows = |contents: Contents| {
            let rendered = self.render_with(&messages, false, contents);
            rendered.is_ok_and(|r| r.text.contains(user) && r.text.contains(reply))
        };
        if !shows(Contents::TextOrParts) && shows(Contents::Parts) { Contents::Parts } else { Contents::TextOrParts }
    }

    /// For a template of a text-only folder before which a vision encoder was put: where the template does not write `placeholder`
    /// for an image by itself, it stands among the message's words.
    pub(crate) fn with_image_text(mut self, placeholder: &str) -> Self {
        let image = [Message::user(format!("{IMAGE_MARKER} a"))];
        let writes = self.render(&image, false).is_ok_and(|rendering| rendering.text.contains(placeholder));
        self.image_text = (!writes).then(|| placeholder.to_owned());
        self
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What the template's text depends on beside the conversation: the date, where it writes one.
    pub fn variant(&self) -> Option<String> {
        self.source.contains("strftime_now").then(|| self.now.format("%Y-%m-%d").to_string())
    }

    fn render(&self, messages: &[Message], open_reply: bool) -> Result<Rendering, ModelError> {
        self.render_with(messages, open_reply, self.contents)
    }

    fn render_with(&self, messages: &[Message], open_reply: bool, contents: Contents) -> Result<Rendering, ModelError> {
        let messages: Vec<Value> = messages.iter().map(|message| self.message(message, contents)).collect();
        // Tokens that the folder does not name are undefined, which templates ask about.
        let (named, additional) = self.tokens.variables();
        let named = named.map(|(name, token)| (name, Value::from(token)));
        let additional =
            (!additional.is_empty()).then(|| ("additional_special_tokens", Value::from(additional.to_vec())));
        let conversation = [
            ("messages", Value::from(messages)),
            ("add_generation_prompt", open_reply.into()),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ];
        let variables = Value::from_pairs(named.chain(additional).chain(conversation));

        let template = self.environment.get_template(NAME).map_err(failed)?;
        let text = template.render(variables).map_err(failed)?;
        if !self.marks_replies {
            return Ok(Rendering { text, marked: Vec::new() });
        }
        let (text, marked) = generation::take_marks(&text);
        Ok(Rendering { text, marked })
    }

    /// A message as the template expects it.
    fn message(&self, message: &Message, contents: Contents) -> Value {
        let role = message.role.as_str();
        let content = match &self.image_text {
            Some(image) => message.content.replace(IMAGE_MARKER, image),
            None => message.content.clone(),
        };
        if contents == Contents::TextOrParts && !content.contains(IMAGE_MARKER) {
            return context! { role, content };
        }
        let mut parts = Vec::new();
        for (i, text) in content.split(IMAGE_MARKER).enumerate() {
            if i > 0 {
                parts.push(context! { type => "image" });
            }
            if !text.is_empty() {
                parts.push(context! { type => "text", text });
            }
        }
        context! { role, content => parts }
    }

    /// The conversation, and the header of a new turn.
    ///
    /// # Errors
    /// [`ModelError::Template`].
    pub fn render_open(&self, messages: &[Message], open: Role) -> Result<String, ModelError> {
        check_reserved(messages)?;
        if open == Role::Assistant {
            return Ok(self.render(messages, true)?.text);
        }
        let mut messages = messages.to_vec();
        messages.push(Message::new(open, OPEN));
        let mut text = self.render(&messages, false)?.text;
        match text.find(OPEN) {
            Some(offset) => text.truncate(offset),
            None => return Err(template_error("the template drops a turn's content")),
        }
        Ok(text)
    }

    /// The conversation in pieces, each wholly target or wholly not: the loss mask comes from the pass that writes the
    /// text.
    ///
    /// Where the template has `{% generation %}`, the replies are what it encloses. Else a reply starts after the header
    /// that the template writes to open one, and ends with the special token that the template writes after its words
    /// (after white space, at most). A template that writes none there puts no end into the loss: its replies end with their last
    /// word. `special` are the texts of special tokens.
    ///
    /// # Errors
    /// [`ModelError::Template`] where the template fails, or where an earlier turn looks different once later ones
    /// follow and its words are changed, so that no piece of text could be called the reply.
    pub fn segments(
        &self,
        conversation: &Conversation,
        supervision: Supervision,
        special: &[String],
    ) -> Result<Vec<Segment>, ModelError> {
        let messages = &conversation.messages;
        check_reserved(messages)?;
        let whole = self.render(messages, false)?;
        let replies = if self.marks_replies {
            self.marked_replies(messages, &whole)?
        } else {
            self.written_replies(messages, &whole.text, special)?
        };
        Ok(divide(&whole.text, &replies, messages, supervision))
    }

    /// How the template writes the borders between turns; `None` if it has no special tokens there.
    pub(crate) fn turn_markers(&self, special: &[String]) -> Result<Option<TurnMarkers>, ModelError> {
        // Characters of a private-use area stand in for messages: whatever is between them in the text is the
        // template's.
        let [user, reply, next] = ["\u{F8F1}", "\u{F8F2}", "\u{F8F3}"];
        let messages = [Message::user(user), Message::assistant(reply), Message::user(next)];
        let Ok(Rendering { text, .. }) = self.render(&messages, false) else { return Ok(None) };

        let between = |a: &str, b: &str| {
            let start = text.find(a)? + a.len();
            let end = start + text[start..].find(b)?;
            Some(text[start..end].to_owned())
        };

        let (Some(to_reply), Some(to_user)) = (between(user, reply), between(reply, next)) else { return Ok(None) };
        // A border is the end-of-turn token, what follows it, and from the next special token on the header of the next
        // turn.
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

/// A message that holds a mark of ours would move what the mark stands for.
fn check_reserved(messages: &[Message]) -> Result<(), ModelError> {
    match messages.iter().position(|message| message.content.contains(|c| RESERVED.contains(&c))) {
        None => Ok(()),
        Some(i) => Err(template_error(&format!(
            "message {} holds a private-use character (U+F8F0 to U+F8F7), which marks positions in templates here",
            i + 1
        ))),
    }
}

/// The text between the replies, the replies, and what follows the last.
fn divide(whole: &str, replies: &[Reply], messages: &[Message], supervision: Supervision) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut push = |text: &str, message: usize, target: bool| {
        if !text.is_empty() {
            segments.push(Segment { text: text.to_owned(), message: Some(message), target });
        }
    };
    let answered: Vec<usize> = (0..messages.len()).filter(|&i| messages[i].role == Role::Assistant).collect();
    let exchange = |message: usize| answered.partition_point(|&i| i < message);
    let mut offset = 0;
    for &Reply { start, end, message } in replies {
        let supervised = Supervised::of(supervision, exchange(message), answered.len());
        push(&whole[offset..start], message.saturating_sub(1), supervised.before);
        push(&whole[start..end], message, supervised.reply);
        offset = end;
    }
    // The first exchange ends after its end-of-turn token; the line feed and the next header are in the loss.
    let supervised = Supervised::of(supervision, answered.len(), answered.len()).before && !replies.is_empty();
    let ends_with_text = supervision == Supervision::AfterFirstExchange;
    let rest = if ends_with_text { whole[offset..].trim_end_matches('\n') } else { &whole[offset..] };
    push(rest, messages.len().saturating_sub(1), supervised);
    segments
}

/// Which parts of an exchange count for the loss.
pub(crate) struct Supervised {
    /// What precedes the reply: the question and all headers.
    pub(crate) before: bool,
    /// The reply with the token that ends it.
    pub(crate) reply: bool,
}

impl Supervised {
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
    ModelError::Template { source: error.into() }
}

fn template_error(detail: &str) -> ModelError {
    ModelError::Template { source: detail.into() }
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

    fn special() -> Vec<String> {
        ["<|image_pad|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned).to_vec()
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
        let markers = template().turn_markers(&special()).expect("renders");
        assert_eq!(markers, Some(TurnMarkers::chatml()));
    }

    #[test]
    fn replies_and_their_end_are_targets() {
        let segments = template().segments(&conversation(), Supervision::Replies, &special()).expect("renders");
        let targets: Vec<_> = segments.iter().filter(|s| s.target).map(|s| s.text.as_str()).collect();
        assert_eq!(targets, ["A cat.<|im_end|>", "Red.<|im_end|>"]);
        assert!(segments[0].text.starts_with("<|im_start|>user\n<|image_pad|>\nDescribe"));
        let whole: String = segments.iter().map(|s| s.text.as_str()).collect();
        assert!(whole.ends_with("Red.<|im_end|>\n"));
    }

    #[test]
    fn questions_are_supervised_for_the_synthesizer() {
        let segments =
            template().segments(&conversation(), Supervision::AfterFirstExchange, &special()).expect("renders");
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
