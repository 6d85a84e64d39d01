//! The wordings that [`combine`](crate::combine) draws from. All are this project's own.

/// Ways to ask the question so that reasoning is invited before the answer. `{Q}` stands for the question.
pub const QUESTION_TEMPLATES: [&str; 36] = [
    "{Q}",
    "{Q}\nExplain how you get to the answer.",
    "{Q}\nReason first, then answer.",
    "{Q}\nGive your reasons before you conclude.",
    "{Q}\nLook closely at the image and think it through.",
    "{Q}\nWork it out in steps.",
    "{Q}\nWhat in the picture leads you to the answer?",
    "{Q}\nDescribe the evidence, then decide.",
    "{Q}\nPlease show how you think.",
    "{Q}\nLead me from what you see to what you conclude.",
    "{Q}\nSay what you notice, then answer.",
    "{Q}\nAn explained answer, please.",
    "{Q}\nBack your answer with details of the image.",
    "{Q}\nTake your time and explain each step.",
    "{Q}\nI would like to understand the reasoning as well.",
    "{Q}\nFirst the observations, then the conclusion.",
    "{Q}\nDo not just name the answer: justify it.",
    "{Q}\nWhich details matter here, and what do they tell you?",
    "{Q}\nFinish with a clear answer.",
    "{Q}\nThink aloud before you settle on an answer.",
    "Look at the image and reason about this: {Q}",
    "Here is a question about the picture. {Q} Explain your answer.",
    "Answer with an explanation: {Q}",
    "Examine the image carefully.\n{Q}",
    "Using what the image shows, answer the following and say why.\n{Q}",
    "I have a question about this image: {Q}",
    "Question: {Q}\nGo through the relevant details before answering.",
    "Please help me with this one and explain your thinking.\n{Q}",
    "Think about what is visible, then respond.\n{Q}",
    "Give a reasoned answer to the question below.\n{Q}",
    "Study the picture before you answer.\n{Q}",
    "With the image as your evidence: {Q}",
    "Tell me your train of thought and the answer.\n{Q}",
    "Consider the image and answer in full.\n{Q}",
    "Someone asks about this picture: {Q}\nHow would you argue, and what would you answer?",
    "Step by step, please: {Q}",
];

/// Ways to join an explanation and a short answer. `{informative_A}` stands for the first, `{precise_A}` for the second.
pub const CHAIN_TEMPLATES: [&str; 36] = [
    "{informative_A}\nTherefore, the answer is {precise_A}",
    "{informative_A}\nSo the answer is: {precise_A}",
    "{informative_A}\nAnswer: {precise_A}",
    "{informative_A}\n\nIn short: {precise_A}",
    "{informative_A}\n\nConclusion: {precise_A}",
    "{informative_A}\nThis leads to the answer {precise_A}",
    "{informative_A}\nPut briefly, {precise_A}",
    "{informative_A}\nFinal answer: {precise_A}",
    "{informative_A}\nFrom this I conclude: {precise_A}",
    "{informative_A}\nTaken together, this means: {precise_A}",
    "{informative_A}\nHence: {precise_A}",
    "{informative_A}\nThus, I answer: {precise_A}",
    "{informative_A}\nThat gives the answer {precise_A}",
    "{informative_A}\nMy answer is {precise_A}",
    "{informative_A}\nIn one line: {precise_A}",
    "{informative_A}\nFor these reasons, my answer is: {precise_A}",
    "{informative_A}\n\nThe short answer: {precise_A}",
    "{informative_A}\n\nResult: {precise_A}",
    "{informative_A}\nAll of this points to one answer: {precise_A}",
    "{informative_A}\nOn this basis, the answer is {precise_A}",
    "Reasoning: {informative_A}\nAnswer: {precise_A}",
    "Reasoning: {informative_A}\nConclusion: {precise_A}",
    "Let me think it through. {informative_A}\nSo I arrive at: {precise_A}",
    "Here is how I see it. {informative_A}\nThe answer is therefore: {precise_A}",
    "What I observe: {informative_A}\nWhat follows: {precise_A}",
    "First the details. {informative_A}\nThen the answer: {precise_A}",
    "Looking at the image: {informative_A}\nThis is why the answer is {precise_A}",
    "Explanation: {informative_A}\nAnswer in brief: {precise_A}",
    "Step by step: {informative_A}\nWhich brings us to: {precise_A}",
    "The picture tells the following. {informative_A}\nAccordingly: {precise_A}",
    "Let me go by what is visible. {informative_A}\nThat settles it: {precise_A}",
    "To answer this, consider the details. {informative_A}\nThe outcome: {precise_A}",
    "My thoughts: {informative_A}\nMy conclusion: {precise_A}",
    "Evidence: {informative_A}\nVerdict: {precise_A}",
    "I reason as follows. {informative_A}\nConsequently: {precise_A}",
    "Some thought first. {informative_A}\nAnd now the answer: {precise_A}",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_template_is_different_and_whole() {
        assert_eq!(BTreeSet::from(QUESTION_TEMPLATES).len(), QUESTION_TEMPLATES.len());
        assert_eq!(BTreeSet::from(CHAIN_TEMPLATES).len(), CHAIN_TEMPLATES.len());
        assert!(QUESTION_TEMPLATES.iter().all(|template| template.matches("{Q}").count() == 1));
        for template in CHAIN_TEMPLATES {
            let [reasoning, conclusion] = ["{informative_A}", "{precise_A}"].map(|name| template.find(name));
            assert!(reasoning.expect("reasoning") < conclusion.expect("conclusion"), "{template}");
        }
    }
}
