//! Benchmarks without code: a description (what the columns are called, how to ask, how to score) and records.

mod columns;
mod description;
mod image_columns;
mod template;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use adamllm_core::{Decoding, ImageStore, JsonObject, RecordId, RecordSource};
use serde_json::Value;

pub use description::{AnswerKind, BenchmarkDescription, ColumnNames, HubDataset, ImageUse};

use crate::metrics::NameSet;
use crate::{AnswerType, Benchmark, EvalError, Example, Expected, JsonExamples, OptionSet};
use columns::RecordReader;
pub(crate) use columns::{id_text, whole_number};

/// A benchmark made of a [`BenchmarkDescription`] and records.
pub struct DescribedBenchmark {
    description: BenchmarkDescription,
    records: Box<dyn RecordSource>,
    images: Option<Arc<dyn ImageStore>>,
    /// The description's shared names, prepared.
    names: Option<Arc<NameSet>>,
    options: Option<Arc<OptionSet>>,
    /// Records whose content an earlier record has, by how often.
    repeats: OnceLock<HashMap<usize, usize>>,
    /// The column that holds images, once it was looked for.
    image_column: OnceLock<Option<String>>,
}

impl std::fmt::Debug for DescribedBenchmark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DescribedBenchmark").field("description", &self.description).finish_non_exhaustive()
    }
}

impl DescribedBenchmark {
    /// Reads a description and the JSON or JSON Lines file that it names.
    ///
    /// # Errors
    /// Files that cannot be read, and records of another kind ([`EvalError::OtherTask`]).
    pub fn open(description: impl AsRef<Path>) -> Result<Self, EvalError> {
        let description = BenchmarkDescription::read(description)?;
        let records = JsonExamples::read(description.examples_path())?;
        Self::new(description, Box::new(records))
    }

    /// Joins a description and records from anywhere.
    ///
    /// # Errors
    /// [`EvalError::OtherTask`] where every readable record lacks a needed column; [`EvalError::Description`] and
    /// [`CoreError`](adamllm_core::CoreError) for the names file.
    pub fn new(description: BenchmarkDescription, records: Box<dyn RecordSource>) -> Result<Self, EvalError> {
        description.check()?;
        let names = description.load_names()?;
        let options = names.as_ref().map(|names| Arc::new(OptionSet::numbered(names)));
        let names = names.map(|names| Arc::new(NameSet::new(names)));
        let benchmark = Self {
            description,
            records,
            images: None,
            names,
            options,
            repeats: OnceLock::new(),
            image_column: OnceLock::new(),
        };
        benchmark.refuse_other_tasks()?;
        Ok(benchmark)
    }

    /// The same benchmark with the store of its images.
    pub fn with_images(mut self, images: Arc<dyn ImageStore>) -> Self {
        self.images = Some(images);
        self
    }

    /// The description.
    pub fn description(&self) -> &BenchmarkDescription {
        &self.description
    }

