//! A prompt to the body of a request.

use adamllm_core::{Conversation, Decoding, IMAGE_MARKER, ImageStore, Message, Prompt, Role, Sampling, ScoreRequest};
use serde_json::{Map, Value, json};

use crate::image_url::data_url;
use crate::{Dialect, RemoteConfig, RemoteError, UserTurn};

/// Where a request goes, relative to the base URL.
pub(crate) const CHAT: &str = "chat/completions";
/// The same for plain text.
pub(crate) const TEXT: &str = "completions";

/// Makes the bodies of requests.
pub(crate) struct Writer<'a> {
    pub(crate) config: &'a RemoteConfig,
    pub(crate) model: &'a str,
    pub(crate) dialect: Dialect,
    pub(crate) images: &'a dyn ImageStore,
}

impl Writer<'_> {
    /// A prompt to be continued.
    pub(crate) fn generate(&self, prompt: &Prompt, options: &Decoding) -> Result<(&'static str, Value), RemoteError> {
        let (path, mut body) = self.prompt(prompt)?;
        self.decoding(&mut body, options)?;
        Ok((path, self.finished(body)))
    }

    /// A prompt whose most probable next tokens are wanted.
    pub(crate) fn top_tokens(&self, request: &ScoreRequest, n: u32) -> Result<(&'static str, Value), RemoteError> {
        let (path, mut body) = self.prompt(&request.prompt)?;
        body.extend([("max_tokens".into(), json!(1)), ("temperature".into(), json!(0))]);
        if path == CHAT {
            body.extend([("logprobs".into(), json!(true)), ("top_logprobs".into(), json!(n))]);
        } else {
            body.insert("logprobs".into(), json!(n));
        }
        Ok((path, self.finished(body)))
    }

    /// A text whose tokens' own log-probabilities are wanted.
    pub(crate) fn echo(&self, prompt: &str, continuation: &str) -> (&'static str, Value) {
        let text = format!("{prompt}{continuation}");
        let body = json!({
            "model": self.model, "prompt": text, "echo": true, "logprobs": 1, "max_tokens": 1, "temperature": 0,
        });
        let Value::Object(body) = body else { unreachable!("an object was written") };
        (TEXT, self.finished(body))
    }

    fn finished(&self, mut body: Map<String, Value>) -> Value {
        body.extend(self.config.extra.clone());
        Value::Object(body)
    }

    fn prompt(&self, prompt: &Prompt) -> Result<(&'static str, Map<String, Value>), RemoteError> {
        let mut body = Map::from_iter([("model".to_owned(), json!(self.model))]);
        let path = match prompt {
            Prompt::Text(text) => {
                body.insert("prompt".into(), json!(text));
                TEXT
            }
            Prompt::Chat { conversation, open } => {
                self.conversation(&mut body, conversation, *open)?;
                CHAT
            }
        };
        Ok((path, body))
    }

    fn conversation(
        &self,
        body: &mut Map<String, Value>,
        conversation: &Conversation,
        open: Role,
    ) -> Result<(), RemoteError> {
        let (markers, images) = (conversation.n_image_markers(), conversation.images.len());
        if markers != images {
            let record = conversation.id.to_string();
            return Err(adamllm_core::CoreError::ImageCount { record, markers, images }.into());
        }

        let mut images = conversation.images.iter();
        let mut messages = Vec::with_capacity(conversation.messages.len() + 1);
        for Message { role, content, .. } in &conversation.messages {
            let mut parts = Vec::new();

            // Each part after the first one had a marker before it.
            for (i, text) in content.split(IMAGE_MARKER).enumerate() {
                if let Some(image) = (i > 0).then(|| images.next()).flatten() {
                    let url = data_url(self.images, image, self.config.image_form)?;
                    parts.push(json!({"type": "image_url", "image_url": {"url": url}}));
                }
                if !text.is_empty() {
                    parts.push(json!({"type": "text", "text": text}));
                }
            }

            // Plain text stays a string, the form that every server takes.
            let has_image = content.contains(IMAGE_MARKER);
            let content = if has_image { Value::Array(parts) } else { json!(content) };
            messages.push(json!({"role": role.as_str(), "content": content}));
        }

        if open == Role::User {
            self.open_user_turn(body, &mut messages)?;
        } else if open != Role::Assistant {
            return Err(RemoteError::Unsupported { option: "an open system turn", needs: "a local model" });
        }

        body.insert("messages".into(), Value::Array(messages));
        Ok(())
    }

    fn open_user_turn(&self, body: &mut Map<String, Value>, messages: &mut Vec<Value>) -> Result<(), RemoteError> {
        let option = "an open user turn";
        match (&self.config.user_turn, self.dialect) {
            (UserTurn::Refused, _) => {
                let needs = "a server that is made to write the user's turn; see `user_turn`";
                return Err(RemoteError::Unsupported { option, needs });
            }
            (UserTurn::ServersTemplate, _) => {}
            (UserTurn::Template(template), Dialect::Vllm) => {
                body.insert("chat_template".into(), json!(template));
            }
            (UserTurn::Continued, Dialect::Vllm) => {
                messages.push(json!({"role": "user", "content": ""}));

                // The empty last turn is left open. vLLM refuses to continue it and to add a generation prompt, its
                // default, together.
                let fields = [("add_generation_prompt", false), ("continue_final_message", true)];
                body.extend(fields.map(|(name, value)| (name.to_owned(), json!(value))));
            }
            (_, Dialect::OpenAi) => {
                return Err(RemoteError::Unsupported { option, needs: "vLLM or SGLang, or the server's own template" });
            }
        }
        Ok(())
    }

    fn decoding(&self, body: &mut Map<String, Value>, options: &Decoding) -> Result<(), RemoteError> {
        let mut set = |name: &str, value: Value| {
            body.insert(name.into(), value);
        };
        set("max_tokens", json!(options.max_new_tokens));
        match options.sampling {
            Sampling::Greedy => set("temperature", json!(0)),
            Sampling::Random { temperature, top_k, top_p, seed } => {
                set("temperature", json!(temperature));
                set("seed", json!(seed));
                top_p.into_iter().for_each(|p| set("top_p", json!(p)));
                if let Some(k) = top_k {
                    self.needs_vllm("top_k")?;
                    set("top_k", json!(k));
                }
            }
        }
        if options.min_new_tokens > 0 {
            self.needs_vllm("min_new_tokens")?;
            set("min_tokens", json!(options.min_new_tokens));
        }
        // A server applies its model's own defaults; nothing in a request switches all of them off.
        if !options.model_defaults {
            return Err(RemoteError::Unsupported { option: "model_defaults = false", needs: "a local model" });
        }
        if let Some(penalty) = options.repetition_penalty {
            self.needs_vllm("repetition_penalty")?;
            set("repetition_penalty", json!(penalty));
        }
        let mut stop = options.stop.clone();
        if options.keep_special_tokens {
            self.needs_vllm("keep_special_tokens")?;
            set("skip_special_tokens", json!(false));
            // Otherwise vLLM writes a space on each side of a special token.
            set("spaces_between_special_tokens", json!(false));
        }
        if options.through_turns {
            self.needs_vllm("through_turns")?;
            let needs = "`end_of_text`, and `keep_special_tokens` to see it";
            let missing = RemoteError::Unsupported { option: "through_turns", needs };
            let end = self.config.end_of_text.as_ref().filter(|_| options.keep_special_tokens).ok_or(missing)?;
            set("ignore_eos", json!(true));
            stop.push(end.clone());
        }
        if !stop.is_empty() {
            set("stop", json!(stop));
        }
        Ok(())
    }

    fn needs_vllm(&self, option: &'static str) -> Result<(), RemoteError> {
        match self.dialect {
            Dialect::Vllm => Ok(()),
            Dialect::OpenAi => Err(RemoteError::Unsupported { option, needs: "the vLLM dialect" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use adamllm_core::{ImageRef, MemoryImages, RgbImage};

    use super::*;

    fn body(
        config: &RemoteConfig,
        dialect: Dialect,
        prompt: &Prompt,
        options: &Decoding,
    ) -> Result<Value, RemoteError> {
        let mut images = MemoryImages::new();
        images.insert("a.png", RgbImage::new(1, 1));
        images.insert("b.png", RgbImage::new(2, 1));
        let writer = Writer { config, model: "m", dialect, images: &images };
        writer.generate(prompt, options).map(|(_, body)| body)
    }

    fn opened() -> Prompt {
        let messages = vec![Message::user("<image>\nDescribe."), Message::assistant("A cell.")];
        Prompt::Chat { conversation: Conversation::new(messages, vec!["a.png".into()]), open: Role::User }
    }

    #[test]
    fn images_stand_where_their_markers_stand() {
        let config = RemoteConfig::new(["http://127.0.0.1"]);
        let prompt = Prompt::ask(&ImageRef::from("a.png"), "What?");
        let body = body(&config, Dialect::OpenAi, &prompt, &Decoding::greedy(8)).expect("understood");
        let parts = body["messages"][0]["content"].as_array().expect("parts");
        assert_eq!(parts[0]["type"], "image_url");
        assert!(parts[0]["image_url"]["url"].as_str().is_some_and(|url| url.starts_with("data:image/png;base64,")));
        assert_eq!(parts[1], json!({"type": "text", "text": "\nWhat?"}));
        let fields: Vec<_> = body.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(fields, ["model", "messages", "max_tokens", "temperature"], "nothing that OpenAI does not know");
    }

    #[test]
    fn the_synthesizers_protocol_in_three_ways() {
        let decoding = Decoding { keep_special_tokens: true, through_turns: true, ..Decoding::greedy(512) };
        let ask = |user_turn: UserTurn, dialect| {
            let end_of_text = Some("<|end_of_text|>".to_owned());
            let config = RemoteConfig { user_turn, end_of_text, ..RemoteConfig::new(["http://127.0.0.1"]) };
            body(&config, dialect, &opened(), &decoding)
        };
        let continued = ask(UserTurn::Continued, Dialect::Vllm).expect("understood");
        assert_eq!(continued["messages"][2], json!({"role": "user", "content": ""}));
        assert_eq!(
            [&continued["continue_final_message"], &continued["add_generation_prompt"]],
            [&json!(true), &json!(false)]
        );
        assert_eq!([&continued["ignore_eos"], &continued["skip_special_tokens"]], [&json!(true), &json!(false)]);
        assert_eq!(continued["stop"], json!(["<|end_of_text|>"]));
        let template = ask(UserTurn::Template("{{ x }}".into()), Dialect::Vllm).expect("understood");
        assert_eq!(
            (&template["chat_template"], template["messages"].as_array().map(Vec::len)),
            (&json!("{{ x }}"), Some(2))
        );
        assert!(ask(UserTurn::ServersTemplate, Dialect::Vllm).is_ok());
        for (user_turn, dialect) in [
            (UserTurn::Refused, Dialect::Vllm),
            (UserTurn::Continued, Dialect::OpenAi),
            (UserTurn::ServersTemplate, Dialect::OpenAi),
        ] {
            assert!(matches!(ask(user_turn, dialect), Err(RemoteError::Unsupported { .. })));
        }
    }

    #[test]
    fn options_that_a_server_does_not_know_are_refused() {
        let config = RemoteConfig::new(["http://127.0.0.1"]);
        let random = |top_k| Sampling::Random { temperature: 0.7, top_k, top_p: Some(0.9), seed: 3 };
        let options = [
            ("top_k", Decoding { sampling: random(Some(5)), ..Decoding::default() }),
            ("min_new_tokens", Decoding { min_new_tokens: 2, ..Decoding::default() }),
            ("repetition_penalty", Decoding { repetition_penalty: Some(1.1), ..Decoding::default() }),
            ("keep_special_tokens", Decoding { keep_special_tokens: true, ..Decoding::default() }),
        ];
        for (name, options) in options {
            let prompt = Prompt::Text("x".into());
            let refused = body(&config, Dialect::OpenAi, &prompt, &options);
            assert!(matches!(refused, Err(RemoteError::Unsupported { option, .. }) if option == name));
            assert!(body(&config, Dialect::Vllm, &prompt, &options).is_ok());
        }
        let plain = Decoding { sampling: random(None), ..Decoding::default() };
        let body = body(&config, Dialect::OpenAi, &Prompt::Text("x".into()), &plain).expect("understood");
        assert_eq!((&body["top_p"], &body["seed"], &body["prompt"]), (&json!(0.9), &json!(3), &json!("x")));
    }
    #[test]
    fn several_images_stand_in_their_order_over_all_turns() {
        let config = RemoteConfig::new(["http://127.0.0.1"]);
        let ask = |images: &[&str]| {
            let turns = vec![
                Message::user("Left <image>, right <image>?"),
                Message::assistant("Alike."),
                Message::user("<image><image> And these?"),
            ];
            let prompt = Prompt::chat(turns, images.iter().map(|name| ImageRef::from(*name)).collect());
            body(&config, Dialect::OpenAi, &prompt, &Decoding::greedy(8))
        };
        let body = ask(&["a.png", "b.png", "b.png", "a.png"]).expect("understood");
        let said = |turn: usize| -> Vec<String> {
            let text = |part: &Value| part["text"].as_str().map(str::to_owned);
            let image = |part: &Value| part["image_url"]["url"].as_str().expect("an image").to_owned();
            let parts = body["messages"][turn]["content"].as_array().expect("parts");
            parts.iter().map(|part| text(part).unwrap_or_else(|| image(part))).collect()
        };
        let (first, last) = (said(0), said(2));
        let [a, b] = [&first[1], &first[3]];
        assert!(a != b && a.starts_with("data:image/png") && b.starts_with("data:image/png"));
        assert_eq!(first, ["Left ", a, ", right ", b, "?"].map(str::to_owned));
        assert_eq!(last, [b, a, " And these?"].map(str::to_owned));
        assert_eq!(body["messages"][1]["content"], "Alike.");
        for images in [&["a.png"; 3][..], &["a.png"; 5]] {
            assert!(matches!(ask(images), Err(RemoteError::Core(adamllm_core::CoreError::ImageCount { .. }))));
        }
    }
}
