//! From the synthesizer's raw text to a triplet: pure functions over text that still holds its special tokens.

use adamllm_core::{Role, TurnMarkers};
use serde::{Deserialize, Serialize};

/// The hint line before a question that shall be answered in a word or two: protocol of the published synthesizer.
pub const PRECISE_HINT: &str = "Answer with a precise response.\n";
/// The hint line before a question that shall be answered with an explanation: protocol of the published synthesizer.
pub const INFORMATIVE_HINT: &str = "Answer with an informative response.\n";

/// One complete turn that the synthesizer wrote, in the form `{"from": "human" | "gpt", "value": ...}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who speaks.
    #[serde(rename = "from", with = "speaker")]
    pub role: Role,
    /// What is said, without white space around it.
    #[serde(rename = "value")]
    pub text: String,
}

/// A question that was answered both ways, as it stands in the synthesizer's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FoundTriplet {
    /// The question without its hint.
    #[serde(rename = "Q")]
    pub question: String,
    /// The answer after [`PRECISE_HINT`].
    #[serde(rename = "precise_A")]
    pub precise: String,
    /// The answer after [`INFORMATIVE_HINT`].
    #[serde(rename = "informative_A")]
    pub informative: String,
}

/// Splits a text into its complete user and assistant turns, alternating.
///
/// The text begins inside a user turn (the prompt opened it) or with a user header. A user turn is complete when it is
/// closed and an assistant header follows; an answer is complete when it is closed. An exchange that is cut off, that
/// has an empty side or markers inside a side, is left out.
pub fn parse_turns(text: &str, markers: &TurnMarkers) -> Vec<Turn> {
    let answer_opens = format!("{}{}{}", markers.end_of_turn, markers.separator, markers.assistant_header);
    let mut turns = Vec::new();
    for exchange in text.split(markers.user_header.as_str()) {
        let Some((question, rest)) = exchange.split_once(&answer_opens) else { continue };
        let Some((answer, after)) = rest.split_once(markers.end_of_turn.as_str()) else { continue };
        let (question, answer) = (question.trim(), answer.trim());
        let forged = question.contains(&markers.end_of_turn)
            || [question, answer].iter().any(|side| side.contains(&markers.assistant_header));
        if question.is_empty() || answer.is_empty() || forged || !only_special_tokens(after) {
            continue;
        }
        turns.push(Turn { role: Role::User, text: question.into() });
        turns.push(Turn { role: Role::Assistant, text: answer.into() });
    }
    turns
}

/// Finds the first question that was asked with both hints. Of several answers of one kind the last one before the pair
/// is complete counts.
pub fn find_triplet(turns: &[Turn]) -> Option<FoundTriplet> {
    let mut asked: Vec<HalfTriplet<'_>> = Vec::new();
    for exchange in turns.chunks_exact(2) {
        let (text, answer) = (exchange[0].text.as_str(), exchange[1].text.as_str());
        let (question, is_precise) = match (text.strip_prefix(PRECISE_HINT), text.strip_prefix(INFORMATIVE_HINT)) {
            (Some(question), _) => (question, true),
            (_, Some(question)) => (question, false),
            _ => continue,
        };

        let known = asked.iter().position(|half| half.question == question);
        let index = known.unwrap_or_else(|| {
            asked.push(HalfTriplet { question, precise: None, informative: None });
            asked.len() - 1
        });

        let half = &mut asked[index];
        *(if is_precise { &mut half.precise } else { &mut half.informative }) = Some(answer);

        if let (Some(precise), Some(informative)) = (half.precise, half.informative) {
            let [question, precise, informative] = [question, precise, informative].map(str::to_owned);
            return Some(FoundTriplet { question, precise, informative });
        }
    }
    None
}

struct HalfTriplet<'a> {
    question: &'a str,
    precise: Option<&'a str>,
    informative: Option<&'a str>,
}

/// The first text of the form `<|name|>`, or one of the template's own markers: what must not occur inside a record's text.
pub fn find_special_token<'a>(text: &'a str, markers: &TurnMarkers) -> Option<&'a str> {
    let own = [&markers.end_of_turn, &markers.user_header, &markers.assistant_header];
    let own = own.into_iter().map(|marker| marker.trim());
    let found = own
        .filter(|marker| !marker.is_empty())
        .find_map(|marker| text.find(marker).map(|offset| (offset, marker.len())));
    found.map(|(offset, length)| &text[offset..offset + length]).or_else(|| find_bar_token(text))
}

/// Finds `<|name|>`, the form that the special tokens of Llama 3, ChatML and most newer templates share.
fn find_bar_token(text: &str) -> Option<&str> {
    text.match_indices("<|").find_map(|(start, _)| bar_token_at(&text[start..]))
}

fn bar_token_at(text: &str) -> Option<&str> {
    let name = text.strip_prefix("<|")?;
    let length = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))?;
    (length > 0 && name[length..].starts_with("|>")).then(|| &text[..length + 4])
}

/// Behind a closed turn only white space and special tokens (the end of the text, a separator) may follow.
fn only_special_tokens(text: &str) -> bool {
    let mut rest = text.trim();
    while let Some(token) = bar_token_at(rest) {
        rest = rest[token.len()..].trim_start();
    }
    rest.is_empty()
}

mod speaker {
    use adamllm_core::Role;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match role {
            Role::System => "system",
            Role::User => "human",
            Role::Assistant => "gpt",
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
        Role::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chatml(question: &str, answer: &str) -> String {
        format!("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n")
    }

    #[test]
    fn the_same_code_reads_chatml() {
        let opened = chatml("Answer with a precise response.\nHow many?", "Two");
        let text = opened["<|im_start|>user\n".len()..].to_owned()
            + &chatml("Answer with an informative response.\nHow many?", "I see two cups.")
            + "<|endoftext|>";
        let turns = parse_turns(&text, &TurnMarkers::chatml());
        assert_eq!(turns.len(), 4);
        let found = find_triplet(&turns).expect("both hints occur");
        assert_eq!((found.question.as_str(), found.precise.as_str()), ("How many?", "Two"));
        assert_eq!(found.informative, "I see two cups.");
    }

    #[test]
    fn a_cut_or_doubled_answer_drops_its_exchange_only() {
        let markers = TurnMarkers::chatml();
        let whole = chatml("Q2", "A2");
        for broken in [
            "Q1<|im_end|>\n<|im_start|>assistant\nA1",
            "Q1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>more<|im_end|>\n",
            "Q1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n",
            "Q1<|im_start|>assistant\nA1<|im_end|>\n",
            " <|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n",
        ] {
            let turns = parse_turns(&format!("{broken}{whole}"), &markers);
            assert_eq!(turns.iter().map(|t| t.text.as_str()).collect::<Vec<_>>(), ["Q2", "A2"], "{broken}");
        }
    }

    #[test]
    fn finds_special_tokens_and_nothing_else() {
        let markers = TurnMarkers::llama3();
        assert_eq!(find_special_token("a <|eot_id|> b", &markers), Some("<|eot_id|>"));
        assert_eq!(find_special_token("<| |> <||> <|im_start|>x", &markers), Some("<|im_start|>"));
        assert_eq!(find_special_token("if a <| b |> c, <|é|>, <|", &markers), None);
    }
}
