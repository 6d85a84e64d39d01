use std::collections::HashMap;

use adamllm_core::{CoreError, ImageHashes, ImageRef, RecordId};

use crate::{Benchmark, EvalError, Example};

/// What there is to say about a benchmark's examples, gathered as they are read: hashes of everything in them, and which
/// of them show the same image.
pub(crate) struct Survey<'a> {
    image_hashes: ImageHashes<'a>,
    /// A hash over all readable examples.
    pub(crate) dataset: RecordId,
    /// A hash over the images that were looked at, where they were at hand.
    pub(crate) images: Option<RecordId>,
    /// The first readable example's prompt.
    pub(crate) first_prompt: Option<String>,
    /// Examples without a group of their own, by what their images hold: the same image under two names is one.
    pub(crate) clusters: HashMap<RecordId, String>,
}

impl<'a> Survey<'a> {
    pub(crate) fn of(benchmark: &'a dyn Benchmark) -> Self {
        Self {
            image_hashes: ImageHashes::new(benchmark.images()),
            dataset: RecordId::of("dataset", [benchmark.name()]),
            images: benchmark.images().map(|_| RecordId::of("images", [benchmark.name()])),
            first_prompt: None,
            clusters: HashMap::new(),
        }
    }

    /// A survey of the whole benchmark. An example or image that cannot be read is in no hash.
    pub(crate) fn whole(benchmark: &'a dyn Benchmark) -> Result<Self, EvalError> {
        let mut survey = Self::of(benchmark);
        for index in 0..benchmark.len() {
            match benchmark.example(index) {
                Ok(example) => {
                    survey.note(&example);
                    let _unreadable = survey.hash_images(&example).err();
                }
                Err(error) if error.is_example_error() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(survey)
    }

    /// Adds the example to the data set's hash.
    pub(crate) fn note(&mut self, example: &Example) {
        let mut parts = vec![self.dataset.as_str(), example.id.as_str(), &example.prompt];
        let expected = format!("{} {}", example.expected.answer_type().as_str(), example.expected.describe());
        parts.push(&expected);
        parts.extend(example.images.iter().map(ImageRef::as_str));
        self.dataset = RecordId::of("example", parts);
        if self.first_prompt.is_none() {
            self.first_prompt = Some(example.prompt.clone());
        }
    }

    /// The hashes of the example's images.
    pub(crate) fn hash_images(&mut self, example: &Example) -> Result<Vec<RecordId>, CoreError> {
        let hashes: Vec<_> =
            example.images.iter().map(|image| self.image_hashes.get(image)).collect::<Result<_, _>>()?;
        if let Some(images) = &mut self.images {
            let parts = [images.as_str()].into_iter().chain(hashes.iter().map(RecordId::as_str));
            *images = RecordId::of("images", parts);
        }
        if example.group.is_none() && !hashes.is_empty() {
            let names: Vec<_> = hashes.iter().map(RecordId::as_str).collect();
            self.clusters.insert(example.id.clone(), names.concat());
        }
        Ok(hashes)
    }
}
