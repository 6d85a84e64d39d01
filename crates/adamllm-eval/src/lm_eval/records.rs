use std::borrow::Cow;
use std::path::Path;

use adamllm_core::{CoreError, JsonObject, RecordSource};
use serde_json::Value;

use super::read::Filters;
use super::sample::Sample;
use crate::{ANSWER_COLUMN, EvalError, JsonExamples};

/// The questions' records that a log holds, each with the model's answer in the column [`ANSWER_COLUMN`]: what is scored without
/// the benchmark's own file.
pub(crate) struct LoggedRecords {
    records: JsonExamples,
    /// The records that count, and what is wrong with one: of several filters' records of one question, one counts.
    counting: Vec<(usize, Option<String>)>,
}

impl LoggedRecords {
    pub(crate) fn read(path: &Path) -> Result<Self, EvalError> {
        let records = JsonExamples::read(path)?;
        let (mut filters, mut counting) = (Filters::default(), Vec::new());
        for index in 0..records.len() {
            let sample = records.record(index).ok().map(|record| Sample::read(record.into_owned()));
            let is_new = match sample {
                Some(Ok(sample)) => filters.is_new(&sample),
                // What is wrong with it is said where it is read again.
                _ => Ok(true),
            };
            match is_new {
                Ok(true) => counting.push((index, None)),
                Ok(false) => {}
                Err(problem) => counting.push((index, Some(problem))),
            }
        }
        Ok(Self { records, counting })
    }

    fn invalid(&self, index: usize, field: &'static str, expected: &str, got: String) -> CoreError {
        CoreError::Field { record: self.location(index), field, expected: expected.into(), got }
    }
}

impl RecordSource for LoggedRecords {
    fn len(&self) -> usize {
        self.counting.len()
    }

    /// The question's record. Without a `syn_id` of its own, its `doc_id` seeds the paper scoring's guess: it is the index in the
    /// data, which the log may hold a part of.
    fn record(&self, index: usize) -> Result<Cow<'_, JsonObject>, CoreError> {
        let (at, problem) = &self.counting[index];
        if let Some(problem) = problem {
            return Err(self.invalid(index, "filter", "one answer to a question", problem.clone()));
        }
        let sample = Sample::read(self.records.record(*at)?.into_owned())
            .map_err(|problem| self.invalid(index, "resps", "a model's answer", problem))?;
        let Some(mut record) = sample.doc else {
            let expected =
                "the question's record (logs of lmms-eval hold none: evaluate them with the benchmark's data)";
            return Err(self.invalid(index, "doc", expected, "none".into()));
        };
        record.insert(ANSWER_COLUMN.into(), sample.answer.into());
        record.entry("syn_id").or_insert_with(|| Value::from(sample.doc_id));
        Ok(Cow::Owned(record))
    }

    fn location(&self, index: usize) -> String {
        self.records.location(self.counting[index].0)
    }
}
