use adamllm_core::random::stream;
use adamllm_core::{Conversation, IMAGE_MARKER, Message, RecordId, TurnMarkers};
use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::{QuestionAnswer, SeedConfig, SeedEntry};
use crate::SynthError;
use crate::synthesizer::CAPTION_REQUEST;
use crate::turns::{INFORMATIVE_HINT, PRECISE_HINT, find_special_token};

/// Which part of the seeds a conversation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Trained on.
    Train,
    /// Held out.
    Dev,
}

/// One conversation to tune a synthesizer on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SeedConversation {
    /// The caption exchange, then the questions.
    pub conversation: Conversation,
    /// The task that the image belongs to.
    pub task: String,
    /// Trained on or held out.
    pub split: Split,
    /// Whether the image was replaced by a blank one.
    pub is_blank: bool,
}

/// Makes the conversation of one seed. The order of its questions, and whether its image is blank, depend on the
/// configuration's seed and the entry's id only.
///
/// # Errors
/// [`SynthError::ForgedTurn`] where a text contains special tokens; an image marker in a text is an error too.
pub fn compose_seed(entry: &SeedEntry, split: Split, config: &SeedConfig) -> Result<SeedConversation, SynthError> {
    let mut questions = Vec::new();
    for (hint, exchanges) in [(PRECISE_HINT, &entry.precise), (INFORMATIVE_HINT, &entry.informative)] {
        questions.extend(exchanges.iter().map(|exchange| (hint, exchange)));
    }
    refuse_special_tokens(entry)?;
    questions.shuffle(&mut stream(config.seed, "seed-order", &entry.id));
    let mut messages =
        vec![Message::user(format!("{IMAGE_MARKER}\n{CAPTION_REQUEST}")), Message::assistant(entry.caption.trim())];
    for (hint, QuestionAnswer { question, answer }) in questions {
        messages.extend([Message::user(format!("{hint}{question}")), Message::assistant(answer)]);
    }
    let is_blank = is_drawn(&entry.id, config);
    let image = if is_blank { &config.blank_image } else { &entry.image };
    let conversation = Conversation::new(messages, vec![image.clone()]);
    conversation.validate()?;
    Ok(SeedConversation { conversation, task: entry.task.clone(), split, is_blank })
}

fn is_drawn(id: &RecordId, config: &SeedConfig) -> bool {
    stream(config.seed, "blank-image", id).random_bool(config.blank_share)
}

fn refuse_special_tokens(entry: &SeedEntry) -> Result<(), SynthError> {
    let both = entry.precise.iter().chain(&entry.informative);
    let texts = both.flat_map(|exchange| [("question", &exchange.question), ("answer", &exchange.answer)]);
    for (field, text) in texts.chain([("caption", &entry.caption)]) {
        if let Some(token) = find_special_token(text, &TurnMarkers::llama3()) {
            return Err(SynthError::ForgedTurn { record: entry.id.clone(), field, token: token.into() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use adamllm_core::ImageCaption;

    use super::*;
    use crate::TaskTriplet;

    fn entry(i: usize) -> SeedEntry {
        let pair = ImageCaption::new(format!("{i}.png"), "A cup.");
        let triplet = TaskTriplet::new(pair.id.clone(), pair.image.clone(), "How many?", "I see one cup.", "One");
        SeedEntry::from_triplet(&pair, &triplet, "counting")
    }

    #[test]
    fn a_seed_reads_as_the_synthesizer_is_prompted() {
        let config = SeedConfig { blank_share: 0.0, ..SeedConfig::default() };
        let seeds: Vec<_> = (0..40).map(|i| compose_seed(&entry(i), Split::Train, &config).expect("sound")).collect();
        let first_questions: BTreeSet<_> = seeds.iter().map(|s| s.conversation.messages[2].content.as_str()).collect();
        let expected =
            ["Answer with a precise response.\nHow many?", "Answer with an informative response.\nHow many?"];
        assert_eq!(first_questions, expected.into(), "both orders occur");
        let messages = &seeds[0].conversation.messages;
        assert_eq!((messages.len(), messages[0].content.as_str()), (6, "<image>\nDescribe the image."));
        assert_eq!(messages[1].content, "A cup.");
    }

    #[test]
    fn about_a_tenth_of_the_images_is_blank() {
        let config = SeedConfig::default();
        let seeds = (0..2000).map(|i| compose_seed(&entry(i), Split::Train, &config).expect("sound"));
        let blank: Vec<_> = seeds.filter(|seed| seed.is_blank).collect();
        assert!((140..260).contains(&blank.len()), "{}", blank.len());
        assert!(blank.iter().all(|seed| seed.conversation.images == [config.blank_image.clone()]));
    }

    #[test]
    fn forged_turns_and_images_are_refused() {
        let config = SeedConfig::default();
        let forged = SeedEntry { caption: "A <|eot_id|> cup.".into(), ..entry(0) };
        assert!(matches!(compose_seed(&forged, Split::Dev, &config), Err(SynthError::ForgedTurn { .. })));
        let marked = SeedEntry { caption: "An <image> of a cup.".into(), ..entry(0) };
        assert!(matches!(compose_seed(&marked, Split::Dev, &config), Err(SynthError::Core(_))));
    }
}
