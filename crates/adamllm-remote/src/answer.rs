//! A server's answer to a completion, or to log-probabilities.

use adamllm_core::{Completion, Decoding, Finish};
use serde_json::Value;

use crate::RemoteError;
use crate::attempt::Answered;

/// The completion in an answer. `end_of_text` ended it, where it is kept: servers cut off the text that stopped them.
pub(crate) fn completion(
    answered: &Answered,
    options: &Decoding,
    end_of_text: Option<&str>,
) -> Result<Completion, RemoteError> {
    let choice = &answered.json["choices"][0];
    let text = choice["message"]["content"].as_str().or_else(|| choice["text"].as_str());
    // A chat that wrote nothing may have `null` as its content.
    let text = text.or_else(|| choice["message"]["content"].is_null().then_some("").filter(|_| choice.is_object()));
    let Some(text) = text.filter(|_| choice["message"].is_object() || choice["text"].is_string()) else {
        return Err(unexpected(answered, "choices[0] with a text", choice));
    };
    let mut text = text.to_owned();
    let finish = match choice["finish_reason"].as_str() {
        Some("length") => Finish::Length,
        _ => Finish::Stop,
    };
    if let (true, Finish::Stop, Some(end)) = (options.through_turns, finish, end_of_text)
        && !text.ends_with(end)
        && !options.stop.iter().any(|stop| choice["stop_reason"].as_str() == Some(stop.as_str()))
    {
        text.push_str(end);
    }
    let count = |name: &str| answered.json["usage"][name].as_u64().unwrap_or(0) as usize;
    let (n_prompt_tokens, n_new_tokens) = (count("prompt_tokens"), count("completion_tokens"));
    match options.max_context {
        Some(limit) if n_prompt_tokens >= limit => Err(RemoteError::ContextOverflow { prompt: n_prompt_tokens, limit }),
        _ => Ok(Completion::new(text).ended_by(finish).with_counts(n_prompt_tokens, n_new_tokens)),
    }
}

/// For each answer its log-probability among the most probable tokens; minus infinity where it is not among them.
pub(crate) fn top_tokens(answered: &Answered, answers: &[String]) -> Result<Vec<f64>, RemoteError> {
    let choice = &answered.json["choices"][0]["logprobs"];
    let chat = choice["content"][0]["top_logprobs"].as_array().map(|listed| {
        let entry = |entry: &Value| Some((entry["token"].as_str()?.to_owned(), entry["logprob"].as_f64()?));
        listed.iter().filter_map(entry).collect::<Vec<_>>()
    });

    // Chats list objects of token and log-probability; plain completions have one object, token to log-probability.
    let listed = chat.or_else(|| {
        let listed = choice["top_logprobs"][0].as_object()?;
        Some(listed.iter().filter_map(|(token, logprob)| Some((token.clone(), logprob.as_f64()?))).collect())
    });

    let Some(listed) = listed.filter(|listed| !listed.is_empty()) else {
        return Err(unexpected(answered, "the most probable tokens in choices[0].logprobs", choice));
    };

    let of = |answer: &String| listed.iter().find(|(token, _)| token == answer).map_or(f64::NEG_INFINITY, |(_, p)| *p);
    let scores: Vec<f64> = answers.iter().map(of).collect();

    // Where none of the answers is listed, there is nothing to compare.
    if scores.iter().all(|score| *score == f64::NEG_INFINITY) {
        let listed = listed.into_iter().map(|(token, _)| token).collect();
        return Err(RemoteError::NotListed { answers: answers.to_vec(), listed });
    }

    Ok(scores)
}

/// The summed log-probability of the tokens of an echoed text that come after its first `n_prompt_chars` characters and
/// before its end (after it comes what the server wrote itself).
pub(crate) fn echoed(answered: &Answered, prompt: &str, continuation: &str) -> Result<f64, RemoteError> {
    let logprobs = &answered.json["choices"][0]["logprobs"];
    let lists = (logprobs["token_logprobs"].as_array(), logprobs["text_offset"].as_array());
    let (Some(values), Some(offsets)) = lists else {
        return Err(unexpected(answered, "token_logprobs and text_offset in choices[0].logprobs", logprobs));
    };
    let tokens = logprobs["tokens"].as_array();
    // Servers that put a begin-of-text token in front count its text too.
    let shift = tokens.map_or(0, |tokens| begin_chars(tokens, prompt));
    let start = prompt.chars().count() + shift;
    let end = start + continuation.chars().count();
    let inside = offsets.iter().zip(values).filter_map(|(offset, value)| Some((offset.as_u64()? as usize, value)));
    let inside: Vec<_> = inside.filter(|(offset, _)| (start..end).contains(offset)).collect();
    if inside.first().is_none_or(|(offset, _)| *offset != start) {
        return Err(unexpected(answered, "a token that begins where the answer begins", logprobs));
    }
    let sum: Option<f64> = inside.iter().map(|(_, value)| value.as_f64()).sum();
    sum.ok_or_else(|| unexpected(answered, "a log-probability for each token", logprobs))
}

