use std::collections::{HashMap, HashSet};
use std::path::Path;

use adamllm_core::json::{JsonRecords, id_text, parse_object};
use adamllm_core::{CoreError, RecordId, RecordSource};

use super::sample::{Sample, is_sample};
use crate::{Benchmark, EvalError, Example, Expected, JsonExamples, Prediction, Rejected};

/// Whether a file is a log of lm-eval or lmms-eval: its first readable record has a `doc_id`, and responses.
///
/// # Errors
/// [`CoreError::Io`]; [`CoreError::Layout`] where the file is cut off before a record, or of another format.
pub fn is_log(path: impl AsRef<Path>) -> Result<bool, EvalError> {
    let mut records = JsonRecords::open(path)?;
    while let Some(record) = records.next_record()? {
        if let Ok(Ok(record)) = parse_object(record.bytes) {
            return Ok(is_sample(&record));
        }
    }
    Ok(false)
}

/// A log's answers to a benchmark's examples, by the `id` (or `syn_id`) that the question's record in the log has, else by its
/// index (`doc_id`) in the benchmark. An answer whose question or right answer is not that of the example costs itself only: the
/// tool asked other data, another split or another order.
///
/// # Errors
/// As [`JsonExamples::read`]; a benchmark that fails as a whole.
pub fn read_log(
    path: impl AsRef<Path>,
    benchmark: &dyn Benchmark,
) -> Result<(Vec<Prediction>, Vec<Rejected>), EvalError> {
    let records = JsonExamples::read(path)?;
    let (examples, mut filters) = (Examples::of(benchmark)?, Filters::default());
    let (mut predictions, mut rejected) = (Vec::new(), Vec::new());

    for index in 0..records.len() {
        let location = || records.location(index);

        // A task with several filters logs each answer once for each of them.
        let answered = match records.record(index) {
            Ok(record) => Sample::read(record.into_owned()).and_then(|sample| {
                let prediction = examples.answered(&sample)?;
                Ok(filters.is_new(&sample)?.then_some(prediction))
            }),
            Err(error @ (CoreError::Json { .. } | CoreError::Field { .. })) => Err(error.to_string()),
            Err(error) => return Err(error.into()),
        };

        match answered {
            Ok(prediction) => predictions.extend(prediction),
            Err(problem) => rejected
                .push(Rejected { id: RecordId::given(location()), detail: format!("{}: {problem}", location()) }),
        }
    }

    Ok((predictions, rejected))
}

/// Records of one question that differ in their filter alone. lm-eval writes one for each.
#[derive(Default)]
pub(super) struct Filters {
    seen: HashSet<(u64, String)>,
    answers: HashMap<u64, (String, String)>,
}

impl Filters {
    /// Whether the answer is not known yet from another filter's record.
    pub(super) fn is_new(&mut self, sample: &Sample) -> Result<bool, String> {
        let repeated = !self.seen.insert((sample.doc_id, sample.filter.clone()));
        let first = self.answers.entry(sample.doc_id).or_insert_with(|| (sample.filter.clone(), sample.answer.clone()));
        match first {
            // A second record of the same filter is a second answer: whoever scores answers says so.
            (filter, _) if repeated || *filter == sample.filter => Ok(true),
            (_, answer) if *answer == sample.answer => Ok(false),
            (filter, _) => {
                Err(format!("filter `{}` gives another answer than filter `{filter}`, which counts", sample.filter))
            }
        }
    }
}

/// A benchmark's examples as a log names them.
struct Examples {
    /// What an index stands for; `None` where the example cannot be read.
    examples: Vec<Option<Example>>,
    by_id: HashMap<RecordId, usize>,
}

impl Examples {
    fn of(benchmark: &dyn Benchmark) -> Result<Self, EvalError> {
        let (mut examples, mut by_id) = (Vec::with_capacity(benchmark.len()), HashMap::new());
        for index in 0..benchmark.len() {
            let example = match benchmark.example(index) {
                Ok(example) => Some(example),
                Err(error) if error.is_example_error() => None,
                Err(error) => return Err(error),
            };
            if let Some(example) = &example {
                by_id.entry(example.id.clone()).or_insert(index);
            }
            examples.push(example);
        }
        Ok(Self { examples, by_id })
    }

