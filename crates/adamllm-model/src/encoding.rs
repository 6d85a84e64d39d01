use adamllm_core::Supervision;
use serde::{Deserialize, Serialize};

use crate::{ImageLimit, ModelConfig, ModelError, RopeMode};

/// How conversations become training examples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Encoding {
    /// Whose format the turns are written in.
    pub preset: Preset,
    /// Which tokens count for the loss.
    pub supervision: Supervision,
    /// The longest example, in tokens with all placeholders. None: no example is too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// What becomes of a longer example.
    pub truncation: Truncation,
    /// Whether an example may have no token that counts for the loss. Otherwise it is an error of the example.
    pub allow_no_targets: bool,
    /// The positions that the decoder gets.
    pub rope: RopeMode,
    /// How images are scaled before the model's own image processor gets them.
    pub image_limit: ImageLimit,
}

/// Whose format the turns are written in. All but the first write what a published training tool wrote, whatever the
/// model folder's template says. Each turn's request and each reply is tokenised by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Preset {
    /// The model folder's own chat template.
    #[default]
    ChatTemplate,
    /// LLaMA-Factory's `qwen2_vl` until 8 January 2025 (v0.9.1): the line feed after a reply is not in the loss, and an example
    /// ends with `<|im_end|>`.
    #[serde(rename = "llama_factory_0_9_1_qwen2_vl")]
    LlamaFactory091Qwen2Vl,
    /// LLaMA-Factory's `qwen2_vl` since 9 January 2025 (v0.9.2): the line feed after each reply is in the loss.
    #[serde(rename = "llama_factory_0_9_2_qwen2_vl")]
    LlamaFactory092Qwen2Vl,
    /// LLaMA-Factory's `mllama`: no system line unless the conversation has one.
    LlamaFactoryMllama,
    /// Open-LLaVA-NeXT's `llava_llama_3`, with one begin-of-text token.
    #[serde(rename = "llava_llama_3")]
    LlavaLlama3,
    /// As it was run: its text begins with a begin-of-text token, and its tokenizer adds another.
    #[serde(rename = "llava_llama_3_double_bos")]
    LlavaLlama3DoubleBos,
}

/// What becomes of an example that is longer than [`Encoding::max_tokens`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Truncation {
    /// The example is an error ([`ModelError::TooLong`]), for the caller's ledger.
    #[default]
    DropSample,
    /// Exchanges are left out from the end, with their images, until the rest fits. Something that counts for the loss must
    /// stay.
    DropTailTurns,
    /// All of the example's images share a smaller budget of pixels, the largest with which the example fits. For the Qwen2-VL
    /// families: the others cut every image into tiles of one size.
    ShrinkImages,
    /// LLaMA-Factory's `cutoff_len`: exchange by exchange, request and reply keep the beginnings of both in proportion to
    /// their lengths. An image that would be cut is an error ([`ModelError::ImageCut`]): its pixels would not fit.
    LlamaFactory,
}

impl Encoding {
    /// Checks the settings by themselves and against a model.
    ///
    /// # Errors
    /// [`ModelError::Encoding`] with the setting's name.
    pub fn validate(&self, config: &ModelConfig) -> Result<(), ModelError> {
        let fault = |field, expected: String, got: String| Err(ModelError::Encoding { field, expected, got });

        match self.max_tokens {
            Some(0) => return fault("max_tokens", "at least 1".into(), "0".into()),
            Some(n) if n > config.max_context => {
                return fault(
                    "max_tokens",
                    format!("at most the model's context, {}", config.max_context),
                    n.to_string(),
                );
            }
            _ => {}
        }

        // A preset writes a family's special tokens; another family's tokenizer would read them as words.
        let family = config.family.as_str();
        if self.preset != Preset::ChatTemplate && !config.family.presets().contains(&self.preset) {
            let known: Vec<_> = config.family.presets().iter().map(|preset| format!("{preset:?}")).collect();
            let expected = format!("ChatTemplate, or a preset for {family} ({})", known.join(", "));
            return fault("preset", expected, format!("{:?}", self.preset));
        }

        // Where images become tiles of one size, a smaller image need not have fewer tokens.
        let shrinks = config.vision.as_ref().is_none_or(|vision| vision.keeps_image_shape());
        if self.truncation == Truncation::ShrinkImages && !shrinks {
            let expected = format!("another policy: {family} cuts images into tiles of one size");
            return fault("truncation", expected, "shrink_images".into());
        }

        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_do_not_fit_are_named() {
        let qwen = ModelConfig::qwen2_vl_2b();
        let llava = ModelConfig::llava_next_llama3_8b();
        Encoding::default().validate(&qwen).expect("the defaults fit every model");
        let field = |encoding: Encoding, config: &ModelConfig| match encoding.validate(config) {
            Err(ModelError::Encoding { field, .. }) => field,
            other => panic!("a fault of a setting, got {other:?}"),
        };
        let limit = |n| Encoding { max_tokens: Some(n), ..Encoding::default() };
        assert_eq!(field(limit(0), &qwen), "max_tokens");
        assert_eq!(field(limit(40_000), &qwen), "max_tokens");
        let shrink = Encoding { truncation: Truncation::ShrinkImages, ..Encoding::default() };
        shrink.validate(&qwen).expect("images of any size");
        assert_eq!(field(shrink, &llava), "truncation");
        let preset = Encoding { preset: Preset::LlavaLlama3, ..Encoding::default() };
        assert_eq!(field(preset, &qwen), "preset");
    }

    #[test]
    fn as_a_person_writes_them() {
        let text = r#"{"preset": "llama_factory_0_9_2_qwen2_vl", "max_tokens": 6144, "truncation": "llama_factory",
            "supervision": "last_reply", "rope": "linear", "image_limit": "llama_factory_0_9_1"}"#;
        let read: Encoding = serde_json::from_str(text).expect("all known");
        assert_eq!((read.preset, read.rope), (Preset::LlamaFactory092Qwen2Vl, RopeMode::Linear));
        assert_eq!(read.image_limit, ImageLimit::LlamaFactory091);
        let back = serde_json::to_string(&read).expect("serialises");
        assert_eq!(serde_json::from_str::<Encoding>(&back).expect("reads"), read);
        assert!(serde_json::from_str::<Encoding>(r#"{"max_token": 5}"#).is_err());
        assert_eq!(serde_json::from_str::<Encoding>("{}").expect("empty"), Encoding::default());
    }
}
