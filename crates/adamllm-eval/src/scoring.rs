//! One answer against one right answer: the metrics applied, both ways.

use crate::metrics::{self, ChoiceParse, NameSet, YesNo};
use crate::{Example, Expected, LabelMetric, OptionSet, Outcome};

/// Both scores of one answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerScore {
    /// The reference's score, 0 to 100; `None` where it has none for such an example.
    pub paper: Option<f64>,
    /// What the score should mean, 0 to 100.
    pub strict: f64,
    /// The strict scoring could not read the answer (it counts as wrong).
    pub unparsed: bool,
    /// The paper scoring drew an option at random.
    pub random: bool,
    /// What the strict scoring understood; `None` where it is the answer itself, or unread.
    pub strict_read: Option<String>,
    /// What the paper scoring understood; `None` where it is the answer itself.
    pub paper_read: Option<String>,
}

/// Scores an answer both ways. Pure: the same expectation, seed and answer always give the same scores. `guess_seed` is
/// what the paper scoring's draw is seeded with ([`Example::guess_seed`]).
pub fn score_answer(expected: &Expected, guess_seed: u64, answer: &str) -> AnswerScore {
    match expected {
        Expected::Open(label) => open(answer, label),
        Expected::Closed(label) => closed(answer, label),
        Expected::Short(label) => short(answer, label),
        Expected::Text(references) => text(answer, references),
        Expected::Choice { options, correct } => choice(answer, options, *correct, guess_seed),
        Expected::Category { options, correct } => category(answer, options, *correct, guess_seed),
        Expected::Labels { names, correct, metric } => labels(answer, names, correct, *metric),
    }
}

impl Example {
    /// The outcome that a score makes of this example.
    pub fn outcome(&self, score: AnswerScore) -> Outcome {
        Outcome {
            id: self.id.clone(),
            answer_type: self.expected.answer_type(),
            cluster: self.cluster(),
            paper: score.paper,
            strict: score.strict,
            unparsed: score.unparsed,
            random: score.random,
            expected: self.expected.describe(),
            strict_read: score.strict_read,
            paper_read: score.paper_read,
        }
    }
}

fn percent(hit: bool) -> f64 {
    if hit { 100.0 } else { 0.0 }
}

fn open(answer: &str, label: &str) -> AnswerScore {
    let normalised = metrics::normalise_answer(answer);
    let paper = metrics::open_recall_normalised(&normalised, &metrics::normalise_answer(label));
    AnswerScore {
        paper: Some(paper),
        strict: metrics::open_recall_strict(answer, label),
        unparsed: !has_words(&metrics::without_reasoning(answer)),
        strict_read: metrics::declared_answer(answer),
        paper_read: Some(normalised),
        ..AnswerScore::default()
    }
}

fn closed(answer: &str, label: &str) -> AnswerScore {
    let normalised = metrics::normalise_answer(answer);
    let paper = metrics::closed_normalised(&normalised, &metrics::normalise_answer(label));
    let words = metrics::answer_words(&metrics::without_reasoning(answer));
    let strict = metrics::closed_in_words(&words, label);
    let said = metrics::yes_no_in_words(&words).map(|said| if said == YesNo::Yes { "yes" } else { "no" });
    AnswerScore {
        paper: Some(paper),
        strict: percent(strict == Some(true)),
        unparsed: strict.is_none(),
        strict_read: said.map(str::to_owned),
        paper_read: Some(normalised),
        ..AnswerScore::default()
    }
}

/// How the paper scores short answers (FloodNet) is not published; `paper` is our reading of "accuracy" in the manner of
/// its closed questions: the normalised answer contains the normalised label.
fn short(answer: &str, label: &str) -> AnswerScore {
    let normalised = metrics::normalise_answer(answer);
    let words = metrics::answer_words(&metrics::without_reasoning(answer));
    AnswerScore {
        paper: Some(percent(normalised.contains(&metrics::normalise_answer(label)))),
        strict: percent(!words.is_empty() && words == metrics::answer_words(label)),
        unparsed: words.is_empty(),
        strict_read: Some(words),
        paper_read: Some(normalised),
        ..AnswerScore::default()
    }
}

fn text(answer: &str, references: &[String]) -> AnswerScore {
    let package = |reference: &String| metrics::rouge_l_package(answer, reference).map_or(0.0, |rouge| rouge.f * 100.0);
    let said = metrics::without_reasoning(answer);
    let standard = |reference: &String| metrics::rouge_l(&said, reference).f * 100.0;
    AnswerScore {
        paper: references.iter().map(package).reduce(f64::max),
        strict: references.iter().map(standard).fold(0.0, f64::max),
        unparsed: !has_words(&said),
        ..AnswerScore::default()
    }
}

fn choice(answer: &str, options: &OptionSet, correct: usize, seed: u64) -> AnswerScore {
    let paper = metrics::choice_paper(answer, options.keys(), options.texts(), seed);
    let strict = metrics::choice_strict(answer, options.keys(), options.texts());
    AnswerScore {
        paper: Some(percent(paper.index() == correct)),
        paper_read: Some(options.keys()[paper.index()].to_string()),
        strict_read: strict.map(|index| options.keys()[index].to_string()),
        ..one_of(paper, strict, correct)
    }
}

/// The reference looks a name's number up, and compares numbers as text: one that was read out of the answer (`(87)`), one
/// that a name was found for and one that was drawn are equal to the right name's number alike.
fn category(answer: &str, options: &OptionSet, correct: usize, seed: u64) -> AnswerScore {
    let paper = metrics::choice_paper(answer, options.keys(), options.texts(), seed);
    let by_key = matches!(paper, ChoiceParse::ByKey(_));
    let names = options.texts();
    let strict = metrics::name_strict(answer, names);
    AnswerScore {
        paper: Some(percent(paper.index() == correct)),
        paper_read: Some(if by_key {
            options.keys()[paper.index()].to_string()
        } else {
            names.names()[paper.index()].clone()
        }),
        strict_read: strict.map(|index| names.names()[index].clone()),
        ..one_of(paper, strict, names.canonical(correct))
    }
}

fn one_of(paper: ChoiceParse, strict: Option<usize>, correct: usize) -> AnswerScore {
    AnswerScore {
        strict: percent(strict == Some(correct)),
        unparsed: strict.is_none(),
        random: matches!(paper, ChoiceParse::Random(_)),
        ..AnswerScore::default()
    }
}

fn labels(answer: &str, names: &NameSet, correct: &[usize], metric: LabelMetric) -> AnswerScore {
    let score = |found: &[usize], correct: &[usize]| match metric {
        LabelMetric::Recall => metrics::set_recall(found, correct),
        LabelMetric::F1 => metrics::set_f1(found, correct),
    };
    let paper = names.cut_out(answer);
    let strict = names.whole_words(&metrics::without_reasoning(answer));
    let mut canonical: Vec<usize> = correct.iter().map(|&index| names.canonical(index)).collect();
    canonical.sort_unstable();
    canonical.dedup();
    AnswerScore {
        paper: score(&paper, correct),
        strict: score(&strict, &canonical).unwrap_or(0.0),
        unparsed: strict.is_empty(),
        paper_read: Some(join(names, &paper)),
        strict_read: Some(join(names, &strict)),
        ..AnswerScore::default()
    }
}

fn join(names: &NameSet, indices: &[usize]) -> String {
    indices.iter().map(|&i| names.names()[i].as_str()).collect::<Vec<_>>().join(", ")
}

fn has_words(answer: &str) -> bool {
    answer.chars().any(char::is_alphanumeric)
}