    fn refuse_other_tasks(&self) -> Result<(), EvalError> {
        let needed = self.description.needed_columns();
        let mut readable = (0..self.records.len()).filter_map(|index| Some((index, self.records.record(index).ok()?)));
        let Some((index, first)) = readable.next() else { return Ok(()) };
        // One record that lacks a column costs itself only.
        let fits = |record: &JsonObject| needed.iter().all(|column| record.contains_key(column.as_str()));
        if fits(&first) || readable.any(|(_, record)| fits(&record)) {
            return Ok(());
        }
        Err(EvalError::OtherTask {
            location: self.records.location(index),
            benchmark: self.description.name.clone(),
            expected: needed.join(", "),
            got: first.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// What is needed to score a record, without its prompt: the right answer, the guess's seed, the prediction's column.
    pub(crate) fn scoring_record(&self, index: usize, answer: &str) -> Result<(Expected, u64, String), EvalError> {
        let record = self.records.record(index)?;
        let reader = RecordReader { record: &record, records: &*self.records, index };
        let expected = self.expected(self.description.answer_type_of(&reader)?, &reader)?;
        let answer = if record.get(answer) == Some(&Value::Null) { String::new() } else { reader.text(answer)? };
        Ok((expected, guess_seed(&record, index), answer))
    }

    fn given_id(&self, record: &RecordReader<'_>) -> Result<Option<String>, EvalError> {
        let columns = [self.description.columns.id.as_str(), "id", "syn_id"];
        columns.into_iter().find_map(|column| record.id(column).transpose()).transpose()
    }

    /// The id of a record's content. Published test sets hold the same question about the same image twice now and then, and
    /// count it twice: the second one's id is another.
    fn content_id(&self, record: &JsonObject, index: usize) -> RecordId {
        let id = content_id(self.name(), record);
        // Images inside the records are named by the record's number: no other record is the same.
        let image = self.image_column().and_then(|column| record.get(column)).and_then(Value::as_str);
        if image.is_some_and(|name| name.starts_with(&format!("{index}/"))) {
            return id;
        }
        match self.repeats.get_or_init(|| self.find_repeats()).get(&index) {
            Some(n) => RecordId::of("repeat", [id.as_str(), &n.to_string()]),
            None => id,
        }
    }

    fn find_repeats(&self) -> HashMap<usize, usize> {
        let mut counts: HashMap<RecordId, usize> = HashMap::new();
        let mut repeats = HashMap::new();
        for index in 0..self.records.len() {
            let Ok(record) = self.records.record(index) else { continue };
            if !matches!(self.given_id(&RecordReader { record: &record, records: &*self.records, index }), Ok(None)) {
                continue;
            }
            let n = counts.entry(content_id(self.name(), &record)).or_default();
            if *n > 0 {
                repeats.insert(index, *n);
            }
            *n += 1;
        }
        repeats
    }

    fn expected(&self, answer_type: AnswerType, record: &RecordReader<'_>) -> Result<Expected, EvalError> {
        let label = &self.description.columns.label;
        Ok(match answer_type {
            AnswerType::Open => Expected::Open(record.text(label)?),
            AnswerType::Closed => Expected::Closed(record.text(label)?),
            AnswerType::Short => Expected::Short(record.text(label)?),
            AnswerType::Text => Expected::Text(record.texts(label)?),
            AnswerType::Choice => {
                let options = Arc::new(OptionSet::lettered(self.description.options_of(record)?));
                let correct = correct_option(&options, record, label)?;
                Expected::Choice { options, correct }
            }
            AnswerType::Category => {
                let options = self.options.clone().ok_or_else(|| self.description.needs_names())?;
                let name = record.text(label)?;
                let found =
                    options.texts().position(&name).ok_or_else(|| record.error(label, "one of the names", &name));
                Expected::Category { correct: found?, options }
            }
            AnswerType::Labels => {
                let names = self.names.clone().ok_or_else(|| self.description.needs_names())?;
                let find =
                    |name: String| names.position(&name).ok_or_else(|| record.error(label, "known names", &name));
                let mut correct = record.texts(label)?.into_iter().map(find).collect::<Result<Vec<_>, _>>()?;
                correct.sort_unstable();
                correct.dedup();
                Expected::Labels { correct, metric: self.description.label_metric, names }
            }
        })
    }
}

fn correct_option(options: &OptionSet, record: &RecordReader<'_>, column: &str) -> Result<usize, EvalError> {
    let label = record.text(column)?;
    let by_text = || options.texts().names().iter().position(|text| text.trim() == label.trim());
    let by_key = options.keys().iter().position(|key| key == label.trim());
    by_key.or_else(by_text).ok_or_else(|| record.error(column, "an option or its letter", &label))
}

impl Benchmark for DescribedBenchmark {
    fn name(&self) -> &str {
        &self.description.name
    }

    fn len(&self) -> usize {
        self.records.len()
    }

    fn example(&self, index: usize) -> Result<Example, EvalError> {
        if index >= self.records.len() {
            return Err(EvalError::OutOfRange { benchmark: self.name().into(), index, len: self.records.len() });
        }

        let columns = &self.description.columns;
        let record = self.records.record(index)?;
        let reader = RecordReader { record: &record, records: &*self.records, index };

        let answer_type = self.description.answer_type_of(&reader)?;
        let expected = self.expected(answer_type, &reader)?;
        let images = self.image_column().map_or(Ok(Vec::new()), |column| reader.images(column))?;

        // A record may bring its own prompt. Without a question the prompt is shown as one.
        let prompt = match columns.prompt.as_deref().filter(|column| reader.has(column)) {
            Some(column) => reader.text(column)?,
            None => template::render(self.description.template(answer_type), &reader, &expected)?,
        };
        let question = reader.text(&columns.question).unwrap_or_else(|_| prompt.clone());

        let id = self.given_id(&reader)?.map_or_else(|| self.content_id(&record, index), RecordId::given);
        let guess_seed = guess_seed(&record, index);
        let group = columns.group.as_ref().filter(|column| reader.has(column));
        let group = group.map(|column| reader.text(column)).transpose()?;

        Ok(Example { id, images, prompt, question, expected, guess_seed, group })
    }

    fn check(&self) -> Result<(), EvalError> {
        self.refuse_without_images()
    }

    fn question(&self, index: usize) -> Result<Example, EvalError> {
        let example = self.example(index)?;
        if example.images.is_empty() && self.description.image_use == ImageUse::Every {
            return Err(self.no_image(index)?);
        }
        Ok(example)
    }

    fn decoding(&self) -> Decoding {
        Decoding::greedy(self.description.max_new_tokens)
    }

    fn images(&self) -> Option<&dyn ImageStore> {
        self.images.as_deref()
    }

    fn answer_types(&self) -> Vec<AnswerType> {
        self.description.declared_types()
    }
}

fn guess_seed(record: &JsonObject, index: usize) -> u64 {
    let given = record.get("syn_id").and_then(Value::as_number).and_then(whole_number);
    given.unwrap_or(index as u64)
}

fn content_id(benchmark: &str, record: &JsonObject) -> RecordId {
    let content = serde_json::to_string(record).expect("a record has string keys");
    RecordId::of("example", [benchmark, &content])
}
