//! One answer against one example: the metrics applied, both ways.

use crate::metrics::{self, ChoiceParse, NameSet, YesNo};
use crate::{Example, Expected, LabelMetric, OptionSet, Outcome};

/// Scores an answer both ways. Pure: the same example and answer always give the same outcome.
pub fn score_answer(example: &Example, answer: &str) -> Outcome {
    let scores = match &example.expected {
        Expected::Open(label) => open(answer, label),
        Expected::Closed(label) => closed(answer, label),
        Expected::Short(label) => short(answer, label),
        Expected::Text(label) => text(answer, label),
        Expected::Choice { options, correct } => choice(answer, options, *correct, example.guess_seed),
        Expected::Category { options, correct } => category(answer, options, *correct, example.guess_seed),
        Expected::Labels { names, correct, metric } => labels(answer, names, correct, *metric),
    };
    Outcome {
        id: example.id.clone(),
        answer_type: example.expected.answer_type(),
        cluster: example.cluster(),
        paper: scores.paper,
        strict: scores.strict,
        unparsed: scores.unparsed,
        random: scores.random,
        expected: example.expected.describe(),
        strict_read: scores.strict_read,
        paper_read: scores.paper_read,
    }
}

#[derive(Default)]
struct Scores {
    paper: Option<f64>,
    strict: f64,
    unparsed: bool,
    random: bool,
    strict_read: Option<String>,
    paper_read: Option<String>,
}

fn percent(hit: bool) -> f64 {
    if hit { 100.0 } else { 0.0 }
}

fn open(answer: &str, label: &str) -> Scores {
    let normalised = metrics::normalise_answer(answer);
    let paper = metrics::open_recall_normalised(&normalised, &metrics::normalise_answer(label));
    Scores {
        paper: Some(paper),
        strict: metrics::open_recall_strict(answer, label),
        unparsed: !has_words(answer),
        paper_read: Some(normalised),
        ..Scores::default()
    }
}

fn closed(answer: &str, label: &str) -> Scores {
    let normalised = metrics::normalise_answer(answer);
    let paper = metrics::closed_normalised(&normalised, &metrics::normalise_answer(label));
    let strict = metrics::closed_strict(answer, label);
    let said = metrics::yes_no(answer).map(|said| if said == YesNo::Yes { "yes" } else { "no" });
    Scores {
        paper: Some(paper),
        strict: percent(strict == Some(true)),
        unparsed: strict.is_none(),
        strict_read: said.map(str::to_owned),
        paper_read: Some(normalised),
        ..Scores::default()
    }
}

/// The paper's scoring of its short answers (FloodNet) is not published; `paper` is our reading of "accuracy" in the
/// manner of its closed questions: the normalised answer contains the normalised label.
fn short(answer: &str, label: &str) -> Scores {
    let normalised = metrics::normalise_answer(answer);
    let words = metrics::answer_words(answer);
    Scores {
        paper: Some(percent(normalised.contains(&metrics::normalise_answer(label)))),
        strict: percent(!words.is_empty() && words == metrics::answer_words(label)),
        unparsed: words.is_empty(),
        strict_read: Some(words.join(" ")),
        paper_read: Some(normalised),
        ..Scores::default()
    }
}

fn text(answer: &str, label: &str) -> Scores {
    let paper = metrics::rouge_l_package(answer, label).map_or(0.0, |rouge| rouge.f * 100.0);
    Scores {
        paper: Some(paper),
        strict: metrics::rouge_l(answer, label).f * 100.0,
        unparsed: !has_words(answer),
        ..Scores::default()
    }
}

fn choice(answer: &str, options: &OptionSet, correct: usize, seed: u64) -> Scores {
    let paper = metrics::choice_paper(answer, options.keys(), options.texts(), seed);
    let strict = metrics::choice_strict(answer, options.keys(), options.texts());
    Scores {
        paper: Some(percent(paper.index() == correct)),
        paper_read: Some(options.keys()[paper.index()].clone()),
        strict_read: strict.map(|index| options.keys()[index].clone()),
        ..one_of(paper, strict, correct)
    }
}

/// The reference compares the number of a name that was found by its text; a number that stands in the answer stays a text
/// and is never equal to it.
fn category(answer: &str, options: &OptionSet, correct: usize, seed: u64) -> Scores {
    let paper = metrics::choice_paper(answer, options.keys(), options.texts(), seed);
    let by_key = matches!(paper, ChoiceParse::ByKey(_));
    let names = options.texts();
    let strict = names.is_exactly(answer).or_else(|| match names.whole_words(answer)[..] {
        [only] => Some(only),
        _ => None,
    });
    let strict = strict.map(|index| names.canonical(index));
    Scores {
        paper: Some(percent(!by_key && paper.index() == correct)),
        paper_read: Some(if by_key { options.keys() } else { names.names() }[paper.index()].clone()),
        strict_read: strict.map(|index| names.names()[index].clone()),
        ..one_of(paper, strict, names.canonical(correct))
    }
}

fn one_of(paper: ChoiceParse, strict: Option<usize>, correct: usize) -> Scores {
    Scores {
        strict: percent(strict == Some(correct)),
        unparsed: strict.is_none(),
        random: matches!(paper, ChoiceParse::Random(_)),
        ..Scores::default()
    }
}

fn labels(answer: &str, names: &NameSet, correct: &[usize], metric: LabelMetric) -> Scores {
    let score = |found: &[usize], correct: &[usize]| match metric {
        LabelMetric::Recall => metrics::set_recall(found, correct),
        LabelMetric::F1 => Some(metrics::set_f1(found, correct)),
    };
    let paper = names.cut_out(answer);
    let strict = names.whole_words(answer);
    let mut canonical: Vec<usize> = correct.iter().map(|&index| names.canonical(index)).collect();
    canonical.sort_unstable();
    canonical.dedup();
    Scores {
        paper: score(&paper, correct),
        strict: score(&strict, &canonical).unwrap_or(0.0),
        unparsed: strict.is_empty(),
        paper_read: Some(join(names, &paper)),
        strict_read: Some(join(names, &strict)),
        ..Scores::default()
    }
}

fn join(names: &NameSet, indices: &[usize]) -> String {
    indices.iter().map(|&i| names.names()[i].as_str()).collect::<Vec<_>>().join(", ")
}

fn has_words(answer: &str) -> bool {
    answer.chars().any(char::is_alphanumeric)
}
