use adamllm_core::random::stream;
use adamllm_core::{InstructionTask, RecordId};
use rand::seq::IndexedRandom;

use crate::templates::{CHAIN_TEMPLATES, QUESTION_TEMPLATES};
use crate::{Judged, TaskTriplet};

/// Words that tell that a sentence already concludes, as they are searched for in lower-cased text (paper section 3.2).
pub const CONCLUDING_WORDS: [&str; 7] = ["could be ", "so ", "thus ", "therefore ", "final ", "answer ", "result "];

/// Makes one task of a triplet: a question that invites reasoning, and a response that reasons and concludes.
///
/// Pass consistent triplets: the verdict is not looked at again. The wording is drawn by `seed` and the pair's id, so it
/// does not depend on the other triplets.
pub fn combine(judged: &Judged, seed: u64) -> InstructionTask {
    let triplet = &judged.triplet;
    let instruction = draw(&QUESTION_TEMPLATES, seed, "question-template", &triplet.pair);
    let instruction = fill(instruction, &[("{Q}", &triplet.instruction)]);
    InstructionTask::new(triplet.pair.clone(), triplet.image.clone(), instruction, response(triplet, seed))
}

/// The response alone. Where the explanation's last sentence already concludes, the explanation; else where the short
/// answer does, both in succession; else both in a chain-of-thought wording.
pub fn response(triplet: &TaskTriplet, seed: u64) -> String {
    let (informative, precise) = (triplet.informative.as_str(), triplet.precise.as_str());
    if concludes(last_sentence(informative)) {
        informative.to_owned()
    } else if concludes(precise) {
        format!("{informative} {precise}")
    } else {
        let template = draw(&CHAIN_TEMPLATES, seed, "chain-template", &triplet.pair);
        fill(template, &[("{informative_A}", informative), ("{precise_A}", precise)])
    }
}

fn last_sentence(text: &str) -> &str {
    text.rsplit(". ").next().unwrap_or(text)
}

fn concludes(text: &str) -> bool {
    let text = text.to_lowercase();
    CONCLUDING_WORDS.iter().any(|word| text.contains(word))
}

fn draw(templates: &[&'static str], seed: u64, purpose: &str, id: &RecordId) -> &'static str {
    templates.choose(&mut stream(seed, purpose, id)).expect("the lists are not empty")
}

/// Replaces each name once, from left to right, without looking into what was filled in.
fn fill(template: &str, fields: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(template.len() + fields.iter().map(|(_, value)| value.len()).sum::<usize>());
    let mut rest = template;
    for (name, value) in fields {
        let (before, after) = rest.split_once(name).expect("the templates hold their fields in this order");
        filled.extend([before, value]);
        rest = after;
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Verdict;

    fn triplet(informative: &str, precise: &str) -> TaskTriplet {
        TaskTriplet::new(RecordId::given("pair"), "a.png".into(), "How {precise_A}?", informative, precise)
    }

    #[test]
    fn an_explanation_that_concludes_stands_alone() {
        for informative in ["One. Two. Thus it is three.", "The FINAL count is three", "I see it, also three"] {
            assert_eq!(response(&triplet(informative, "3"), 1), informative);
        }
    }

    #[test]
    fn a_short_answer_that_concludes_is_appended() {
        let triplet = triplet("So there were three. I see apples.", "The answer is three.");
        assert_eq!(response(&triplet, 1), "So there were three. I see apples. The answer is three.");
    }

    #[test]
    fn otherwise_a_template_joins_them() {
        let triplet = triplet("I see {precise_A} apples.", "three");
        let responses: BTreeSet<_> = (0..200).map(|seed| response(&triplet, seed)).collect();
        assert!(responses.len() > 25);
        assert!(responses.iter().all(|r| r.contains("I see {precise_A} apples.") && r.ends_with("three")));
    }

    #[test]
    fn the_draw_depends_on_seed_and_id_only() {
        let judged = Judged {
            triplet: triplet("I see apples.", "three"),
            verdict: Verdict::Consistent,
            p_yes: None,
            p_no: None,
            p_open: None,
            answer: None,
        };
        assert_eq!(combine(&judged, 7), combine(&judged, 7));
        let instructions: BTreeSet<_> = (0..200).map(|seed| combine(&judged, seed).instruction).collect();
        assert!(instructions.len() > 25 && instructions.iter().all(|i| i.contains("How {precise_A}?")));
    }
}
