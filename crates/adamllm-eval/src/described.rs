//! Benchmarks without code: a description (what the columns are called, how to ask, how to score) and rows.

mod columns;
mod description;
mod image_columns;
mod template;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use adamllm_core::{Decoding, ImageStore, RecordId, Row, RowSource};
use serde_json::Value;

pub use description::{AnswerKind, BenchmarkDescription, ColumnNames, HubPlace, ImageUse};

use crate::metrics::NameSet;
use crate::{AnswerType, Benchmark, EvalError, Example, Expected, JsonRows, OptionSet};
use columns::RowReader;
pub(crate) use columns::{id_text, whole_number};

/// A benchmark made of a [`BenchmarkDescription`] and rows.
pub struct DescribedBenchmark {
    description: BenchmarkDescription,
    rows: Box<dyn RowSource>,
    images: Option<Arc<dyn ImageStore>>,
    /// The description's shared names, prepared.
    names: Option<Arc<NameSet>>,
    options: Option<Arc<OptionSet>>,
    /// Rows whose content stood in an earlier row, by how often.
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
    /// Files that cannot be read, and rows of another kind ([`EvalError::OtherTask`]).
    pub fn open(description: impl AsRef<Path>) -> Result<Self, EvalError> {
        let description = BenchmarkDescription::read(description)?;
        let rows = JsonRows::read(description.rows_path())?;
        Self::new(description, Box::new(rows))
    }

    /// Joins a description and rows from anywhere.
    ///
    /// # Errors
    /// [`EvalError::OtherTask`] where every readable row lacks a needed column; [`EvalError::Description`] and
    /// [`CoreError`](adamllm_core::CoreError) for the names file.
    pub fn new(description: BenchmarkDescription, rows: Box<dyn RowSource>) -> Result<Self, EvalError> {
        description.check()?;
        let names = description.load_names()?;
        let options = names.as_ref().map(|names| Arc::new(OptionSet::numbered(names)));
        let names = names.map(|names| Arc::new(NameSet::new(names)));
        let benchmark = Self {
            description,
            rows,
            images: None,
            names,
            options,
            repeats: OnceLock::new(),
            image_column: OnceLock::new(),
        };
        benchmark.refuse_other_tasks()?;
        Ok(benchmark)
    }

