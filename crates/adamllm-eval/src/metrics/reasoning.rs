//! Models that think aloud: what they say at last.

use std::borrow::Cow;

/// What an answer says after its reasoning, which the strict scorings read instead of the whole text.
///
/// Reasoning stands between `<think>` and `</think>`; `<thinking>`, `<thought>`, `<reasoning>`, `<analysis>`, `<reflection>`,
/// `[THINK]`, `◁think▷`, `<|begin_of_thought|>` and the like, in any case, mean the same. A closing mark without an
/// opening one ends reasoning that began in the prompt. Reasoning that does not end leaves nothing: the model said no
/// answer. Where `<answer>` (or `<|begin_of_box|>`, `<conclusion>`, `<solution>`) marks the answer, only that counts, the last one of several. Special
/// tokens such as `<|im_end|>` are no words.
pub fn without_reasoning(answer: &str) -> Cow<'_, str> {
    if !answer.contains(['<', '[', '◁']) {
        return Cow::Borrowed(answer);
    }
    let (mut said, mut kept_to, mut offset) = (String::new(), 0, 0);
    let (mut in_reasoning, mut in_answer, mut marked) = (false, None, None);
    let mut found = false;
    while let Some(tag) = next_tag(answer, offset) {
        found = true;
        if !in_reasoning {
            said.push_str(&answer[kept_to..tag.start]);
        }
        (offset, kept_to) = (tag.end, tag.end);
        match tag.kind {
            Kind::Opens => in_reasoning = true,
            Kind::Closes if in_reasoning => in_reasoning = false,
            Kind::Closes => {
                said.clear();
                (in_answer, marked) = (None, None);
            }
            Kind::OpensAnswer if !in_reasoning => in_answer = Some(said.len()),
            Kind::ClosesAnswer if !in_reasoning => {
                marked = in_answer
                    .take()
                    .map(|start| start..said.len())
                    .filter(|m| !said[m.clone()].trim().is_empty())
                    .or(marked);
            }
            // A space, so that what stood on both sides stays apart.
            Kind::OpensAnswer | Kind::ClosesAnswer | Kind::Token => said.push(' '),
        }
    }
    if !found {
        return Cow::Borrowed(answer);
    }
    if in_reasoning {
        return Cow::Borrowed("");
    }
    said.push_str(&answer[kept_to..]);
    // An answer's mark that does not end, at the end of a text that was cut.
    let open = in_answer.map(|start| start..said.len()).filter(|range| !said[range.clone()].trim().is_empty());
    match open.or(marked) {
        Some(range) => Cow::Owned(said[range].to_owned()),
        None => Cow::Owned(said),
    }
}

struct Tag {
    start: usize,
    end: usize,
    kind: Kind,
}

enum Kind {
    /// Reasoning begins.
    Opens,
    /// Reasoning ends.
    Closes,
    OpensAnswer,
    ClosesAnswer,
    /// A special token.
    Token,
}

/// The longest name of a mark.
const LONGEST: usize = 40;

/// The next mark from a byte on that is one of those known here.
fn next_tag(text: &str, mut from: usize) -> Option<Tag> {
    loop {
        let start = from + text[from..].find(['<', '[', '◁'])?;
        let open = text[start..].chars().next()?;
        let inside = start + open.len_utf8();
        let close = match open {
            '<' => '>',
            '[' => ']',
            _ => '▷',
        };
        let length = text[inside..].char_indices().take(LONGEST).find(|&(_, c)| c == close).map(|(offset, _)| offset);
        if let Some(length) = length
            && let Some(kind) = kind_of(open, &text[inside..inside + length])
        {
            return Some(Tag { start, end: inside + length + close.len_utf8(), kind });
        }
        from = inside;
    }
}

fn kind_of(open: char, name: &str) -> Option<Kind> {
    let name = name.trim().to_ascii_lowercase();
    let (closes, bare) = name.strip_prefix('/').map_or((false, name.as_str()), |bare| (true, bare));
    if open != '<' {
        return (bare == "think").then_some(if closes { Kind::Closes } else { Kind::Opens });
    }
    match bare {
        "think" | "thinking" | "thought" | "thoughts" | "reasoning" | "reason" | "analysis" | "reflection"
        | "scratchpad" | "seed:think" => Some(if closes { Kind::Closes } else { Kind::Opens }),
        "answer" | "final_answer" | "conclusion" | "solution" => {
            Some(if closes { Kind::ClosesAnswer } else { Kind::OpensAnswer })
        }
        // Gemma's and others' tokens for the same.
        "|begin_of_thought|" | "unused94" => Some(Kind::Opens),
        "|end_of_thought|" | "unused95" => Some(Kind::Closes),
        "|begin_of_box|" | "|begin_of_solution|" => Some(Kind::OpensAnswer),
        "|end_of_box|" | "|end_of_solution|" => Some(Kind::ClosesAnswer),
        "s" | "eos" | "end_of_turn" | "pad" => Some(Kind::Token),
        token => {
            let inner = token.strip_prefix('|')?.strip_suffix('|')?;
            let word = !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            word.then_some(Kind::Token)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_after_all_thinking() {
        let said = |text| without_reasoning(text).trim().to_owned();
        assert_eq!(said("<think>A or C?</think>B"), "B");
        assert_eq!(said("<Thinking>\nA</THINKING>\n\nThe answer is B."), "The answer is B.");
        assert_eq!(said("It is A or so.</think> B"), "B");
        assert_eq!(said("<think>A"), "");
        assert_eq!(said("B <think>A"), "");
        assert_eq!(said("<think>a</think>B<think>c</think>D"), "BD");
        assert_eq!(said("<think>a <think>b</think> c</think>B"), "B");
        assert_eq!(said("[THINK]A[/THINK]B"), "B");
        assert_eq!(said("◁think▷A◁/think▷B"), "B");
        assert_eq!(said("<unused94>thought\nA<unused95>B"), "B");
        assert_eq!(said("<|begin_of_thought|>A<|end_of_thought|><|begin_of_solution|>B<|end_of_solution|>"), "B");
        assert_eq!(said("<answer>A</answer> no: <answer>B</answer> as said"), "B");
        assert_eq!(said("I see. <answer> B"), "B");
        assert_eq!(said("<answer></answer>B"), "B");
        assert_eq!(said("<think><answer>A</answer></think>B"), "B");
        assert_eq!(said("<answer>A</answer> hm </think>B"), "B");
        assert_eq!(said("B<|im_end|>"), "B");
        assert_eq!(said("a < b and [c] and <d> ▷"), "a < b and [c] and <d> ▷");
        assert!(matches!(without_reasoning("plain [words]"), Cow::Borrowed(_)));
    }
}
