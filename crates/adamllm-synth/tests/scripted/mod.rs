//! A small scripted world: a synthesizer and a judge whose answers are functions of the prompt.

#![allow(dead_code, reason = "each test takes what it needs")]

use adamllm_core::testing::{ScriptedError, ScriptedModel};
use adamllm_core::{ImageCaption, MemoryImages, Prompt, RgbImage, TurnMarkers};
use adamllm_synth::{INFORMATIVE_HINT, PRECISE_HINT};

/// Ten images, `0.png` to `9.png`, each of another grey.
pub(crate) fn images() -> MemoryImages {
    let mut images = MemoryImages::new();
    for i in 0..10u8 {
        images.insert(format!("{i}.png"), grey(i));
    }
    images
}

/// An image of one grey.
pub(crate) fn grey(level: u8) -> RgbImage {
    RgbImage::from_raw(8, 8, vec![level; 8 * 8 * 3]).expect("8 x 8 pixels of 3 bytes")
}

/// A hundred pairs: most are sound, some are bad in each of the ways that a record can be.
pub(crate) fn captions() -> Vec<ImageCaption> {
    let caption = |i: usize| match i % 20 {
        3 => format!("silent {i}"),
        7 => format!("fails {i}"),
        11 => " ".repeat(i),
        13 => format!("{i} cells <|eot_id|>"),
        _ => format!("{i} cells"),
    };
    let image = |i: usize| if i % 25 == 24 { "gone.png".to_owned() } else { format!("{}.png", i % 10) };
    (0..100).map(|i| ImageCaption::new(image(i), caption(i))).collect()
}

/// Writes a triplet about the caption.
pub(crate) fn synthesizer() -> ScriptedModel {
    let answer = |prompt: &Prompt| {
        let Prompt::Chat { conversation, .. } = prompt else { return Err(ScriptedError("expected a chat".into())) };
        let caption = conversation.messages[1].content.as_str();
        if caption.starts_with("fails") {
            return Err(ScriptedError("out of memory".into()));
        }
        if caption.starts_with("silent") {
            return Ok("I would rather not.<|eot_id|>".into());
        }
        let markers = TurnMarkers::llama3();
        let (end, user, assistant) = (markers.end_of_turn, markers.user_header, markers.assistant_header);
        let question = format!("What is in {caption}?");
        Ok(format!(
            "{PRECISE_HINT}{question}{end}{assistant}{caption}{end}{user}{INFORMATIVE_HINT}{question}{end}{assistant}\
             I see {caption} here.{end}"
        ))
    };
    ScriptedModel::new(answer).with_turn_markers(TurnMarkers::llama3())
}

/// Answers by the length of its prompt's question.
pub(crate) fn judge() -> ScriptedModel {
    ScriptedModel::new(|prompt| {
        let Prompt::Text(text) = prompt else { return Err(ScriptedError("expected text".into())) };
        let question = text.rsplit("Question: ").next().unwrap_or_default();
        let digits: u32 = question.chars().filter_map(|c| c.to_digit(10)).sum();
        Ok([" Yes", " No", " Open", " Maybe", " Yes"][digits as usize % 5].into())
    })
}