    /// The same benchmark with the place where its images are.
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
        let mut readable = (0..self.rows.len()).filter_map(|index| Some((index, self.rows.row(index).ok()?)));
        let Some((index, first)) = readable.next() else { return Ok(()) };
        // One record that lacks a column costs itself only.
        let fits = |row: &Row| needed.iter().all(|column| row.contains_key(column.as_str()));
        if fits(&first) || readable.any(|(_, row)| fits(&row)) {
            return Ok(());
        }
        Err(EvalError::OtherTask {
            place: self.rows.place(index),
            benchmark: self.description.name.clone(),
            expected: needed.join(", "),
            got: first.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// What is needed to score a row, without its prompt: the right answer, the guess's seed, the prediction's column.
    pub(crate) fn scoring_row(&self, index: usize, answer: &str) -> Result<(Expected, u64, String), EvalError> {
        let row = self.rows.row(index)?;
        let reader = RowReader { row: &row, rows: &*self.rows, index };
        let expected = self.expected(self.description.answer_type_of(&reader)?, &reader)?;
        let answer = if row.get(answer) == Some(&Value::Null) { String::new() } else { reader.text(answer)? };
        Ok((expected, guess_seed(&row, index), answer))
    }

    fn given_id(&self, row: &RowReader<'_>) -> Result<Option<String>, EvalError> {
        let columns = [self.description.columns.id.as_str(), "id", "syn_id"];
        columns.into_iter().find_map(|column| row.id(column).transpose()).transpose()
    }

    /// The id of a row's content. Published test sets hold the same question about the same image twice now and then, and
    /// count it twice: the second one's id is another.
    fn content_id(&self, row: &Row, index: usize) -> RecordId {
        let id = content_id(self.name(), row);
        // Images that lie in the rows are named by the row's number: no other row is the same.
        let picture = self.image_column().and_then(|column| row.get(column)).and_then(Value::as_str);
        if picture.is_some_and(|name| name.starts_with(&format!("{index}/"))) {
            return id;
        }
        match self.repeats.get_or_init(|| self.find_repeats()).get(&index) {
            Some(n) => RecordId::of("repeat", [id.as_str(), &n.to_string()]),
            None => id,
        }
    }

    fn find_repeats(&self) -> HashMap<usize, usize> {
        let mut seen: HashMap<RecordId, usize> = HashMap::new();
        let mut repeats = HashMap::new();
        for index in 0..self.rows.len() {
            let Ok(row) = self.rows.row(index) else { continue };
            if !matches!(self.given_id(&RowReader { row: &row, rows: &*self.rows, index }), Ok(None)) {
                continue;
            }
            let n = seen.entry(content_id(self.name(), &row)).or_default();
            if *n > 0 {
                repeats.insert(index, *n);
            }
            *n += 1;
        }
        repeats
    }

    fn expected(&self, answer_type: AnswerType, row: &RowReader<'_>) -> Result<Expected, EvalError> {
        let label = &self.description.columns.label;
        Ok(match answer_type {
            AnswerType::Open => Expected::Open(row.text(label)?),
            AnswerType::Closed => Expected::Closed(row.text(label)?),
            AnswerType::Short => Expected::Short(row.text(label)?),
            AnswerType::Text => Expected::Text(row.texts(label)?),
            AnswerType::Choice => {
                let options = Arc::new(OptionSet::lettered(self.description.options_of(row)?));
                let correct = correct_option(&options, row, label)?;
                Expected::Choice { options, correct }
            }
            AnswerType::Category => {
                let options = self.options.clone().ok_or_else(|| self.description.needs_names())?;
                let name = row.text(label)?;
                let found = options.texts().position(&name).ok_or_else(|| row.error(label, "one of the names", &name));
                Expected::Category { correct: found?, options }
            }
            AnswerType::Labels => {
                let names = self.names.clone().ok_or_else(|| self.description.needs_names())?;
                let find = |name: String| names.position(&name).ok_or_else(|| row.error(label, "known names", &name));
                let mut correct = row.texts(label)?.into_iter().map(find).collect::<Result<Vec<_>, _>>()?;
                correct.sort_unstable();
                correct.dedup();
                Expected::Labels { correct, metric: self.description.label_metric, names }
            }
        })
    }
}

fn correct_option(options: &OptionSet, row: &RowReader<'_>, column: &str) -> Result<usize, EvalError> {
    let label = row.text(column)?;
    let by_text = || options.texts().names().iter().position(|text| text.trim() == label.trim());
    let by_key = options.keys().iter().position(|key| key == label.trim());
    by_key.or_else(by_text).ok_or_else(|| row.error(column, "an option or its letter", &label))
}

impl Benchmark for DescribedBenchmark {
    fn name(&self) -> &str {
        &self.description.name
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn example(&self, index: usize) -> Result<Example, EvalError> {
        if index >= self.rows.len() {
            return Err(EvalError::OutOfRange { benchmark: self.name().into(), index, len: self.rows.len() });
        }
        let columns = &self.description.columns;
        let row = self.rows.row(index)?;
        let reader = RowReader { row: &row, rows: &*self.rows, index };
        let answer_type = self.description.answer_type_of(&reader)?;
        let expected = self.expected(answer_type, &reader)?;
        let images = self.image_column().map_or(Ok(Vec::new()), |column| reader.images(column))?;
        let prompt = match columns.prompt.as_deref().filter(|column| reader.has(column)) {
            Some(column) => reader.text(column)?,
            None => template::render(self.description.template(answer_type), &reader, &expected)?,
        };
        let question = reader.text(&columns.question).unwrap_or_else(|_| prompt.clone());
        let id = self.given_id(&reader)?.map_or_else(|| self.content_id(&row, index), RecordId::given);
        let guess_seed = guess_seed(&row, index);
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

fn guess_seed(row: &Row, index: usize) -> u64 {
    let given = row.get("syn_id").and_then(Value::as_number).and_then(whole_number);
    given.unwrap_or(index as u64)
}

fn content_id(benchmark: &str, row: &Row) -> RecordId {
    let content = serde_json::to_string(row).expect("a row has string keys");
    RecordId::of("example", [benchmark, &content])
}
