use std::collections::{BTreeMap, HashMap};

use adamllm_core::RecordId;
use serde::Serialize;

use super::{HtmlOptions, HtmlSection, thumbnail};
use crate::{AnswerType, EvalError, Example, Outcome};

/// What the page's script shows.
#[derive(Serialize)]
pub(super) struct PageData {
    benchmarks: Vec<BenchmarkData>,
    /// Data URLs by key.
    images: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct BenchmarkData {
    name: String,
    runs: Vec<String>,
    /// Answered examples, shown or not.
    n_answered: usize,
    examples: Vec<ExampleData>,
}

#[derive(Serialize)]
struct ExampleData {
    id: RecordId,
    answer_type: AnswerType,
    question: String,
    label: String,
    images: Vec<String>,
    /// One per run.
    answers: Vec<Option<AnswerData>>,
}

#[derive(Serialize)]
struct AnswerData {
    text: String,
    paper: Option<f64>,
    strict: f64,
    unparsed: bool,
    random: bool,
    disagrees: bool,
    read: Option<String>,
}

/// Outcomes and answers of one run, by id.
type RunIndex<'a> = HashMap<&'a RecordId, (&'a Outcome, &'a str)>;

pub(super) fn collect(sections: &[HtmlSection<'_>], options: &HtmlOptions) -> Result<PageData, EvalError> {
    let mut images = BTreeMap::new();
    let mut benchmarks = Vec::new();
    for (index_of, section) in sections.iter().enumerate() {
        let runs: Vec<RunIndex<'_>> = section.runs.iter().map(index).collect();
        let (n_answered, examples) = choose(section, &runs, options.max_examples)?;
        let examples = examples.iter().map(|example| {
            let keys = add_images(&mut images, index_of, section, example, options.image_edge);
            describe(example, keys, &runs)
        });
        benchmarks.push(BenchmarkData {
            name: section.benchmark.name().to_owned(),
            runs: section.runs.iter().map(|run| run.name.to_owned()).collect(),
            n_answered,
            examples: examples.collect(),
        });
    }
    Ok(PageData { benchmarks, images })
}

fn index<'a>(run: &super::HtmlRun<'a>) -> RunIndex<'a> {
    let answers: HashMap<_, _> = run.predictions.iter().map(|p| (&p.id, p.answer.as_str())).collect();
    let outcome =
        |outcome: &'a Outcome| (&outcome.id, (outcome, answers.get(&outcome.id).copied().unwrap_or_default()));
    run.outcomes.iter().map(outcome).collect()
}

/// The answered examples with the smallest id hashes, in the benchmark's order, and how many were answered in all.
fn choose(section: &HtmlSection<'_>, runs: &[RunIndex<'_>], max: usize) -> Result<(usize, Vec<Example>), EvalError> {
    let mut chosen: BTreeMap<(u64, usize), Example> = BTreeMap::new();
    let mut n_answered = 0;
    for index in 0..section.benchmark.len() {
        let example = match section.benchmark.example(index) {
            Ok(example) => example,
            Err(error) if error.is_example_error() => continue,
            Err(error) => return Err(error),
        };

        // At most `max` examples are held, however large the benchmark is.
        if runs.iter().any(|run| run.contains_key(&example.id)) {
            n_answered += 1;
            chosen.insert((example.id.to_u64(), index), example);
            if chosen.len() > max {
                chosen.pop_last();
            }
        }
    }

    let mut examples: Vec<_> = chosen.into_iter().map(|((_, index), example)| (index, example)).collect();
    examples.sort_by_key(|(index, _)| *index);
    Ok((n_answered, examples.into_iter().map(|(_, example)| example).collect()))
}

fn add_images(
    images: &mut BTreeMap<String, String>,
    index_of: usize,
    section: &HtmlSection<'_>,
    example: &Example,
    edge: u32,
) -> Vec<String> {
    let Some(store) = section.benchmark.images().filter(|_| edge > 0) else { return Vec::new() };

    // An image that several examples show is in the page once. Its key names the benchmark, since two benchmarks may
    // use one name.
    let mut keys = Vec::new();
    for image in &example.images {
        let key = format!("{index_of}/{image}");
        if !images.contains_key(&key) {
            match thumbnail::image_data_url(store, image, edge) {
                Ok(url) => images.insert(key.clone(), url),
                Err(error) => {
                    tracing::warn!(%image, %error, "the report goes without this image");
                    continue;
                }
            };
        }

        keys.push(key);
    }
    keys
}

fn describe(example: &Example, images: Vec<String>, runs: &[RunIndex<'_>]) -> ExampleData {
    let answer = |run: &RunIndex<'_>| {
        run.get(&example.id).map(|(outcome, text)| AnswerData {
            text: (*text).to_owned(),
            paper: outcome.paper,
            strict: outcome.strict,
            unparsed: outcome.unparsed,
            random: outcome.random,
            disagrees: outcome.disagrees(),
            read: outcome.strict_read.clone(),
        })
    };
    ExampleData {
        id: example.id.clone(),
        answer_type: example.expected.answer_type(),
        question: example.question.clone(),
        label: example.expected.describe(),
        images,
        answers: runs.iter().map(answer).collect(),
    }
}