/// Characters of tokens that stand before the prompt's own.
fn begin_chars(tokens: &[Value], prompt: &str) -> usize {
    let first = tokens.first().and_then(Value::as_str).unwrap_or_default();
    if prompt.starts_with(first) { 0 } else { first.chars().count() }
}

fn unexpected(answered: &Answered, expected: &'static str, got: &Value) -> RemoteError {
    let got: String = got.to_string().chars().take(300).collect();
    RemoteError::Answer { url: answered.url.clone(), expected, got }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answered(json: Value) -> Answered {
        Answered { url: "http://here".into(), json }
    }

    #[test]
    fn reads_both_kinds_of_completions() {
        let chat = json!({"choices": [{"message": {"content": " Two"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2}});
        let read = completion(&answered(chat.clone()), &Decoding::default(), None).expect("an answer");
        assert_eq!((read.text.as_str(), read.n_prompt_tokens, read.n_new_tokens), (" Two", 7, 2));
        let limited = Decoding { max_context: Some(7), ..Decoding::default() };
        let refused = completion(&answered(chat), &limited, None);
        assert!(matches!(refused, Err(RemoteError::ContextOverflow { prompt: 7, limit: 7 })));
        let text = json!({"choices": [{"text": "Two", "finish_reason": "length"}]});
        let read = completion(&answered(text), &Decoding::default(), None).expect("an answer");
        assert_eq!((read.finish, read.n_new_tokens), (Finish::Length, 0));
        for wrong in [json!({}), json!([]), json!({"choices": []}), json!({"choices": [{"text": 3}]})] {
            let refused = completion(&answered(wrong), &Decoding::default(), None);
            assert!(matches!(refused, Err(RemoteError::Answer { .. })));
        }
        let silent = json!({"choices": [{"message": {"content": null}, "finish_reason": "stop"}]});
        assert_eq!(completion(&answered(silent), &Decoding::default(), None).expect("an answer").text, "");
    }

    #[test]
    fn finds_answers_among_the_most_probable_tokens() {
        let answers = [" Yes", " No", " Open"].map(str::to_owned);
        let text = json!({"choices": [{"logprobs": {"top_logprobs": [{" Yes": -0.5, " No": -1.0, "\n": -3.0}]}}]});
        assert_eq!(top_tokens(&answered(text), &answers).expect("listed"), [-0.5, -1.0, f64::NEG_INFINITY]);
        let chat =
            json!({"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": " Open", "logprob": -0.1}]}]}}]});
        assert_eq!(top_tokens(&answered(chat), &answers).expect("listed")[2], -0.1);
        let other = json!({"choices": [{"logprobs": {"top_logprobs": [{"Yes": -0.5}]}}]});
        assert!(matches!(top_tokens(&answered(other), &answers), Err(RemoteError::NotListed { .. })));
        let none = json!({"choices": [{"text": "x", "logprobs": null}]});
        assert!(matches!(top_tokens(&answered(none), &answers), Err(RemoteError::Answer { .. })));
    }

    #[test]
    fn sums_the_echoed_answer_alone() {
        let echo = |tokens: Value, offsets: Value| {
            answered(json!({"choices": [{"logprobs": {"tokens": tokens, "text_offset": offsets,
                "token_logprobs": [null, -1.0, -0.25, -0.5, -9.0]}}]}))
        };
        let plain = echo(json!(["A", "B:", " Ye", "s", "x"]), json!([0, 1, 3, 6, 7]));
        assert_eq!(echoed(&plain, "AB:", " Yes").expect("sums"), -0.75);
        let with_begin = echo(json!(["<s>", "AB:", " Ye", "s", "x"]), json!([0, 3, 6, 9, 10]));
        assert_eq!(echoed(&with_begin, "AB:", " Yes").expect("sums"), -0.75);
        let merged = echo(json!(["A", "B", ": Ye", "s", "x"]), json!([0, 1, 2, 6, 7]));
        assert!(matches!(echoed(&merged, "AB:", " Yes"), Err(RemoteError::Answer { .. })), "no border there");
    }
}
