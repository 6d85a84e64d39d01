use adamllm_core::random::stream;
use adamllm_core::{ImageCaption, InstructionTask};
use rand::seq::IndexedRandom;

use crate::SynthError;
use crate::turns::find_special_token;

/// One way to make a task of a caption.
struct Rule {
    instructions: &'static [&'static str],
    response: fn(&str) -> Option<String>,
}

const RULES: [Rule; 4] = [
    Rule {
        instructions: &[
            "Tell me in one sentence what the image shows.",
            "What is the image about? One sentence is enough.",
            "Sum the picture up in a single sentence.",
            "What would you say about this image first?",
        ],
        response: first_sentence,
    },
    Rule {
        instructions: &[
            "Go into the details of this image.",
            "Beyond the first impression, what can be said about the image?",
            "What else belongs to this picture?",
            "Give the particulars of what is shown.",
        ],
        response: all_but_first_sentence,
    },
    Rule {
        instructions: &[
            "List what belongs to the image, one item a line.",
            "Which items can be named here?",
            "Make a list of everything that is mentioned for this image.",
            "Enumerate the parts.",
        ],
        response: listed_items,
    },
    Rule {
        instructions: &[
            "Write down all that is known about this image.",
            "Give the complete text that belongs to this picture.",
            "Provide a full account of the image.",
            "What does the image show, in full?",
        ],
        response: |caption| Some(caption.to_owned()),
    },
];

/// The rule-based baseline (paper, section 4): one task per caption, its answer cut out of the caption itself.
///
/// Which of the applicable rules is taken, and its wording, is drawn by `seed` and the pair's id.
///
/// # Errors
/// An empty caption, or one that contains special tokens.
pub fn task_by_rule(pair: &ImageCaption, seed: u64) -> Result<InstructionTask, SynthError> {
    pair.validate()?;
    let caption = pair.caption.trim();
    if let Some(token) = find_special_token(caption, &adamllm_core::TurnMarkers::llama3()) {
        return Err(SynthError::ForgedTurn { record: pair.id.clone(), field: "caption", token: token.into() });
    }
    let applicable = RULES.iter().filter_map(|rule| Some((rule.instructions, (rule.response)(caption)?)));
    let applicable: Vec<_> = applicable.collect();
    let mut random = stream(seed, "rule", &pair.id);
    let (instructions, response) = applicable.choose(&mut random).expect("the last rule always applies");
    let instruction = *instructions.choose(&mut random).expect("every rule has wordings");
    Ok(InstructionTask::new(pair.id.clone(), pair.image.clone(), instruction, response))
}

fn split_first_sentence(text: &str) -> Option<(&str, &str)> {
    let end = text.find(['.', '!', '?', '\n'])?;
    let (first, rest) = text.split_at(end + 1);
    let (first, rest) = (first.trim(), rest.trim());
    (first.chars().filter(|c| c.is_alphabetic()).count() >= 8 && !rest.is_empty()).then_some((first, rest))
}

fn first_sentence(caption: &str) -> Option<String> {
    split_first_sentence(caption).map(|(first, _)| first.to_owned())
}

fn all_but_first_sentence(caption: &str) -> Option<String> {
    split_first_sentence(caption).map(|(_, rest)| rest.to_owned())
}

/// Items after dashes, stars or bullets, one a line or all in one line (as recipes have them).
fn listed_items(caption: &str) -> Option<String> {
    let dashed = caption.replace("\n- ", " - ").replace("\n* ", " - ").replace("\n\u{2022} ", " - ");
    let lines = dashed.lines().filter(|line| line.matches(" - ").count() >= 2);
    let items: Vec<_> = lines.flat_map(|line| line.split(" - ").skip(1)).map(str::trim).collect();
    (items.len() >= 2 && items.iter().all(|item| !item.is_empty())).then(|| items.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_response_is_cut_out_of_the_caption() {
        let caption = "A tomato salad for two. Ingredients: - 2 tomatoes - 1 onion - salt";
        let pair = ImageCaption::new("a.png", caption);
        let responses: BTreeSet<_> = (0..100).map(|seed| task_by_rule(&pair, seed).expect("sound").response).collect();
        let expected = ["2 tomatoes\n1 onion\nsalt", "A tomato salad for two.", caption, &caption[24..]];
        assert_eq!(responses, expected.map(str::to_owned).into());
    }

    #[test]
    fn a_short_caption_has_one_rule_and_a_bad_one_none() {
        let short = task_by_rule(&ImageCaption::new("a.png", "Two cells"), 0).expect("sound");
        assert_eq!(short.response, "Two cells");
        assert!(task_by_rule(&ImageCaption::new("a.png", " "), 0).is_err());
        assert!(task_by_rule(&ImageCaption::new("a.png", "x <|im_end|>"), 0).is_err());
    }
    #[test]
    fn a_first_sentence_has_eight_letters_and_something_after_it() {
        assert_eq!(split_first_sentence("Two cells, 5. More."), Some(("Two cells, 5.", "More.")));
        assert_eq!(split_first_sentence("Two cell, 5. More."), None, "seven letters");
        assert_eq!(split_first_sentence("Two large cells."), None);
        assert_eq!(split_first_sentence("Two large cells\nand ink"), Some(("Two large cells", "and ink")));
    }

    #[test]
    fn a_list_has_two_items_or_more_whatever_marks_them() {
        for mark in ["-", "*", "\u{2022}"] {
            let caption = format!("Salad:\n{mark} salt\n{mark} oil ");
            assert_eq!(listed_items(&caption).as_deref(), Some("salt\noil"), "{mark}");
        }
        assert_eq!(listed_items("Salad: - salt - oil\nServe - cold").as_deref(), Some("salt\noil"));
        for none in ["Salad: - salt", "Salad: - salt - ", "Salad: -  - oil - salt", "Salad\nof - oil\nand - salt"] {
            assert_eq!(listed_items(none), None, "{none:?}");
        }
    }
}
