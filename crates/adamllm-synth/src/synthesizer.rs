use adamllm_core::{
    Completion, Conversation, Decoding, Generate, IMAGE_MARKER, ImageCaption, Message, OTHER_MEDIA_MARKERS, Prompt,
    Role, TurnMarkers,
};
use serde::{Deserialize, Serialize};

use crate::model_outputs::model_outputs;
use crate::turns::{find_special_token, find_triplet, parse_turns};
use crate::{SynthError, TaskTriplet};

/// What the user says before the caption: protocol of the published synthesizer.
pub const CAPTION_REQUEST: &str = "Describe the image.";

/// How the synthesizer is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SynthesizerConfig {
    /// How its text is decoded. The published protocol: greedy, at most 512 new tokens, a context of 4096, special
    /// tokens kept, through the ends of turns.
    pub decoding: Decoding,
    /// The template's turn markers, where the model does not tell them; Llama 3's (the published synthesizer's) where
    /// neither does.
    pub markers: Option<TurnMarkers>,
    /// Captions of more characters are not tried: no tokenizer fits them into the context.
    pub max_caption_chars: usize,
}

impl Default for SynthesizerConfig {
    fn default() -> Self {
        let decoding = Decoding {
            keep_special_tokens: true,
            through_turns: true,
            max_context: Some(4096),
            ..Decoding::greedy(512)
        };
        Self { decoding, markers: None, max_caption_chars: 32_768 }
    }
}

impl SynthesizerConfig {
    /// Checks what the parser relies on.
    ///
    /// # Errors
    /// [`SynthError::Config`].
    pub fn validate(&self) -> Result<(), SynthError> {
        let error = |field, expected, got: String| Err(SynthError::Config { field, expected, got });
        if !self.decoding.keep_special_tokens || !self.decoding.through_turns {
            return error("decoding", "keep_special_tokens and through_turns: they delimit the turns", "false".into());
        }
        if self.decoding.max_new_tokens == 0 {
            return error("decoding.max_new_tokens", "at least 1", "0".into());
        }
        if self.max_caption_chars == 0 {
            return error("max_caption_chars", "at least 1", "0".into());
        }
        Ok(())
    }
}

/// Proposes one task triplet per image-caption pair (paper section 3.1; `docs/paper.md`).
///
/// ```
/// use adamllm_core::testing::ScriptedModel;
/// use adamllm_core::{ImageCaption, TurnMarkers};
/// use adamllm_synth::Synthesizer;
///
/// // Stands for a model that was tuned to go on after a caption with a question and its two responses.
/// let model = ScriptedModel::new(|_| {
///     Ok("Answer with a precise response.\nHow many?<|im_end|>\n<|im_start|>assistant\nTwo<|im_end|>\n\
///         <|im_start|>user\nAnswer with an informative response.\nHow many?<|im_end|>\n\
///         <|im_start|>assistant\nThere are two nuclei.<|im_end|>\n".into())
/// })
/// .with_turn_markers(TurnMarkers::chatml());
///
/// let pairs = [ImageCaption::new("a.png", "A cell with two nuclei."), ImageCaption::new("b.png", " ")];
/// let triplets = Synthesizer::new(&model).propose(&pairs);
/// assert_eq!(triplets[0].as_ref().map(|triplet| triplet.precise.as_str()).ok(), Some("Two"));
/// assert!(triplets[1].is_err()); // an empty caption costs itself only
/// ```
#[derive(Debug)]
pub struct Synthesizer<G> {
    model: G,
    config: SynthesizerConfig,
    markers: TurnMarkers,
}

impl<G: Generate> Synthesizer<G> {
    /// A synthesizer that follows the published protocol.
    pub fn new(model: G) -> Self {
        Self::with_config(model, SynthesizerConfig::default()).expect("the default settings are valid")
    }

    /// A synthesizer with settings of its own.
    ///
    /// # Errors
    /// [`SynthError::Config`].
    pub fn with_config(model: G, config: SynthesizerConfig) -> Result<Self, SynthError> {
        config.validate()?;
        let markers = config.markers.clone().or_else(|| model.turn_markers()).unwrap_or_else(|| {
            tracing::info!(model = model.identity(), "the model does not tell its turn markers: taking Llama 3's");
            TurnMarkers::llama3()
        });
        Ok(Self { model, config, markers })
    }

    /// The model that is asked.
    pub fn model(&self) -> &G {
        &self.model
    }

    /// The settings.
    pub fn config(&self) -> &SynthesizerConfig {
        &self.config
    }

    /// The turn markers that it parses by.
    pub fn markers(&self) -> &TurnMarkers {
        &self.markers
    }

    /// Proposes a triplet for each pair: one result per pair, in the same order.
    pub fn propose(&self, pairs: &[ImageCaption]) -> Vec<Result<TaskTriplet, SynthError>> {
        let written = self.write(pairs);
        let read = |(pair, text): (_, Result<Completion, _>)| text.and_then(|completion| self.read(pair, &completion));
        pairs.iter().zip(written).map(read).collect()
    }

