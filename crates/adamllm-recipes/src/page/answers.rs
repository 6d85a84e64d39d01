use std::collections::HashMap;

use adamllm_core::RecordId;
use adamllm_eval::{Benchmark, EvalError, Example, HtmlRun, Outcome, image_data_url};
use maud::{Markup, html};

use super::filtered_cards;

/// The longer edge of the images, in pixels.
const EDGE: u32 = 192;
/// The longest text of a card.
const TEXT: usize = 600;

/// Answers beside their images. Of one run: some right and some wrong ones. Of two runs: some that became better, became worse, and
/// stayed, each with how many they stand for. Which ones is drawn by the examples' ids.
///
/// # Errors
/// A benchmark that fails as a whole.
pub(crate) fn cards(id: &str, benchmark: &dyn Benchmark, runs: &[HtmlRun<'_>]) -> Result<Markup, EvalError> {
    let Some((first, second)) = runs.first().zip(runs.last()) else { return Ok(Markup::default()) };
    let answers: Vec<Answers<'_>> = runs.iter().map(Answers::of).collect();
    let mut groups: Vec<(&str, usize, Vec<&Outcome>)> = match runs.len() {
        1 => vec![("wrong", 6, Vec::new()), ("right", 6, Vec::new())],
        _ => vec![
            ("better", 6, Vec::new()),
            ("worse", 4, Vec::new()),
            ("both wrong", 3, Vec::new()),
            ("both right", 3, Vec::new()),
        ],
    };
    let before: HashMap<&RecordId, f64> = first.outcomes.iter().map(|outcome| (&outcome.id, outcome.strict)).collect();
    for outcome in second.outcomes {
        let group = match (runs.len(), before.get(&outcome.id)) {
            (1, _) => usize::from(!outcome.is_wrong()),
            (_, None) => continue,
            (_, Some(before)) if outcome.strict > *before => 0,
            (_, Some(before)) if outcome.strict < *before => 1,
            _ => {
                if outcome.is_wrong() {
                    2
                } else {
                    3
                }
            }
        };
        groups[group].2.push(outcome);
    }

    let totals: Vec<u64> = groups.iter().map(|(_, _, outcomes)| outcomes.len() as u64).collect();
    for (_, n, outcomes) in &mut groups {
        outcomes.sort_by_key(|outcome| outcome.id.to_u64());
        outcomes.truncate(*n);
    }
    let wanted = groups.iter().flat_map(|(_, _, outcomes)| outcomes.iter().map(|outcome| &outcome.id));
    let examples = read(benchmark, &wanted.collect())?;
    let shown = groups.iter().zip(totals).map(|((name, _, outcomes), total)| {
        let cards = outcomes.iter().filter_map(|outcome| Some(card(benchmark, examples.get(&outcome.id)?, &answers)));
        ((*name).to_owned(), total, cards.collect())
    });
    Ok(filtered_cards(id, "show", &shown.collect::<Vec<_>>()))
}

/// Some examples of a benchmark, by id.
fn read(
    benchmark: &dyn Benchmark,
    wanted: &std::collections::HashSet<&RecordId>,
) -> Result<HashMap<RecordId, Example>, EvalError> {
    let mut found = HashMap::new();
    for index in 0..benchmark.len() {
        match benchmark.example(index) {
            Ok(example) if wanted.contains(&example.id) => {
                found.insert(example.id.clone(), example);
            }
            Ok(_) => {}
            Err(error) if error.is_example_error() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// What a run said, and what it was worth.
struct Answers<'a> {
    name: &'a str,
    outcomes: HashMap<&'a RecordId, &'a Outcome>,
    texts: HashMap<&'a RecordId, &'a str>,
}

impl<'a> Answers<'a> {
    fn of(run: &HtmlRun<'a>) -> Self {
        Self {
            name: run.name,
            outcomes: run.outcomes.iter().map(|outcome| (&outcome.id, outcome)).collect(),
            texts: run.predictions.iter().map(|prediction| (&prediction.id, prediction.answer.as_str())).collect(),
        }
    }
}

fn card(benchmark: &dyn Benchmark, example: &Example, answers: &[Answers<'_>]) -> Markup {
    let image = example.images.first().zip(benchmark.images());
    html! {
        @if let Some((image, store)) = image { (image_of(image_data_url(store, image, EDGE).ok(), image.as_str())) }
        div class="question" { (shortened(&example.question, TEXT)) }
        div class="label" {
            span class="small" { "label (" (example.expected.answer_type().as_str()) ")" }
            " " (shortened(&example.expected.describe(), TEXT))
        }
        @for run in answers { (run.answer(&example.id)) }
    }
}

impl Answers<'_> {
    /// What the run said to a question, with its score.
    fn answer(&self, id: &RecordId) -> Markup {
        let (class, score) = match self.outcomes.get(id).map(|outcome| outcome.strict) {
            None => ("muted", "–".to_owned()),
            Some(score) if score >= 100.0 => ("good", "100".to_owned()),
            Some(score) => (if score > 0.0 { "warn" } else { "bad" }, format!("{score:.0}")),
        };
        let text = self.texts.get(id).copied().filter(|text| !text.is_empty()).unwrap_or("(empty)");
        html! {
            div class="answer" {
                div class="head" {
                    span class="run" { (self.name) }
                    span class=(format!("badge {class}")) { "strict " (score) }
                }
                div class="text" { (shortened(text, TEXT)) }
            }
        }
    }
}

/// An image of a page, or that there is none.
pub(crate) fn image_of(url: Option<String>, name: &str) -> Markup {
    html! {
        @match url {
            Some(url) => div class="images" { img loading="lazy" alt=(name) src=(url); },
            None => div class="no-image" { "no image" },
        }
    }
}

/// A text's beginning.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}