    /// A sample as the answer to an example.
    fn answered(&self, sample: &Sample) -> Result<Prediction, String> {
        let n = self.examples.len();
        let doc_id = sample.doc_id;
        let index = self.named(sample).unwrap_or(usize::try_from(doc_id).unwrap_or(usize::MAX));

        let example =
            self.examples.get(index).ok_or_else(|| format!("doc_id {doc_id}: the benchmark has {n} examples"))?;
        let example = example.as_ref().ok_or_else(|| format!("example {index} of the benchmark cannot be read"))?;

        if !is_asked(example, sample) {
            let question = short(&example.question);
            return Err(format!(
                "doc_id {doc_id}: the log asks another question than the benchmark's example {} ({question:?}); were both made of the same data and split?",
                example.id
            ));
        }

        if !is_right(&example.expected, &sample.target) {
            return Err(format!(
                "doc_id {doc_id}: the log's right answer is {:?}, and {:?} that of the benchmark's example {}; were both made of the same data and split?",
                short(&sample.target),
                short(&example.expected.describe()),
                example.id
            ));
        }

        Ok(Prediction::new(example.id.clone(), sample.answer.clone()))
    }

    /// The example that the question's own record names.
    fn named(&self, sample: &Sample) -> Option<usize> {
        let doc = sample.doc.as_ref()?;
        ["id", "syn_id"].iter().find_map(|field| {
            let id = doc.get(*field).and_then(id_text)?;
            self.by_id.get(&RecordId::given(id)).copied()
        })
    }
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether the example's question stands in the sample.
fn is_asked(example: &Example, sample: &Sample) -> bool {
    let (question, prompt) = (one_line(&example.question), one_line(&example.prompt));
    sample.texts().map(one_line).any(|text| text.contains(&question) || text.contains(&prompt))
}

/// Whether the sample's right answer may be the example's. Tools write it as the data do, as an option's letter or number, or in a
/// sentence of their own; the right one's words stand in it, or it in them.
fn is_right(expected: &Expected, target: &str) -> bool {
    let given = words(target);
    if given.is_empty() {
        return true;
    }

    let holds = |text: &str| {
        let text = words(text);
        within(&text, &given) || within(&given, &text)
    };

    match expected {
        Expected::Open(label) | Expected::Closed(label) | Expected::Short(label) => holds(label),
        Expected::Text(references) => references.iter().any(|reference| holds(reference)),
        Expected::Choice { options, correct } | Expected::Category { options, correct } => {
            let key = options.keys()[*correct].to_lowercase();
            given == [key] || given == [correct.to_string()] || holds(&options.texts().names()[*correct])
        }
        Expected::Labels { names, correct, .. } => {
            correct.iter().all(|&index| within(&words(&names.names()[index]), &given))
        }
    }
}

fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn within(part: &[String], whole: &[String]) -> bool {
    !part.is_empty() && whole.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::OptionSet;

    #[test]
    fn right_answers_in_the_tools_words() {
        let options = Arc::new(OptionSet::lettered(["left lung", "heart"]));
        let choice = Expected::Choice { options, correct: 1 };
        for (target, is_right_one) in [
            ("B", true),
            ("(B)", true),
            ("1", true),
            ("Heart", true),
            ("B. heart", true),
            ("", true),
            ("A", false),
            ("left lung", false),
            ("0", false),
        ] {
            assert_eq!(is_right(&choice, target), is_right_one, "{target}");
        }
        assert!(is_right(&Expected::Closed("no".into()), "['no']"));
        assert!(!is_right(&Expected::Closed("no".into()), "normal"));
        assert!(is_right(&Expected::Open("the left lung".into()), "left lung"));
    }
}
