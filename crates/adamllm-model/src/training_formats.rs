//! The turns as training tools wrote them: strings that are tokenised one by one. The strings are those tools' protocol.

use std::borrow::Cow;

use adamllm_core::{Conversation, CoreError, IMAGE_MARKER, Message, Role, Supervision};

use crate::template::{Segment, Supervised};
use crate::{ModelError, Preset, TextCodec};

/// LLaMA-Factory's system line for Qwen2-VL.
const QWEN_SYSTEM: &str = "You are a helpful assistant.";
/// The system line of `llava_llama_3`.
const LLAVA_SYSTEM: &str = "You are a helpful language and vision assistant. You are able to understand the visual content that the user provides, and assist the user with a variety of tasks using natural language.";

/// How one tool writes turns.
struct Format<'a> {
    preset: Preset,
    /// An image in the text.
    image: &'a str,
}

/// The special tokens that a preset writes, the image's left out.
fn special_tokens(preset: Preset) -> &'static [&'static str] {
    match preset {
        Preset::ChatTemplate => &[],
        Preset::LlamaFactory091Qwen2Vl | Preset::LlamaFactory092Qwen2Vl => &["<|im_start|>", "<|im_end|>"],
        Preset::LlamaFactoryMllama | Preset::LlavaLlama3 | Preset::LlavaLlama3DoubleBos => {
            &["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
        }
    }
}

/// Checks that the tokenizer has the preset's tokens; else they would be read as ordinary words.
pub(crate) fn check(preset: Preset, text: &TextCodec) -> Result<(), ModelError> {
    special_tokens(preset).iter().try_for_each(|token| text.required_token(token).map(drop))
}

/// The conversation's strings in order; each is tokenised by itself. `placeholder` is the text of the image token.
pub(crate) fn segments(
    preset: Preset,
    conversation: &Conversation,
    supervision: Supervision,
    placeholder: &str,
) -> Result<Vec<Segment>, ModelError> {
    let image = match preset {
        Preset::LlamaFactory091Qwen2Vl | Preset::LlamaFactory092Qwen2Vl => {
            Cow::Owned(format!("<|vision_start|>{placeholder}<|vision_end|>"))
        }
        _ => Cow::Borrowed(placeholder),
    };
    Format { preset, image: &image }.segments(conversation, supervision)
}

impl Format<'_> {
    fn segments(&self, conversation: &Conversation, supervision: Supervision) -> Result<Vec<Segment>, ModelError> {
        let (system, turns) = divided(&conversation.messages);

        if !turns.len().is_multiple_of(2) {
            let record = conversation.id.to_string();
            let (expected, got) = ("a reply to every turn of the user".into(), format!("{} turns", turns.len()));
            return Err(CoreError::Field { record, field: "messages", expected, got }.into());
        }

        // The system line has been taken off the front, so messages are counted from there.
        let offset = conversation.messages.len() - turns.len();
        let mut segments = Vec::new();

        let mut push = |text: String, message: usize, target: bool| {
            if !text.is_empty() {
                segments.push(Segment { text, message: Some(message), target });
            }
        };

        for (i, exchange) in turns.chunks(2).enumerate() {
            let supervised = Supervised::of(supervision, i, turns.len() / 2);
            let (user, reply) = (offset + 2 * i, offset + 2 * i + 1);
            // The text before the first turn belongs to the first request: supervised or not with it.
            if i == 0 {
                self.opening(system).into_iter().for_each(|text| push(text, user, supervised.before));
            }

            let [request, answer] = [&exchange[0], &exchange[1]].map(|turn| self.content(turn));
            self.request(&request, i).into_iter().for_each(|text| push(text, user, supervised.before));
            self.reply(&answer).into_iter().for_each(|text| push(text, reply, supervised.reply));
        }

        Ok(segments)
    }

    /// What stands before the first turn.
    fn opening(&self, system: &str) -> Vec<String> {
        let llama = |line: &str| format!("<|start_header_id|>system<|end_header_id|>\n\n{line}<|eot_id|>");
        let begin = || "<|begin_of_text|>".to_owned();
        let or = |default: &'static str| if system.is_empty() { default } else { system };
        match self.preset {
            Preset::ChatTemplate => Vec::new(),
            Preset::LlamaFactory091Qwen2Vl | Preset::LlamaFactory092Qwen2Vl => {
                vec![format!("<|im_start|>system\n{}<|im_end|>\n", or(QWEN_SYSTEM))]
            }
            Preset::LlamaFactoryMllama if system.is_empty() => vec![begin()],
            Preset::LlamaFactoryMllama => vec![begin(), llama(system)],
            Preset::LlavaLlama3 => vec![begin(), llama(or(LLAVA_SYSTEM))],
            Preset::LlavaLlama3DoubleBos => vec![begin(), begin(), llama(or(LLAVA_SYSTEM))],
        }
    }

    /// A user's turn and the header of the reply.
    fn request(&self, text: &str, exchange: usize) -> Vec<String> {
        match self.preset {
            Preset::ChatTemplate => Vec::new(),
            Preset::LlamaFactory091Qwen2Vl | Preset::LlamaFactory092Qwen2Vl => {
                let separator = exchange > 0 && self.preset == Preset::LlamaFactory091Qwen2Vl;
                let turn = format!("<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n");
                vec![if separator { "\n".to_owned() } else { String::new() }, turn]
            }
            Preset::LlamaFactoryMllama | Preset::LlavaLlama3 | Preset::LlavaLlama3DoubleBos => vec![format!(
                "<|start_header_id|>user<|end_header_id|>\n\n{text}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
            )],
        }
    }

    fn reply(&self, text: &str) -> Vec<String> {
        match self.preset {
            Preset::ChatTemplate => Vec::new(),
            Preset::LlamaFactory091Qwen2Vl => vec![text.to_owned(), "<|im_end|>".to_owned()],
            Preset::LlamaFactory092Qwen2Vl => vec![format!("{text}<|im_end|>\n")],
            Preset::LlamaFactoryMllama | Preset::LlavaLlama3 | Preset::LlavaLlama3DoubleBos => {
                vec![format!("{text}<|eot_id|>")]
            }
        }
    }

    /// A turn's text with its images. The LLaVA presets move a turn's image to its front, and know one image for a turn.
    fn content(&self, turn: &Message) -> String {
        let llava = matches!(self.preset, Preset::LlavaLlama3 | Preset::LlavaLlama3DoubleBos);
        if llava && turn.content.contains(IMAGE_MARKER) {
            let text = turn.content.replace(IMAGE_MARKER, "");
            return format!("{}\n{}", self.image, text.trim()).trim().to_owned();
        }
        turn.content.replace(IMAGE_MARKER, self.image)
    }
}

/// The system line, and the turns.
fn divided(messages: &[Message]) -> (&str, &[Message]) {
    match messages {
        [first, turns @ ..] if first.role == Role::System => (&first.content, turns),
        turns => ("", turns),
    }
}
