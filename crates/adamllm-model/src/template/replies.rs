//! Where the replies stand in a rendered conversation.
//!
//! The positions come from the template itself, never from a search for the reply's words: the conversation is rendered once
//! more with a mark before the first and after the last character of each reply, and the marks are taken out again. What
//! remains must be the plain rendering; else the template depends on the words, and the positions are those where the
//! renderings of the first turns end.

use adamllm_core::{Message, Role};

use super::{ChatTemplate, Rendering, template_error};
use crate::ModelError;

/// Marks around a reply's words; see [`super::RESERVED`].
const START: char = '\u{F8F6}';
const END: char = '\u{F8F7}';

/// Where a reply stands in the rendered text, its end-of-turn token included.
pub(super) struct Reply {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) message: usize,
}

/// Where the words of a reply stand. A template that cuts their beginning off (thoughts, say) leaves no start.
struct Words {
    start: Option<usize>,
    end: usize,
}

impl ChatTemplate {
    /// The replies by `{% generation %}`: the template's own marks.
    pub(super) fn marked_replies(&self, messages: &[Message], whole: &Rendering) -> Result<Vec<Reply>, ModelError> {
        let marked = whole.marked.iter().filter(|span| !span.is_empty());
        let replies: Vec<usize> = of_assistant(messages).collect();
        let spans: Vec<_> = marked.cloned().collect();
        let whole_turns = spans.len() == replies.len();
        let mut found = Vec::with_capacity(spans.len());
        for (i, span) in spans.into_iter().enumerate() {
            // As many marks as replies: the one is the other. Otherwise the turn that the mark ends in says whose it is.
            let message = match replies.get(i).filter(|_| whole_turns) {
                Some(&message) => message,
                None => self.turn_of(messages, &whole.text, span.end)?,
            };
            found.push(Reply { start: span.start, end: span.end, message });
        }
        Ok(found)
    }

    /// The reply in whose turn an offset lies.
    fn turn_of(&self, messages: &[Message], whole: &str, offset: usize) -> Result<usize, ModelError> {
        for message in of_assistant(messages) {
            if offset <= self.prefix(whole, &messages[..=message], false)? {
                return Ok(message);
            }
        }
        Err(template_error("what `{% generation %}` encloses belongs to no reply"))
    }

    /// The replies of a template without `{% generation %}`.
    pub(super) fn written_replies(
        &self,
        messages: &[Message],
        whole: &str,
        special: &[String],
    ) -> Result<Vec<Reply>, ModelError> {
        let words = self.words(messages, whole);
        let mut found: Vec<Reply> = Vec::new();
        for (i, message) in of_assistant(messages).enumerate() {
            let words = words.as_ref().and_then(|words| words.get(i));
            let opened = self.prefix(whole, &messages[..message], true);
            let closed = self.prefix(whole, &messages[..=message], false);
            let (start, end) = match (words, opened, closed) {
                (Some(words), opened, closed) => {
                    // What a template writes between the header and the words is the model's to write, too.
                    let begin = words.start.unwrap_or(words.end);
                    let start = match opened {
                        Ok(start) if start <= begin => start,
                        Err(error) if words.start.is_none() => return Err(error),
                        _ => begin,
                    };
                    (start, end_of_turn(whole, words.end, closed.ok(), special))
                }
                // The template depends on the words (it cuts thoughts off, say), but earlier turns stay as they are.
                (None, Ok(start), Ok(closed)) => {
                    let turn = &whole[start..closed];
                    let last = special.iter().filter_map(|token| Some(turn.rfind(token.as_str())? + token.len())).max();
                    (start, start + last.unwrap_or(turn.trim_end().len()))
                }
                (None, Err(error), _) | (None, _, Err(error)) => return Err(error),
            };
            let before = found.last().map_or(0, |reply| reply.end);
            found.push(Reply { start: start.max(before), end: end.max(start).max(before), message });
        }
        Ok(found)
    }

    /// Where the words of the replies stand; `None` where the template treats words with marks otherwise than without.
    fn words(&self, messages: &[Message], whole: &str) -> Option<Vec<Words>> {
        let marked: Vec<Message> = messages.iter().map(marked).collect();
        let text = self.render(&marked, false).ok()?.text;
        let mut plain = String::with_capacity(text.len());
        let mut words = Vec::new();
        let mut start = None;
        for c in text.chars() {
            match c {
                START => start = Some(plain.len()),
                END => words.push(Words { start: start.take(), end: plain.len() }),
                c => plain.push(c),
            }
        }
        (plain == whole && words.len() == of_assistant(messages).count()).then_some(words)
    }

    /// The length of what stands before turn `messages.len()`, checked to be the beginning of the whole.
    fn prefix(&self, whole: &str, messages: &[Message], open_reply: bool) -> Result<usize, ModelError> {
        let prefix = self.render(messages, open_reply)?.text;
        if whole.starts_with(&prefix) {
            return Ok(prefix.len());
        }
        let turns = messages.len();
        Err(template_error(&format!("the first {turns} turns look different once later ones follow")))
    }
}

fn of_assistant(messages: &[Message]) -> impl Iterator<Item = usize> {
    messages.iter().enumerate().filter(|(_, message)| message.role == Role::Assistant).map(|(i, _)| i)
}

/// A reply with marks around its words, inside the white space at its ends, which templates may trim.
fn marked(message: &Message) -> Message {
    if message.role != Role::Assistant {
        return message.clone();
    }
    let content = &message.content;
    let start = content.len() - content.trim_start().len();
    let (white, words) = content.split_at(start);
    let length = words.trim_end().len();
    let (words, after) = words.split_at(length);
    let content = format!("{white}{START}{words}{END}{after}");
    Message { content, ..message.clone() }
}

/// The end of the special token that follows the words, where one does within the turn, which ends at `closed`.
fn end_of_turn(whole: &str, words: usize, closed: Option<usize>, special: &[String]) -> usize {
    let rest = &whole[words..];
    let token = words + rest.len() - rest.trim_start().len();
    let written = special.iter().filter(|special| whole[token..].starts_with(special.as_str()));
    match written.map(|special| token + special.len()).max() {
        Some(end) if closed.is_none_or(|closed| end <= closed) => end,
        _ => words,
    }
}
