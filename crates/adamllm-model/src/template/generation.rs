//! `{% generation %}`: what a template says the model has written (transformers 4.42 and later).
//!
//! minijinja knows no tags but its own. The tag is therefore compiled as a call block, and the function that it calls puts
//! a mark before and after what the block renders; the marks are taken out of the finished text, and their positions are kept.

use std::ops::Range;

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, State, Value};

/// Marks from a private-use area of Unicode. [`super::RESERVED`] keeps them out of messages.
const START: char = '\u{F8F4}';
const END: char = '\u{F8F5}';

const FUNCTION: &str = "__generation";

/// The template with the tag as a call block, and whether it has the tag.
pub(super) fn rewrite(source: &str) -> (String, bool) {
    let mut out = String::with_capacity(source.len());
    let mut found = false;
    let mut rest = source;

    while let Some(offset) = rest.find('{') {
        let (before, tag) = rest.split_at(offset);
        out.push_str(before);
        // Comments and expressions are passed over whole: what looks like a tag in them is none.
        let length = match tag.as_bytes().get(1) {
            Some(b'#') => tag.find("#}").map_or(tag.len(), |end| end + 2),
            Some(b'{') => closed_by(tag, "}}"),
            Some(b'%') => block(tag),
            _ => 1,
        };

        let (tag, after) = tag.split_at(length);
        match name_of(tag) {
            Some(name) if tag[name.clone()] == *"generation" => {
                found = true;
                out.push_str(&tag[..name.start]);
                out.push_str("call ");
                out.push_str(FUNCTION);
                out.push_str("()");
                out.push_str(&tag[name.end..]);
            }
            Some(name) if tag[name.clone()] == *"endgeneration" => {
                out.push_str(&tag[..name.start]);
                out.push_str("endcall");
                out.push_str(&tag[name.end..]);
            }
            _ => out.push_str(tag),
        }

        rest = after;
    }

    out.push_str(rest);
    (out, found)
}

/// The length of a block tag; of everything up to the end of `{% endraw %}` where it opens a raw block.
fn block(tag: &str) -> usize {
    let length = closed_by(tag, "%}");
    if name_of(&tag[..length]).is_none_or(|name| tag[name] != *"raw") {
        return length;
    }
    let mut offset = length;
    while let Some(next) = tag[offset..].find("{%") {
        let start = offset + next;
        let end = start + closed_by(&tag[start..], "%}");
        if name_of(&tag[start..end]).is_some_and(|name| tag[start..end][name] == *"endraw") {
            return end;
        }
        offset = start + 2;
    }
    tag.len()
}

/// The length of a tag up to its closing, which does not count inside quotes.
fn closed_by(tag: &str, closing: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (i, c) in tag.char_indices().skip(2) {
        match quote {
            _ if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None if tag[i..].starts_with(closing) => return i + closing.len(),
            None => {}
        }
    }
    tag.len()
}

/// Where the name of a block tag stands.
fn name_of(tag: &str) -> Option<Range<usize>> {
    let inner = tag.strip_prefix("{%")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner).trim_start();
    let start = tag.len() - inner.len();
    let length = inner.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inner.len());
    Some(start..start + length)
}

/// Gives templates the function that marks.
pub(super) fn install(environment: &mut Environment<'static>) {
    environment.add_function(FUNCTION, |state: &mut State, arguments: Kwargs| -> Result<Value, Error> {
        let caller: Value = arguments.get("caller")?;
        let body = caller.call(state, &[])?;
        Ok(Value::from(format!("{START}{body}{END}")))
    });
}

/// The text without marks, and what they enclosed. Marks inside marks count as the outer ones.
pub(super) fn take_marks(marked: &str) -> (String, Vec<Range<usize>>) {
    let mut text = String::with_capacity(marked.len());
    let mut spans: Vec<Range<usize>> = Vec::new();
    let mut depth = 0_usize;
    for c in marked.chars() {
        match c {
            START => {
                if depth == 0 {
                    spans.push(text.len()..text.len());
                }
                depth += 1;
            }
            END => {
                depth = depth.saturating_sub(1);
                if let Some(span) = spans.last_mut().filter(|_| depth == 0) {
                    span.end = text.len();
                }
            }
            c => text.push(c),
        }
    }

    (text, spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tag_itself_is_rewritten() {
        let (text, found) = rewrite("a{%- generation -%}b{% endgeneration %}c");
        assert_eq!((text.as_str(), found), ("a{%- call __generation() -%}b{% endcall %}c", true));
        for same in [
            "{# {% generation %} #}",
            "{% raw %}{% generation %}{% endraw %}{{ x }}",
            "{{ '{% generation %}' }}",
            "{% set generation = 1 %}{{ generation }}",
            "{% if add_generation_prompt %}x{% endif %}",
            "{",
            "{%",
            "{{ 'a",
            "{% raw %}{% x",
        ] {
            assert_eq!(rewrite(same), (same.to_owned(), false));
        }
    }

    #[test]
    fn the_positions_of_marks_are_kept() {
        let marked = format!("a{START}bc{END}d{START}{END}");
        assert_eq!(take_marks(&marked), ("abcd".to_owned(), vec![1..3, 4..4]));
    }
}