    /// What the model is asked for one pair: the caption as its own answer, then an opened user turn.
    ///
    /// # Errors
    /// An empty caption, one that is too long, or one that would forge a turn or an image.
    pub fn prompt(&self, pair: &ImageCaption) -> Result<Prompt, SynthError> {
        pair.validate()?;
        let got = pair.caption.chars().count();
        if got > self.config.max_caption_chars {
            let limit = self.config.max_caption_chars;
            return Err(SynthError::TooLong { record: pair.id.clone(), field: "caption", limit, got });
        }
        if let Some(token) = find_special_token(&pair.caption, &self.markers) {
            return Err(SynthError::ForgedTurn { record: pair.id.clone(), field: "caption", token: token.into() });
        }
        let request = Message::user(format!("{IMAGE_MARKER}\n{CAPTION_REQUEST}"));
        let messages = vec![request, Message::assistant(pair.caption.trim())];
        let conversation = Conversation::new(messages, vec![pair.image.clone()]);
        conversation.validate()?;
        Ok(Prompt::Chat { conversation, open: Role::User })
    }

    /// First half of [`Synthesizer::propose`]: the model's raw text for each pair.
    pub fn write(&self, pairs: &[ImageCaption]) -> Vec<Result<Completion, SynthError>> {
        let prompts: Vec<_> = pairs.iter().map(|pair| self.prompt(pair)).collect();
        let ids: Vec<_> = pairs.iter().map(|pair| &pair.id).collect();
        model_outputs(&self.model, &ids, prompts, |model, prompts| model.generate(&prompts, &self.config.decoding))
    }

    /// Second half of [`Synthesizer::propose`]: the triplet in the model's raw text.
    ///
    /// # Errors
    /// [`SynthError::NoTriplet`]; [`SynthError::ForgedTurn`] where a special token stands inside the triplet.
    pub fn read(&self, pair: &ImageCaption, completion: &Completion) -> Result<TaskTriplet, SynthError> {
        let turns = parse_turns(&completion.text, &self.markers);
        let Some(found) = find_triplet(&turns) else {
            let text = completion.text.clone();
            return Err(SynthError::NoTriplet { record: pair.id.clone(), n_turns: turns.len() / 2, text });
        };
        let (id, image) = (pair.id.clone(), pair.image.clone());
        let triplet = TaskTriplet::new(id, image, found.question, found.informative, found.precise);
        refuse_special_tokens(&triplet, &self.markers)?;
        Ok(triplet)
    }
}

/// A triplet whose texts cannot open or close a turn when they are rendered again.
pub(crate) fn refuse_special_tokens(triplet: &TaskTriplet, markers: &TurnMarkers) -> Result<(), SynthError> {
    for (field, text) in triplet.texts() {
        let token = find_special_token(text, markers).or_else(|| {
            let media = [IMAGE_MARKER].into_iter().chain(OTHER_MEDIA_MARKERS);
            media.into_iter().find(|marker| text.contains(marker))
        });
        if let Some(token) = token {
            return Err(SynthError::ForgedTurn { record: triplet.pair.clone(), field, token: token.into() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use adamllm_core::testing::{ScriptedError, ScriptedModel};
    use adamllm_core::{Reason, Role};

    use super::*;

    const ANSWER: &str = "Answer with a precise response.\nHow many?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nTwo<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nAnswer with an informative response.\nHow many?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nI count two.<|eot_id|>";

    #[test]
    fn one_result_for_each_pair() {
        let model = ScriptedModel::new(|prompt| {
            let Prompt::Chat { conversation, open: Role::User } = prompt else { panic!("a user turn is opened") };
            match conversation.messages[1].content.as_str() {
                "good" => Ok(ANSWER.into()),
                "silent" => Ok(String::new()),
                other => Err(ScriptedError(other.into())),
            }
        });
        let captions = ["good", "bad", " ", "x <|eot_id|>", "<image>", "silent", "good"];
        let mut pairs: Vec<_> = captions.iter().map(|caption| ImageCaption::new("a.png", *caption)).collect();
        pairs.push(ImageCaption::new("a.png", "x".repeat(100_000)));
        let proposed = Synthesizer::new(&model).propose(&pairs);
        let reasons: Vec<_> = proposed.iter().map(|result| result.as_ref().err().map(SynthError::reason)).collect();
        let expected = [
            None,
            Some(Reason::ModelError),
            Some(Reason::EmptyCaption),
            Some(Reason::ForgedTurn),
            Some(Reason::ImageCountMismatch),
            Some(Reason::NoTriplet),
            None,
            Some(Reason::TooLong),
        ];
        assert_eq!(reasons, expected);
        let triplet = proposed[0].as_ref().expect("proposed");
        assert_eq!((triplet.precise.as_str(), &triplet.pair), ("Two", &pairs[0].id));
    }
}
